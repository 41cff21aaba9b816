"""What time alone brings about: keys rotate, what nobody needs goes, the demo begins anew.

Every worker does all of it; each step is safe to repeat, and safe beside another worker's.
"""

import asyncio
import contextlib
import logging
from datetime import datetime, timedelta
from typing import Final

from control.api_keys.jobs import look_after_keys
from control.app import Control
from control.audit.archiving import archive_old_months
from control.audit.jobs import order_reports
from control.audit.sealing import seal_old
from control.core.commands.people import PurgeUser
from control.core.commands.tenancy import PurgeOrganization, PurgeTenant, PurgeWorkspace
from control.demo import reset_demo
from shared.caller import SYSTEM
from shared.clickhouse.exception_codes import SchemaMismatch
from shared.errors import Conflict, NotFound, Unavailable
from shared.http.idempotency import prune
from shared.messaging.events import utc_now
from shared.messaging.relay import prune_outbox
from shared.postgres.connection import Connection
from shared.postgres.scope import PLATFORM
from shared.repeating import repeat

HOUSEKEEPING_SECONDS: Final = 300.0
# What was deleted can be restored for so long.
SET_ASIDE: Final = timedelta(days=90)
PURGES_AT_ONCE_MAX: Final = 100
# The largest first: what is within goes with it.
_PURGES: Final = {
    "organizations": PurgeOrganization,
    "workspaces": PurgeWorkspace,
    "tenants": PurgeTenant,
    "users": PurgeUser,
}

logger = logging.getLogger(__name__)


async def keep_house(control: Control, stopping: asyncio.Event) -> None:
    """All steps, again and again until *stopping*."""

    async def once() -> None:
        await _all_steps(control, now=utc_now())

    await repeat(
        once,
        every_seconds=HOUSEKEEPING_SECONDS,
        stopping=stopping,
        failing="housekeeping waits",
    )


async def keep_trail(control: Control, stopping: asyncio.Event) -> None:
    """What the audit trail needs, again and again until *stopping*."""

    async def once() -> None:
        await look_after_trail(control, now=utc_now())

    await repeat(
        once,
        every_seconds=HOUSEKEEPING_SECONDS,
        stopping=stopping,
        # A checkpoint that cannot be written, an archive that is away: the next time.
        failing="the upkeep of the audit trail waits",
    )


async def look_after_trail(control: Control, *, now: datetime) -> None:
    """Room for the next months, reports, a checkpoint, what gateways refused, and the archive.

    What waits for others comes last.
    """
    database, audit = control.database, control.audit
    async with database.begin(PLATFORM) as connection:
        await connection.execute("SELECT make_audit_partitions()")
    while await seal_old(database, audit.keys):
        pass
    async with database.begin(PLATFORM) as connection:
        while await audit.keys.rewrap(connection):
            pass
    async with database.begin(PLATFORM) as connection:
        while await order_reports(connection, now=now):
            pass
    async with database.read(PLATFORM) as connection:
        await audit.checkpoints.write(connection, now=now)
    # While ClickHouse is away, or not migrated yet: a later pass looks back for hours.
    with contextlib.suppress(Unavailable, SchemaMismatch):
        await audit.contradictions.record(database, now=now)
    await archive_old_months(database, audit.archive, audit.checkpoints, now=now)


async def _all_steps(control: Control, *, now: datetime) -> None:
    await control.kit.tokens.rotate(now=now)
    for clean in (prune, prune_outbox, prune_rows):
        async with control.database.begin(PLATFORM) as connection:
            await clean(connection)
    if purged := await purge_deleted(control, now=now):
        logger.info("%d that were deleted %d days ago are gone", purged, SET_ASIDE.days)
    while await look_after_keys(control.api_keys, now=now):
        pass
    if await reset_demo(control, now=now):
        logger.info("the demo organization begins anew")


async def prune_rows(connection: Connection) -> int:
    """Delete what no sign-in and no gateway needs any more; how many rows."""
    deleted = 0
    for statement in (
        "DELETE FROM sessions WHERE expires_at < now() - interval '30 days'",
        "DELETE FROM sign_in_failures WHERE last_at < now() - interval '1 day'",
        "DELETE FROM mail_tokens WHERE expires_at < now()",
        "DELETE FROM used_tokens WHERE expires_at < now() - interval '1 hour'",
        "DELETE FROM trusted_devices WHERE expires_at < now()",
        # As long as ClickHouse keeps it.
        "DELETE FROM usage_days WHERE day < now() - interval '25 months'",
        # A gateway that was away longer finds its sum wrong, and fetches everything.
        "DELETE FROM directory_removals WHERE removed_at < now() - interval '30 days'",
    ):
        deleted += int((await connection.execute(statement)).split()[-1])
    return deleted


async def purge_deleted(control: Control, *, now: datetime) -> int:
    """Let go for good what has been set aside long enough; how many places and people."""
    purged = 0
    for table, command in _PURGES.items():
        async with control.database.read(PLATFORM) as connection:
            rows = await connection.fetch(
                f"SELECT id FROM {table} WHERE deleted_at < $1 ORDER BY deleted_at LIMIT $2",  # noqa: S608 - names of our own
                now - SET_ASIDE,
                PURGES_AT_ONCE_MAX,
            )
        for row in rows:
            # Somebody else was first, or took it back.
            with contextlib.suppress(NotFound, Conflict):
                await control.services.commands.execute(command(id=row["id"]), SYSTEM)
                purged += 1
    return purged
