"""Usage and quotas as rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, NamedTuple, TypeVar

from control.api_keys.domain.quotas import NEARLY_USED_PERCENT, Noted, Quota, month_after
from shared.messaging.events import Event
from shared.postgres.connection import Connection

ROWS_AT_ONCE_MAX: Final = 10_000
# Any number, the same for all processes of this product.
_ONE_AT_A_TIME: Final = 0x7E1E_05A

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class UsedInADay:
    """What was stored of one tenant's signal with one key ("": none) in a day."""

    tenant: str
    key_id: str
    signal: str
    items: int
    bytes: int
    last_used_at: datetime


class KeyUse(NamedTuple):
    """When a key was last used for a tenant (its name in telemetry), to the minute."""

    tenant: str
    key_id: str
    last_used_at: datetime


class UsageRows:
    """Repository, opened for one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.events: list[Event] = []

    async def is_alone(self) -> bool:
        """Whether no other transaction writes usage until this one ends."""
        return bool(
            await self._connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _ONE_AT_A_TIME)
        )

    async def copied_until(self) -> datetime | None:
        """Until when, by ClickHouse's clock, all is copied; None before the first time."""
        until: datetime | None = await self._connection.fetchval(
            "SELECT copied_until FROM usage_copies"
        )
        return until

    async def note_copied(self, until: datetime) -> None:
        """Note that all is copied that was told before *until*."""
        await self._connection.execute(
            """
            INSERT INTO usage_copies (copied_until) VALUES ($1)
            ON CONFLICT (is_only) DO UPDATE SET copied_until = excluded.copied_until
            """,
            until,
        )

    async def save_day(self, day: date, rows: Sequence[UsedInADay]) -> None:
        """The whole of what was stored that day, for each of *rows*; unknown tenants have none."""
        for part in _parts(rows):
            await self._connection.execute(
                """
                INSERT INTO usage_days
                  (organization_id, tenant_id, key_id, signal, day, items, bytes)
                SELECT organization_id, id, key_id, signal, $1, items, bytes
                  FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[])
                       AS used (tenant, key_id, signal, items, bytes)
                  JOIN tenants ON telemetry_id = tenant
                    ON CONFLICT (tenant_id, key_id, day, signal)
                    DO UPDATE SET items = excluded.items, bytes = excluded.bytes
                 WHERE (usage_days.items, usage_days.bytes) IS DISTINCT FROM
                       (excluded.items, excluded.bytes)
                """,
                day,
                *_columns(part, "tenant", "key_id", "signal", "items", "bytes"),
            )
        last: dict[str, KeyUse] = {}
        for row in rows:
            if row.key_id and (
                row.key_id not in last or last[row.key_id].last_used_at < row.last_used_at
            ):
                last[row.key_id] = KeyUse(row.tenant, row.key_id, row.last_used_at)
        await self.save_uses(list(last.values()))

    async def save_uses(self, uses: Sequence[KeyUse]) -> None:
        """When keys were used, each once; what is older than what is known changes nothing."""
        for part in _parts(uses):
            await self._connection.execute(
                """
                INSERT INTO api_key_uses (key_id, organization_id, tenant_id, last_used_at)
                SELECT key_id, organization_id, id, last_used_at
                  FROM unnest($1::text[], $2::text[], $3::timestamptz[])
                       AS used (tenant, key_id, last_used_at)
                  JOIN tenants ON telemetry_id = tenant
                    ON CONFLICT (key_id) DO UPDATE SET last_used_at = excluded.last_used_at
                 WHERE api_key_uses.last_used_at < excluded.last_used_at
                """,
                *_columns(part, "tenant", "key_id", "last_used_at"),
            )

    async def quotas(self, month: date) -> list[tuple[Quota, Noted]]:
        """Quotas of that month that are nearly used up, or of which something is noted."""
        rows = await self._connection.fetch(
            """
            WITH allowed AS (
              SELECT organization_id, signal, most, grace_days
                FROM organization_plans JOIN ingestion_plans ON name = plan
               CROSS JOIN LATERAL (VALUES ('traces', traces_per_month),
                 ('metrics', metrics_per_month), ('logs', logs_per_month)) AS of (signal, most)
               WHERE most IS NOT NULL
            ), used AS (
              SELECT organization_id, signal, sum(items)::bigint AS items FROM usage_days
               WHERE day >= $1 AND day < $2
                 AND organization_id IN (SELECT organization_id FROM allowed)
               GROUP BY organization_id, signal
            )
            SELECT organization_id, signal, most, coalesce(grace_days, 0) AS grace_days,
                   coalesce(items, 0) AS items, noted.month, noted.state, noted.items_max,
                   noted.items_used, noted.grace_ends_at
              FROM allowed
              FULL JOIN ingestion_quotas AS noted USING (organization_id, signal)
              LEFT JOIN used USING (organization_id, signal)
             WHERE noted.state IS NOT NULL OR items * 100 >= most * $3
            """,
            month,
            month_after(month),
            NEARLY_USED_PERCENT,
        )
        return [(_quota(row, month), _noted(row, month)) for row in rows]

    async def save_quota(self, quota: Quota, noted: Noted, after: Noted) -> None:
        """Note *after* in the place of *noted*, and tell it."""
        if after.state is None:
            await self._connection.execute(
                "DELETE FROM ingestion_quotas WHERE organization_id = $1 AND signal = $2",
                quota.organization_id,
                quota.signal,
            )
        else:
            await self._connection.execute(
                """
                INSERT INTO ingestion_quotas
                  (organization_id, signal, month, items_max, items_used, state, grace_ends_at)
                VALUES ($1, $2, $3, $4, $5, $6, $7)
                ON CONFLICT (organization_id, signal) DO UPDATE
                   SET month = $3, items_max = $4, items_used = $5, state = $6, grace_ends_at = $7
                """,
                *(quota.organization_id, quota.signal, after.month, after.items_max),
                *(after.items_used, after.state, after.grace_ends_at),
            )
        self.events += quota.events(noted, after)


def _parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for first in range(0, len(rows), ROWS_AT_ONCE_MAX):
        yield rows[first : first + ROWS_AT_ONCE_MAX]


def _columns(rows: Sequence[Any], *names: str) -> list[list[Any]]:
    return [[getattr(row, name) for row in rows] for name in names]


def _quota(row: Any, month: date) -> Quota:
    return Quota(
        organization_id=row["organization_id"],
        signal=row["signal"],
        month=month,
        items_max=row["most"],
        items_used=row["items"],
        grace_days=row["grace_days"],
    )


def _noted(row: Any, month: date) -> Noted:
    if row["state"] is None:
        return Noted(month)
    names = ("month", "state", "items_max", "items_used", "grace_ends_at")
    return Noted(*(row[name] for name in names))
