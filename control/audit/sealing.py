"""Seals what earlier releases kept in the clear beside the trail (format 1)."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from control.audit.domain import PEOPLE, json_of
from control.audit.person_keys import PersonKeys
from control.audit.personal import Personal, PersonKey, opened, people_of, sealed
from shared.postgres.database import Database
from shared.postgres.scope import PLATFORM

ROWS_AT_ONCE: Final = 500


async def seal_old(database: Database, keys: PersonKeys) -> int:
    """Seal some entries that were recorded before entries were sealed; how many."""
    async with database.begin(PLATFORM) as connection:
        rows = await connection.fetch(
            """
            SELECT audit_personal.*, user_id, resource_type, resource_id
              FROM audit_personal JOIN audit_logs USING (id)
             ORDER BY id LIMIT $1
            """,
            ROWS_AT_ONCE,
        )
        people = {(row["organization_id"], one) for row in rows for one in _people(row)}
        found = await keys.made(connection, people)
        for row in rows:
            actor_id, subject_id = _people(row)
            personal = Personal(
                actor_id=actor_id,
                actor={
                    "salt": row["salt"].hex(),
                    "email": row["email"],
                    "ip_address": row["ip_address"],
                    "user_agent": row["user_agent"],
                },
                subject_id=subject_id,
                subject={"details": row["details"]},
            )
            part = sealed(personal, row["id"], row["organization_id"], found)
            await connection.execute(
                "SELECT seal_audit_entry($1, $2, $3, $4, $5)",
                row["id"],
                part.actor_sealed,
                part.subject_sealed,
                part.email_index,
                part.ip_index,
            )
    return len(rows)


def is_salted_digest(
    row: Mapping[str, Any], keys: Mapping[tuple[UUID, UUID], PersonKey]
) -> bool | None:
    """Whether the sealed parts are what the chain has a digest of; None once one is erased."""
    if any(one not in keys for one in people_of(row)):
        return None
    actor, subject = opened(row, keys)
    if actor is None or subject is None:
        return False
    document = {
        "email": actor["email"],
        "ip_address": actor["ip_address"],
        "user_agent": actor["user_agent"],
        "details": subject["details"],
    }
    salt = bytes.fromhex(actor["salt"])
    digest: bytes = row["personal_digest"]
    return hashlib.sha256(salt + json_of(document)).digest() == digest


def _people(row: Any) -> tuple[UUID, UUID]:
    actor_id = row["user_id"] or row["organization_id"]
    return actor_id, row["resource_id"] if row["resource_type"] in PEOPLE else actor_id
