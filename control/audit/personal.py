"""What tells who a person is, sealed with a key of that person: without the key it is noise.

An entry has two parts: of who did it (address, e-mail, program), and of whom it was done to (names
in the event). Each is the person's id (16 bytes), a nonce (12) and AES-256-GCM, bound to its entry.
The chain holds the SHA-256 of the sealed parts, so that it is verified without any key, before and
after a person is erased. Whoever has a key finds its person's entries by e-mail or IP address,
through HMACs under the same key; without it they match nothing.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from control.audit.actions import ACTIONS
from control.audit.domain import PEOPLE, PLATFORM_ID, actor_of, is_personal, json_of, masked

ID_BYTES: Final = 16
NONCE_BYTES: Final = 12
INDEX_BYTES: Final = 16
_NO_PART: Final = bytes(4)
# Format 1: the digest is of the text with a salt, and the text came to be sealed later.
SALTED, SEALED = 1, 2
# What of an event tells about who did it, not about whom it was done to.
_OF_ACTOR: Final = frozenset({"invited_by"})


class PersonKey:
    """The key of a person in one chain: seals, opens, and makes what is searched by."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(hmac.digest(key, b"seal", "sha256"))
        self._index_key = hmac.digest(key, b"index", "sha256")
        # Of each field the last value: people keep their address for a while.
        self._indexed: dict[str, tuple[str, bytes]] = {}

    def seal(self, document: Mapping[str, Any], person_id: UUID, context: bytes) -> bytes:
        """*document*, to be opened with the same *context* only."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, json_of(document), person_id.bytes + context)
        return person_id.bytes + nonce + sealed

    def open(self, sealed: bytes, context: bytes) -> dict[str, Any] | None:
        """What was sealed; None when it was changed, or belongs to another entry."""
        person_id, rest = sealed[:ID_BYTES], sealed[ID_BYTES:]
        nonce, body = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
        try:
            document: dict[str, Any] = orjson.loads(
                self._cipher.decrypt(nonce, body, person_id + context)
            )
        except (InvalidTag, ValueError):
            return None
        return document

    def index(self, field: str, value: str) -> bytes:
        """What entries with *value* are found by."""
        known, index = self._indexed.get(field, (None, b""))
        if known != value:
            text = f"{field} {value.strip().lower()}".encode()
            index = hmac.digest(self._index_key, text, "sha256")[:INDEX_BYTES]
            self._indexed[field] = (value, index)
        return index


class Personal(NamedTuple):
    """What is personal about an entry, and whose it is."""

    actor_id: UUID
    actor: Mapping[str, Any]
    subject_id: UUID
    subject: Mapping[str, Any]


class Sealed(NamedTuple):
    """The same, sealed; a part is None when nothing is known, or its person is erased."""

    actor_sealed: bytes | None = None
    subject_sealed: bytes | None = None
    email_index: bytes | None = None
    ip_index: bytes | None = None

    @property
    def digest(self) -> bytes:
        """What the chain holds of it."""
        digest = hashlib.sha256()
        for part in self:
            digest.update(len(part).to_bytes(4, "big") + part if part else _NO_PART)
        return digest.digest()


def personal_of(row: Mapping[str, Any]) -> Personal:
    """What is personal about a row of the outbox."""
    context, payload = row["context"], row["payload"]
    organization_id = row["organization_id"] or PLATFORM_ID
    # Nobody in particular: under the key of the organization.
    actor_id = actor_of(row) or organization_id
    # Without secrets: people paste them anywhere.
    details = {
        name: masked(name, value)
        for name, value in payload.items()
        if value and is_personal(row, name)
    }
    user_agent = context.get("userAgent")
    return Personal(
        actor_id=actor_id,
        actor=_without_nothing(
            {
                "email": context.get("email"),
                "ip_address": context.get("ipAddress"),
                "user_agent": user_agent and masked("", user_agent),
                "details": {name: one for name, one in details.items() if name in _OF_ACTOR},
            }
        ),
        subject_id=_subject_of(row) or actor_id,
        subject={name: one for name, one in details.items() if name not in _OF_ACTOR},
    )


def _subject_of(row: Mapping[str, Any]) -> UUID | None:
    if ACTIONS[row["event_type"]][0] in PEOPLE:
        person_id: UUID = row["aggregate_id"]
        return person_id
    user_id = row["payload"].get("user_id")
    return UUID(user_id) if user_id else None


def _without_nothing(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value}


def sealed(
    personal: Personal,
    entry_id: UUID,
    organization_id: UUID,
    keys: Mapping[tuple[UUID, UUID], PersonKey],
) -> Sealed:
    """*personal* under the keys of its people; of whom there is no key, nothing is left.

    Keys are by organization and person.
    """
    actor_key = keys.get((organization_id, personal.actor_id))
    subject_key = keys.get((organization_id, personal.subject_id))
    actor = subject = email_index = ip_index = None
    if actor_key and personal.actor:
        actor = actor_key.seal(personal.actor, personal.actor_id, _context("actor", entry_id))
        email_index = _index(actor_key, "email", personal.actor)
        ip_index = _index(actor_key, "ip_address", personal.actor)
    if subject_key and personal.subject:
        context = _context("subject", entry_id)
        subject = subject_key.seal(personal.subject, personal.subject_id, context)
    return Sealed(actor, subject, email_index, ip_index)


def opened(
    row: Mapping[str, Any], keys: Mapping[tuple[UUID, UUID], PersonKey]
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Both parts of an entry, as far as there are keys by organization and person."""
    parts: list[dict[str, Any] | None] = []
    for name in ("actor", "subject"):
        part = row[f"{name}_sealed"]
        key = keys.get((row["organization_id"], person_of(part))) if part else None
        parts.append(key.open(part, _context(name, row["id"])) if key else None)
    return parts[0], parts[1]


def people_of(row: Mapping[str, Any]) -> list[tuple[UUID, UUID]]:
    """Whose keys open an entry: organization and person."""
    parts = (row["actor_sealed"], row["subject_sealed"])
    return [(row["organization_id"], person_of(part)) for part in parts if part]


def person_of(part: bytes) -> UUID:
    """Whose a sealed part is."""
    return UUID(bytes=bytes(part[:ID_BYTES]).ljust(ID_BYTES, b"\0"))


def _index(key: PersonKey, field: str, document: Mapping[str, Any]) -> bytes | None:
    return key.index(field, document[field]) if document.get(field) else None


def _context(part: str, entry_id: UUID) -> bytes:
    return part.encode() + entry_id.bytes
