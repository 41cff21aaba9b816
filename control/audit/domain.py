"""An entry of the audit trail, made of an event, and the chain that it becomes part of.

The digest of an entry is SHA-256 over the digest of the one before and the entry as JSON with
sorted keys. The first digest of a chain is that of its organization and of this format, so that no
chain can stand for another.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import orjson

from control.audit.actions import ACTIONS, FAILURES

# Of events that belong to no organization, such as those about regions.
PLATFORM_ID: Final = UUID(int=0)
_FORMAT: Final = b"telemetryflow audit 1 "
# Fields of events that tell who a person is.
_PERSONAL: Final = frozenset(
    {"email", "first_name", "last_name", "invited_by", "organization_name"}
)
_SECRET: Final = ("password", "secret", "token", "hash")
MASK: Final = "********"


@dataclass(frozen=True, kw_only=True)
class Personal:
    """What tells who a person is; *salt* keeps its digest from being guessed once it is erased."""

    salt: bytes
    email: str
    ip_address: str
    user_agent: str
    details: Mapping[str, Any]

    @property
    def digest(self) -> bytes:
        """What stays of it in the chain."""
        document = {
            "email": self.email,
            "ip_address": self.ip_address,
            "user_agent": self.user_agent,
            "details": self.details,
        }
        return hashlib.sha256(self.salt + _json(document)).digest()


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of the trail."""

    id: UUID
    organization_id: UUID
    sequence: int
    occurred_at: datetime
    tenant_id: UUID | None
    user_id: UUID | None
    actor: str
    action: str
    result: str
    resource_type: str
    resource_id: UUID
    request_id: str
    session_id: str
    metadata: Mapping[str, Any]
    personal_digest: bytes

    def digest(self, before: bytes) -> bytes:
        """Of this entry behind the one whose digest is *before*."""
        document = {one.name: getattr(self, one.name) for one in fields(self)}
        document["personal_digest"] = self.personal_digest.hex()
        document["occurred_at"] = self.occurred_at.astimezone(UTC).isoformat()
        return hashlib.sha256(before + _json(document)).digest()


def first_digest(organization_id: UUID) -> bytes:
    """What the first entry of an organization stands behind."""
    return hashlib.sha256(_FORMAT + organization_id.bytes).digest()


def entry_of(row: Mapping[str, Any], *, sequence: int, salt: bytes) -> tuple[Entry, Personal]:
    """The entry of a row of the outbox, and what of it is personal."""
    context, payload = row["context"], row["payload"]
    personal = Personal(
        salt=salt,
        email=context.get("email") or "",
        ip_address=context.get("ipAddress") or "",
        user_agent=context.get("userAgent") or "",
        details={name: value for name, value in payload.items() if name in _PERSONAL},
    )
    resource_type, action = ACTIONS[row["event_type"]]
    user_id = context.get("userId")
    # Who signs in is nobody yet: the account that is signed in to is theirs.
    is_own = resource_type == "auth" and user_id is None and context.get("actor") == "anonymous"
    entry = Entry(
        id=row["event_id"],
        organization_id=row["organization_id"] or PLATFORM_ID,
        sequence=sequence,
        occurred_at=row["occurred_at"],
        tenant_id=row["tenant_id"],
        user_id=row["aggregate_id"] if is_own else UUID(user_id) if user_id else None,
        actor=context.get("actor") or "system",
        action=f"{resource_type}.{action}",
        result="failure" if row["event_type"] in FAILURES else "success",
        resource_type=resource_type,
        resource_id=row["aggregate_id"],
        request_id=context.get("requestId") or "",
        session_id=context.get("sessionId") or "",
        metadata={
            name: _masked(name, value) for name, value in payload.items() if name not in _PERSONAL
        },
        personal_digest=personal.digest,
    )
    return entry, personal


def _masked(name: str, value: Any) -> Any:
    return MASK if any(word in name for word in _SECRET) and value else value


def _json(document: Mapping[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
