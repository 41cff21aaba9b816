"""The gateway: one OTLP export from credentials to durable answer, top to bottom.

Success is answered only when everything that was accepted is durable in the log.
"""

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic, time_ns
from typing import Final

import xxhash

from ingest import metrics
from ingest.admission import MemoryBudget
from ingest.batcher import Batcher, Request
from ingest.codec import Appended
from ingest.codec.json import to_protobuf
from ingest.credentials import Credentials
from ingest.directory import Directory, Principal
from ingest.exports import FULL_SUCCESS, MESSAGE_CHARACTERS_MAX, Answer, Encoding
from ingest.ledger.counts import At, GatewayCounts, minute_now
from ingest.recent_requests import RecentRequests
from ingest.signals import Signal
from shared.errors import TelemetryFlowError, Unavailable
from shared.faults import crash_point

# A larger JSON body is mapped in a thread, so that it does not hold up the event loop.
INLINE_JSON_BYTES_MAX: Final = 256 * 1024

_ITEM_NAMES: Final = {
    Signal.TRACES: "spans",
    Signal.LOGS: "log records",
    Signal.METRICS: "data points",
}
# What is wrong, and what to do about it.
_REASONS: Final = {
    "invalid_trace_id": "trace_id must be 16 bytes, not all zero",
    "invalid_span_id": "span_id must be 8 bytes, not all zero",
    "invalid_parent_span_id": "parent_span_id must be empty or 8 bytes",
    "older_than_retention": "older than the tenant keeps this signal; check the sender's clock",
    "bucket_counts_mismatch": "bucket_counts must have one entry more than explicit_bounds",
    "item_too_large": "larger than INGEST_BLOCK_BYTES_MAX allows; shorten its attributes or body",
}
_WARNINGS: Final = {
    "repaired_utf8": "texts were not UTF-8; the bad bytes became U+FFFD",
    "clock_out_of_range": (
        "times were before 2000, or more than 24 h ahead; such items are stored under the time of "
        "receipt, with telemetryflow.original_time_unix_nano"
    ),
    "invalid_trace_id": "log records had ids of a wrong length and are stored uncorrelated",
    "string_index": "values were string indices, which this signal does not have; stored empty",
}
# Rejected 0 with a message is a warning: what the client sent is stored.
_REPEATED: Final = Answer(0, "the same request was received before; it is stored once")


class Gateway:
    """Takes exports of all transports: authenticate, admit, decode, make durable, answer.

    *request_seed* (64 bits, secret, the same on all gateways) goes into the ids of requests, so
    that nobody can craft two bodies with one id.
    """

    def __init__(
        self,
        *,
        directory: Directory,
        batcher: Batcher,
        budget: MemoryBudget,
        counts: GatewayCounts,
        request_seed: int,
        retry_window_seconds: float = 300.0,
        clock_ns: Callable[[], int] = time_ns,
    ) -> None:
        self.budget = budget
        self._directory = directory
        self._batcher = batcher
        self._counts = counts
        self._request_seed = request_seed
        self._clock_ns = clock_ns
        self._recent = RecentRequests(window_seconds=retry_window_seconds)
        self._closing = False

    def authenticate(self, credentials: Credentials, signal: Signal) -> Principal:
        """Who sends; Unauthenticated or Forbidden for credentials that may not. No I/O."""
        return self._directory.authenticate(credentials, signal)

    async def export(
        self, signal: Signal, credentials: Credentials, encoding: Encoding, body: bytes
    ) -> Answer:
        """Make an Export request durable and answer. *body* is decompressed.

        Raises only errors of `shared.errors`: Invalid for what cannot succeed, Unavailable for
        what may succeed later.
        """
        started = monotonic()
        tenant = ""
        try:
            principal = self.authenticate(credentials, signal)
            tenant = principal.tenant_id
            answer = await self._export(signal, principal, encoding, body)
        except TelemetryFlowError as error:
            at = At(minute_now(), tenant, signal.value)
            self._counts.add(at, "refused", 1, type(error).__name__.lower())
            raise
        metrics.EXPORT_SECONDS.labels(signal).observe(monotonic() - started)
        return answer

    async def _export(
        self, signal: Signal, principal: Principal, encoding: Encoding, body: bytes
    ) -> Answer:
        crash_point("gateway.after_auth")
        self._admit()
        request_id = xxhash.xxh3_128_digest(body, seed=self._request_seed)
        identity = xxhash.xxh3_128_digest(request_id + f"{signal}/{principal.tenant_id}".encode())
        if not await self._recent.claim(identity):
            at = At(minute_now(), principal.tenant_id, signal.value)
            self._counts.add(at, "suppressed", 1)
            return _REPEATED
        durable = False
        try:
            request = Request(
                id=request_id,
                tenant_id=principal.tenant_id,
                key_id=principal.key_id,
                retention_days=principal.retention_days,
                received_ns=self._clock_ns(),
                body=body if encoding is Encoding.PROTOBUF else await _mapped(signal, body),
            )
            appended, minute = await self._batcher.append(signal, request)
            durable = appended.accepted > 0 and not appended.rejected
        finally:
            self._recent.end(identity, durable=durable)
        crash_point("gateway.after_ack_before_reply")
        at = At(minute, principal.tenant_id, signal.value)
        self._counts.answered(at, accepted=appended.accepted, rejected=appended.rejected)
        _count(signal, appended)
        return answer_of(signal, appended)

    def ready(self) -> str | None:
        """None when exports can succeed, else the reason why not."""
        return "shutting down" if self._closing else self._batcher.trouble()

    async def close(self) -> None:
        """Refuse what comes, and make durable what was taken."""
        self._closing = True
        await self._batcher.close()

    def _admit(self) -> None:
        if self._closing:
            raise Unavailable("the gateway is shutting down; send the request again")


async def _mapped(signal: Signal, body: bytes) -> bytes:
    """OTLP/JSON as protobuf."""
    if len(body) <= INLINE_JSON_BYTES_MAX:
        return to_protobuf(signal.value, body)
    return await asyncio.to_thread(to_protobuf, signal.value, body)


def answer_of(signal: Signal, appended: Appended) -> Answer:
    """What the client is told: nothing, a warning, or how many items were refused and why."""
    if not appended.rejected and not appended.warnings:
        return FULL_SUCCESS
    rejected = sum(appended.rejected.values())
    sentences = []
    if rejected:
        items = rejected + appended.accepted
        sentences.append(f"{rejected} of {items} {_ITEM_NAMES[signal]} refused")
        sentences += _explained(appended.rejected, _REASONS)
    sentences += _explained(appended.warnings, _WARNINGS)
    return Answer(rejected, "; ".join(sentences)[:MESSAGE_CHARACTERS_MAX])


def _explained(counts: Mapping[str, int], texts: Mapping[str, str]) -> list[str]:
    return [f"{count}: {texts[name]}" for name, count in counts.items()]


def _count(signal: Signal, appended: Appended) -> None:
    metrics.ITEMS_ACKED.labels(signal).inc(appended.accepted)
    for reason, items in appended.rejected.items():
        metrics.ITEMS_REJECTED.labels(signal, reason).inc(items)
    for kind, repairs in appended.warnings.items():
        metrics.ITEM_WARNINGS.labels(signal, kind).inc(repairs)
