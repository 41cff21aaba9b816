"""A sample of rejected items: enough to see what is wrong with an exporter, and no secrets.

The compiled codec counts what it rejects and says why, not what it was. So of a few requests the
body is kept until the ledger is told, and is then read once more by the plain-Python codec. Where
nothing is rejected this costs nothing; else it is bounded by what stands here.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ingest import metrics
from ingest.codec.reference.items import Receipt
from ingest.codec.reference.rows import rejected_of

if TYPE_CHECKING:
    from ingest.ledger.counts import At

# Of one tenant, signal and reason, in one minute and gateway.
SAMPLES_MAX: Final = 5
# Bodies between two flushes of the ledger, and how large each may be.
BODIES_MAX: Final = 16
BODY_BYTES_MAX: Final = 512 << 10
# Of an item: its texts, and how many of its attribute keys.
TEXT_CHARACTERS_MAX: Final = 128
KEYS_MAX: Final = 20

logger = logging.getLogger(__name__)


class Kept(NamedTuple):
    """The body (protobuf) of a request of which items were rejected."""

    at: "At"
    body: bytes
    receipt: Receipt
    reasons: frozenset[str]


class RejectedSample:
    """Keeps bodies as they come by, and describes what was rejected of them when asked."""

    def __init__(self) -> None:
        self._kept: list[Kept] = []
        self._minute = 0
        # In the current minute, by place and reason.
        self._described: Counter[tuple[At, str]] = Counter()
        self._waiting: set[tuple[At, str]] = set()

    def keep(self, at: "At", body: bytes, receipt: Receipt, rejected: Mapping[str, int]) -> None:
        """Note a request of which items were rejected, if there is room for samples of it."""
        if at.minute != self._minute:
            self._minute = at.minute
            self._described.clear()
        reasons = frozenset(
            reason
            for reason in rejected
            if (at, reason) not in self._waiting and self._described[at, reason] < SAMPLES_MAX
        )
        if reasons and len(self._kept) < BODIES_MAX and len(body) <= BODY_BYTES_MAX:
            self._kept.append(Kept(at, body, receipt, reasons))
            self._waiting.update((at, reason) for reason in reasons)

    def take(self) -> list[Kept]:
        """What was kept since the last time."""
        kept, self._kept = self._kept, []
        self._waiting.clear()
        return kept

    def describe(self, kept: list[Kept]) -> list[list[Any]]:
        """Samples as they stand in a document of the ledger; slow, so not for the event loop."""
        samples: list[list[Any]] = []
        for one in kept:
            try:
                samples += self._described_of(one)
            except Exception:
                # The ledger goes on without this sample.
                logger.exception("rejected items could not be described")
        return samples

    def _described_of(self, kept: Kept) -> Iterator[list[Any]]:
        for reason, fields in rejected_of(kept.at.signal, kept.body, kept.receipt):
            place = (kept.at, reason)
            if reason in kept.reasons and self._described[place] < SAMPLES_MAX:
                self._described[place] += 1
                metrics.REJECTED_SAMPLED.labels(kept.at.signal).inc()
                yield [*kept.at, reason, *described(fields)]


def described(fields: Mapping[str, Any]) -> list[Any]:
    """Service, name, trace id, span id (in hex, whatever their length), time, attribute keys.

    *fields* is what the reference codec knows of an item: `span`, `record` or `one` (a data
    point), and its `origin`.
    """
    trace_id = span_id = b""
    if "one" in fields:
        point = fields["one"]
        item, name, sent_ns = point.point, point.metric.name, point.point.time_unix_nano
    elif "span" in fields:
        item = fields["span"]
        name, sent_ns = item.name, item.start_time_unix_nano
    else:
        item = fields["record"]
        name, sent_ns = item.event_name, item.time_unix_nano or item.observed_time_unix_nano
    if "one" not in fields:
        trace_id, span_id = item.trace_id, item.span_id
    texts = (fields["origin"]["ServiceName"], name, trace_id.hex(), span_id.hex())
    keys = [one.key[:TEXT_CHARACTERS_MAX] for one in item.attributes[:KEYS_MAX]]
    return [*(text[:TEXT_CHARACTERS_MAX] for text in texts), sent_ns, keys]
