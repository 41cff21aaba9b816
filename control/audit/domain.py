"""An entry of the audit trail, made of an event, and the chain that it becomes part of.

The digest of an entry is SHA-256 over the digest of the one before and the entry as JSON with
sorted keys. The first digest of a chain is that of its organization and of this format, so that no
chain can stand for another.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson

from control.audit.actions import ACTIONS, FAILURES
from shared.logger.redaction import MASK, redacted

# Of events that belong to no organization, such as those about regions.
PLATFORM_ID: Final = UUID(int=0)
_FORMAT: Final = b"telemetryflow audit 1 "
# Whose key is destroyed. Whoever is nobody is under the organization's own, which goes with it.
PURGED: Final = frozenset({"user.purged", "organization.purged"})
# Fields of events that tell who a person is.
PERSONAL: Final = frozenset({"email", "first_name", "last_name", "invited_by", "organization_name"})
# Resources that are a person: from what to what they were changed is theirs.
PEOPLE: Final = frozenset({"user", "auth"})
_SECRET: Final = re.compile(
    r"(?i)password|passwd|secret|token|hash|authorization|cookie|credential"
    r"|private_?key|api_?key|recovery_?code"
)
# Names of fields: the same few hundred all the time.
_NAMES_REMEMBERED_MAX: Final = 4_096


class Entry(NamedTuple):
    """One row of the trail: a tuple, since a million of them are looked through."""

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
        document = self._asdict()
        document["personal_digest"] = self.personal_digest.hex()
        document["occurred_at"] = self.occurred_at.astimezone(UTC)
        return hashlib.sha256(before + json_of(document)).digest()


def first_digest(organization_id: UUID) -> bytes:
    """What the first entry of an organization stands behind."""
    return hashlib.sha256(_FORMAT + organization_id.bytes).digest()


def entry_of(row: Mapping[str, Any], *, sequence: int, personal_digest: bytes) -> Entry:
    """The entry of a row of the outbox."""
    context = row["context"]
    resource_type, action = ACTIONS[row["event_type"]]
    return Entry(
        id=row["event_id"],
        organization_id=row["organization_id"] or PLATFORM_ID,
        sequence=sequence,
        occurred_at=row["occurred_at"],
        tenant_id=row["tenant_id"],
        user_id=actor_of(row),
        actor=context.get("actor") or "system",
        action=f"{resource_type}.{action}",
        result="failure" if row["event_type"] in FAILURES else "success",
        resource_type=resource_type,
        resource_id=row["aggregate_id"],
        request_id=context.get("requestId") or "",
        session_id=context.get("sessionId") or "",
        metadata={
            name: masked(name, value)
            for name, value in row["payload"].items()
            if not is_personal(row, name)
        },
        personal_digest=personal_digest,
    )


def actor_of(row: Mapping[str, Any]) -> UUID | None:
    """Who did it; who signs in is nobody yet: the account that is signed in to is theirs."""
    context = row["context"]
    if user_id := context.get("userId"):
        return UUID(user_id)
    is_own = ACTIONS[row["event_type"]][0] == "auth" and context.get("actor") == "anonymous"
    return row["aggregate_id"] if is_own else None


def is_personal(row: Mapping[str, Any], name: str) -> bool:
    """Whether a field of an event tells who a person is: by its name, or as a change of them."""
    return name in PERSONAL or (name == "changes" and ACTIONS[row["event_type"]][0] in PEOPLE)


def masked(name: str, value: Any) -> Any:
    """*value* without secrets, at any depth: those that are named so, and those that look so."""
    if value and not isinstance(value, bool) and _is_secret(name):
        return MASK
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {str(key): masked(str(key), one) for key, one in value.items()}
    return [masked("", one) for one in value] if isinstance(value, list) else value


@lru_cache(maxsize=_NAMES_REMEMBERED_MAX)
def _is_secret(name: str) -> bool:
    return _SECRET.search(name) is not None


def json_of(document: Mapping[str, Any]) -> bytes:
    """The one text of a document."""
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
