"""Carries events of the outbox into the audit trail, many at once, each exactly once.

One recorder works at a time: an entry needs the digest of the one before. Entries, the ends of the
chains and the marks in the outbox are one transaction.
"""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final
from uuid import UUID

from control.audit.actions import ACTIONS
from control.audit.domain import PLATFORM_ID, Entry, Personal, entry_of, first_digest
from shared.postgres.connection import Connection
from shared.postgres.database import Database
from shared.postgres.scope import PLATFORM
from shared.repeating import repeat

EVENTS_AT_ONCE_MAX: Final = 1_000
POLL_SECONDS: Final = 1.0
SALT_BYTES: Final = 16
PURGED: Final = "user.purged"
_COLUMNS: Final = tuple(one.name for one in fields(Entry))
# Any number, the same for all processes of this product.
_ONE_AT_A_TIME: Final = 0x7E1E_A0D


class Recorder:
    """Records until it is told to stop."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, stopping: asyncio.Event) -> None:
        """Record what there is, each second; a database that is away is waited for."""
        await repeat(
            self.record,
            every_seconds=POLL_SECONDS,
            stopping=stopping,
            # Events stay in the outbox until they are recorded.
            failing="the audit trail waits",
        )

    async def record(self) -> int:
        """One batch; how many events."""
        async with self._database.begin(PLATFORM) as connection:
            if not await connection.fetchval(
                "SELECT pg_try_advisory_xact_lock($1)", _ONE_AT_A_TIME
            ):
                return 0
            rows = await connection.fetch(
                """
                SELECT position, event_id, event_type, aggregate_id, organization_id, tenant_id,
                       payload, context, occurred_at
                  FROM outbox WHERE audited_at IS NULL AND event_type = ANY($2)
                 ORDER BY position LIMIT $1
                """,
                EVENTS_AT_ONCE_MAX,
                list(ACTIONS),
            )
            if rows:
                await self._append(connection, rows)
            return len(rows)

    async def _append(self, connection: Connection, rows: Sequence[Any]) -> None:
        organizations = {row["organization_id"] or PLATFORM_ID for row in rows}
        chains = {one: (0, first_digest(one)) for one in organizations}
        for known in await connection.fetch(
            "SELECT organization_id, sequence, digest FROM audit_chains "
            "WHERE organization_id = ANY($1)",
            list(organizations),
        ):
            chains[known["organization_id"]] = (known["sequence"], known["digest"])
        entries: list[tuple[Entry, Personal, bytes]] = []
        for row in rows:
            organization_id = row["organization_id"] or PLATFORM_ID
            sequence, before = chains[organization_id]
            salt = secrets.token_bytes(SALT_BYTES)
            entry, personal = entry_of(row, sequence=sequence + 1, salt=salt)
            digest = entry.digest(before)
            chains[organization_id] = (entry.sequence, digest)
            entries.append((entry, personal, digest))
        await _insert(connection, entries)
        await connection.executemany(
            """
            INSERT INTO audit_chains (organization_id, sequence, digest) VALUES ($1, $2, $3)
            ON CONFLICT (organization_id) DO UPDATE
               SET sequence = excluded.sequence, digest = excluded.digest
            """,
            [(one, sequence, digest) for one, (sequence, digest) in chains.items()],
        )
        for entry, _, _ in entries:
            if entry.action == PURGED:
                await _erase(connection, entry.resource_id)
        await connection.execute(
            "UPDATE outbox SET audited_at = now() WHERE position = ANY($1)",
            [row["position"] for row in rows],
        )


async def _insert(connection: Connection, entries: Sequence[tuple[Entry, Personal, bytes]]) -> None:
    slots = ", ".join(f"${number}" for number in range(1, len(_COLUMNS) + 2))
    await connection.executemany(
        f"INSERT INTO audit_logs ({', '.join(_COLUMNS)}, digest) VALUES ({slots})",  # noqa: S608 - names of our own
        [(*(getattr(entry, name) for name in _COLUMNS), digest) for entry, _, digest in entries],
    )
    await connection.executemany(
        """
        INSERT INTO audit_personal (id, organization_id, salt, email, ip_address, user_agent,
                                    details)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        """,
        [
            (
                *(entry.id, entry.organization_id, personal.salt, personal.email),
                *(personal.ip_address, personal.user_agent, personal.details),
            )
            for entry, personal, _ in entries
        ],
    )


async def _erase(connection: Connection, user_id: UUID) -> None:
    """Erase what tells who a person was who is purged; what was done stays, done by nobody."""
    await connection.execute(
        """
        DELETE FROM audit_personal WHERE id IN (
          SELECT id FROM audit_logs
           WHERE (user_id = $1 OR resource_id = $1) AND action <> $2)
        """,
        user_id,
        PURGED,
    )
