"""Requests that are built once with the protobuf library, and filled anew at the cost of a copy.

What differs from request to request is written into a template as a mark of 8 bytes that no other
content holds; `Template` knows where each stands, and overwrites all of them with a few operations
of numpy. The same mask gives the same ids and texts, so that the log records of a request can name
the spans of another.
"""

import re
import struct
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

Words = npt.NDArray[np.uint64]

_PREFIX: Final = b"\xf1\x9bT\xfa"
_BINARY: Final = re.compile(re.escape(_PREFIX) + b"([\x01-\x05])(...)", re.DOTALL)
# Strings of protobuf are UTF-8, so marks in them are printable.
_TEXT: Final = re.compile(rb"~~([0-9a-f]{6})")
_ID, _TIME, _LEVEL, _COUNT, _START = 1, 2, 3, 4, 5


@dataclass
class Marks:
    """Marks for one template, and what is to stand in their places.

    A time is *share* of the request's time, and *after_ns* later. A level is a float, and a count
    an integer, that grow by so much with each step, or (`gauge`) hover about it.
    """

    times: list[tuple[float, float]] = field(default_factory=list)
    levels: list[tuple[float, bool]] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def trace(self, number: int) -> bytes:
        """A trace id."""
        return _mark(_ID, 2 * number) + _mark(_ID, 2 * number + 1)

    def span(self, number: int) -> bytes:
        """A span id."""
        return _mark(_ID, 0x800000 + number)

    def text(self, number: int) -> str:
        """Eight hexadecimal digits, as good as unique."""
        return f"~~{number:06x}"

    def time(self, share: float, after_ns: float = 0.0) -> int:
        """Nanoseconds since 1970."""
        self.times.append((share, after_ns))
        return int.from_bytes(_mark(_TIME, len(self.times) - 1), "little")

    def start(self) -> int:
        """When the process began that counts since then."""
        return int.from_bytes(_mark(_START, 0), "little")

    def level(self, unit: float, *, gauge: bool = False) -> float:
        """A value of a point."""
        self.levels.append((unit, gauge))
        (value,) = struct.unpack("<d", _mark(_LEVEL, len(self.levels) - 1))
        return float(value)

    def count(self, unit: int) -> int:
        """A count of a point, in a field of type fixed64."""
        self.counts.append(unit)
        return int.from_bytes(_mark(_COUNT, len(self.counts) - 1), "little")


def _mark(kind: int, number: int) -> bytes:
    return _PREFIX + bytes((kind,)) + number.to_bytes(3, "little")


@dataclass(frozen=True)
class Filling:
    """What one request is to hold; *step* counts what its process measured since its start."""

    mask: int
    begin_ns: int
    length_ns: int
    stretch: float = 1.0
    start_ns: int = 0
    step: int = 0


class Template:
    """A request whose marks can be filled again and again; for one thread at a time."""

    def __init__(self, message: Message, marks: Marks, *, items: int) -> None:
        body = message.SerializeToString()
        self.items = items
        self._octets = np.frombuffer(bytearray(body), dtype=np.uint8)
        # Every 8 bytes as one number, from any byte on.
        self._words: Words = np.ndarray(
            (len(body) - 7,), dtype="<u8", buffer=self._octets.data, strides=(1,)
        )
        found: dict[int, list[tuple[int, int]]] = {}
        for match in _BINARY.finditer(body):
            number = int.from_bytes(match[2], "little")
            found.setdefault(match[1][0], []).append((match.start(), number))
        texts = [(match.start(), int(match[1], 16)) for match in _TEXT.finditer(body)]
        self._ids, ids = _places(found.get(_ID, []))
        self._id_words = mixed(ids.astype(np.uint64))
        self._texts, numbers = _places(texts)
        self._text_numbers = numbers.astype(np.uint64)
        self._times, numbers = _places(found.get(_TIME, []))
        times = np.array(marks.times or [(0, 0)], dtype=np.float64)[numbers]
        self._shares, self._after_ns = times[:, 0], times[:, 1]
        self._levels, numbers = _places(found.get(_LEVEL, []))
        levels = np.array(marks.levels or [(0, False)], dtype=np.float64)[numbers]
        self._units, self._hovers = levels[:, 0], levels[:, 1] > 0
        self._counts, numbers = _places(found.get(_COUNT, []))
        self._count_units = np.array(marks.counts or [0], dtype=np.uint64)[numbers]
        self._starts, _numbers = _places(found.get(_START, []))

    def filled(self, what: Filling) -> bytes:
        """The request, its marks overwritten."""
        words, mask = self._words, np.uint64(what.mask)
        words[self._ids] = self._id_words ^ mask
        words[self._texts] = _hexadecimal(mixed(self._text_numbers ^ mask))
        after = self._shares * what.length_ns + self._after_ns * what.stretch
        words[self._times] = np.uint64(what.begin_ns) + after.astype(np.uint64)
        if len(self._levels):
            places = np.arange(len(self._levels), dtype=np.uint64)
            noise = (mixed(places ^ mask) >> np.uint64(11)) / 2.0**53
            grown = np.floor(self._units * (what.step + noise / 2))
            hovering = np.round(self._units * (0.8 + 0.4 * noise), 3)
            words[self._levels] = np.where(self._hovers, hovering, grown).view(np.uint64)
        words[self._counts] = self._count_units * np.uint64(what.step)
        words[self._starts] = np.uint64(what.start_ns)
        return self._octets.tobytes()


def _places(found: list[tuple[int, int]]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    pairs = np.array(found, dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0].astype(np.intp), pairs[:, 1]


def mixed(numbers: Words) -> Words:
    """A number that looks random for each (the finalizer of SplitMix64)."""
    found = numbers + np.uint64(0x9E3779B97F4A7C15)
    found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return found ^ (found >> np.uint64(31))


def mask_of(*numbers: int) -> int:
    """A mask that follows from *numbers* alone."""
    found = np.zeros(1, dtype=np.uint64)
    for number in numbers:
        found = mixed(found ^ np.uint64(number))
    return int(found[0])


def _hexadecimal(numbers: Words) -> Words:
    """The low 32 bits of each as the bytes of eight hexadecimal digits."""
    found = numbers & np.uint64(0xFFFFFFFF)
    for shift, kept in ((16, 0x0000FFFF0000FFFF), (8, 0x00FF00FF00FF00FF), (4, 0x0F0F0F0F0F0F0F0F)):
        found = (found | (found << np.uint64(shift))) & np.uint64(kept)
    is_letter = ((found + np.uint64(0x0606060606060606)) >> np.uint64(4)) & np.uint64(
        0x0101010101010101
    )
    return found + np.uint64(0x3030303030303030) + is_letter * np.uint64(ord("a") - ord("0") - 10)
