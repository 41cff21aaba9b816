"""`telemetryflow sql`: a statement on the configured ClickHouse."""

import asyncio
import sys
from argparse import Namespace

import aiohttp
from rich.console import Console
from rich.table import Table

from shared.clickhouse.client import ClickHouseAddress
from shared.errors import Invalid, Unavailable
from shared.settings import Settings


def sql(settings: Settings, options: Namespace) -> int:
    """Print the result: a table on a terminal, tab-separated values in a pipe."""
    asyncio.run(_run(settings, options.statement, as_table=sys.stdout.isatty()))
    return 0


async def _run(settings: Settings, statement: str, *, as_table: bool) -> None:
    address = ClickHouseAddress.of(settings)
    url = f"http://{address.host}:{address.port}/"
    output_format = "TabSeparatedRawWithNames" if as_table else "TabSeparated"
    parameters = {"database": settings.clickhouse_database, "default_format": output_format}
    headers = {"X-ClickHouse-User": address.username, "X-ClickHouse-Key": address.password}
    try:
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(url, params=parameters, data=statement.encode()) as response,
        ):
            if response.status != 200:
                raise Invalid((await response.text()).strip())
            if as_table:
                _print_table(await response.text())
                return
            async for piece in response.content.iter_any():
                sys.stdout.buffer.write(piece)
            sys.stdout.flush()
    except aiohttp.ClientError as error:
        raise Unavailable(
            f"ClickHouse does not answer on {address.host}:{address.port} ({error}): "
            "is it running? 'telemetryflow up' starts everything"
        ) from error


def _print_table(text: str) -> None:
    lines = text.splitlines()
    if not lines:
        return
    table = Table(*lines[0].split("\t"), box=None)
    for line in lines[1:]:
        table.add_row(*line.split("\t"))
    Console().print(table)
