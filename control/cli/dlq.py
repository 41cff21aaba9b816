"""`telemetryflow dlq`: the records that ClickHouse refused."""

import asyncio
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import orjson
from rich.console import Console
from rich.table import Table

from ingest.app import open_log
from ingest.dead_letters import dead_letter, dead_letters, rows_of_letter, settled
from ingest.dead_letters import purge as purge_letters
from ingest.dead_letters import replay as replay_letters
from ingest.inserts import ClickHouseInserts
from ingest.log import TelemetryLog
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.errors import Conflict, Invalid
from shared.settings import Settings

ROWS_SHOWN_MAX = 20
REASON_CHARACTERS_SHOWN = 80


@asynccontextmanager
async def _log(settings: Settings) -> AsyncIterator[TelemetryLog]:
    log = await open_log(settings)
    try:
        yield log
    finally:
        await log.close()


def list_letters(settings: Settings, options: Namespace) -> int:
    """One line each, oldest first."""
    asyncio.run(_list(settings, options))
    return 0


async def _list(settings: Settings, options: Namespace) -> None:
    more = False
    table = Table("number", "buried", "from", "table", "bytes", "reason", box=None)
    async with _log(settings) as log:
        state = await settled(log)
        async for letter in dead_letters(log):
            origin = letter.origin
            if state.has(letter.number) and not options.all:
                continue
            if options.topic not in origin.topic or options.reason not in letter.reason:
                continue
            if table.row_count == options.limit:
                more = True
                break
            table.add_row(
                str(letter.number),
                _time(letter.buried_at_ms),
                f"{origin.topic}/{origin.partition}@{origin.offset}",
                letter.table,
                str(len(letter.value)),
                letter.reason[:REASON_CHARACTERS_SHOWN],
            )
    console = Console(width=180)
    if table.row_count:
        console.print(table)
    elif not more:
        console.print("There are no dead letters to show.")
    if more:
        console.print(f"There are more than --limit {options.limit} of them.")


def show(settings: Settings, options: Namespace) -> int:
    """Everything about one dead letter, with its first rows if they can be read."""
    asyncio.run(_show(settings, options.number))
    return 0


async def _show(settings: Settings, number: int) -> None:
    async with _log(settings) as log:
        letter = await dead_letter(log, number)
    print(f"number   {letter.number}")
    print(f"buried   {_time(letter.buried_at_ms)}")
    print(f"origin   {letter.origin}")
    print(f"table    {letter.table}")
    print(f"bytes    {len(letter.value)}")
    print(f"reason   {letter.reason}")
    for name, value in letter.headers:
        print(f"header   {name} = {value[:64]!r}")
    try:
        rows = rows_of_letter(letter)
    except Invalid as error:
        print(f"rows     {error}")
        return
    for row in rows[:ROWS_SHOWN_MAX]:
        print(f"  {orjson.dumps(row, default=repr).decode()}")


def replay(settings: Settings, options: Namespace) -> int:
    """Insert those that are not settled; exit code 1 when one is still refused."""
    return asyncio.run(_replay(settings, set(options.numbers) or None))


async def _replay(settings: Settings, numbers: set[int] | None) -> int:
    async with (
        _log(settings) as log,
        await ClickHouse.connect(ClickHouseAddress.of(settings)) as clickhouse,
    ):
        inserts = ClickHouseInserts(clickhouse, database=settings.clickhouse_database)
        outcome = await replay_letters(log, inserts, numbers)
    print(f"{len(outcome.stored)} dead letters stored")
    missing = (numbers or set()) - set(outcome.stored) - {one.number for one in outcome.refused}
    if missing:
        print(f"{_listed(missing)}: nothing to do, settled before or not retained any more")
    for refused in outcome.refused:
        print(f"{refused.number} is still refused: {refused.reason[:REASON_CHARACTERS_SHOWN]}")
    return 1 if outcome.refused else 0


def purge(settings: Settings, options: Namespace) -> int:
    """Give letters up for good."""
    if not options.numbers and not options.all:
        raise Conflict("say which: numbers, or --all")
    if not options.yes:
        raise Conflict("their data will be lost: add --yes if you mean it")
    print(f"{asyncio.run(_purge(settings, set(options.numbers) or None))} dead letters given up")
    return 0


async def _purge(settings: Settings, numbers: set[int] | None) -> int:
    async with _log(settings) as log:
        return await purge_letters(log, numbers)


def _listed(numbers: set[int]) -> str:
    return ", ".join(str(number) for number in sorted(numbers))


def _time(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S}"
