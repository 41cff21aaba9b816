"""Damage to requests that knows the wire format: it reaches what flipped bits do not.

A request is parsed without a schema into fields; wherever a field of bytes looks like a message,
it may be taken for one. Then fields are doubled, dropped, swapped, moved elsewhere, given other
wire types or padded numbers, put into groups, or their bytes damaged; and all is written again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from tests.unit.ingest.codec.wire_format import (
    END_GROUP,
    FIXED32,
    FIXED64,
    LENGTH,
    START_GROUP,
    VARINT,
    tag,
    varint,
)

DEPTH_MAX: Final = 14
FIELD_NUMBERS_MAX: Final = 18
_BAD_UTF8: Final = (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"ok\x80", b"\xe2\x80")


@dataclass(slots=True)
class Field:
    """A field: the raw number of a scalar, or the content of a field of bytes."""

    number: int
    wire_type: int
    raw: bytes
    padding: int = 0

    def written(self) -> bytes:
        """The field's bytes."""
        head = varint(self.number << 3 | self.wire_type, padding=self.padding)
        if self.wire_type == LENGTH:
            return head + varint(len(self.raw), padding=self.padding) + self.raw
        if self.wire_type == START_GROUP:
            return head + self.raw + tag(self.number, END_GROUP)
        return head + self.raw


def mutated(random: Random, body: bytes) -> bytes:
    """*body* with one to three things wrong, or right in another way."""
    for _ in range(random.choice((1, 1, 2, 3))):
        body = _changed(random, body, body, DEPTH_MAX)
    return body


def _changed(random: Random, message: bytes, donor: bytes, depth: int) -> bytes:
    """A change somewhere inside; *donor* is where pieces to put in come from."""
    fields = parsed(message)
    if not fields:
        return random.choice((message, _scrambled(random, message), _foreign(random, donor)))
    field = random.choice(fields)
    # Deep down is where most kinds of fields are, so go there more often than not.
    if field.wire_type == LENGTH and depth and random.random() < 0.85:
        field.raw = _changed(random, field.raw, donor, depth - 1)
    else:
        random.choice(_CHANGES)(random, fields, donor)
    return b"".join(one.written() for one in fields)


def parsed(message: bytes) -> list[Field] | None:
    """The fields of *message*, None when it is none (groups count as none)."""
    fields = []
    at = 0
    while at < len(message):
        head = _number(message, at)
        if head is None or head[0] < 8:
            return None
        key, at = head
        end = _end(message, at, key & 7)
        if end is None:
            return None
        start, at = end
        fields.append(Field(key >> 3, key & 7, message[start:at]))
    return fields


def _number(data: bytes, at: int) -> tuple[int, int] | None:
    value = 0
    for position in range(at, min(at + 10, len(data))):
        value |= (data[position] & 0x7F) << 7 * (position - at)
        if data[position] < 0x80:
            return value, position + 1
    return None


def _end(data: bytes, at: int, wire_type: int) -> tuple[int, int] | None:
    """Where the content of a field begins and ends."""
    if wire_type in (VARINT, LENGTH):
        number = _number(data, at)
        if number is None:
            return None
        start, end = (at, number[1]) if wire_type == VARINT else (number[1], sum(number))
    elif wire_type in (FIXED64, FIXED32):
        start, end = at, at + (8 if wire_type == FIXED64 else 4)
    else:
        return None
    return (start, end) if end <= len(data) else None


def _double(random: Random, fields: list[Field], _donor: bytes) -> None:
    fields.insert(random.randrange(len(fields) + 1), random.choice(fields))


def _drop(random: Random, fields: list[Field], _donor: bytes) -> None:
    fields.pop(random.randrange(len(fields)))


def _shuffle(random: Random, fields: list[Field], _donor: bytes) -> None:
    random.shuffle(fields)


def _renumber(random: Random, fields: list[Field], _donor: bytes) -> None:
    random.choice(fields).number = random.choice(
        (random.randrange(FIELD_NUMBERS_MAX), 0, 1000, 2**29 - 1, 2**29)
    )


def _retype(random: Random, fields: list[Field], _donor: bytes) -> None:
    field = random.choice(fields)
    field.wire_type = random.randrange(8)
    if field.wire_type in (FIXED64, FIXED32) and random.random() < 0.8:
        field.raw = random.randbytes(8 if field.wire_type == FIXED64 else 4)
    elif field.wire_type == VARINT and random.random() < 0.8:
        field.raw = _random_number(random)


def _pad(random: Random, fields: list[Field], _donor: bytes) -> None:
    random.choice(fields).padding = random.choice((1, 1, 2, 3, 4, 9))


def _pack(random: Random, fields: list[Field], _donor: bytes) -> None:
    """Numbers to packed numbers, packed numbers to numbers."""
    field = random.choice(fields)
    if field.wire_type in (VARINT, FIXED64, FIXED32):
        field.wire_type = LENGTH
    elif len(field.raw) % 8 == 0 and field.wire_type == LENGTH:
        place = fields.index(field)
        fields[place : place + 1] = [
            Field(field.number, FIXED64, field.raw[at : at + 8])
            for at in range(0, len(field.raw), 8)
        ]


def _group(random: Random, fields: list[Field], _donor: bytes) -> None:
    start = random.randrange(len(fields))
    end = random.randint(start, len(fields))
    inside = b"".join(field.written() for field in fields[start:end])
    fields[start:end] = [Field(random.choice((1, 99, fields[start].number)), START_GROUP, inside)]


def _insert(random: Random, fields: list[Field], donor: bytes) -> None:
    """A piece from elsewhere, as a field that may mean something here."""
    number = random.choice((random.randrange(1, FIELD_NUMBERS_MAX), random.choice(fields).number))
    fields.insert(random.randrange(len(fields) + 1), Field(number, LENGTH, _foreign(random, donor)))


def _number_field(random: Random, fields: list[Field], _donor: bytes) -> None:
    number = random.choice((random.randrange(1, FIELD_NUMBERS_MAX), random.choice(fields).number))
    fields.insert(random.randrange(len(fields) + 1), Field(number, VARINT, _random_number(random)))


def _damage(random: Random, fields: list[Field], _donor: bytes) -> None:
    field = random.choice(fields)
    field.raw = _scrambled(random, field.raw)


def _bad_text(random: Random, fields: list[Field], _donor: bytes) -> None:
    field = random.choice(fields)
    place = random.randrange(len(field.raw) + 1)
    field.raw = field.raw[:place] + random.choice(_BAD_UTF8) + field.raw[place:]


def _split(random: Random, fields: list[Field], _donor: bytes) -> None:
    """A message in two pieces, the second further behind."""
    field = random.choice(fields)
    inside = parsed(field.raw) if field.wire_type == LENGTH else None
    if inside:
        cut = random.randrange(len(inside) + 1)
        halves = [b"".join(one.written() for one in part) for part in (inside[:cut], inside[cut:])]
        field.raw = halves[0]
        fields.insert(
            random.randint(fields.index(field) + 1, len(fields)),
            Field(field.number, LENGTH, halves[1]),
        )


def _random_number(random: Random) -> bytes:
    value = random.choice((0, 1, 2, 300, 2**31, 2**32 + 1, 2**63, 2**64 - 1))
    return varint(value, padding=random.choice((0, 0, 0, 1, 5)))


def _scrambled(random: Random, raw: bytes) -> bytes:
    data = bytearray(raw)
    place = random.randrange(len(data) + 1)
    kind = random.randrange(4)
    if kind == 0:
        return bytes(data[:place])
    if kind == 1 and place < len(data):
        data[place] ^= 1 << random.randrange(8)
    elif kind == 2:
        data[place:place] = random.randbytes(random.randrange(1, 5))
    else:
        del data[place : place + random.randrange(1, 5)]
    return bytes(data)


def _foreign(random: Random, donor: bytes) -> bytes:
    """The content of some field of *donor*, at some depth."""
    found = donor
    for _ in range(random.randrange(1, DEPTH_MAX)):
        inside = [field for field in parsed(found) or [] if field.wire_type == LENGTH]
        if not inside:
            break
        found = random.choice(inside).raw
    return found


_CHANGES: Final[tuple[Callable[[Random, list[Field], bytes], None], ...]] = (
    _double,
    _drop,
    _shuffle,
    _renumber,
    _retype,
    _pad,
    _pack,
    _group,
    _insert,
    _insert,
    _number_field,
    _damage,
    _bad_text,
    _split,
    _split,
)
