"""A request as rows: what each item becomes, and what becomes of the request as a whole."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Final

from ingest.codec.reference.cardinality import GUARD_REASONS
from ingest.codec.reference.items import Item, Receipt, Rejected, Row, scopes_of
from ingest.codec.reference.logs import log_item
from ingest.codec.reference.metrics import point_item, points_of
from ingest.codec.reference.rejections import rejected_item
from ingest.codec.reference.traces import span_item
from ingest.codec.reference.wire import Request, decoded
from ingest.codec.results import REJECTED_ITEMS_MAX, RejectedItem

# Of the FNV hash.
GUARDED_PRIME: Final = 0x100000001B3

# The table of an item, the columns of its origin, and what fills it with both.
Found = tuple[str, Row, partial[None]]


@dataclass(slots=True)
class Rows:
    """The items of a request, in order, and how many of it were rejected for what reason.

    `warnings` counts what was put right before there were items; `guarded`: see Appended.
    """

    items: list[Item] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    guarded: int = 0
    described: list[tuple[int, RejectedItem]] = field(default_factory=list)

    def reject(self, item: Item, reason: str) -> None:
        """Count an item that is not to be stored, and describe it if it is one of the first."""
        self.rejected[reason] += 1
        if self.rejected[reason] <= REJECTED_ITEMS_MAX:
            self.described.append((item.place, rejected_item(reason, **item.messages)))

    @property
    def samples(self) -> tuple[RejectedItem, ...]:
        """What is described, in the order of the items."""
        return tuple(one for _place, one in sorted(self.described, key=itemgetter(0)))


def rows_of(signal: str, body: bytes, receipt: Receipt) -> Rows:
    """The rows of an Export request. Raises Malformed when *body* is none."""
    request = decoded(signal, body)
    rows = Rows(warnings=Counter(request.warnings))
    for place, (table, origin, fill) in enumerate(_ITEMS_OF[signal](request)):
        item = Item(table, receipt, place, {"origin": origin, **fill.keywords})
        try:
            receipt.require_own(origin["ResourceAttributes"])
            fill(item, origin)
        except Rejected as rejection:
            if rejection.reason in GUARD_REASONS:
                rows.guarded = (rows.guarded * GUARDED_PRIME + place + 1) % 2**64
            rows.reject(item, rejection.reason)
        else:
            rows.items.append(item)
    return rows


def _spans(request: Request) -> Iterator[Found]:
    for scope, origin in scopes_of(request):
        for span in scope.spans:
            yield "tf_traces", origin, partial(span_item, span=span)


def _log_records(request: Request) -> Iterator[Found]:
    for scope, origin in scopes_of(request):
        for record in scope.log_records:
            yield "tf_logs", origin, partial(log_item, record=record)


def _points(request: Request) -> Iterator[Found]:
    for scope, origin in scopes_of(request):
        for metric in scope.metrics:
            for one in points_of(metric):
                yield one.table, origin, partial(point_item, one=one)


_ITEMS_OF: Final[dict[str, Callable[[Request], Iterator[Found]]]] = {
    "traces": _spans,
    "logs": _log_records,
    "metrics": _points,
}
