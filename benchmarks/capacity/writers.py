"""The writer alone: from a log that is full to an engine that swallows."""

import asyncio
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Final

from benchmarks.capacity import servers
from benchmarks.capacity.inserts import ITEMS, RETENTION_DAYS, gateway_blocks
from benchmarks.capacity.measure import Round, cores, pin, rss_bytes, spent
from ingest.app import open_log
from ingest.compression import compression
from ingest.log import Headers
from ingest.partition_writer import WRITER_GROUP
from ingest.records import RecordInfo, RequestRows, TenantRows, to_headers
from shared.settings import Settings
from tests.e2e.processes import Product
from tests.ports import free_ports

# Of a round, at the usual size.
ROWS: Final = 2_000_000
TABLE: Final = "tf_traces"
TOPIC: Final = "otlp.traces.v1"
TENANT: Final = "acme"
# As a gateway under load fills its blocks.
REQUESTS_A_BLOCK: Final = 8
# How many records are handed to the log at once.
RECORDS_AT_ONCE: Final = 8
POLL_SECONDS: Final = 0.1
SECONDS_MAX: Final = 300.0

Values = Sequence[tuple[bytes, int]]


def writer_rounds(
    folder: Path, settings: Mapping[str, str], *, rounds: int, size: float
) -> list[Round]:
    """What `telemetryflow writer` spends on the log that *settings* name, its first round aside."""
    blocks = gateway_blocks("traces", REQUESTS_A_BLOCK)[TABLE]
    values = [(compression("zstd").frame(one.native), one.rows) for one in blocks]
    wanted = max(int(ROWS * size), 1)
    with _writer(folder, settings) as product:
        found = asyncio.run(_filled_and_emptied(product, values, wanted, rounds + 1))
    return found[1:]


@contextmanager
def _writer(folder: Path, settings: Mapping[str, str]) -> Iterator[Product]:
    """A writer on our cores whose ClickHouse is a black hole."""
    hole, engine = free_ports(2)
    product = Product(folder, settings, clickhouse_port=hole, own_clickhouse_port=engine)
    try:
        product.start("clickhouse")
        with servers.black_hole(hole, engine):
            product.command("migrate", "--store", "clickhouse")
            product.start("writer")
            pin(product.pid("writer"), cores()[0])
            yield product
            product.stop("writer")
    finally:
        product.close()


async def _filled_and_emptied(
    product: Product, values: Values, rows: int, rounds: int
) -> list[Round]:
    log = await open_log(Settings.from_env(product.settings))
    writer, found = product.pid("writer"), []
    try:
        for _ in range(rounds):
            before, began = spent(writer), time.monotonic()
            appended = bytes_ = 0
            records = cycle(values)
            while appended < rows:
                several = list(islice(records, RECORDS_AT_ONCE))
                await log.append_many(
                    TOPIC, 0, [(value, _headers(count)) for value, count in several]
                )
                appended += sum(count for _value, count in several)
                bytes_ += sum(len(value) for value, _count in several)
            while (await log.backlog(WRITER_GROUP, TOPIC)).records:
                if time.monotonic() - began > SECONDS_MAX:
                    raise RuntimeError(f"not written within {SECONDS_MAX} s")
                await asyncio.sleep(POLL_SECONDS)
            used, seconds = spent(writer) - before, time.monotonic() - began
            sent = {"items": appended, "bytes": bytes_, "seconds": seconds}
            found.append(Round(sent, {"writer": used}, {"writer": rss_bytes(writer)}))
    finally:
        await log.close()
    return found


def _headers(rows: int) -> Headers:
    """Those of a block of requests that were never seen before."""
    requests = tuple(
        RequestRows(secrets.token_bytes(16), TENANT, 0, first, ITEMS)
        for first in range(0, rows, ITEMS)
    )
    now_ns = time.time_ns()
    return to_headers(
        RecordInfo(
            table=TABLE,
            rows=rows,
            retention_days=RETENTION_DAYS,
            time_min_ns=now_ns,
            time_max_ns=now_ns,
            encoding="zstd",
            tenants=(TenantRows(TENANT, rows),),
            requests=requests,
        )
    )
