"""Checkpoints of the audit trail: the ends of all chains, signed, off the database.

Whoever owns the database can write a whole chain anew; not one that ends in what was signed before.
A line is JSON: `at`, `heads` ({organization: [sequence, digest]}) and `signature`, the Ed25519
signature (hex) of the rest with sorted keys. A line with `month` and `pruned` instead of `heads`
says where chains ended in a month that went into the archive. Files are named by day and only ever
appended to; a second place, where one is set, gets each line as an object.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final, Protocol
from uuid import UUID

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.postgres.connection import Connection
from shared.security.secret_files import text_of_secret_file
from shared.settings import Settings

KEY_FILE: Final = "secrets/audit-signing-key"
FOLDER: Final = "audit"

Ends = Mapping[UUID, tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where the chains ended; *is_genuine* is whether the signature is ours."""

    file: str
    line: int
    is_genuine: bool
    at: datetime | None = None
    heads: dict[UUID, tuple[int, bytes]] = field(default_factory=dict)
    month: date | None = None
    pruned: dict[UUID, tuple[int, bytes]] = field(default_factory=dict)


class SecondPlace(Protocol):
    """Where lines go as well, out of reach of who runs this machine."""

    def put(self, name: str, line: bytes) -> None:
        """Keep *line*; Unavailable when it cannot be kept now."""

    def lines(self) -> Iterator[tuple[str, bytes]]:
        """All lines with their names, the oldest first."""


class Checkpoints:
    """Writes and reads them in the data folder, and in a *second_place*."""

    def __init__(self, settings: Settings, second_place: SecondPlace | None = None) -> None:
        self._folder = settings.data_dir / FOLDER
        seed = bytes.fromhex(text_of_secret_file(settings.data_dir / KEY_FILE))
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._second_place = second_place
        self._last_heads: dict[str, Any] = {}

    async def write(self, connection: Connection, *, now: datetime) -> bool:
        """Sign where the chains end now; whether anything was added since the last time."""
        rows = await connection.fetch(
            "SELECT organization_id, sequence, digest FROM audit_chains ORDER BY organization_id"
        )
        heads = _texts({row["organization_id"]: (row["sequence"], row["digest"]) for row in rows})
        if heads == self._last_heads:
            return False
        await self._keep(self._sign({"at": now.isoformat(), "heads": heads}), now)
        self._last_heads = heads
        return True

    async def sign_pruning(self, month: date, ends: Ends, *, now: datetime) -> str:
        """Sign, and keep, where the chains ended in a month that goes; the signed text."""
        document = {"at": now.isoformat(), "month": month.isoformat(), "pruned": _texts(ends)}
        line = self._sign(document)
        await self._keep(line, now)
        return line.decode()

    def _sign(self, document: dict[str, Any]) -> bytes:
        return orjson.dumps(document | {"signature": self._key.sign(_signed(document)).hex()})

    async def _keep(self, line: bytes, now: datetime) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"checkpoints-{now:%Y-%m-%d}.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if self._second_place is not None:
            name = f"{now:%Y-%m-%d/%H%M%S%f}.json"
            await asyncio.to_thread(self._second_place.put, name, line)

    async def read(self) -> AsyncIterator[Checkpoint]:
        """All that there are in both places, the oldest of each first."""
        for path in sorted(self._folder.glob("checkpoints-*.jsonl")):
            for number, line in enumerate(path.read_bytes().splitlines(), 1):
                yield self._checkpoint(path.name, number, line)
        if self._second_place is not None:
            for name, line in await asyncio.to_thread(lambda: list(self._second_place_lines())):
                yield self._checkpoint(name, 1, line)

    def _second_place_lines(self) -> Iterator[tuple[str, bytes]]:
        return self._second_place.lines() if self._second_place else iter(())

    def _checkpoint(self, file: str, number: int, line: bytes) -> Checkpoint:
        try:
            document = orjson.loads(line)
            signature = bytes.fromhex(document.pop("signature"))
            self._key.public_key().verify(signature, _signed(document))
            month = document.get("month")
            return Checkpoint(
                file,
                number,
                is_genuine=True,
                at=datetime.fromisoformat(document["at"]),
                heads=_ends(document.get("heads", {})),
                month=date.fromisoformat(month) if month else None,
                pruned=_ends(document.get("pruned", {})),
            )
        except (InvalidSignature, ValueError, KeyError, TypeError, AttributeError):
            return Checkpoint(file, number, is_genuine=False)


def _texts(ends: Ends) -> dict[str, Any]:
    return {str(one): [sequence, digest.hex()] for one, (sequence, digest) in ends.items()}


def _ends(document: Mapping[str, Any]) -> dict[UUID, tuple[int, bytes]]:
    return {
        UUID(organization): (int(sequence), bytes.fromhex(digest))
        for organization, (sequence, digest) in document.items()
    }


def _signed(document: Mapping[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
