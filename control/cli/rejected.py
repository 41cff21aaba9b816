"""`telemetryflow rejected`: a sample of the items that were rejected, and why."""

import asyncio
from argparse import Namespace
from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.settings import Settings

# Column of the table -> heading.
_COLUMNS: Final = {
    "formatDateTime(Minute, '%m-%d %H:%i')": "minute",
    "TenantId": "tenant",
    "Signal": "signal",
    "Reason": "reason",
    "ServiceName": "service",
    "Name": "name",
    "TraceId": "trace id",
    "SpanId": "span id",
    "if(TimeUnixNano = 0, '', toString(fromUnixTimestamp64Nano(toInt64(TimeUnixNano))))": "time",
    "arrayStringConcat(AttributeKeys, ' ')": "attribute keys",
}
ROWS_MAX: Final = 200
WIDTH: Final = 200


def rejected(settings: Settings, options: Namespace) -> int:
    """Print it, newest first."""
    table = Table(box=None, pad_edge=False)
    for heading in _COLUMNS.values():
        table.add_column(heading, overflow="fold")
    for row in asyncio.run(_rows(settings, options.tenant, options.minutes)):
        table.add_row(*(printable(str(cell)) for cell in row))
    Console(highlight=False, markup=False, width=WIDTH).print(table)
    return 0


def printable(text: str) -> str:
    """*text* without what a terminal would obey: it comes from whoever sends."""
    return "".join(one if one.isprintable() else "\ufffd" for one in text)


async def _rows(settings: Settings, tenant: str, minutes: int) -> Sequence[Sequence[Any]]:
    async with await ClickHouse.connect(ClickHouseAddress.of(settings)) as clickhouse:
        return await clickhouse.query(
            f"SELECT {', '.join(_COLUMNS)} "  # noqa: S608
            f"FROM `{settings.clickhouse_database}`.tf_rejected "
            "WHERE Minute >= now() - INTERVAL {minutes:UInt32} MINUTE "
            "AND ({tenant:String} = '' OR TenantId = {tenant:String}) "
            f"ORDER BY Minute DESC, TenantId, Signal, Reason LIMIT {ROWS_MAX}",
            {"minutes": minutes, "tenant": tenant},
        )
