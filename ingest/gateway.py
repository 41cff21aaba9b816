"""The gateway: one OTLP export from credentials to durable answer, top to bottom.

Success is answered only when everything that was accepted is durable in the log.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, time_ns
from typing import Final, NamedTuple

import xxhash

from ingest import metrics
from ingest.admission import Account, Admission, QuotaUsed
from ingest.batcher import Batcher, Request
from ingest.codec import Appended
from ingest.codec.json import to_protobuf
from ingest.directory import Directory, Principal, TenantContradiction
from ingest.exports import FULL_SUCCESS, MESSAGE_CHARACTERS_MAX, Answer, Encoding
from ingest.ledger.counts import At, GatewayCounts, minute_now
from ingest.memory_budget import MemoryBudget
from ingest.recent_requests import RecentRequests
from ingest.routing import all_rejected, requests_by_tenant, summed
from ingest.signals import ITEMS_OF_SIGNAL, Signal
from shared.errors import TelemetryFlowError, Unavailable
from shared.faults import crash_point
from shared.security.credentials import Credentials

# A larger body is mapped, or parted by tenants, in a thread: it does not hold up the event loop.
INLINE_BYTES_MAX: Final = 256 * 1024
# That a tenant's data is refused for what it says of its tenant is logged so often at most.
CONTRADICTION_SECONDS: Final = 60.0
CONTRADICTIONS_REMEMBERED_MAX: Final = 10_000

logger = logging.getLogger(__name__)

# Looked up once: a member of an enum costs as much as a call.
_PROTOBUF: Final = Encoding.PROTOBUF
# What is wrong, and what to do about it.
_REASONS: Final = {
    "invalid_trace_id": "trace_id must be 16 bytes, not all zero",
    "invalid_span_id": "span_id must be 8 bytes, not all zero",
    "invalid_parent_span_id": "parent_span_id must be empty or 8 bytes",
    "older_than_retention": "older than the tenant keeps this signal; check the sender's clock",
    "bucket_counts_mismatch": "bucket_counts must have one entry more than explicit_bounds",
    "tenant_contradiction": (
        "the resource names a tenant or workspace (telemetryflow.tenant.id, "
        "telemetryflow.workspace.id) that the API key does not write for"
    ),
    "tenant_missing": (
        "a key of a workspace needs X-Tenant-Id, or telemetryflow.tenant.id on each resource"
    ),
    "too_many_new_series": (
        "more new series than the tenant's limit of an hour; known ones are stored: take labels of "
        "ever new values (ids, addresses) off the metrics, or raise newSeriesPerHour"
    ),
    "too_many_attribute_keys": (
        "more new attribute keys than the tenant's limit of an hour; known ones are stored: put "
        "what varies into values instead of keys, or raise newAttributeKeysPerHour"
    ),
    "quota": "the tenant's quota of this month is used up; raise its plan, or stop sending them",
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
_RECEIVED_BEFORE: Final = "were received before; they are stored once"
_REPEATED: Final = Answer(0, "the same request was received before; it is stored once")


class _Received(NamedTuple):
    """An export request as it came, or a part of it under the id of the whole."""

    signal: Signal
    id: bytes
    encoding: Encoding
    body: bytes


class Gateway:
    """Takes exports of all transports: authenticate, admit, decode, make durable, answer.

    *request_seed* (64 bits, secret, the same on all gateways) goes into the ids of requests, so
    that nobody can craft two bodies with one id.
    """

    def __init__(
        self,
        *,
        directory: Directory,
        admission: Admission,
        batcher: Batcher,
        budget: MemoryBudget,
        counts: GatewayCounts,
        request_seed: int,
        retry_window_seconds: float = 300.0,
        clock_ns: Callable[[], int] = time_ns,
    ) -> None:
        self.budget = budget
        self._directory = directory
        self._admission = admission
        self._batcher = batcher
        self._counts = counts
        self._request_seed = request_seed
        self._clock_ns = clock_ns
        self._recent = RecentRequests(window_seconds=retry_window_seconds)
        self._closing = False
        # When it was last logged of whom that they contradict themselves.
        self._told: dict[str, float] = {}

    def authenticate(self, credentials: Credentials, signal: Signal) -> Principal:
        """Who sends; Unauthenticated or Forbidden for credentials that may not. No I/O.

        A refusal is recorded: receivers ask here before they read a body. Also refused is what no
        limit or quota has room for.
        """
        principal = self._authenticated(credentials, signal)
        try:
            self._admission.account(principal).check(signal)
        except TelemetryFlowError as error:
            self._count_refused(signal, principal.tenant_id, error)
            raise
        return principal

    async def export(
        self, signal: Signal, credentials: Credentials, encoding: Encoding, body: bytes
    ) -> Answer:
        """Make an Export request durable and answer. *body* is decompressed.

        Raises only errors of `shared.errors`: Invalid for what cannot succeed, Unavailable for
        what may succeed later.
        """
        started = monotonic()
        principal = self._authenticated(credentials, signal)
        try:
            crash_point("gateway.after_auth")
            if self._closing:
                raise Unavailable("the gateway is shutting down; send the request again")
            request_id = xxhash.xxh3_128_digest(body, seed=self._request_seed)
            received = _Received(signal, request_id, encoding, body)
            if principal.tenant_id:
                account = self._admission.account(principal)
                appended = await self._store(principal, account, received)
                notice = account.notice(signal)
                answer = answer_of(signal, appended, notice) if appended else _REPEATED
            else:
                answer = await self._export_parts(principal, received)
        except TelemetryFlowError as error:
            self._count_refused(signal, principal.tenant_id, error)
            raise
        metrics.EXPORT_SECONDS.observe(signal, monotonic() - started)
        return answer

    async def _export_parts(self, principal: Principal, received: _Received) -> Answer:
        """A request whose resources name their tenants: each tenant's part by itself.

        It is answered when all are durable. If one cannot be, all is sent again, and the parts that
        are durable are recognised: a part is identified by the whole body and its tenant.
        """
        signal, body = received.signal, received.body
        if received.encoding is not _PROTOBUF:
            body = await _mapped(received)

        def of_tenant(name: str) -> Principal:
            return self._directory.tenant_within(principal, name, signal)

        if len(body) <= INLINE_BYTES_MAX:
            parts = requests_by_tenant(signal, body, of_tenant)
        else:
            parts = await asyncio.to_thread(requests_by_tenant, signal, body, of_tenant)
        taken, over_quota = self._by_quota(signal, parts)
        outcomes = await asyncio.gather(
            *(
                self._store(one, account, received._replace(encoding=_PROTOBUF, body=part))
                for one, account, part in taken
            ),
            return_exceptions=True,
        )
        stored: list[Appended] = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            if outcome is not None:
                stored.append(outcome)
        repeated_parts = len(taken) - len(stored)
        for tenant, part in over_quota:
            stored.append(await self._refuse_part(signal, tenant, part))
        if not stored and parts:
            return _REPEATED
        notices = filter(None, dict.fromkeys(account.notice(signal) for _, account, _ in taken))
        return answer_of(signal, summed(stored), "; ".join(notices), repeated_parts=repeated_parts)

    def _by_quota(
        self, signal: Signal, parts: Sequence[tuple[Principal, bytes]]
    ) -> tuple[list[tuple[Principal, Account, bytes]], list[tuple[str, bytes]]]:
        """The parts that may be stored, and those whose tenant's quota is used up.

        QuotaUsed when all are of the latter kind: as for a request of one tenant.
        """
        taken, over_quota, refusal = [], [], None
        for one, part in parts:
            account = self._admission.account(one)
            try:
                account.require_quota(signal)
            except QuotaUsed as error:
                over_quota.append((one.tenant_id, part))
                refusal = error
            else:
                taken.append((one, account, part))
        if refusal is not None and not taken:
            raise refusal
        return taken, over_quota

    async def _refuse_part(self, signal: Signal, tenant: str, part: bytes) -> Appended:
        """Reject each item of *tenant*, whose quota is used up."""
        if len(part) <= INLINE_BYTES_MAX:
            refused = all_rejected(signal, part, "quota")
        else:
            refused = await asyncio.to_thread(all_rejected, signal, part, "quota")
        at = At(minute_now(), tenant, signal)
        self._counts.answered(at, accepted=0, rejected=refused.rejected)
        self._counts.sample.keep(at, refused.samples)
        _count_rejected(signal, refused.rejected)
        return refused

    async def _store(
        self, principal: Principal, account: Account, received: _Received
    ) -> Appended | None:
        """Make what *principal* sends durable; None when it is already."""
        signal, tenant = received.signal, principal.tenant_id
        account.admit(len(received.body))
        identity = received.id + f"{signal}/{tenant}".encode()
        if not await self._recent.claim(identity):
            self._counts.add(At(minute_now(), tenant, signal), "suppressed", 1)
            return None
        durable = False
        try:
            body = received.body
            if received.encoding is not _PROTOBUF:
                body = await _mapped(received)
            request = Request(
                id=received.id,
                tenant_id=tenant,
                key_id=principal.key_id,
                workspace_id=principal.workspace_id,
                retention_days=principal.retention_days,
                received_ns=self._clock_ns(),
                body=body,
                guard=account.guard(),
            )
            appended, minute = await self._batcher.append(signal, request, account.took)
            durable = appended.accepted > 0 and not appended.rejected
        finally:
            self._recent.end(identity, durable=durable)
        crash_point("gateway.after_ack_before_reply")
        at = At(minute, tenant, signal)
        self._counts.answered(at, accepted=appended.accepted, rejected=appended.rejected)
        metrics.ITEMS_ACKED.counts[signal] += appended.accepted
        if appended.warnings:
            _count_warnings(signal, appended.warnings)
        if appended.rejected:
            _count_rejected(signal, appended.rejected)
            self._counts.sample.keep(at, appended.samples)
        if contradictions := appended.rejected.get("tenant_contradiction"):
            whose = f"tenant {tenant}" if tenant else f"workspace {principal.workspace_id}"
            what = f"{contradictions} {ITEMS_OF_SIGNAL[signal]} name another tenant or workspace"
            self._tell_contradiction(whose, what)
        return appended

    def ready(self) -> str | None:
        """None when exports can succeed, else the reason why not."""
        return "shutting down" if self._closing else self._batcher.trouble()

    async def close(self) -> None:
        """Refuse what comes, and make durable what was taken."""
        self._closing = True
        await self._batcher.close()

    def _authenticated(self, credentials: Credentials, signal: Signal) -> Principal:
        try:
            return self._directory.authenticate(credentials, signal)
        except TenantContradiction as error:
            whose = credentials.key_id or f"tenant {error.tenant_id}"
            self._tell_contradiction(whose, str(error))
            self._count_refused(signal, error.tenant_id, error)
            raise
        except TelemetryFlowError as error:
            self._count_refused(signal, "", error)
            raise

    def _count_refused(self, signal: Signal, tenant: str, error: TelemetryFlowError) -> None:
        reason = getattr(error, "reason", type(error).__name__.lower())
        self._counts.add(At(minute_now(), tenant, signal), "refused", 1, reason)

    def _tell_contradiction(self, whose: str, what: str) -> None:
        now = monotonic()
        if now - self._told.get(whose, float("-inf")) < CONTRADICTION_SECONDS:
            return
        if len(self._told) >= CONTRADICTIONS_REMEMBERED_MAX:
            self._told.clear()
        self._told[whose] = now
        logger.warning("what came for %s is refused: %s", whose, what)


async def _mapped(received: _Received) -> bytes:
    """Its body, mapped from JSON."""
    if len(received.body) <= INLINE_BYTES_MAX:
        return to_protobuf(received.signal.value, received.body)
    return await asyncio.to_thread(to_protobuf, received.signal.value, received.body)


def answer_of(
    signal: Signal, appended: Appended, notice: str = "", *, repeated_parts: int = 0
) -> Answer:
    """What the client is told: nothing, a warning, or how many items were refused and why."""
    if not (appended.rejected or appended.warnings or notice or repeated_parts):
        return FULL_SUCCESS
    rejected = sum(appended.rejected.values())
    sentences = []
    if rejected:
        items = rejected + appended.accepted
        sentences.append(f"{rejected} of {items} {ITEMS_OF_SIGNAL[signal]} refused")
        sentences += _explained(appended.rejected, _REASONS)
    sentences += _explained(appended.warnings, _WARNINGS)
    if repeated_parts:
        sentences.append(f"the parts of {repeated_parts} tenants {_RECEIVED_BEFORE}")
    if notice:
        sentences.append(notice)
    return Answer(rejected, "; ".join(sentences)[:MESSAGE_CHARACTERS_MAX])


def _explained(counts: Mapping[str, int], texts: Mapping[str, str]) -> list[str]:
    return [f"{count}: {texts[name]}" for name, count in counts.items()]


def _count_rejected(signal: Signal, rejected: Mapping[str, int]) -> None:
    for reason, items in rejected.items():
        metrics.ITEMS_REJECTED.labels(signal, reason).inc(items)


def _count_warnings(signal: Signal, warnings: Mapping[str, int]) -> None:
    for kind, repairs in warnings.items():
        metrics.ITEM_WARNINGS.labels(signal, kind).inc(repairs)
