"""INSERT alone: what the engine spends on rows, by how many come at once."""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from math import ceil
from pathlib import Path
from typing import Final

from benchmarks.capacity.measure import spent
from benchmarks.payloads import NOW_NS, requests
from ingest.codec import Block, Encoder
from ingest.codec.tables import TABLES
from ingest.compression import compression
from ingest.inserts import insert_settings
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from tests.e2e.processes import Product

ROWS_AT_ONCE: Final = (10_000, 100_000, 400_000)
# Of each size; one INSERT before them is not counted.
ROWS_MIN: Final = 800_000
RETENTION_DAYS: Final = 30
ITEMS: Final = 500
REQUESTS_A_BLOCK: Final = 20
# Distinct ones; then they come again.
BLOCKS: Final = 8
# Gauges and sums: other kinds of metrics are rare.
TABLES_OF: Final = {
    "traces": ("tf_traces",),
    "logs": ("tf_logs",),
    "metrics": ("tf_metrics_gauge", "tf_metrics_sum"),
}

Inserts = Mapping[str, Sequence[Block]]


def insert_seconds(folder: Path, signal: str, size: float) -> dict[int, float]:
    """CPU seconds of the engine per million rows, by rows at once; merges stand still meanwhile.

    Dictionary look-ups, indices, projections and views are what a writer's INSERT has.
    """
    blocks = gateway_blocks(signal)
    product = Product(folder)
    try:
        product.start("clickhouse")
        product.command("migrate", "--store", "clickhouse")
        product.rows("SYSTEM STOP MERGES")
        return {
            rows: asyncio.run(_measured(product, blocks, rows, int(ROWS_MIN * size) or 1))
            for rows in ROWS_AT_ONCE
        }
    finally:
        product.close()


def gateway_blocks(signal: str, requests_a_block: int = REQUESTS_A_BLOCK) -> Inserts:
    """What a gateway makes of requests, by table."""
    encoder = Encoder(signal, retention_days=RETENTION_DAYS)
    made: list[Block] = []
    bodies = iter(requests(signal, items=ITEMS, count=requests_a_block * BLOCKS))
    while part := list(islice(bodies, requests_a_block)):
        for body in part:
            encoder.append(body, tenant="acme", received_ns=NOW_NS)
        made += encoder.close()
    return {table: [one for one in made if one.table == table] for table in TABLES_OF[signal]}


async def _measured(product: Product, blocks: Inserts, rows: int, rows_min: int) -> float:
    """Of INSERTs with at least so many rows each, one after the other."""
    address = ClickHouseAddress("127.0.0.1", int(product.settings["CLICKHOUSE_PORT"]))
    frame, engine = compression("zstd").frame, product.pid("clickhouse")
    seconds, stored = 0.0, 0
    async with ClickHouse(address) as clickhouse:
        for table, distinct in blocks.items():
            several = list(islice(cycle(distinct), ceil(rows / distinct[0].rows)))
            body = b"".join(frame(one.native) for one in several)
            inserted = sum(one.rows for one in several)
            for number in range(1 + ceil(rows_min / len(blocks) / inserted)):
                if number == 1:
                    before = spent(engine)
                await clickhouse.insert_native(
                    f"telemetry.{table}",
                    [name for name, _type in TABLES[table]],
                    body,
                    encoding="zstd",
                    token=f"{table}/{rows}/{number}",
                    settings=insert_settings(table),
                )
                stored += inserted if number else 0
            seconds += (spent(engine) - before).cpu_seconds
    return seconds * 1e6 / stored
