"""What the file of the embedded log looks like: tables, checksums, packed headers, error classes.

Every row that matters carries an XXH3 checksum over all its columns. Reading verifies it, and a
repair may take any row whose checksum holds, wherever in a damaged file it is found.
"""

import sqlite3
import struct
from typing import Final, NamedTuple

import xxhash

from ingest.log import Headers
from shared.errors import Invalid, Unavailable

FORMAT_VERSION: Final = 1

# Measured with values of 2 KB to 1 MB: pages of 16 KiB append big values with the least CPU (half
# of what 4 KiB or 64 KiB take) and do not make small commits dearer.
PAGE_BYTES: Final = 16_384

# A record's row id is its lane (one topic's partition) above its offset, so that the table itself
# is the index: each lane is one contiguous range.
OFFSET_BITS: Final = 40
OFFSET_MASK: Final = (1 << OFFSET_BITS) - 1

SCHEMA: Final = f"""
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE lanes (
    lane INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INT NOT NULL, partitions INT NOT NULL,
    first_offset INT NOT NULL, next_offset INT NOT NULL,
    records INT NOT NULL, rows INT NOT NULL, bytes INT NOT NULL,
    checksum INT NOT NULL, UNIQUE (topic, partition)
);
CREATE TABLE gaps (lane INT NOT NULL, first_offset INT NOT NULL, last_offset INT NOT NULL);
CREATE TABLE records (
    id INTEGER PRIMARY KEY, time_ms INT NOT NULL, rows INT NOT NULL,
    records_before INT NOT NULL, rows_before INT NOT NULL, bytes_before INT NOT NULL,
    checksum INT NOT NULL, headers BLOB NOT NULL, value BLOB NOT NULL
);
CREATE TABLE commits (
    id INTEGER PRIMARY KEY, reader TEXT NOT NULL, lane INT NOT NULL, next_offset INT NOT NULL,
    metadata TEXT NOT NULL, sequence INT NOT NULL, checksum INT NOT NULL, UNIQUE (reader, lane)
);
CREATE TABLE damaged (
    id INTEGER PRIMARY KEY, found_ms INT NOT NULL, record_id INT NOT NULL UNIQUE, time_ms INT,
    headers BLOB, value BLOB
);
PRAGMA user_version = {FORMAT_VERSION};
"""

_SEVEN: Final = struct.Struct("<7q")
_HEADER: Final = struct.Struct("<HI")


class Damaged(Exception):
    """The file is damaged beyond one record's value: it must be repaired before it is used."""


class RecordRow(NamedTuple):
    """A row of `records`; the `_before` counts are those of the lane up to this record."""

    id: int
    time_ms: int
    rows: int
    records_before: int
    rows_before: int
    bytes_before: int
    checksum: int
    headers: bytes
    value: bytes

    def checked(self) -> bool:
        """Whether the row is what was once appended."""
        try:
            return self.checksum == self.signed()
        except (struct.error, TypeError):  # damage may change the types of columns, too
            return False

    def plausible(self) -> bool:
        """Whether a row that does not check is at least a row: its page can then be trusted."""
        numbers = all(isinstance(number, int) for number in self[:7])
        return numbers and isinstance(self.headers, bytes) and isinstance(self.value, bytes)

    def signed(self) -> int:
        """The checksum that the row should have."""
        numbers = _SEVEN.pack(*self[:6], len(self.headers))
        digest = xxhash.xxh3_64(numbers)
        digest.update(self.headers)
        digest.update(self.value)
        return _signed(digest.intdigest())


class LaneRow(NamedTuple):
    """A row of `lanes`: one partition of a topic, and the counts of all ever appended to it.

    Every offset from `first_offset` up to `next_offset` has a record, or is listed in `gaps`.
    """

    lane: int
    topic: str
    partition: int
    partitions: int
    first_offset: int = 0
    next_offset: int = 0
    records: int = 0
    rows: int = 0
    bytes: int = 0
    checksum: int = 0

    def checked(self) -> bool:
        """Whether the row is what was once written."""
        return self.checksum == self.signed().checksum

    def signed(self) -> "LaneRow":
        """The same row with its checksum."""
        return self._replace(checksum=_text_checksum("lane", self[:-1]))


class CommitRow(NamedTuple):
    """A row of `commits`; the highest `sequence` is the newest."""

    id: int
    reader: str
    lane: int
    next_offset: int
    metadata: str
    sequence: int
    checksum: int = 0

    def checked(self) -> bool:
        """Whether the row is what was once written."""
        return self.checksum == self.signed().checksum

    def signed(self) -> "CommitRow":
        """The same row with its checksum."""
        return self._replace(checksum=_text_checksum("commit", self[:-1]))


def record_id(lane: int, offset: int) -> int:
    """The row id of a record; also the bound of a range of them."""
    return lane << OFFSET_BITS | offset


def pack_headers(headers: Headers) -> bytes:
    """Headers as one blob: u16 and u32 lengths, key, value, repeated."""
    packed = bytearray()
    for key, value in headers:
        name = key.encode()
        if len(name) > 0xFFFF:
            raise Invalid(f"header key of {len(name)} bytes, at most 65535")
        packed += _HEADER.pack(len(name), len(value)) + name + value
    return bytes(packed)


def unpack_headers(packed: bytes) -> Headers:
    """Reads what `pack_headers` wrote; the checksum of the row vouches for it."""
    headers = []
    at = 0
    while at < len(packed):
        key_bytes, value_bytes = _HEADER.unpack_from(packed, at)
        key_at = at + _HEADER.size
        value_at = key_at + key_bytes
        at = value_at + value_bytes
        headers.append((packed[key_at:value_at].decode(), packed[value_at:at]))
    return tuple(headers)


def translated(error: sqlite3.Error) -> Exception:
    """What a driver error means to us: Damaged, or Unavailable with a reason.

    Codes: https://www.sqlite.org/rescode.html
    """
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return error  # a defect of ours
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # the driver's own complaint, such as text that is not UTF-8
        return Damaged(str(error))
    primary = code & 0xFF
    short_read = code == sqlite3.SQLITE_IOERR_SHORT_READ
    damage = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT)
    # "no such table": the file lost its beginning. No other statement of ours can be wrong.
    if primary in damage or primary == sqlite3.SQLITE_ERROR or short_read:
        return Damaged(str(error))
    return Unavailable(f"the log cannot be used: {error}")


def _text_checksum(kind: str, columns: tuple[object, ...]) -> int:
    return _signed(xxhash.xxh3_64_intdigest(repr((kind, *columns)).encode()))


def _signed(unsigned: int) -> int:
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned
