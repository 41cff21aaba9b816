"""Carries events of the outbox into the audit trail, many at once, each exactly once.

One recorder works at a time: an entry needs the digest of the one before. Entries and the marks in
the outbox are one transaction; the ends of the chains are moved by the database itself.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from control.audit.actions import ACTIONS
from control.audit.domain import PLATFORM_ID, PURGED, Entry, entry_of, first_digest
from control.audit.person_keys import PersonKeys
from control.audit.personal import SEALED, Personal, Sealed, personal_of, sealed
from shared.postgres.connection import Connection
from shared.postgres.database import Database
from shared.postgres.scope import PLATFORM
from shared.repeating import repeat

EVENTS_AT_ONCE_MAX: Final = 1_000
POLL_SECONDS: Final = 1.0
# Any number, the same for all processes of this product.
_ONE_AT_A_TIME: Final = 0x7E1E_A0D
# The columns of audit_addition behind the position.
_ADDED: Final = ", ".join(
    (
        *("sequence", "user_id", "actor", "action", "result", "resource_type"),
        *("request_id", "session_id", "metadata", "personal_digest", "digest"),
        *Sealed._fields,
    )
)
# What an entry has of its event is taken from the outbox as it stands there.
# A month never comes before the last one of its chain, whatever the clock does.
_RECORD: Final = f"""
    WITH marked AS (
      UPDATE outbox SET audited_at = now()
        FROM unnest($1::audit_addition[]) AS added
       WHERE outbox.position = added.position
      RETURNING event_id, coalesce(organization_id, '{PLATFORM_ID}') AS organization_id,
                occurred_at, tenant_id, aggregate_id, {_ADDED}
    )
    INSERT INTO audit_logs (id, organization_id, occurred_at, tenant_id, resource_id, month, format,
                            {_ADDED})
    SELECT event_id, organization_id, occurred_at, tenant_id, aggregate_id,
           greatest(date_trunc('month', now())::date, coalesce(ends.month, '-infinity')), {SEALED},
           {_ADDED}
      FROM marked
      LEFT JOIN (SELECT organization_id, month FROM audit_chains) AS ends USING (organization_id)
"""  # noqa: S608 - names of our own


class Recorder:
    """Records until it is told to stop."""

    def __init__(self, database: Database, keys: PersonKeys) -> None:
        self._database = database
        self._keys = keys

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
        personal = [personal_of(row) for row in rows]
        parts = await self._sealed(connection, rows, personal)
        chains = await _ends_of(connection, {_chain_of(row) for row in rows})
        entries: list[tuple[Entry, bytes, Sealed]] = []
        for row, part in zip(rows, parts, strict=True):
            sequence, before = chains[_chain_of(row)]
            entry = entry_of(row, sequence=sequence + 1, personal_digest=part.digest)
            digest = entry.digest(before)
            chains[_chain_of(row)] = (entry.sequence, digest)
            entries.append((entry, digest, part))
        await connection.execute(
            _RECORD,
            [_addition(row["position"], *entry) for row, entry in zip(rows, entries, strict=True)],
        )
        for entry, _, _ in entries:
            if entry.action in PURGED:
                await self._keys.erase(connection, entry.resource_id)

    async def _sealed(
        self, connection: Connection, rows: Sequence[Any], personal: Sequence[Personal]
    ) -> list[Sealed]:
        people = {
            (_chain_of(row), person_id)
            for row, one in zip(rows, personal, strict=True)
            for person_id, part in ((one.actor_id, one.actor), (one.subject_id, one.subject))
            if part
        }
        keys = await self._keys.made(connection, people)
        return [
            sealed(one, row["event_id"], _chain_of(row), keys)
            for row, one in zip(rows, personal, strict=True)
        ]


def _chain_of(row: Any) -> UUID:
    organization_id: UUID = row["organization_id"] or PLATFORM_ID
    return organization_id


async def _ends_of(
    connection: Connection, organizations: set[UUID]
) -> dict[UUID, tuple[int, bytes]]:
    chains = {one: (0, first_digest(one)) for one in organizations}
    for known in await connection.fetch(
        "SELECT organization_id, sequence, digest FROM audit_chains "
        "WHERE organization_id = ANY($1)",
        list(organizations),
    ):
        chains[known["organization_id"]] = (known["sequence"], known["digest"])
    return chains


def _addition(position: int, entry: Entry, digest: bytes, part: Sealed) -> tuple[Any, ...]:
    return (
        *(position, entry.sequence, entry.user_id, entry.actor, entry.action, entry.result),
        *(entry.resource_type, entry.request_id, entry.session_id, entry.metadata),
        *(entry.personal_digest, digest, *part),
    )
