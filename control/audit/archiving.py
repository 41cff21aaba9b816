"""Moves months of the trail that are old enough into the archive, and lets them go here.

Safe to repeat at any point, and to do twice at once: entries come into the archive under their
place in the chain; a month goes only after all of it was read back and its chain recomputed, and
only with a signed record of where it ended.
"""

import logging
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from control.audit.archive import Archive
from control.audit.checkpoints import Checkpoints
from control.audit.domain import first_digest
from control.audit.verification import ROWS_AT_ONCE, Chain, Signed
from shared.errors import Conflict
from shared.postgres.connection import Connection
from shared.postgres.database import Database
from shared.postgres.scope import PLATFORM

# The database itself lets nothing go earlier: drop_audit_month.
HOT: Final = timedelta(days=90)
# Dropping a month looks where each of its chains ends.
DROP_SECONDS_MAX: Final = 600
_ARCHIVING: Final = 0x7E1E_A0E

logger = logging.getLogger(__name__)


async def archive_old_months(
    database: Database, archive: Archive, checkpoints: Checkpoints, *, now: datetime
) -> list[date]:
    """Archive every month that ended 90 days ago; those that are gone from PostgreSQL now.

    Unavailable while ClickHouse is away: everything stays as it is. Conflict when the archive does
    not hold what was written.
    """
    async with database.session() as lock:
        if not await lock.fetchval("SELECT pg_try_advisory_lock($1)", _ARCHIVING):
            return []
        try:
            months = [month for month in await _months(database) if _end_of(month) <= now - HOT]
            for month in months:
                await _archive(database, archive, checkpoints, month, now=now)
            return months
        finally:
            await lock.fetchval("SELECT pg_advisory_unlock($1)", _ARCHIVING)


async def _archive(
    database: Database, archive: Archive, checkpoints: Checkpoints, month: date, *, now: datetime
) -> None:
    async with database.read(PLATFORM) as connection:
        starts = await _starts(connection, month)
    ends = {}
    for organization_id, (sequence, digest) in starts.items():
        await _copy(database, archive, organization_id, month)
        ends[organization_id] = await _read_back(
            archive, Chain(organization_id, Signed(), sequence=sequence, digest=digest), month
        )
    signed = await checkpoints.sign_pruning(month, ends, now=now)
    async with database.begin(PLATFORM) as connection:
        await connection.execute(f"SET LOCAL statement_timeout = '{DROP_SECONDS_MAX}s'")
        await connection.execute("SELECT drop_audit_month($1, $2)", month, signed)
    logger.info("%s of the audit trail is in the archive alone", f"{month:%Y-%m}")


async def _copy(database: Database, archive: Archive, organization_id: UUID, month: date) -> None:
    after = 0
    while True:
        async with database.read(PLATFORM) as connection:
            rows = await connection.fetch(
                """
                SELECT * FROM audit_logs
                 WHERE organization_id = $1 AND month = $2 AND sequence > $3
                 ORDER BY sequence LIMIT $4
                """,
                organization_id,
                month,
                after,
                ROWS_AT_ONCE,
            )
        if not rows:
            return
        await archive.add(rows)
        after = rows[-1]["sequence"]


async def _read_back(archive: Archive, chain: Chain, month: date) -> tuple[int, bytes]:
    async for row in archive.rows(chain.organization_id, month=month):
        chain.see(row)
    if chain.findings:
        first = chain.findings[0]
        raise Conflict(
            f"the archive is not what was written: organization {first.organization_id}, "
            f"entry {first.sequence}: {first.what}"
        )
    return chain.sequence, chain.digest


async def _months(database: Database) -> list[date]:
    async with database.read(PLATFORM) as connection:
        rows = await connection.fetch(
            """
            SELECT to_date(right(relname, 7), 'YYYY_MM') AS month
              FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
             WHERE inhparent = 'audit_logs'::regclass ORDER BY month
            """
        )
    return [row["month"] for row in rows]


async def _starts(connection: Connection, month: date) -> dict[UUID, tuple[int, bytes]]:
    """For each chain that has entries in *month*, what they stand behind."""
    rows = await connection.fetch(
        """
        SELECT organization_id, pruned_sequence, pruned_digest FROM audit_chains
         WHERE organization_id IN (SELECT organization_id FROM audit_logs WHERE month = $1)
        """,
        month,
    )
    return {row["organization_id"]: _start_of(row) for row in rows}


def _start_of(chain: Any) -> tuple[int, bytes]:
    """Where the hot part of a chain begins: sequence and digest of the entry before."""
    digest = chain["pruned_digest"] or first_digest(chain["organization_id"])
    return chain["pruned_sequence"], digest


def _end_of(month: date) -> datetime:
    following = (month.replace(day=1) + timedelta(days=32)).replace(day=1)
    return datetime(following.year, following.month, 1, tzinfo=UTC)
