"""The directory in memory and in a file: built from the stream, the same on both of its ends."""

import asyncio
import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import xxhash

from shared.directory.directory_pb2 import FollowResponse, Key, Tenant
from shared.errors import Invalid

# Of one message: far below gRPC's own limit of 4 MiB, whatever a key says.
ENTRIES_OF_A_PIECE_MAX: Final = 1_000
PARSED_KEYS_MAX: Final = 10_000
_KEY_ID: Final = re.compile(r"tfk_[0-9a-f]{32}")
_MAGIC: Final = b"telemetryflow directory 1\n"
_SUM_BYTES: Final = 8


class DirectoryState:
    """Tenants and keys at one revision; keys are kept as their bytes, 100 000 of them in 27 MB."""

    def __init__(self) -> None:
        self.epoch = ""
        self.revision = 0
        self.checksum = 0
        self.tenants: dict[str, Tenant] = {}
        self._keys: dict[bytes, bytes] = {}
        # Those used lately: parsing costs more than everything else about a small request.
        self._parsed: dict[str, Key] = {}

    @property
    def keys_count(self) -> int:
        """How many keys there are."""
        return len(self._keys)

    def key(self, key_id: str) -> Key | None:
        """The key with that id."""
        parsed = self._parsed.get(key_id)
        if parsed is not None:
            return parsed
        packed = _packed(key_id)
        held = self._keys.get(packed)
        if held is None:
            return None
        if len(self._parsed) >= PARSED_KEYS_MAX:
            self._parsed.clear()
        parsed = self._parsed[key_id] = _key_of(packed, held)
        return parsed

    def apply(self, piece: FollowResponse) -> None:
        """Take what *piece* says; of a piece that starts anew, into an empty state."""
        for tenant in piece.tenants:
            self.put_tenant(tenant)
        for key in piece.keys:
            self.put_key(key)
        for name in piece.removed_tenants:
            self.remove_tenant(name)
        for key_id in piece.removed_keys:
            self.remove_key(key_id)
        self.epoch = piece.epoch
        if piece.ends_batch:
            self.revision = piece.revision

    def put_tenant(self, tenant: Tenant) -> None:
        """Add or replace it."""
        self.remove_tenant(tenant.name)
        self.tenants[tenant.name] = tenant
        self.checksum ^= _sum_of(tenant.name, tenant.changed)

    def put_key(self, key: Key) -> None:
        """Add or replace it."""
        packed = _packed(key.id)
        if not packed:
            raise Invalid(f"{key.id!r} is no id of an API key")
        self.remove_key(key.id)
        without_id = Key()
        without_id.CopyFrom(key)
        without_id.ClearField("id")
        self._keys[packed] = without_id.SerializeToString()
        self.checksum ^= _sum_of(key.id, key.changed)

    def remove_tenant(self, name: str) -> None:
        """Forget it, if it is there."""
        known = self.tenants.pop(name, None)
        if known is not None:
            self.checksum ^= _sum_of(name, known.changed)

    def remove_key(self, key_id: str) -> None:
        """Forget it, if it is there."""
        self._parsed.pop(key_id, None)
        held = self._keys.pop(_packed(key_id), None)
        if held is not None:
            self.checksum ^= _sum_of(key_id, Key.FromString(held).changed)

    def pieces(self, *, since: int = 0) -> Iterator[FollowResponse]:
        """What changed in transaction *since* or later, of the state as it is now; from 0 on,
        everything. Each piece costs little, so that others may run in between; some are empty.
        """
        tenants, keys = list(self.tenants.values()), list(self._keys.items())
        return _pieces(self.epoch, tenants, keys, since)

    async def save(self, path: Path) -> None:
        """Replace the file; requests are served between its pieces.

        What changes meanwhile may be in it or not: it is told again to who asks from its revision.
        """
        snapshot = FollowResponse(epoch=self.epoch, revision=self.revision, ends_batch=True)
        for piece in self.pieces():
            snapshot.MergeFrom(piece)
            await asyncio.sleep(0)
        await asyncio.to_thread(_replace, path, snapshot.SerializeToString())

    @classmethod
    def load(cls, path: Path) -> "DirectoryState":
        """Invalid when the file is not one or is damaged, FileNotFoundError when there is none."""
        data = path.read_bytes()
        start = len(_MAGIC) + _SUM_BYTES
        body = data[start:]
        if not data.startswith(_MAGIC) or xxhash.xxh3_64_digest(body) != data[len(_MAGIC) : start]:
            raise Invalid(f"{path} is no directory, or is damaged: delete it to fetch it again")
        state = cls()
        state.apply(FollowResponse.FromString(body))
        return state


def _replace(path: Path, body: bytes) -> None:
    """In one step, readable by its owner only; a reader never sees a half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(_MAGIC + xxhash.xxh3_64_digest(body) + body)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


def _pieces(
    epoch: str, tenants: Sequence[Tenant], keys: Sequence[tuple[bytes, bytes]], since: int
) -> Iterator[FollowResponse]:
    for start in range(0, len(tenants), ENTRIES_OF_A_PIECE_MAX):
        part = tenants[start : start + ENTRIES_OF_A_PIECE_MAX]
        changed = [one for one in part if one.changed >= since]
        yield FollowResponse(epoch=epoch, tenants=changed)
    for start in range(0, len(keys), ENTRIES_OF_A_PIECE_MAX):
        some = (_key_of(*one) for one in keys[start : start + ENTRIES_OF_A_PIECE_MAX])
        yield FollowResponse(epoch=epoch, keys=[one for one in some if one.changed >= since])


def _packed(key_id: str) -> bytes:
    """The 16 bytes of `tfk_` + 32 hex; none of anything else."""
    return bytes.fromhex(key_id[4:]) if _KEY_ID.fullmatch(key_id) else b""


def _key_of(packed: bytes, held: bytes) -> Key:
    key = Key.FromString(held)
    key.id = f"tfk_{packed.hex()}"
    return key


def _sum_of(name: str, changed: int) -> int:
    return xxhash.xxh3_64_intdigest(f"{name}/{changed}".encode())
