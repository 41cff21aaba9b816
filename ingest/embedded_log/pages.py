"""Reads rows straight from the pages of a damaged database, asking SQLite for nothing.

Every leaf page of every table is looked at, also those that no tree leads to any more; the caller
tells good rows from garbage by their checksums. Newer page images in the write-ahead log come
before those of the database.

Format: https://www.sqlite.org/fileformat2.html, sections 1.6 (pages) and 2.1 (records).
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from ingest.embedded_log.layout import PAGE_BYTES
from ingest.embedded_log.wal import read_frames

Column = int | float | str | bytes | None

PAYLOAD_BYTES_MAX: Final = 256 * 2**20
_TABLE_LEAF: Final = 0x0D
_LEAF_HEADER_BYTES: Final = 8
_FILE_HEADER_BYTES: Final = 100
_LOCAL_MAX: Final = PAGE_BYTES - 35
_LOCAL_MIN: Final = (PAGE_BYTES - 12) * 32 // 255 - 23
_OVERFLOW_BYTES: Final = PAGE_BYTES - 4
_INTEGER_BYTES: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


class _Garbage(Exception):
    """What stands there is not what was looked for."""


class PageReader:
    """The pages of one database file and its -wal file, either of which may be missing."""

    def __init__(self, database: Path) -> None:
        self._database = _open(database)
        self._wal = _open(Path(f"{database}-wal"))
        self._database_pages = database.stat().st_size // PAGE_BYTES if self._database else 0
        frames = read_frames(Path(f"{database}-wal"))
        # A new round of the WAL begins at the front again, under a salt that is one higher.
        self._frames = sorted(frames, key=lambda frame: (frame.salts[0], frame.image_at))
        self._newest = {frame.page: frame.image_at for frame in self._frames}

    def close(self) -> None:
        """Closes both files."""
        for file in (self._database, self._wal):
            if file is not None:
                file.close()

    def rows(self) -> Iterator[tuple[int, tuple[Column, ...]]]:
        """(row id, columns) of whatever looks like a row; a row may come more than once."""
        for image, first_byte in self._leaf_images():
            yield from self._rows_of(image, first_byte)

    def _leaf_images(self) -> Iterator[tuple[bytes, int]]:
        for page in range(1, self._database_pages + 1):
            yield from _leaf(self._database_image(page), page)
        for frame in self._frames:
            yield from _leaf(self._wal_image(frame.image_at), frame.page)

    def _rows_of(self, image: bytes, start: int) -> Iterator[tuple[int, tuple[Column, ...]]]:
        cells = int.from_bytes(image[start + 3 : start + 5], "big")
        pointers_at = start + _LEAF_HEADER_BYTES
        for pointer_at in range(pointers_at, min(pointers_at + 2 * cells, PAGE_BYTES - 1), 2):
            at = int.from_bytes(image[pointer_at : pointer_at + 2], "big")
            for wal_first in (True, False) if self._frames else (True,):
                try:
                    yield self._row_at(image, at, wal_first=wal_first)
                except (_Garbage, IndexError, struct.error, UnicodeDecodeError):
                    continue

    def _row_at(self, image: bytes, at: int, *, wal_first: bool) -> tuple[int, tuple[Column, ...]]:
        payload_bytes, at = _varint_at(image, at)
        row_id, at = _varint_at(image, at)
        if payload_bytes > PAYLOAD_BYTES_MAX:
            raise _Garbage
        local = _local_bytes(payload_bytes)
        payload = bytearray(image[at : at + local])
        overflow = image[at + local : at + local + 4] if local < payload_bytes else bytes(4)
        while len(payload) < payload_bytes:
            part = self._image(int.from_bytes(overflow, "big"), wal_first=wal_first)
            overflow = part[:4]
            payload += part[4 : 4 + min(_OVERFLOW_BYTES, payload_bytes - len(payload))]
        return row_id, _columns(bytes(payload))

    def _image(self, page: int, *, wal_first: bool) -> bytes:
        newest = self._newest.get(page) if wal_first else None
        if newest is not None:
            return self._wal_image(newest)
        return self._database_image(page)

    def _database_image(self, page: int) -> bytes:
        if self._database is None or not 1 <= page <= self._database_pages:
            raise _Garbage
        return _image_at(self._database, (page - 1) * PAGE_BYTES)

    def _wal_image(self, at: int) -> bytes:
        if self._wal is None:
            raise _Garbage
        return _image_at(self._wal, at)


def _open(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _image_at(file: BinaryIO, at: int) -> bytes:
    file.seek(at)
    image = file.read(PAGE_BYTES)
    if len(image) < PAGE_BYTES:
        raise _Garbage
    return image


def _leaf(image: bytes, page: int) -> list[tuple[bytes, int]]:
    """The image and where its page header stands, if it is a leaf of a table."""
    start = _FILE_HEADER_BYTES if page == 1 else 0
    return [(image, start)] if image[start] == _TABLE_LEAF else []


def _local_bytes(payload_bytes: int) -> int:
    """How much of a payload stands in the leaf itself."""
    if payload_bytes <= _LOCAL_MAX:
        return payload_bytes
    local = _LOCAL_MIN + (payload_bytes - _LOCAL_MIN) % _OVERFLOW_BYTES
    return local if local <= _LOCAL_MAX else _LOCAL_MIN


def _columns(payload: bytes) -> tuple[Column, ...]:
    header_bytes, at = _varint_at(payload, 0)
    if header_bytes > 100:  # no table of ours has so many columns
        raise _Garbage
    kinds = []
    while at < header_bytes:
        kind, at = _varint_at(payload, at)
        kinds.append(kind)
    columns = []
    for kind in kinds:
        column, at = _column_at(payload, at, kind)
        columns.append(column)
    return tuple(columns)


def _column_at(payload: bytes, at: int, kind: int) -> tuple[Column, int]:
    if kind == 0:
        return None, at
    if kind in _INTEGER_BYTES:
        end = at + _INTEGER_BYTES[kind]
        return int.from_bytes(payload[at:end], "big", signed=True), end
    if kind == 7:
        return struct.unpack(">d", payload[at : at + 8])[0], at + 8
    if kind in {8, 9}:
        return kind - 8, at
    if kind < 12:
        raise _Garbage
    end = at + (kind - 12) // 2
    return (payload[at:end].decode() if kind & 1 else payload[at:end]), end


def _varint_at(image: bytes, at: int) -> tuple[int, int]:
    """A big-endian varint of up to 9 bytes, the ninth giving 8 bits; as a signed number."""
    number = 0
    for place in range(9):
        byte = image[at + place]
        if place == 8:
            number = number << 8 | byte
            break
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            break
    return (number - (1 << 64) if number >> 63 else number), at + place + 1
