"""`telemetryflow ledger`: what became of items, by minute, tenant and signal."""

import asyncio
from argparse import Namespace
from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from ingest.ledger.writer import SETTLED_SECONDS
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.settings import Settings

# Column of the view -> heading.
_COLUMNS: Final = {
    "formatDateTime(Minute, '%m-%d %H:%i')": "minute",
    "TenantId": "tenant",
    "Signal": "signal",
    "Received": "received",
    "Rejected": "rejected",
    "RefusedRequests": "refused",
    "Acked": "acked",
    "Stored": "stored",
    "Dead": "dead",
    "Repeated": "repeated",
    "Missing": "missing",
}
_TEXTS: Final = 3
WIDTH: Final = 140


def ledger(settings: Settings, options: Namespace) -> int:
    """Print it; 1 when acknowledged items of minutes that are over are missing."""
    rows = asyncio.run(_rows(settings, options.tenant, options.minutes))
    table = Table(box=None, pad_edge=False)
    headings = [*_COLUMNS.values()]
    for number, name in enumerate((*headings[:-1], "in flight", "missing")):
        table.add_column(name, justify="left" if number < _TEXTS else "right", no_wrap=True)
    lost = 0
    for *row, missing, is_over in rows:
        lost += max(missing, 0) if is_over else 0
        in_flight = 0 if is_over else max(missing, 0)
        table.add_row(*map(str, row), str(in_flight), str(max(missing, 0) if is_over else 0))
    Console(highlight=False, width=WIDTH).print(table)
    if lost:
        print(f"{lost} acknowledged items are missing: see docs/operations.md")
    return 1 if lost else 0


async def _rows(settings: Settings, tenant: str, minutes: int) -> Sequence[Sequence[Any]]:
    async with await ClickHouse.connect(ClickHouseAddress.of(settings)) as clickhouse:
        return await clickhouse.query(
            f"SELECT {', '.join(_COLUMNS)}, "  # noqa: S608
            f"Minute < now() - {SETTLED_SECONDS} AS IsOver "
            f"FROM `{settings.clickhouse_database}`.ledger "
            "WHERE Minute >= now() - INTERVAL {minutes:UInt32} MINUTE "
            "AND ({tenant:String} = '' OR TenantId = {tenant:String}) "
            "ORDER BY Minute, TenantId, Signal",
            {"minutes": minutes, "tenant": tenant},
        )
