"""What the encoder tells about a request, and the blocks that it closes."""

from dataclasses import dataclass
from typing import NamedTuple

from shared.errors import Invalid


class Malformed(Invalid):
    """The request cannot be decoded at all; nothing of it was taken."""


class BlockFull(Exception):
    """The request does not fit behind what is open: close the encoder, then append again."""


class RowRange(NamedTuple):
    """Where accepted rows went: `rows` rows of block `part` of `table`, from `first_row` on."""

    table: str
    part: int
    first_row: int
    rows: int


class Appended(NamedTuple):
    """The outcome of one request: items = accepted + the sum of `rejected` (by reason).

    `warnings` counts repairs by kind; the items concerned were accepted. `guarded` tells which
    items a guard rejected: a hash of their places, 0 when it rejected none. What else becomes of a
    request follows from its bytes, but that depends on what the guard knows.
    """

    accepted: int
    rejected: dict[str, int]
    warnings: dict[str, int]
    spans: tuple[RowRange, ...]
    guarded: int = 0

    @property
    def items(self) -> int:
        """All of them, accepted or not."""
        return self.accepted + sum(self.rejected.values()) if self.rejected else self.accepted


@dataclass(frozen=True, slots=True)
class Block:
    """One ClickHouse Native block of one table; times are those of its items, in ns since 1970."""

    table: str
    part: int
    rows: int
    native: bytes
    time_min_ns: int
    time_max_ns: int
