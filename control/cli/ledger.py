"""`telemetryflow ledger`: what became of items, by minute, tenant and signal."""

import asyncio
from argparse import Namespace
from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from ingest.app import open_log
from ingest.ledger.writer import LEDGER_GROUP, LEDGER_TOPICS, SETTLED_SECONDS
from ingest.log import TelemetryLog
from ingest.partition_writer import WRITER_GROUP
from ingest.signals import TOPIC_OF_SIGNAL
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.errors import Unavailable
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
_REASON_COLUMNS: Final = {
    "formatDateTime(Minute, '%m-%d %H:%i')": "minute",
    "TenantId": "tenant",
    "Signal": "signal",
    "Event": "event",
    "Reason": "reason",
    "sum(Items)": "count",
}
_TEXTS: Final = 3
WIDTH: Final = 140


def ledger(settings: Settings, options: Namespace) -> int:
    """Print it; 1 when acknowledged items of minutes that are over are missing."""
    if options.reasons:
        return _print_reasons(settings, options)
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


def _print_reasons(settings: Settings, options: Namespace) -> int:
    """Why items were rejected (counted in items) and requests refused (counted in requests)."""
    table = Table(*_REASON_COLUMNS.values(), box=None, pad_edge=False)
    for row in asyncio.run(_reasons(settings, options.tenant, options.minutes)):
        table.add_row(*map(str, row))
    Console(highlight=False, width=WIDTH).print(table)
    return 0


async def _reasons(settings: Settings, tenant: str, minutes: int) -> Sequence[Sequence[Any]]:
    async with await ClickHouse.connect(ClickHouseAddress.of(settings)) as clickhouse:
        return await clickhouse.query(
            f"SELECT {', '.join(_REASON_COLUMNS)} "  # noqa: S608
            f"FROM `{settings.clickhouse_database}`.tf_ledger "
            "WHERE Event IN ('rejected', 'refused') "
            "AND Minute >= now() - INTERVAL {minutes:UInt32} MINUTE "
            "AND ({tenant:String} = '' OR TenantId = {tenant:String}) "
            "GROUP BY Minute, TenantId, Signal, Event, Reason "
            "ORDER BY Minute, TenantId, Signal, Event, Reason",
            {"minutes": minutes, "tenant": tenant},
        )


async def _rows(settings: Settings, tenant: str, minutes: int) -> Sequence[Sequence[Any]]:
    try:
        log = await open_log(settings)
        try:
            age = await _age_seconds(log)
        finally:
            await log.close()
    except Unavailable as error:
        print(f"the log cannot be asked what is in flight, so nothing counts as missing: {error}")
        age = minutes * 60.0
    async with await ClickHouse.connect(ClickHouseAddress.of(settings)) as clickhouse:
        return await clickhouse.query(
            f"SELECT {', '.join(_COLUMNS)}, "  # noqa: S608
            f"TenantId != '' AND Minute < now() - {int(age + SETTLED_SECONDS)} AS IsOver "
            f"FROM `{settings.clickhouse_database}`.ledger "
            "WHERE Minute >= now() - INTERVAL {minutes:UInt32} MINUTE "
            "AND ({tenant:String} = '' OR TenantId = {tenant:String}) "
            "ORDER BY Minute, TenantId, Signal",
            {"minutes": minutes, "tenant": tenant},
        )


async def _age_seconds(log: TelemetryLog) -> float:
    """Age of the oldest record of *log* that is not yet stored, or not yet in the ledger."""
    groups = {WRITER_GROUP: TOPIC_OF_SIGNAL.values(), LEDGER_GROUP: LEDGER_TOPICS}
    backlogs = [
        await log.backlog(group, topic) for group, topics in groups.items() for topic in topics
    ]
    return max(backlog.age_seconds for backlog in backlogs)
