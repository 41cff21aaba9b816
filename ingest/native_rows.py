"""Takes rows out of a ClickHouse Native block, without decoding their values.

Only needed where a block holds rows that were stored before, which is rare: it is written to be
short, not fast. It knows the types of `ingest.codec.tables` and the layout that the codec writes
(no block info, LowCardinality with a dictionary per block).
"""

import struct
from array import array
from collections.abc import Sequence
from typing import Final

from shared.errors import Invalid

Ranges = Sequence[tuple[int, int]]

_U64: Final = struct.Struct("<Q")
_FIXED_BYTES: Final = {
    "Bool": 1,
    "UInt8": 1,
    "UInt16": 2,
    "UInt32": 4,
    "Int32": 4,
    "UInt64": 8,
    "Int64": 8,
    "Float64": 8,
    "DateTime64(9)": 8,
}
_LOW_CARDINALITY: Final = "LowCardinality(String)"
_INDEX_WIDTHS: Final = (1, 2, 4, 8)


class _Input:
    """A block that is read from front to back."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            raise Invalid(f"the block ends {end - len(self.data)} bytes early")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def number(self) -> int:
        return int(_U64.unpack(self.take(8))[0])

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def text(self) -> str:
        return self.take(self.varint()).decode()


def without_rows(native: bytes, dropped: Ranges) -> bytes:
    """The block without the rows [first, end) of each of *dropped*; Invalid when it is damaged."""
    block = _Input(native)
    try:
        columns, rows = block.varint(), block.varint()
        kept = _complement(dropped, rows)
        out = bytearray()
        _put_varint(out, columns)
        _put_varint(out, sum(end - first for first, end in kept))
        for _column in range(columns):
            start = block.at
            block.text()
            kind = block.text()
            out += block.data[start : block.at]
            out += block.take(8 * kind.count("LowCardinality"))  # a state prefix for each
            _copy(block, kind, rows, kept, out)
    except UnicodeDecodeError as error:
        raise Invalid(f"the block is damaged: {error}") from error
    return bytes(out)


def _copy(block: _Input, kind: str, rows: int, kept: Ranges, out: bytearray) -> None:
    """Copy the *kept* of *rows* values of type *kind*."""
    if kind in _FIXED_BYTES:
        _copy_fixed(block, _FIXED_BYTES[kind], rows, kept, out)
    elif kind.startswith("FixedString("):
        _copy_fixed(block, int(kind[12:-1]), rows, kept, out)
    elif kind == "String":
        _copy_strings(block, rows, kept, out)
    elif kind == _LOW_CARDINALITY:
        _copy_low_cardinality(block, rows, kept, out)
    elif kind.startswith("Array("):
        _copy_arrays(block, (kind[6:-1],), rows, kept, out)
    elif kind.startswith("Map("):
        key, _comma, value = kind[4:-1].partition(", ")
        _copy_arrays(block, (key, value), rows, kept, out)
    else:
        raise Invalid(f"a column of type {kind[:64]} cannot be cut")


def _copy_fixed(block: _Input, width: int, rows: int, kept: Ranges, out: bytearray) -> None:
    values = block.take(width * rows)
    for first, end in kept:
        out += values[first * width : end * width]


def _copy_strings(block: _Input, rows: int, kept: Ranges, out: bytearray) -> None:
    starts = []
    for _row in range(rows):
        starts.append(block.at)
        block.take(block.varint())
    starts.append(block.at)
    for first, end in kept:
        out += block.data[starts[first] : starts[end]]


def _copy_low_cardinality(block: _Input, rows: int, kept: Ranges, out: bytearray) -> None:
    if not rows:
        return
    flags, keys = block.number(), block.number()
    start = block.at
    for _key in range(keys):
        block.take(block.varint())
    dictionary = block.data[start : block.at]
    width = _INDEX_WIDTHS[flags & 3]
    if block.number() != rows:
        raise Invalid("a dictionary column has another number of rows than its block")
    left = sum(end - first for first, end in kept)
    if left:
        out += _U64.pack(flags) + _U64.pack(keys) + dictionary + _U64.pack(left)
        _copy_fixed(block, width, rows, kept, out)
    else:
        block.take(width * rows)


def _copy_arrays(
    block: _Input, kinds: Sequence[str], rows: int, kept: Ranges, out: bytearray
) -> None:
    """Arrays of one type, or maps: like arrays of the keys and of the values."""
    ends = array("Q", block.take(8 * rows))
    nested = []
    length = 0
    for first, end in kept:
        before = ends[first - 1] if first else 0
        for row in range(first, end):
            out += _U64.pack(length + ends[row] - before)
        length += ends[end - 1] - before
        nested.append((before, ends[end - 1]))
    total = ends[-1] if rows else 0
    for kind in kinds:
        _copy(block, kind, total, [one for one in nested if one[0] < one[1]], out)


def _complement(dropped: Ranges, rows: int) -> list[tuple[int, int]]:
    kept = []
    at = 0
    for first, end in sorted(dropped):
        if first > at:
            kept.append((at, first))
        at = max(at, end)
    if at < rows:
        kept.append((at, rows))
    return kept


def _put_varint(out: bytearray, number: int) -> None:
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
