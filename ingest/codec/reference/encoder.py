"""The encoder: requests in, blocks out, cut where a block is full."""

import builtins
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ingest.codec.reference.cardinality import Guard
from ingest.codec.reference.items import Item, Receipt
from ingest.codec.reference.native import block_of
from ingest.codec.reference.rows import Rows, rows_of
from ingest.codec.results import Appended, Block, BlockFull, RowRange
from ingest.codec.tables import TABLES_OF_SIGNAL

RETENTION_DAYS_MAX: Final = 65_535
BLOCK_BYTES_MAX_MAX: Final = 2**30


@dataclass(slots=True)
class _Part:
    """Items that become one block, and the most bytes that they take in it."""

    bytes: int
    items: list[Item] = field(default_factory=list)


class Encoder:
    """Open blocks of one signal and one retention class.

    *block_bytes_max* and *block_rows_max* bound each block (raw Native bytes, rows);
    *retention_days* is how long its items are kept: older ones are rejected.
    """

    def __init__(
        self,
        signal: str,
        *,
        retention_days: int,
        block_bytes_max: int = 8_000_000,
        block_rows_max: int = 65_536,
    ) -> None:
        if signal not in TABLES_OF_SIGNAL:
            raise ValueError(f"unknown signal {signal!r}")
        if not 0 < block_bytes_max <= BLOCK_BYTES_MAX_MAX or block_rows_max < 1:
            raise ValueError("a block holds 1 to 2^30 bytes and at least one row")
        if not 0 < retention_days <= RETENTION_DAYS_MAX:
            raise ValueError("retention is 1 to 65535 days")
        self._signal = signal
        self._retention_days = retention_days
        self._block_bytes_max = block_bytes_max
        self._block_rows_max = block_rows_max
        self._head_bytes = {
            table: len(block_of(table, [])) + 8 for table in TABLES_OF_SIGNAL[signal]
        }
        self._parts: dict[str, list[_Part]] = {}

    @property
    def rows(self) -> int:
        """Rows in everything open."""
        return sum(len(part.items) for _table, _number, part in self._open())

    @property
    def bytes(self) -> int:
        """Raw Native bytes of everything open, at most."""
        return sum(part.bytes for _table, _number, part in self._open())

    def append(
        self,
        body: builtins.bytes,
        *,
        tenant: str,
        received_ns: int,
        workspace: str = "",
        guard: Guard | None = None,
    ) -> Appended:
        """Add the items of one Export request (protobuf) to the open blocks.

        Items of a resource that names another tenant, or workspace where that is given, are
        rejected; with *tenant* empty all are. So are those with more that is new than *guard*
        lets in.

        Raises Malformed when *body* cannot be decoded and BlockFull when it does not fit behind
        what is open; the encoder is then as it was before. *received_ns* is the time of receipt.
        """
        receipt = Receipt(tenant, received_ns, self._retention_days, workspace, guard)
        rows = rows_of(self._signal, body, receipt)
        costs = self._without_large(rows)
        if self._parts and not self._fit(rows.items, costs):
            raise BlockFull
        warnings = sum((item.warnings for item in rows.items), rows.warnings)
        ranges = self._add(rows.items, costs)
        rejected, warned = dict(rows.rejected), dict(warnings)
        return Appended(len(rows.items), rejected, warned, ranges, rows.guarded, rows.samples)

    def close(self) -> list[Block]:
        """Every open block, in the order of tables and parts; the encoder is empty afterwards."""
        blocks = [_block(table, number, part) for table, number, part in self._open()]
        self._parts = {}
        return blocks

    def _open(self) -> Iterator[tuple[str, int, _Part]]:
        for table in TABLES_OF_SIGNAL[self._signal]:
            for number, part in enumerate(self._parts.get(table, [])):
                yield table, number, part

    def _without_large(self, rows: Rows) -> list[int]:
        """Rejects the items that no block has room for; the most bytes that each other takes."""
        # Alone in a block, a row pays for its dictionaries in full. Among others it pays less, and
        # what is saved on each dictionary is more than the wider indices of a larger one take.
        costs = [
            len(block_of(item.table, [item.row])) + 8 - self._head_bytes[item.table]
            for item in rows.items
        ]
        fits = [
            self._head_bytes[item.table] + cost <= self._block_bytes_max
            for item, cost in zip(rows.items, costs, strict=True)
        ]
        for item, fit in zip(rows.items, fits, strict=True):
            if not fit:
                rows.reject(item, "item_too_large")
        rows.items = [item for item, fit in zip(rows.items, fits, strict=True) if fit]
        return [cost for cost, fit in zip(costs, fits, strict=True) if fit]

    def _fit(self, items: list[Item], costs: list[int]) -> bool:
        """Whether all items fit behind what is open."""
        more_rows: Counter[str] = Counter()
        more_bytes: Counter[str] = Counter()
        for item, cost in zip(items, costs, strict=True):
            more_rows[item.table] += 1
            more_bytes[item.table] += cost
        return all(
            self._has_room(self._last_part(table), count, more_bytes[table])
            for table, count in more_rows.items()
        )

    def _has_room(self, part: _Part, rows: int, more_bytes: int) -> bool:
        return (
            len(part.items) + rows <= self._block_rows_max
            and part.bytes + more_bytes <= self._block_bytes_max
        )

    def _last_part(self, table: str) -> _Part:
        return self._parts.get(table, [_Part(self._head_bytes[table])])[-1]

    def _add(self, items: list[Item], costs: list[int]) -> tuple[RowRange, ...]:
        """Adds the items behind what is open, cutting where a part is full; where they went, in
        the order in which parts were filled."""
        full: list[RowRange] = []
        filling: dict[str, RowRange] = {}
        for item, cost in zip(items, costs, strict=True):
            table = item.table
            parts = self._parts.setdefault(table, [_Part(self._head_bytes[table])])
            if not self._has_room(parts[-1], 1, cost):
                full += [filling.pop(table)]
                parts.append(_Part(self._head_bytes[table]))
            first = RowRange(table, len(parts) - 1, len(parts[-1].items), 0)
            before = filling.get(table, first)
            filling[table] = before._replace(rows=before.rows + 1)
            parts[-1].items.append(item)
            parts[-1].bytes += cost
        order = TABLES_OF_SIGNAL[self._signal]
        return (*full, *sorted(filling.values(), key=lambda one: order.index(one.table)))


def _block(table: str, number: int, part: _Part) -> Block:
    times = [item.time_ns for item in part.items]
    native = block_of(table, [item.row for item in part.items])
    return Block(table, number, len(part.items), native, min(times), max(times))
