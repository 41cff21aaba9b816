"""Entries that PostgreSQL let go, in ClickHouse: the same rows, in the order of the chains."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import orjson

from shared.clickhouse.client import ClickHouse

TABLE: Final = "audit_logs_archive"
ROWS_AT_ONCE: Final = 5_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BYTES: Final = frozenset(
    {"personal_digest", "actor_sealed", "subject_sealed", "email_index", "ip_index", "digest"}
)
# As they stand in audit_logs; here they are in PascalCase, as all tables of ClickHouse have them.
COLUMNS: Final = (
    *("organization_id", "sequence", "id", "month", "occurred_at", "tenant_id", "user_id"),
    *("actor", "action", "result", "resource_type", "resource_id", "request_id", "session_id"),
    *("metadata", "personal_digest", "format", "actor_sealed", "subject_sealed", "email_index"),
    *("ip_index", "digest"),
)


def column(name: str) -> str:
    """The name of a column here."""
    return "".join(part.capitalize() for part in name.split("_"))


# Instants travel as microseconds: no driver takes them for local time.
SELECTED: Final = ", ".join(
    f"toUnixTimestamp64Micro({column(name)})" if name == "occurred_at" else column(name)
    for name in COLUMNS
)


class Archive:
    """Reads and writes the archive."""

    def __init__(self, clickhouse: ClickHouse, database: str) -> None:
        self._clickhouse = clickhouse
        self.table = f"{database}.{TABLE}"

    async def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store rows of audit_logs; the same ones again change nothing."""
        first, last = rows[0], rows[-1]
        await self._clickhouse.insert_json(
            self.table,
            b"\n".join(orjson.dumps(_written(row)) for row in rows),
            token=f"audit {first['organization_id']} {first['sequence']} {last['sequence']}",
        )

    async def rows(
        self, organization_id: UUID, *, month: date | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """All of one chain, or its part of a month, in order."""
        after = 0
        while True:
            found = await self.query(
                f"SELECT {SELECTED} FROM {self.table} FINAL "  # noqa: S608 - names of our own
                "WHERE OrganizationId = {organization:UUID} AND Sequence > {after:UInt64} "
                "AND ({month:Nullable(Date)} IS NULL OR Month = {month:Nullable(Date)}) "
                f"ORDER BY Sequence LIMIT {ROWS_AT_ONCE}",
                {"organization": organization_id, "after": after, "month": month},
            )
            for row in found:
                yield row
            if len(found) < ROWS_AT_ONCE:
                return
            after = found[-1]["sequence"]

    async def organizations(self) -> list[UUID]:
        """Whose entries are here."""
        rows = await self._clickhouse.query(f"SELECT DISTINCT OrganizationId FROM {self.table}")  # noqa: S608 - names of our own
        return [UUID(str(row[0])) for row in rows]

    async def query(self, sql: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Rows of a statement that selects SELECTED, as PostgreSQL would give them."""
        return [_read(row) for row in await self._clickhouse.query(sql, parameters)]

    async def count(self, sql: str, parameters: Mapping[str, Any]) -> int:
        """The one number of a statement."""
        ((count,),) = await self._clickhouse.query(sql, parameters)
        return int(count)


def _written(row: Mapping[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for name in COLUMNS:
        value = row[name]
        if name in _BYTES:
            value = (value or b"").hex()
        elif name == "occurred_at":
            value = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"
        elif name == "metadata":
            value = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
        document[column(name)] = value
    return document


def _read(values: Sequence[Any]) -> dict[str, Any]:
    row = dict(zip(COLUMNS, values, strict=True))
    for name in _BYTES:
        row[name] = bytes.fromhex(row[name]) or None
    for name in ("organization_id", "id", "resource_id", "tenant_id", "user_id"):
        row[name] = UUID(str(row[name])) if row[name] else None
    row["organization_id"] = row["organization_id"] or UUID(int=0)
    row["occurred_at"] = _EPOCH + timedelta(microseconds=row["occurred_at"])
    row["metadata"] = orjson.loads(row["metadata"])
    return row
