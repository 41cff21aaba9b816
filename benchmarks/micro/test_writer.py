"""What it costs the writer to forward blocks from the embedded log to ClickHouse.

`cpu_seconds_per_million_rows` is that of this process, the log's threads included, and
`engine_cpu_seconds_per_million_rows` that of the engine: its inserts, and what of its merges falls
into the time. Bytes are forwarded, so the writer's cost goes by records and inserts: the size of
the blocks is what matters to both.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
import pytest

from benchmarks.payloads import NOW_NS, requests
from ingest.embedded_log import EmbeddedLog
from ingest.inserts import ClickHouseInserts
from ingest.partition_writer import PartitionWriter
from ingest.ranges import BatchLimits
from ingest.records import rows_of
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.clickhouse.migrate import Migrator
from tests.integration.ingest.stored_blocks import NewRecord, records_of
from tests.integration.shared.embedded_server import EmbeddedServer

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

ROWS_A_ROUND: Final = 100_000
ROUNDS: Final = 3
TOPIC: Final = "otlp.traces.v1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("writer") / "data") as started:
        asyncio.run(_migrate(started))
        yield started


async def _migrate(server: EmbeddedServer) -> None:
    async with ClickHouse(ClickHouseAddress("127.0.0.1", server.port)) as clickhouse:
        await Migrator(clickhouse.command, clickhouse.query, database="telemetry").migrate()


async def _no_tenants(_tenants: Sequence[str]) -> None:
    return None


async def _cpu_seconds(
    server: EmbeddedServer, path: Path, records: list[NewRecord]
) -> tuple[float, float]:
    """(of the writer, of the engine)"""
    log = await EmbeddedLog.open(path)
    await log.append_many(TOPIC, 0, records)
    async with ClickHouse(ClickHouseAddress("127.0.0.1", server.port)) as clickhouse:
        writer = PartitionWriter(
            log,
            TOPIC,
            0,
            ClickHouseInserts(clickhouse, database="telemetry"),
            limits=BatchLimits(rows_max=ROWS_A_ROUND, bytes_max=64 << 20, wait_ms=0),
            ensure_tenants=_no_tenants,
            insert_slots=asyncio.Semaphore(4),
        )
        await clickhouse.query("SELECT 1")
        assert sum(rows_of(headers) for _value, headers in records) == ROWS_A_ROUND
        begin, engine_begin = time.process_time(), _engine_seconds(server)
        while (await log.backlog("writer", TOPIC)).records:
            await writer.step()
        spent = time.process_time() - begin, _engine_seconds(server) - engine_begin
    await log.close()
    return spent


def _engine_seconds(server: EmbeddedServer) -> float:
    times = psutil.Process(server.pid).cpu_times()
    return float(times.user + times.system)


@pytest.mark.parametrize("rows", [100, 500, 2_000, 10_000])
def test_writer(
    benchmark: "BenchmarkFixture", server: EmbeddedServer, tmp_path: Path, rows: int
) -> None:
    bodies = requests("traces", items=rows, count=min(20, ROWS_A_ROUND // rows))
    spent: list[tuple[float, float]] = []
    rounds = iter(range(ROUNDS))

    def batch() -> tuple[tuple[Path, list[NewRecord]], dict[str, object]]:
        # Every record has a request id of its own, so that none is a repeat.
        records = [
            record
            for number in range(ROWS_A_ROUND // rows)
            for record in records_of("traces", bodies[number % len(bodies)], received_ns=NOW_NS)
        ]
        return (tmp_path / f"{next(rounds)}.db", records), {}

    def forward(path: Path, records: list[NewRecord]) -> None:
        spent.append(asyncio.run(_cpu_seconds(server, path, records)))

    benchmark.pedantic(forward, setup=batch, rounds=ROUNDS)  # type: ignore[no-untyped-call]
    benchmark.group = "writer, embedded log to embedded engine"
    benchmark.extra_info["rows_a_block"] = rows
    writer, engine = (min(seconds) * 1e6 / ROWS_A_ROUND for seconds in zip(*spent, strict=True))
    benchmark.extra_info["cpu_seconds_per_million_rows"] = writer
    benchmark.extra_info["engine_cpu_seconds_per_million_rows"] = engine
