"""The commands that are one process of the product, and `migrate`."""

import asyncio
import os
from argparse import Namespace

from rich.console import Console

from control.telemetry.arrivals import Tell
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.clickhouse.embedded.__main__ import serve
from shared.clickhouse.migrate import Migrator
from shared.logger.set_up import set_up_logging
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


def api(settings: Settings, _options: Namespace) -> int:
    """The API of the control plane."""
    from control.processes import run_api  # noqa: PLC0415 - as above

    async def follow(tell: Tell) -> None:
        # The log is the data plane's, which knows what it tells; loaded once somebody waits for it.
        from ingest.app import follow_log  # noqa: PLC0415 - as above

        await follow_log(settings, tell)

    set_up_logging(settings, "api")
    return run_api(settings, follow)


def worker(settings: Settings, _options: Namespace) -> int:
    """What the control plane does in the background: events, jobs, schedules."""
    from control.processes import run_worker  # noqa: PLC0415 - as above

    set_up_logging(settings, "worker")
    return run_worker(settings)


def postgres(settings: Settings, _options: Namespace) -> int:
    """The embedded PostgreSQL server alone: this process becomes it."""
    from shared.postgres.embedded import become_server  # noqa: PLC0415 - as above

    become_server(settings)
    return 0


def init(settings: Settings, options: Namespace) -> int:
    """Make the first organization and its administrator, whose password is shown once."""
    return asyncio.run(_init(settings, demo=options.demo))


async def _init(settings: Settings, *, demo: bool) -> int:
    from control.app import open_control  # noqa: PLC0415 - as above
    from control.demo import make_demo  # noqa: PLC0415 - as above
    from control.first_start import begin  # noqa: PLC0415 - as above

    async with open_control(settings) as control:
        people = await begin(control)
        if demo:
            people += await make_demo(control)
    for person in people:
        print(f"  {person.role:<20}  {person.email:<44}  {person.password}")
    return 0


def migrate(settings: Settings, options: Namespace) -> int:
    """Apply pending migrations, or with --check only list them (exit code 1 when there are)."""
    return asyncio.run(_migrate(settings, store=options.store, only_check=options.check))


async def _migrate(settings: Settings, *, store: str, only_check: bool) -> int:
    console = Console(highlight=False)
    names: list[str] = []
    if store in ("all", "postgres"):
        names += await _migrate_postgres(settings, only_check=only_check)
    if store in ("all", "clickhouse"):
        names += await _migrate_clickhouse(settings, only_check=only_check)
    for name in names:
        console.print(f"{'pending' if only_check else 'applied'}: {name}")
    return 1 if only_check and names else 0


async def _migrate_postgres(settings: Settings, *, only_check: bool) -> list[str]:
    from control.core.seeds import write_catalogue  # noqa: PLC0415 - as above
    from shared.postgres import migrate as postgres  # noqa: PLC0415 - as above
    from shared.postgres.database import address_of  # noqa: PLC0415 - as above

    address = address_of(settings)
    available = postgres.migrations("control")
    if only_check:
        return await postgres.pending(address, available)
    await postgres.create_database(address)
    applied = await postgres.migrate(address, available)
    await write_catalogue(address)
    return applied


async def _migrate_clickhouse(settings: Settings, *, only_check: bool) -> list[str]:
    async with await ClickHouse.connect(ClickHouseAddress.of(settings)) as clickhouse:
        migrator = Migrator(
            clickhouse.command, clickhouse.query, database=settings.clickhouse_database
        )
        found = await migrator.pending() if only_check else await migrator.migrate()
        return [migration.name for migration in found]
