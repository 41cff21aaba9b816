"""Composition roots of the gateway and writer processes: everything is wired here, by name."""

import asyncio
import gc
import hmac
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic, time
from typing import Any, Final

import uvloop

from ingest.admission import Admission
from ingest.backoff import Backoff
from ingest.batcher import Batcher, BlockLimits
from ingest.compression import compression
from ingest.directory import Directory, keyless_tenant
from ingest.directory_follower import DirectoryFollower
from ingest.embedded_log import EmbeddedLog
from ingest.embedded_log.limits import Limits as LogLimits
from ingest.gateway import Gateway
from ingest.ingested import follow_ingested
from ingest.kafka_log import KafkaAccess, KafkaLog, TopicRules
from ingest.ledger.counts import GatewayCounts
from ingest.ledger.writer import LedgerWriter
from ingest.log import TelemetryLog
from ingest.memory_budget import MemoryBudget
from ingest.open_files import connections_allowed
from ingest.receivers.grpc import GrpcReceiver
from ingest.receivers.grpc_grpcio import GrpcioReceiver
from ingest.receivers.http import HttpReceiver
from ingest.receivers.limits import Limits
from ingest.receivers.listener import Receiver
from ingest.receivers.tls import GRPC_PROTOCOLS, HTTP_PROTOCOLS, ServerTls, TlsFiles
from ingest.signals import DEAD_LETTER_TOPIC, INGESTED_TOPIC, LEDGER_TOPIC, TOPIC_OF_SIGNAL
from ingest.workers import METRICS_PORT_STEP, Workers
from ingest.writer import new_writer
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.clickhouse.rollups import run_due
from shared.clickhouse.views import views_of_tenant
from shared.errors import TelemetryFlowError, Unavailable
from shared.logger.set_up import set_up_logging
from shared.metrics_server import MetricsServer
from shared.otel.set_up import set_up_telemetry
from shared.security.peppers import Peppers
from shared.settings import Settings

# Requests in flight are waited for so long when the process is told to stop (L11).
DRAIN_SECONDS: Final = 25.0
ROLL_UP_SECONDS: Final = 60.0
# How long a log that is not there is left alone at most before it is tried again.
LOG_RETRY_SECONDS_MAX: Final = 5.0
LOG_FILE: Final = "log/log.db"
# Requests in flight are some fifteen objects each: with Python's own thresholds (700, 10, 10), to
# look among them for cycles again and again is a tenth of a small request.
GC_THRESHOLDS: Final = (10_000, 20, 20)

logger = logging.getLogger(__name__)


async def open_log(settings: Settings) -> TelemetryLog:
    """The log as configured: Kafka, or the embedded log of the data folder."""
    if settings.kafka_brokers:
        return await open_kafka_log(settings)
    return await open_embedded_log(settings)


async def _log_when_there(settings: Settings) -> TelemetryLog:
    """The log, however long it takes until it can be opened: processes start in any order."""
    backoff = Backoff(seconds_max=LOG_RETRY_SECONDS_MAX)
    while True:
        try:
            log = await open_log(settings)
        except Unavailable as error:
            logger.warning("waiting for the log: %s", error)
            await asyncio.sleep(backoff.next_seconds())
            continue
        for text in log.unsafe if isinstance(log, KafkaLog) else ():
            logger.warning("not safe for production: %s", text)
        return log


async def open_kafka_log(settings: Settings) -> KafkaLog:
    """The log in Kafka. Raises Unavailable, or Conflict for topics that are not safe."""
    signals = dict.fromkeys(TOPIC_OF_SIGNAL.values(), settings.kafka_partitions)
    return await KafkaLog.open(
        KafkaAccess.of(settings),
        TopicRules(
            partitions=signals | {DEAD_LETTER_TOPIC: 1, INGESTED_TOPIC: 1, LEDGER_TOPIC: 1},
            replication_factor=settings.kafka_replication_factor,
            min_insync_replicas=settings.kafka_min_insync_replicas,
            retention_hours=settings.kafka_retention_hours,
            block_bytes_max=settings.ingest_block_bytes_max,
            production=settings.telemetryflow_env == "production",
            prefix=settings.kafka_topic_prefix,
        ),
        session_timeout_ms=settings.writer_session_timeout_ms,
        instance_id=settings.writer_instance_id,
    )


async def open_embedded_log(settings: Settings) -> EmbeddedLog:
    """The embedded log of the data folder."""
    path = settings.data_dir / LOG_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    return await EmbeddedLog.open(
        path,
        partitions=dict.fromkeys(TOPIC_OF_SIGNAL.values(), settings.ingest_lanes),
        limits=LogLimits(
            retention_hours=settings.log_retention_hours,
            retention_bytes=settings.log_retention_bytes,
        ),
    )


async def follow_log(settings: Settings, tell: Callable[[Mapping[str, Any] | None], None]) -> None:
    """Tell what is stored from now on (`follow_ingested`), until cancelled.

    Raises Unavailable when there is no log here; none is made.
    """
    if not settings.kafka_brokers and not (settings.data_dir / LOG_FILE).exists():
        raise Unavailable(f"there is no embedded log in {settings.data_dir}")
    log = await open_log(settings)
    try:
        await follow_ingested(log, tell)
    finally:
        await log.close()


async def _gateway(settings: Settings, worker: int) -> None:
    end_telemetry = set_up_telemetry(settings, "ingest")
    async with AsyncExitStack() as stack:
        log = await _log_when_there(settings)
        stack.push_async_callback(log.close)
        directory = _directory(settings)
        follower = DirectoryFollower(settings, directory)
        follower.load()
        following = asyncio.create_task(follower.follow())
        following.add_done_callback(_say_if_failed)
        stack.callback(following.cancel)
        counts = GatewayCounts(log)
        stack.push_async_callback(counts.close)
        telling = asyncio.create_task(counts.run())
        stack.callback(telling.cancel)
        gateway = Gateway(
            directory=directory,
            admission=Admission(
                key_requests_per_minute=settings.throttle_ingestion_limit,
                unix_clock=directory.now,
            ),
            counts=counts,
            batcher=Batcher(
                log,
                lanes=min([await log.partitions(topic) for topic in TOPIC_OF_SIGNAL.values()]),
                limits=BlockLimits(
                    bytes_max=settings.ingest_block_bytes_max,
                    rows_max=settings.ingest_block_rows_max,
                    wait_ms=settings.ingest_block_wait_ms,
                ),
                compress=compression(settings.ingest_compression),
            ),
            budget=MemoryBudget(bytes_max=settings.ingest_memory_bytes_max),
            request_seed=_request_seed(settings),
            retry_window_seconds=settings.log_retry_window_seconds,
        )
        stack.push_async_callback(gateway.close)
        receivers = _receivers(settings, gateway)
        for receiver in receivers:
            await receiver.start()
        metrics_server = MetricsServer(
            settings.ingest_metrics_port + worker * METRICS_PORT_STEP,
            setting="INGEST_METRICS_PORT",
            not_ready_because=gateway.ready,
        )
        await metrics_server.start()
        stack.push_async_callback(metrics_server.close)
        await _until_told_to_stop()
        # While it still serves: its own telemetry goes through itself.
        await asyncio.to_thread(end_telemetry)
        deadline = monotonic() + DRAIN_SECONDS
        for receiver in receivers:
            receiver.stop_accepting()
        await asyncio.gather(
            *(receiver.drain(max(deadline - monotonic(), 0.0)) for receiver in receivers)
        )


async def _writer(settings: Settings) -> None:
    end_telemetry = set_up_telemetry(settings, "writer")
    async with AsyncExitStack() as stack:
        log = await _log_when_there(settings)
        stack.push_async_callback(log.close)
        clickhouse = ClickHouse(ClickHouseAddress.of(settings))
        stack.push_async_callback(clickhouse.close)

        async def ensure_tenant(tenant_id: str) -> None:
            for statement in views_of_tenant(settings.clickhouse_database, tenant_id):
                await clickhouse.command(statement)

        writer = new_writer(log, clickhouse, settings, ensure_tenant)
        metrics_server = MetricsServer(
            settings.writer_metrics_port,
            setting="WRITER_METRICS_PORT",
            not_ready_because=writer.ready,
        )
        await metrics_server.start()
        stack.push_async_callback(metrics_server.close)
        database = settings.clickhouse_database
        ledger = LedgerWriter(log, clickhouse.command, clickhouse.query, database=database)
        keeping = asyncio.create_task(ledger.run())
        keeping.add_done_callback(_say_if_failed)
        stack.callback(keeping.cancel)
        rolling_up = asyncio.create_task(_roll_up(clickhouse, settings.clickhouse_database))
        stack.callback(rolling_up.cancel)
        writing = asyncio.create_task(writer.run())
        stopping = asyncio.create_task(_until_told_to_stop())
        await asyncio.wait((writing, stopping), return_when=asyncio.FIRST_COMPLETED)
        writer.stop()
        stopping.cancel()
        await writing
        await asyncio.to_thread(end_telemetry)


def _say_if_failed(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.critical("a background task ended: restart this process", exc_info=error)


async def _roll_up(clickhouse: ClickHouse, database: str) -> None:
    """Fill what is derived from metrics, every minute; what fails is made up for later."""
    looked = 0.0
    while True:
        await asyncio.sleep(ROLL_UP_SECONDS)
        now = time()
        try:
            await run_due(clickhouse, database=database, now_seconds=now, looked_seconds=looked)
            looked = now
        except TelemetryFlowError as error:
            logger.warning("rollups wait: %s", error)


def _directory(settings: Settings) -> Directory:
    tenant = keyless_tenant(embedded=settings.is_embedded, host=settings.listen_host)
    return Directory(peppers=Peppers.of(settings), keyless_tenant=tenant)


def _request_seed(settings: Settings) -> int:
    """The same on all gateways that share the pepper."""
    digest = hmac.digest(Peppers.of(settings).current, b"request identity", "sha256")
    return int.from_bytes(digest[:8], "little")


def _receivers(settings: Settings, gateway: Gateway) -> list[Receiver]:
    limits = Limits(
        body_bytes_max=settings.ingest_body_bytes_max,
        connections_max=connections_allowed(Limits().connections_max),
    )
    several = settings.ingest_workers > 1
    host = settings.listen_host
    grpc: Receiver
    if settings.ingest_grpc_engine == "grpcio":
        grpc = GrpcioReceiver(
            gateway,
            host,
            settings.ingest_grpc_port,
            limits=limits,
            tls=_tls(settings, GRPC_PROTOCOLS),
            reuse_port=several,
        )
    else:
        grpc = GrpcReceiver(
            gateway,
            host,
            settings.ingest_grpc_port,
            limits=limits,
            tls=_tls(settings, GRPC_PROTOCOLS),
            reuse_port=several,
        )
    http = HttpReceiver(
        gateway,
        host,
        settings.ingest_http_port,
        limits=limits,
        tls=_tls(settings, HTTP_PROTOCOLS),
        reuse_port=several,
        cors_origins=frozenset(
            filter(None, map(str.strip, settings.ingest_cors_origins.split(",")))
        ),
    )
    return [grpc, http]


def _tls(settings: Settings, protocols: tuple[str, ...]) -> ServerTls | None:
    if not settings.ingest_tls_cert_file:
        return None
    authority = settings.ingest_tls_client_ca_file
    files = TlsFiles(
        Path(settings.ingest_tls_cert_file),
        Path(settings.ingest_tls_key_file),
        Path(authority) if authority else None,
    )
    return ServerTls(files, protocols)


async def _until_told_to_stop() -> None:
    """Returns at SIGTERM or SIGINT; a second one ends the process at once."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if stopping.is_set():
            os._exit(1)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await stopping.wait()


def _run(main: Coroutine[None, None, None]) -> int:
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        uvloop.run(main)
    except TelemetryFlowError as error:
        print(f"telemetryflow: {error}", file=sys.stderr)
        return 1
    return 0


def _run_gateway_worker(settings: Settings, worker: int) -> int:
    if settings.ingest_workers > 1:
        set_up_logging(settings, f"ingest-{worker}")
    return _run(_gateway(settings, worker))


def run_gateway(settings: Settings) -> int:
    """Serve OTLP until SIGTERM; the exit code."""
    if settings.ingest_workers > 1:
        return Workers(_run_gateway_worker, settings).supervise()
    return _run_gateway_worker(settings, 0)


def run_writer(settings: Settings) -> int:
    """Write into ClickHouse until SIGTERM; the exit code."""
    return _run(_writer(settings))
