"""The commands that are one process of the product, and `migrate`."""

import asyncio
import os
from argparse import Namespace

from rich.console import Console

from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.clickhouse.embedded.__main__ import serve
from shared.clickhouse.migrate import Migrator
from shared.observability import set_up_logging
from shared.postgres.embedded import become_server
from shared.settings import Settings


def ingest(settings: Settings, _options: Namespace) -> int:
    """The gateway."""
    from ingest.app import run_gateway  # noqa: PLC0415 - only what a command needs is loaded

    set_up_logging(settings, "ingest")
    return run_gateway(settings)


def writer(settings: Settings, _options: Namespace) -> int:
    """The writer."""
    from ingest.app import run_writer  # noqa: PLC0415 - as above

    set_up_logging(settings, "writer")
    return run_writer(settings)


def clickhouse(settings: Settings, _options: Namespace) -> int:
    """The embedded ClickHouse server, on loopback unless CLICKHOUSE_HOST says otherwise."""
    set_up_logging(settings, "clickhouse")
    asyncio.run(
        serve(
            data=settings.data_dir / "clickhouse",
            host=settings.clickhouse_host or "127.0.0.1",
            port=settings.clickhouse_port,
            user=settings.clickhouse_username,
            password=settings.clickhouse_password,
            database=settings.clickhouse_database,
        )
    )
    # The engine's own threads outlive its close; they hold nothing any more.
    os._exit(0)


def postgres(settings: Settings, _options: Namespace) -> int:
    """The embedded PostgreSQL server alone: this process becomes it."""
    become_server(settings)
    return 0


def migrate(settings: Settings, options: Namespace) -> int:
    """Apply pending migrations, or with --check only list them (exit code 1 when there are)."""
    return asyncio.run(_migrate(settings, only_check=options.check))


async def _migrate(settings: Settings, *, only_check: bool) -> int:
    console = Console(highlight=False)
    async with await ClickHouse.connect(ClickHouseAddress.of(settings)) as clickhouse:
        migrator = Migrator(
            clickhouse.command, clickhouse.query, database=settings.clickhouse_database
        )
        if only_check:
            pending = await migrator.pending()
            for migration in pending:
                console.print(f"pending: {migration.name}")
            return 1 if pending else 0
        for migration in await migrator.migrate():
            console.print(f"applied: {migration.name}")
    return 0
