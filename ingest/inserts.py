"""One INSERT: the blocks of a group as they are, one behind the other, under one token."""

from collections.abc import Sequence
from time import monotonic
from typing import Final, Protocol

from ingest import metrics
from ingest.codec.tables import TABLES
from ingest.plans import GroupKey, PlannedRecord
from shared.clickhouse.client import ClickHouse
from shared.clickhouse.exception_codes import SchemaMismatch
from shared.errors import Invalid, Unavailable

# ClickHouse ends an INSERT by then: whatever became of its connection, it has no effect later.
INSERT_SECONDS_MAX: Final = 100
_SETTINGS: Final = {
    "max_execution_time": str(INSERT_SECONDS_MAX),
    # Asynchronous inserts lose data with tokens: a token then covers more than its own rows.
    "async_insert": "0",
    "insert_deduplicate": "1",
    "deduplicate_blocks_in_dependent_materialized_views": "1",
    # One block, one part and one token per INSERT: a large one would become several blocks.
    "max_insert_threads": "1",
    "min_insert_block_size_rows": "10000000",
    "min_insert_block_size_bytes": "4000000000",
    # One partition per day of retention; the default limit of 100 would hold up late data for ever.
    "max_partitions_per_insert_block": "0",
}
# The value indices are left to the first merge: they cost 0.5 CPU-seconds per million spans.
_DEFERRED_INDICES: Final = {"tf_traces": "idx_span_attr_value", "tf_logs": "idx_log_attr_value"}


class Inserts(Protocol):
    """Where blocks go."""

    async def insert(self, key: GroupKey, records: Sequence[PlannedRecord], token: str) -> None:
        """Store all rows of *records*, or know from the token that they are stored already.

        Raises Invalid when the data will never be accepted and nothing of it was stored,
        SchemaMismatch or Unavailable when the outcome is unknown or may be another later.
        """


class ClickHouseInserts:
    """Inserts into the tables of *database*."""

    def __init__(self, clickhouse: ClickHouse, *, database: str) -> None:
        self._clickhouse = clickhouse
        self._database = database

    async def insert(self, key: GroupKey, records: Sequence[PlannedRecord], token: str) -> None:
        """See `Inserts`."""
        table, _retention_days, encoding = key
        started = monotonic()
        outcome = "cancelled"
        try:
            await self._clickhouse.insert_native(
                f"`{self._database}`.`{table}`",
                [name for name, _type in TABLES[table]],
                b"".join(one.record.value for one in records),
                encoding=encoding,
                token=token,
                settings=insert_settings(table),
            )
            outcome = "stored"
        except Unavailable:
            outcome = "unavailable"
            raise
        except SchemaMismatch:
            outcome = "schema"
            raise
        except Invalid:
            outcome = "data"
            raise
        finally:
            metrics.INSERTS.labels(table, outcome).inc()
            metrics.INSERT_SECONDS.labels(table).observe(monotonic() - started)
            metrics.INSERT_ROWS.labels(table).observe(sum(one.rows for one in records))


def insert_settings(table: str) -> dict[str, str]:
    """What ClickHouse is told with every INSERT into *table*."""
    index = _DEFERRED_INDICES.get(table)
    if index is None:
        return _SETTINGS
    return _SETTINGS | {"exclude_materialize_skip_indexes_on_insert": index}
