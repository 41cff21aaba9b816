"""What a gateway received, refused and acknowledged, told to the log every few seconds.

One JSON document in `telemetry.ledger.v1`, at most 1 000 counts each:

    {"v":1,"gateway":id of this process,"seq":7,
     "counts":[[minute (Unix),tenant,signal,event,reason,items],…],
     "rejected":[[minute,tenant,signal,reason,service,name,trace id,span id,time,[key,…]],…]}

A document whose append has an unknown outcome is appended again, unchanged: readers ignore a `seq`
that they have seen.
"""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from time import time
from typing import Any, Final, NamedTuple

import orjson

from ingest.ledger.rejected import RejectedSample
from ingest.log import TelemetryLog
from ingest.signals import LEDGER_TOPIC
from shared.errors import TelemetryFlowError

LEDGER_VERSION: Final = 1
FLUSH_SECONDS: Final = 5.0
COUNTS_PER_DOCUMENT_MAX: Final = 1_000
# Tenants, minutes, events and reasons that are counted between two flushes; more are summed up
# under the tenant "".
KEYS_MAX: Final = 100_000
# Received and acked at once, as nearly all are; told as both.
_TAKEN: Final = "taken"

logger = logging.getLogger(__name__)


class At(NamedTuple):
    """Where items are counted: Unix minute, tenant ("" when unknown) and signal."""

    minute: int
    tenant: str
    signal: str


def minute_now() -> int:
    """The Unix minute."""
    return int(time()) // 60


class GatewayCounts:
    """Counts of one gateway process; `run` tells them."""

    def __init__(self, log: TelemetryLog) -> None:
        self._log = log
        self._gateway = secrets.token_hex(8)
        self._sequence = 0
        # By place, event and reason.
        self._counts: Counter[tuple[At, str, str]] = Counter()
        self._untold: list[bytes] = []
        # Of items that were rejected.
        self.sample = RejectedSample()

    def add(self, at: At, event: str, items: int, reason: str = "") -> None:
        """Count *items*; nothing is told yet."""
        if not items:
            return
        key = (at, event, reason)
        if key not in self._counts and len(self._counts) >= KEYS_MAX:
            key = (at._replace(tenant=""), event, reason)
        self._counts[key] += items

    def answered(self, at: At, *, accepted: int, rejected: Mapping[str, int]) -> None:
        """A request was answered: *accepted* items are durable in blocks of that minute."""
        if not rejected:
            self.add(at, _TAKEN, accepted)
            return
        self.add(at, "received", accepted + sum(rejected.values()))
        self.add(at, "acked", accepted)
        for reason, items in rejected.items():
            self.add(at, "rejected", items, reason)

    async def run(self) -> None:
        """Tell what changed, every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self.flush()
            except TelemetryFlowError as error:
                logger.debug("the ledger waits: %s", error)

    async def close(self) -> None:
        """Tell the rest, if the log takes it."""
        with suppress(TelemetryFlowError):
            await self.flush()

    async def flush(self) -> None:
        """Tell everything now. Raises Unavailable; then it is told with the next flush."""
        # While the log takes nothing, counts go on growing together instead of piling up.
        if not self._untold:
            self._gather(self.sample.take())
        while self._untold:
            await self._log.append(LEDGER_TOPIC, 0, self._untold[0], ())
            del self._untold[0]

    def _gather(self, samples: list[list[Any]]) -> None:
        for (at, event, reason), n in list(self._counts.items()):
            if event == _TAKEN:
                del self._counts[at, event, reason]
                self._counts[at, "received", ""] += n
                self._counts[at, "acked", ""] += n
        counts = [[*at, event, reason, n] for (at, event, reason), n in self._counts.items()]
        self._counts.clear()
        for first in range(0, len(counts) or len(samples), COUNTS_PER_DOCUMENT_MAX):
            self._sequence += 1
            document: dict[str, Any] = {
                "v": LEDGER_VERSION,
                "gateway": self._gateway,
                "seq": self._sequence,
                "counts": counts[first : first + COUNTS_PER_DOCUMENT_MAX],
            }
            if samples:
                document["rejected"], samples = samples, []
            self._untold.append(orjson.dumps(document))
