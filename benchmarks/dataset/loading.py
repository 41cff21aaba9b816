"""Loads the data set as the product does: codec, one frame a block, the writer's INSERTs.

A batch has a deduplication token, and is noted in the folder when it is stored: a run that was cut
short is continued by the next, and stores nothing twice.
"""

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.dataset.schedule import Batch, Plan
from benchmarks.dataset.skew import DAYS
from ingest.codec import Block, BlockFull, Encoder
from ingest.compression import compression
from ingest.inserts import ClickHouseInserts
from ingest.log import Record
from ingest.plans import PlannedRecord
from ingest.records import RecordInfo
from shared.clickhouse.client import ClickHouse
from shared.clickhouse.rollups import METRIC_TABLES, note_series

DATABASE: Final = "telemetry"
# Longer than anybody keeps the folder: expired items would be missing.
RETENTION_DAYS: Final = 365
MANIFEST: Final = "dataset.json"
# Belongs into the manifest: a folder of another form is not continued.
FORM: Final = 1
DAY_SECONDS: Final = 86_400
SECOND_NS: Final = 1_000_000_000
SETTLE_SECONDS_MAX: Final = 3_600.0


@dataclass
class Manifest:
    """What the folder holds."""

    scale: float
    seed: int
    end_ns: int
    form: int = FORM
    done: dict[str, int] = field(default_factory=dict)  # rows by batch
    loading_seconds: float = 0.0

    @property
    def plan(self) -> Plan:
        """What it is to hold."""
        return Plan(self.scale, self.seed, self.end_ns)

    @property
    def is_finished(self) -> bool:
        """Whether all is there."""
        return all(batch.name in self.done for batch in self.plan.batches())

    def rows(self, signal: str) -> int:
        """Rows that are there."""
        return sum(rows for name, rows in self.done.items() if name.startswith(f"{signal}-"))

    def write(self, folder: Path) -> None:
        """Keep it."""
        new = folder / f"{MANIFEST}.new"
        new.write_text(json.dumps(asdict(self), indent=1))
        new.replace(folder / MANIFEST)


def manifest_in(folder: Path) -> Manifest | None:
    """What *folder* holds; None when there is no data set, or one of another form."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return Manifest(**found) if found["form"] == FORM else None


async def load(
    clickhouse: ClickHouse,
    folder: Path,
    manifest: Manifest,
    told: Callable[[str], None],
) -> None:
    """Store what is missing in tables that are there, and wait until ClickHouse has merged it."""
    inserts = ClickHouseInserts(clickhouse, database=DATABASE)
    loop = asyncio.get_running_loop()
    begun = time.monotonic()
    missing = [batch for batch in manifest.plan.batches() if batch.name not in manifest.done]
    with ThreadPoolExecutor(1) as thread:
        # One batch is encoded while the one before it is stored.
        storing: asyncio.Task[None] | None = None
        for number, batch in enumerate(missing):
            groups = await loop.run_in_executor(thread, encoded, manifest.plan, batch)
            if storing is not None:
                await storing
            storing = asyncio.create_task(_store(inserts, batch, groups, (folder, manifest)))
            seconds = time.monotonic() - begun
            told(f"{number + 1} of {len(missing)} batches, {batch.name}, {seconds:.0f} s")
        if storing is not None:
            await storing
    manifest.loading_seconds += time.monotonic() - begun
    manifest.write(folder)
    end = manifest.end_ns // SECOND_NS
    for table in METRIC_TABLES:
        for day in range(DAYS):
            day_end = end - day * DAY_SECONDS
            await note_series(clickhouse, DATABASE, table, start=day_end - DAY_SECONDS, end=day_end)
    await settle(clickhouse)


Groups = dict[str, list[PlannedRecord]]


def encoded(plan: Plan, batch: Batch) -> Groups:
    """The blocks of a batch by table, as the gateway would have put them into the log."""
    encoder = Encoder(batch.signal, retention_days=RETENTION_DAYS)
    frame = compression("zstd").frame
    groups: Groups = {}

    def close() -> None:
        for block in encoder.close():
            groups.setdefault(block.table, []).append(_record(block, frame(block.native)))

    received_ns = plan.begin_ns(batch.day + 1)
    for tenant, body in plan.bodies(batch):
        try:
            found = encoder.append(body, tenant=tenant.name, received_ns=received_ns)
        except BlockFull:
            close()
            found = encoder.append(body, tenant=tenant.name, received_ns=received_ns)
        if found.rejected or found.warnings:
            raise RuntimeError(f"the codec did not take all: {found.rejected} {found.warnings}")
    close()
    return groups


def _record(block: Block, value: bytes) -> PlannedRecord:
    info = RecordInfo(
        table=block.table,
        rows=block.rows,
        retention_days=RETENTION_DAYS,
        time_min_ns=block.time_min_ns,
        time_max_ns=block.time_max_ns,
        encoding="zstd",
        tenants=(),
        requests=(),
    )
    return PlannedRecord(Record("", 0, 0, 0, value, ()), info)


async def _store(
    inserts: ClickHouseInserts, batch: Batch, groups: Groups, kept: tuple[Path, Manifest]
) -> None:
    folder, manifest = kept
    for table, records in groups.items():
        key = (table, RETENTION_DAYS, "zstd")
        token = f"dataset-{manifest.scale}-{manifest.seed}-{batch.name}-{table}"
        await inserts.insert(key, records, token)
    manifest.done[batch.name] = sum(one.rows for records in groups.values() for one in records)
    manifest.write(folder)


async def settle(clickhouse: ClickHouse) -> None:
    """Returns when no merge runs any more."""
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    quiet = 0
    while quiet < 3 and time.monotonic() < deadline:
        await asyncio.sleep(1)
        running = await clickhouse.query("SELECT count() FROM system.merges")
        quiet = 0 if running[0][0] else quiet + 1
