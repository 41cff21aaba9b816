"""A sample of rejected items: enough to see what is wrong with an exporter, and no secrets.

The codec describes the first items that it rejects for each reason, whatever the size of the
request. Where nothing is rejected this costs nothing; else it is bounded by what stands here.
"""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from ingest import metrics
from ingest.codec.results import RejectedItem

if TYPE_CHECKING:
    from ingest.ledger.counts import At

# Of one tenant, signal and reason, in one minute and gateway.
SAMPLES_MAX: Final = 5
# Of all between two flushes of the ledger: of the largest, three quarters of a megabyte.
KEPT_MAX: Final = 64


class RejectedSample:
    """Keeps descriptions of rejected items as they come by, until the ledger is told."""

    def __init__(self) -> None:
        self._kept: list[list[Any]] = []
        self._minute = 0
        # In the current minute, by place and reason.
        self._sampled: Counter[tuple[At, str]] = Counter()

    def keep(self, at: "At", items: Iterable[RejectedItem]) -> None:
        """Note items that were rejected, as far as there is room for samples of them."""
        if at.minute != self._minute:
            self._minute = at.minute
            self._sampled.clear()
        for item in items:
            if len(self._kept) >= KEPT_MAX:
                return
            if self._sampled[at, item.reason] < SAMPLES_MAX:
                self._sampled[at, item.reason] += 1
                metrics.REJECTED_SAMPLED.labels(at.signal).inc()
                self._kept.append([*at, *item])

    def take(self) -> list[list[Any]]:
        """What was kept since the last time, as it stands in a document of the ledger."""
        kept, self._kept = self._kept, []
        return kept
