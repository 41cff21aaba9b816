"""Checkpoints of the audit trail: the ends of all chains, signed, in files off the database.

Whoever owns the database can write a whole chain anew; not one that ends in what was signed before.
A line is JSON: `at`, `heads` ({organization: [sequence, digest]}) and `signature`, the Ed25519
signature (hex) of the rest with sorted keys. Files are named by day and only ever appended to.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.postgres.connection import Connection
from shared.security.secret_files import text_of_secret_file
from shared.settings import Settings

KEY_FILE: Final = "secrets/audit-signing-key"
FOLDER: Final = "audit"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where the chains ended; *is_genuine* is whether the signature is ours."""

    file: str
    line: int
    is_genuine: bool
    heads: dict[UUID, tuple[int, bytes]]


class Checkpoints:
    """Writes and reads them in the data folder."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.data_dir / FOLDER
        seed = bytes.fromhex(text_of_secret_file(settings.data_dir / KEY_FILE))
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._last_heads: dict[str, Any] = {}

    async def write(self, connection: Connection, *, now: datetime) -> bool:
        """Sign where the chains end now; whether anything was added since the last time."""
        rows = await connection.fetch(
            "SELECT organization_id, sequence, digest FROM audit_chains ORDER BY organization_id"
        )
        heads = {
            str(row["organization_id"]): [row["sequence"], row["digest"].hex()] for row in rows
        }
        if heads == self._last_heads:
            return False
        document = {"at": now.isoformat(), "heads": heads}
        document["signature"] = self._key.sign(_signed(document)).hex()
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"checkpoints-{now:%Y-%m-%d}.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(document) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._last_heads = heads
        return True

    def read(self) -> Iterator[Checkpoint]:
        """All that there are, the oldest first."""
        for path in sorted(self._folder.glob("checkpoints-*.jsonl")):
            for number, line in enumerate(path.read_bytes().splitlines(), 1):
                yield self._checkpoint(path, number, line)

    def _checkpoint(self, path: Path, number: int, line: bytes) -> Checkpoint:
        try:
            document = orjson.loads(line)
            signature = bytes.fromhex(document.pop("signature"))
            self._key.public_key().verify(signature, _signed(document))
            heads = {
                UUID(organization): (int(sequence), bytes.fromhex(digest))
                for organization, (sequence, digest) in document["heads"].items()
            }
        except (InvalidSignature, ValueError, KeyError, TypeError, AttributeError):
            return Checkpoint(path.name, number, is_genuine=False, heads={})
        return Checkpoint(path.name, number, is_genuine=True, heads=heads)


def _signed(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
