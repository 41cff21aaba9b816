"""What gateways refused since it named another tenant than its key writes for, into the trail.

Gateways reach no PostgreSQL: they tell the ledger (ingest.ledger), which counts by tenant, signal
and minute. Of each tenant, signal and five minutes one entry is made of that, with a count, however
much was refused; its id follows from what it tells, so that no worker makes it twice.
"""

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid5

from control.audit.events import SecurityEventDetected
from shared.clickhouse.client import ClickHouse
from shared.postgres.database import Database
from shared.postgres.outbox import append_to_outbox
from shared.postgres.scope import PLATFORM

REASON: Final = "tenant_contradiction"
WINDOW_SECONDS: Final = 300
# What is told later than that is in the ledger alone.
SETTLED_SECONDS: Final = 120
# So long may no worker run before the trail misses something.
LOOKED_BACK_SECONDS: Final = 6 * 3_600
# Of one look; the oldest come first, and the rest with the next look.
ENTRIES_MAX: Final = 1_000
_EVENTS: Final = UUID("5b1f6a0e-3c57-4a55-9d0c-9b8a2c1f7e10")
# Any number, the same for all processes of this product.
_ONE_AT_A_TIME: Final = 0x7E1E_A0F


class Contradictions:
    """Looks into the ledger, and records what it finds."""

    def __init__(self, clickhouse: ClickHouse, clickhouse_database: str) -> None:
        self._clickhouse = clickhouse
        self._table = f"`{clickhouse_database}`.tf_ledger"

    async def record(self, database: Database, *, now: datetime) -> int:
        """Record the windows that are over and not recorded yet; how many entries.

        Raises Unavailable while ClickHouse is away.
        """
        until = (int(now.timestamp()) - SETTLED_SECONDS) // WINDOW_SECONDS * WINDOW_SECONDS
        found = {_id_of(row): row for row in await self._windows(until)}
        async with database.begin(PLATFORM) as connection:
            if not found or not await connection.fetchval(
                "SELECT pg_try_advisory_xact_lock($1)", _ONE_AT_A_TIME
            ):
                return 0
            rows = await connection.fetch(
                "SELECT event_id FROM outbox WHERE event_id = ANY($1)", list(found)
            )
            known = {row["event_id"] for row in rows}
            new = [one for one in found if one not in known][:ENTRIES_MAX]
            tenants = {
                row["telemetry_id"]: row
                for row in await connection.fetch(
                    "SELECT telemetry_id, id, organization_id FROM tenants "
                    "WHERE telemetry_id = ANY($1)",
                    list({found[one][0] for one in new}),
                )
            }
            events = [_event(one, found[one], tenants.get(found[one][0])) for one in new]
            await append_to_outbox(connection, events)
        return len(events)

    async def _windows(self, until: int) -> Any:
        """Tenant, signal, begin (Unix seconds), refused requests and rejected items."""
        return await self._clickhouse.query(
            "SELECT TenantId, Signal, "  # noqa: S608 - names of our own
            f"intDiv(toUnixTimestamp(Minute), {WINDOW_SECONDS}) * {WINDOW_SECONDS} AS Begin, "
            "sumIf(Items, Event = 'refused'), sumIf(Items, Event = 'rejected') "
            f"FROM {self._table} WHERE Reason = '{REASON}' "
            f"AND Minute >= toDateTime({until - LOOKED_BACK_SECONDS}) "
            f"AND Minute < toDateTime({until}) GROUP BY TenantId, Signal, Begin "
            "ORDER BY Begin, TenantId, Signal"
        )


def _id_of(row: Any) -> UUID:
    tenant, signal, begin, *_counts = row
    return uuid5(_EVENTS, f"{int(begin)} {signal} {tenant}")


def _event(event_id: UUID, row: Any, tenant: Any) -> SecurityEventDetected:
    """Of no known tenant (a key of a whole workspace) it is told to the platform."""
    _tenant, signal, begin, requests, items = row
    since = datetime.fromtimestamp(int(begin), UTC)
    return SecurityEventDetected(
        event_id=event_id,
        aggregate_id=tenant["id"] if tenant else UUID(int=0),
        organization_id=tenant["organization_id"] if tenant else None,
        tenant_id=tenant["id"] if tenant else None,
        kind=REASON,
        detail=f"{int(requests)} requests and {int(items)} items of {signal} named another tenant "
        f"or workspace than their key writes for, within {WINDOW_SECONDS // 60} minutes from "
        f"{since:%Y-%m-%d %H:%M} (UTC) on",
    )
