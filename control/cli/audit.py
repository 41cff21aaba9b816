"""`telemetryflow audit verify`: whether the audit trail is what was recorded."""

import asyncio
from argparse import Namespace

from rich.console import Console

from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.postgres.database import Database, address_of
from shared.postgres.scope import PLATFORM
from shared.settings import Settings


def verify(settings: Settings, options: Namespace) -> int:
    """Look through all of it; exit code 1 when something is wrong."""
    return asyncio.run(_verify(settings, is_hot_only=options.hot))


async def _verify(settings: Settings, *, is_hot_only: bool) -> int:
    from control.app import audit_of, secret_box  # noqa: PLC0415 - only what is needed
    from control.audit.sealing import seal_old  # noqa: PLC0415 - as above
    from control.audit.verification import verify as look_through  # noqa: PLC0415 - as above

    console = Console(highlight=False, soft_wrap=True)
    database = await Database.open(
        address_of(settings), size_max=1, statement_seconds_max=settings.db_statement_seconds_max
    )
    clickhouse = ClickHouse(ClickHouseAddress.of(settings))
    audit = audit_of(settings, secret_box(settings), clickhouse)
    try:
        while await seal_old(database, audit.keys):
            pass
        checkpoints = [one async for one in audit.checkpoints.read()]
        async with database.snapshot(PLATFORM) as connection:
            verdict = await look_through(
                connection,
                checkpoints,
                keys=audit.keys,
                archive=None if is_hot_only else audit.archive,
            )
    finally:
        await clickhouse.close()
        await database.close()
    console.print(
        f"{verdict.entries} entries in {verdict.chains} chains, {verdict.archived} of them in the "
        f"archive, {verdict.checkpoints} signed checkpoints"
    )
    for one in verdict.findings:
        console.print(f"organization {one.organization_id}, entry {one.sequence}: {one.what}")
    if verdict.findings:
        return 1
    console.print("nothing was altered, removed or put in between")
    return 0
