"""What the gateway takes: as much as limits and quotas allow.

All of it counts in this process alone: with several gateway processes, each takes as much.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic
from typing import Final

from ingest import metrics
from ingest.codec.cardinality import Guard, guards_bytes
from ingest.directory import Principal
from ingest.signals import ITEMS_OF_SIGNAL, Signal
from shared.directory.directory_pb2 import Key, Quota, Tenant
from shared.errors import Forbidden, RateLimited

# A bucket holds what its rate gives in that time.
BURST_SECONDS: Final = 10.0
# Keys with their tenants that are known before it is swept: full buckets need not be kept, and of
# others so many, those that came last.
ACCOUNTS_MAX: Final = 50_000
BUCKETS_KEPT_MAX: Final = 50_000
# An hour of the guards, by the monotonic clock: no step of the wall clock turns it.
HOUR_SECONDS: Final = 3_600.0
# Receivers spread delays by a fifth either way: none ends before the bucket has what is wanted.
RETRY_MARGIN: Final = 1.25


class Throttled(RateLimited):
    """A limit of a key or a tenant is reached; *reason* is the name of the limit."""

    def __init__(self, message: str, *, reason: str, retry_after_seconds: float) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self.reason = reason


class QuotaUsed(Forbidden):
    """A month's quota is used up: until it resets, sending again is of no use.

    Not an error to retry: a client would hold the data, and send it again every few seconds, for
    days. It is told once for each request, and drops that.
    """

    reason: Final = "quota"


class Bucket:
    """A token bucket: *rate* a second, as much as that of `BURST_SECONDS` at once.

    Kept as the time at which it will be full again. It may go into debt: by what was known only
    after it was taken, and by an amount larger than the bucket, which needs a full one.
    """

    __slots__ = ("_seconds_each", "full_at")

    def __init__(self, rate: float, full_at: float) -> None:
        self._seconds_each = 1 / rate
        self.full_at = full_at

    def wait_seconds(self, amount: int, now: float) -> float:
        """How long until *amount* may be taken; at most 0 when it may be now."""
        cost = min(amount * self._seconds_each, BURST_SECONDS)
        return max(self.full_at - now, 0.0) + cost - BURST_SECONDS

    def take(self, amount: int, now: float) -> None:
        """Take *amount*, whether it is there or not."""
        self.full_at = max(self.full_at, now) + amount * self._seconds_each


class _Buckets:
    """Those of one key or tenant, as its entry in the directory (*source*) says."""

    __slots__ = ("by_bytes", "by_items", "by_requests", "source", "subject")

    def __init__(self, subject: str, source: Key | Tenant) -> None:
        self.subject = subject
        self.source = source
        self.by_requests: Bucket | None = None
        self.by_items: Bucket | None = None
        self.by_bytes: Bucket | None = None

    def require(self, size_bytes: int, now: float) -> None:
        """Throttled, when a request of that size may not be taken now."""
        bucket = self.by_requests
        if bucket is not None and (wait := bucket.wait_seconds(1, now)) > 0:
            raise self._throttled("requests", wait)
        bucket = self.by_items
        if bucket is not None and (wait := bucket.wait_seconds(1, now)) > 0:
            raise self._throttled("items", wait)
        bucket = self.by_bytes
        if bucket is not None and (wait := bucket.wait_seconds(size_bytes, now)) > 0:
            raise self._throttled("bytes", wait)

    def take(self, size_bytes: int, now: float) -> None:
        """Take one request of that size."""
        if self.by_requests is not None:
            self.by_requests.take(1, now)
        if self.by_bytes is not None:
            self.by_bytes.take(size_bytes, now)

    @property
    def has_limits(self) -> bool:
        """Whether there is anything to count."""
        return (self.by_requests or self.by_items or self.by_bytes) is not None

    def is_idle(self, now: float) -> bool:
        """Whether they may be forgotten."""
        buckets = (self.by_requests, self.by_items, self.by_bytes)
        return all(bucket is None or bucket.full_at <= now for bucket in buckets)

    def _throttled(self, what: str, wait_seconds: float) -> Throttled:
        reason = f"{self.subject}_{what}"
        metrics.ADMISSION_REFUSALS.labels(reason).inc()
        return Throttled(
            f"more {what} than the limit of this {self.subject} allows; send again after "
            f"{wait_seconds:.1f} s, or raise the limit",
            reason=reason,
            retry_after_seconds=wait_seconds * RETRY_MARGIN,
        )


class _Subjects:
    """The buckets of all keys, or of all tenants, that sent lately: bounded."""

    def __init__(self, subject: str, *, requests_per_minute: int = 0) -> None:
        self._subject = subject
        # Of those that say nothing about it.
        self._requests_per_minute = requests_per_minute
        self._buckets: dict[str, _Buckets] = {}

    def buckets(self, name: str, source: Key | Tenant, now: float) -> _Buckets:
        """Those of *name*, whose entry in the directory is *source*."""
        held = self._buckets.get(name)
        if held is None or held.source is not source:
            held = self._buckets[name] = self._renewed(held, source, now)
        return held

    def _renewed(self, held: _Buckets | None, source: Key | Tenant, now: float) -> _Buckets:
        renewed, limits = _Buckets(self._subject, source), source.limits
        requests_per_minute = limits.requests_per_minute or self._requests_per_minute
        old = held or renewed
        renewed.by_requests = _bucket(old.by_requests, requests_per_minute / 60, now)
        renewed.by_items = _bucket(old.by_items, limits.items_per_second, now)
        renewed.by_bytes = _bucket(old.by_bytes, limits.bytes_per_second, now)
        return renewed

    def sweep(self, now: float) -> None:
        """Forget those that are full again; if few are, also those that are known the longest."""
        busy = {name: held for name, held in self._buckets.items() if not held.is_idle(now)}
        for name in list(busy)[: max(len(busy) - BUCKETS_KEPT_MAX, 0)]:
            del busy[name]
        self._buckets = busy


class _Guards:
    """The cardinality guards of tenants that have one; what they hold is bounded in the codec."""

    def __init__(self) -> None:
        self._guards: dict[str, Guard] = {}
        self._hour = 0
        metrics.CARDINALITY_BYTES.set_function(lambda: float(guards_bytes()))

    def guard(self, tenant: Tenant) -> Guard | None:
        """That of *tenant*, with its limits; None when it has none."""
        limits = tenant.limits
        if not (limits.new_series_per_hour or limits.new_attribute_keys_per_hour):
            self._guards.pop(tenant.name, None)
            return None
        guard = self._guards.get(tenant.name)
        if guard is None:
            guard = self._guards[tenant.name] = Guard()
        guard.limit(
            series_max=limits.new_series_per_hour, keys_max=limits.new_attribute_keys_per_hour
        )
        return guard

    def turn(self, now: float) -> None:
        """Let an hour end, when one does; whoever was silent for two is forgotten."""
        hours = int(now / HOUR_SECONDS) - self._hour
        if not hours:
            return
        self._hour += hours
        for guard in self._guards.values():
            guard.turn() if hours == 1 else guard.forget()

    def sweep(self) -> None:
        """Drop the guards that know nothing."""
        self._guards = {name: one for name, one in self._guards.items() if not one.is_idle}


def _bucket(held: Bucket | None, rate: float, now: float) -> Bucket | None:
    """One of that *rate*, 0 being no limit; who is in debt waits as long as before."""
    if not rate:
        return None
    return Bucket(rate, now if held is None else held.full_at)


class Account:
    """The limits and quotas of one key and its tenant, as they stand."""

    __slots__ = ("_admission", "_buckets", "_guard", "_quotas", "source")

    def __init__(self, admission: "Admission", principal: Principal, now: float) -> None:
        # Held, so that its parts are no other ones while this is known under their identities.
        self.source = (principal.key, principal.tenant)
        self._admission = admission
        self._buckets = admission.buckets(principal, now)
        tenant = principal.tenant
        self._quotas = tuple(tenant.quotas) if tenant is not None else ()
        self._guard = admission.guards.guard(tenant) if tenant is not None else None

    def check(self, signal: Signal) -> None:
        """Before a body is read: Throttled or QuotaUsed for what `admit` would refuse anyway."""
        self.require_quota(signal)
        if self._buckets:
            now = self._admission.clock()
            for buckets in self._buckets:
                buckets.require(0, now)

    def admit(self, size_bytes: int) -> None:
        """Take a request with a body of that size; Throttled when there is a limit to it."""
        if self._buckets:
            now = self._admission.clock()
            for buckets in self._buckets:
                buckets.require(size_bytes, now)
            for buckets in self._buckets:
                buckets.take(size_bytes, now)

    def took(self, items: int) -> None:
        """So many items were in an admitted request: later ones wait for them."""
        for buckets in self._buckets:
            if buckets.by_items is not None:
                buckets.by_items.take(items, self._admission.clock())

    def guard(self) -> Guard | None:
        """What knows how much of the tenant's data is new; None where that has no limit."""
        if self._guard is not None:
            self._admission.guards.turn(self._admission.clock())
        return self._guard

    def notice(self, signal: Signal) -> str:
        """What the client should be told about its quota; empty while there is room."""
        quota = self._quota(signal) if self._quotas else None
        if quota is None:
            return ""
        if quota.state == Quota.STATE_GRACE:
            return (
                f"{_used(quota)}; it is still taken until {_when(quota.grace_ends_at)}, then "
                f"refused until {_when(quota.resets_at)}: send less or raise the plan"
            )
        return f"{_used(quota)}; the quota resets at {_when(quota.resets_at)}"

    def require_quota(self, signal: Signal) -> None:
        """QuotaUsed, when this month's quota is used up and its grace is over."""
        quota = self._quota(signal) if self._quotas else None
        if quota is None:
            return
        is_refused = quota.state == Quota.STATE_REFUSED or (
            quota.state == Quota.STATE_GRACE and self._admission.unix_clock() >= quota.grace_ends_at
        )
        if is_refused:
            metrics.ADMISSION_REFUSALS.labels("quota").inc()
            raise QuotaUsed(
                f"{_used(quota)}; {signal.value} are refused until {_when(quota.resets_at)}: "
                "raise the plan, or stop sending them"
            )

    def _quota(self, signal: Signal) -> Quota | None:
        """What is to be said about the month; None while there is room, or when it is over."""
        for quota in self._quotas:
            if quota.signal == signal and self._admission.unix_clock() < quota.resets_at:
                return quota
        return None


class Admission:
    """Applies the limits of keys and tenants, and the monthly quotas; no I/O.

    *key_requests_per_minute* is for keys that say nothing about it; 0 is no limit. *clock* gives
    monotonic seconds, *unix_clock* the control plane's time.
    """

    def __init__(
        self,
        *,
        key_requests_per_minute: int,
        unix_clock: Callable[[], float],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.unix_clock = unix_clock
        self.clock = clock
        self._keys = _Subjects("key", requests_per_minute=key_requests_per_minute)
        self._tenants = _Subjects("tenant")
        self.guards = _Guards()
        self._accounts: dict[tuple[int, int], Account] = {}

    def account(self, principal: Principal) -> Account:
        """Where the requests of *principal* are counted."""
        identity = id(principal.key), id(principal.tenant)
        account = self._accounts.get(identity)
        if account is None:
            now = self.clock()
            if len(self._accounts) >= ACCOUNTS_MAX:
                # Together, so that no account goes on with buckets that are known no more.
                self._accounts.clear()
                self._keys.sweep(now)
                self._tenants.sweep(now)
                self.guards.sweep()
            account = self._accounts[identity] = Account(self, principal, now)
        return account

    def buckets(self, principal: Principal, now: float) -> tuple[_Buckets, ...]:
        """Those of the key and of the tenant, where they have limits."""
        found = []
        if principal.key is not None:
            found.append(self._keys.buckets(principal.key.id, principal.key, now))
        if principal.tenant is not None:
            found.append(self._tenants.buckets(principal.tenant_id, principal.tenant, now))
        return tuple(buckets for buckets in found if buckets.has_limits)


def _used(quota: Quota) -> str:
    items = ITEMS_OF_SIGNAL[Signal(quota.signal)]
    return f"{quota.items_used} of the {quota.items_max} {items} of this month are used"


def _when(unix_seconds: int) -> str:
    return f"{datetime.fromtimestamp(unix_seconds, UTC):%Y-%m-%d %H:%M} UTC"
