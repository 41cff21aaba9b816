"""What the encoder tells about a request, and the blocks that it closes."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from shared.errors import Invalid

# Why an item is rejected, in the order of their numbers in the compiled codec.
REASONS: Final = (
    *("invalid_trace_id", "invalid_span_id", "invalid_parent_span_id", "older_than_retention"),
    *("bucket_counts_mismatch", "item_too_large", "tenant_contradiction", "tenant_missing"),
    *("too_many_new_series", "too_many_attribute_keys"),
)
# Rejected items of one reason that are described of a request; their texts, their attribute keys.
REJECTED_ITEMS_MAX: Final = 5
REJECTED_TEXT_CHARACTERS_MAX: Final = 128
REJECTED_KEYS_MAX: Final = 20


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


class RejectedItem(NamedTuple):
    """What a rejected item was: its service, name, ids in hex (whatever their length), the time
    that it gave, and keys of its attributes. Values may be secrets, so none are told.
    """

    reason: str
    service: str
    name: str
    trace_id: str
    span_id: str
    time_ns: int
    keys: tuple[str, ...]


class Appended(NamedTuple):
    """The outcome of one request: items = accepted + the sum of `rejected` (by reason).

    `warnings` counts repairs by kind; the items concerned were accepted. `guarded` tells which
    items a guard rejected: a hash of their places, 0 when it rejected none. What else becomes of a
    request follows from its bytes, but that depends on what the guard knows. `samples` describes
    the first items that were rejected for each reason.
    """

    accepted: int
    rejected: dict[str, int]
    warnings: dict[str, int]
    spans: tuple[RowRange, ...]
    guarded: int = 0
    samples: tuple[RejectedItem, ...] = ()

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
