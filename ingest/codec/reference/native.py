"""ClickHouse Native blocks: rows to bytes, and back.

Layout (ClickHouse `NativeWriter`, without BlockInfo): number of columns, number of rows, then for
each column its name, its type and its data. All numbers are little-endian. A LowCardinality column
puts a version before the offsets of the arrays and maps around it, and a dictionary before its
values: '' first, then the texts in the order in which rows use them.
"""

import re
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from ingest.codec.reference.wire import uvarint
from ingest.codec.tables import TABLES

DICTIONARY_VERSION: Final = struct.pack("<Q", 1)
DICTIONARY_FLAGS: Final = 0x600  # the dictionary stands here, and is for this block alone
INDEX_FORMATS: Final = "BHI"  # index width by the number in the flags' lowest byte
FORMATS: Final = {
    "UInt8": "B",
    "Bool": "?",
    "UInt16": "H",
    "Int32": "i",
    "UInt32": "I",
    "Int64": "q",
    "UInt64": "Q",
    "Float64": "d",
    "DateTime64(9)": "q",
}
LOW_CARDINALITY: Final = "LowCardinality(String)"


def block_of(table: str, rows: Sequence[dict[str, Any]]) -> bytes:
    """The block of those rows, each a dict with every column of the table."""
    columns = TABLES[table]
    out = [uvarint(len(columns)), uvarint(len(rows))]
    for name, type_ in columns:
        values = [row[name] for row in rows]
        out += [_text(name), _text(type_), _prefix(type_), _data(type_, values)]
    return b"".join(out)


def _parts(type_: str) -> tuple[str, list[str]]:
    """`Map(A, B)` to its name and the types inside, of which only the last may have brackets
    with a comma."""
    found = re.fullmatch(r"(Array|Map)\((.*)\)", type_)
    if found is None:
        return type_, []
    return found[1], [found[2]] if found[1] == "Array" else found[2].split(", ", 1)


def _prefix(type_: str) -> bytes:
    _name, inside = _parts(type_)
    if inside:
        return b"".join(map(_prefix, inside))
    return DICTIONARY_VERSION if type_ == LOW_CARDINALITY else b""


def _data(type_: str, values: list[Any]) -> bytes:
    name, inside = _parts(type_)
    if name == "Array":
        return _offsets(values) + _data(inside[0], [one for value in values for one in value])
    if name == "Map":
        keys = [key for value in values for key in value]
        texts = [text for value in values for text in value.values()]
        return _offsets(values) + _data(inside[0], keys) + _data(inside[1], texts)
    if name == LOW_CARDINALITY:
        return _low_cardinality(values) if values else b""
    if name == "String":
        return b"".join(map(_text, values))
    if name in FORMATS:
        return struct.pack(f"<{len(values)}{FORMATS[name]}", *values)
    return b"".join(values)  # FixedString


def _text(text: str) -> bytes:
    raw = text.encode()
    return uvarint(len(raw)) + raw


def _offsets(values: list[Any]) -> bytes:
    ends, end = [], 0
    for value in values:
        end += len(value)
        ends.append(end)
    return struct.pack(f"<{len(ends)}Q", *ends)


def _low_cardinality(texts: list[str]) -> bytes:
    numbers = {"": 0}
    indices = [numbers.setdefault(text, len(numbers)) for text in texts]
    width = 0 if len(numbers) <= 2**8 else 1 if len(numbers) <= 2**16 else 2
    return b"".join(
        [
            struct.pack("<QQ", DICTIONARY_FLAGS | width, len(numbers)),
            *map(_text, numbers),
            struct.pack(f"<Q{len(indices)}{INDEX_FORMATS[width]}", len(indices), *indices),
        ]
    )


class Reader:
    """Blocks that are being read. Raises ValueError for what is none."""

    def __init__(self, native: bytes) -> None:
        self.data = native
        self.at = 0

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the only block, each a dict with every column."""
        columns = self.next_block()
        if not self.is_at_end:
            raise ValueError(f"{len(self.data) - self.at} bytes behind the block")
        names = [name for name, _type in columns]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    @property
    def is_at_end(self) -> bool:
        """Whether no block is left."""
        return self.at == len(self.data)

    def next_block(self) -> dict[tuple[str, str], list[Any]]:
        """The values of each column of the next block, by its name and type."""
        columns, rows = self.varint(), self.varint()
        found: dict[tuple[str, str], list[Any]] = {}
        for _ in range(columns):
            name, type_ = self.text(), self.text()
            if self.take(len(_prefix(type_))) != _prefix(type_):
                raise ValueError(f"dictionary version of {name}")
            found[name, type_] = self.values(type_, rows)
        return found

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise ValueError("the block ends early")
        self.at += size
        return self.data[self.at - size : self.at]

    def varint(self) -> int:
        value = shift = 0
        while (byte := self.take(1)[0]) > 0x7F:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def text(self) -> str:
        return self.take(self.varint()).decode()

    def numbers(self, form: str, count: int) -> list[Any]:
        layout = struct.Struct(f"<{count}{form}")
        return list(layout.unpack(self.take(layout.size)))

    def values(self, type_: str, count: int) -> list[Any]:
        name, inside = _parts(type_)
        if name == "Array":
            return self._cut(count, lambda total: self.values(inside[0], total), list)
        if name == "Map":
            return self._cut(count, lambda total: self._pairs(inside, total), _map)
        if name == LOW_CARDINALITY:
            return self._low_cardinality(count) if count else []
        if name == "String":
            return [self.text() for _ in range(count)]
        if name in FORMATS:
            return self.numbers(FORMATS[name], count)
        fixed = re.fullmatch(r"FixedString\((\d+)\)", name)
        if fixed is None:
            raise ValueError(f"type {type_}")
        return [self.take(int(fixed[1])) for _ in range(count)]

    def _cut(
        self, count: int, inside: Callable[[int], list[Any]], kind: Callable[[list[Any]], Any]
    ) -> list[Any]:
        ends = self.numbers("Q", count)
        flat = inside(ends[-1] if ends else 0)
        return [kind(flat[start:end]) for start, end in zip([0, *ends], ends, strict=False)]

    def _pairs(self, inside: list[str], total: int) -> list[Any]:
        keys = self.values(inside[0], total)
        return list(zip(keys, self.values(inside[1], total), strict=True))

    def _low_cardinality(self, count: int) -> list[str]:
        flags, words = self.numbers("Q", 2)
        if flags & ~0xFF != DICTIONARY_FLAGS:
            raise ValueError(f"flags {flags:#x}")
        dictionary = [self.text() for _ in range(words)]
        if self.numbers("Q", 1) != [count]:
            raise ValueError("a number of indices that is not that of the rows")
        return [dictionary[index] for index in self.numbers(INDEX_FORMATS[flags & 0xFF], count)]


def _map(pairs: list[tuple[str, str]]) -> dict[str, str]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice in one map")
    return found
