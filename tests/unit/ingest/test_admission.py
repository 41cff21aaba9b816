"""Limits, quotas and shares of memory, with clocks that tests turn."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from benchmarks.payloads import NOW_NS
from ingest import admission as module
from ingest.admission import (
    BURST_SECONDS,
    Admission,
    Bucket,
    QuotaUsed,
    Throttled,
)
from ingest.codec import Encoder
from ingest.codec.cardinality import guards_bytes
from ingest.directory import Principal
from ingest.memory_budget import SHARE_OF_FREE, MemoryBudget
from ingest.signals import Signal
from shared.directory.directory_pb2 import Key, Limits, Quota, Tenant
from shared.errors import TelemetryFlowError, Unavailable

RESETS_AT = 1_772_323_200  # 2026-03-01
AMOUNTS = st.integers(1, 500)
WAITS = st.floats(0, 30)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def admission(clock: Clock, *, key_requests_per_minute: int = 0) -> Admission:
    return Admission(
        key_requests_per_minute=key_requests_per_minute,
        unix_clock=lambda: RESETS_AT - 86_400.0,
        clock=clock,
    )


def principal(
    *, key: dict[str, int] | None = None, tenant: dict[str, int] | None = None, name: str = "acme"
) -> Principal:
    """One that sends with a key of the tenant *name*, both with limits."""
    return Principal(
        name,
        30,
        key=Key(id=f"key of {name}", limits=Limits(**(key or {}))),
        tenant=Tenant(name=name, limits=Limits(**(tenant or {}))),
    )


def admitted(limits: Admission, who: Principal, size_bytes: int = 1) -> bool:
    try:
        limits.account(who).admit(size_bytes)
    except Throttled:
        return False
    return True


@given(st.floats(0.1, 1_000), st.lists(st.tuples(WAITS, AMOUNTS), max_size=60))
def test_L05_a_bucket_never_gives_more_than_its_rate_and_one_burst(
    rate: float, steps: list[tuple[float, int]]
) -> None:
    begun = now = 1_000.0
    bucket, taken = Bucket(rate, now), 0
    for wait, amount in steps:
        now += wait
        if bucket.wait_seconds(amount, now) > 0:
            continue
        bucket.take(amount, now)
        taken += amount
        # What is larger than the bucket needs a full one, and is waited for afterwards.
        beyond = max(amount - rate * BURST_SECONDS, 0.0)
        assert taken <= rate * (now - begun + BURST_SECONDS) + beyond + 1e-6 * taken


@given(st.floats(0.1, 1_000), st.lists(st.tuples(WAITS, AMOUNTS), max_size=60))
def test_L05_what_a_bucket_tells_to_wait_for_is_enough_and_no_more(
    rate: float, steps: list[tuple[float, int]]
) -> None:
    now = 1_000.0
    bucket = Bucket(rate, now)
    for pause, amount in steps:
        now += pause
        wait = bucket.wait_seconds(amount, now)
        if wait > 1e-6:
            assert bucket.wait_seconds(amount, now + wait * 0.99 - 1e-6) > 0
            now += wait
            assert bucket.wait_seconds(amount, now) <= 1e-6
        bucket.take(amount, now)


def test_L05_a_key_without_limits_of_its_own_sends_the_default_number_of_requests() -> None:
    clock = Clock()
    limits = admission(clock, key_requests_per_minute=1_000)

    burst = sum(admitted(limits, principal()) for _ in range(1_000))
    clock.now += 60
    later = sum(admitted(limits, principal()) for _ in range(1_000))

    assert (burst, later) == (166, 166)
    own = principal(key={"requests_per_minute": 60}, name="other")
    assert sum(admitted(limits, own) for _ in range(1_000)) == 10


def test_without_a_key_and_without_limits_everything_is_taken() -> None:
    limits = admission(Clock(), key_requests_per_minute=1)
    keyless = Principal("default", 30, tenant=Tenant(name="default"))

    assert all(admitted(limits, keyless, 1 << 30) for _ in range(1_000))


def test_C051_C052_a_refusal_says_what_is_too_much_and_when_there_is_room() -> None:
    clock = Clock()
    limits = admission(clock)
    who = principal(key={"requests_per_minute": 60})
    assert all(admitted(limits, who) for _ in range(10))

    with pytest.raises(Throttled, match=r"more requests than the limit of this key") as refused:
        limits.account(who).admit(1)

    assert refused.value.reason == "key_requests"
    # A receiver takes off up to a fifth.
    clock.now += refused.value.retry_after_seconds * 0.8
    assert admitted(limits, who)
    assert not admitted(limits, who)


@pytest.mark.parametrize("whose", ["key", "tenant"])
def test_L05_bytes_are_counted_before_and_items_after_decoding(whose: str) -> None:
    clock = Clock()
    limits = admission(clock)
    who = principal(**{whose: {"bytes_per_second": 100, "items_per_second": 10}})  # type: ignore[arg-type]

    assert admitted(limits, who, 1_000)
    assert not admitted(limits, who, 1)
    clock.now += 1
    assert admitted(limits, who, 100)
    limits.account(who).took(300)
    clock.now += 19
    with pytest.raises(Throttled) as refused:
        limits.account(who).admit(1)
    assert refused.value.reason == f"{whose}_items"
    clock.now += 1.2
    assert admitted(limits, who, 1)


def test_L05_a_request_larger_than_the_bucket_passes_once_it_is_full() -> None:
    clock = Clock()
    limits = admission(clock)
    who = principal(tenant={"bytes_per_second": 10})

    assert admitted(limits, who, 1_000)
    clock.now += 99
    assert not admitted(limits, who, 1_000)
    clock.now += 1
    assert admitted(limits, who, 1_000)


def test_L05_a_tenants_limit_holds_for_all_its_keys_together_and_for_no_other() -> None:
    limits = admission(Clock())
    acme = principal(tenant={"requests_per_minute": 60})
    second = Principal("acme", 30, key=Key(id="another"), tenant=acme.tenant)

    assert sum(admitted(limits, who) for who in [acme, second] * 20) == 10
    assert admitted(limits, principal(tenant={"requests_per_minute": 60}, name="other"))


def test_a_refused_request_costs_nothing() -> None:
    clock = Clock()
    limits = admission(clock)
    who = principal(key={"requests_per_minute": 60}, tenant={"bytes_per_second": 10})
    assert admitted(limits, who, 100)

    for _ in range(100):
        assert not admitted(limits, who, 50)

    clock.now += 5
    assert admitted(limits, who, 50)


def test_a_limit_that_changes_is_in_force_at_once_and_forgives_no_debt() -> None:
    clock = Clock()
    limits = admission(clock)
    who = principal(key={"items_per_second": 10})
    assert admitted(limits, who)
    limits.account(who).took(400)

    raised = principal(key={"items_per_second": 1_000})
    assert not admitted(limits, raised)
    assert admitted(limits, principal(key={}))


def test_buckets_are_bounded_and_only_idle_ones_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ACCOUNTS_MAX", 10)
    monkeypatch.setattr(module, "BUCKETS_KEPT_MAX", 10)
    clock = Clock()
    limits = admission(clock)
    busy = principal(key={"requests_per_minute": 6}, name="busy")
    assert admitted(limits, busy)
    for number in range(100):
        clock.now += 0.05
        admitted(limits, principal(key={"requests_per_minute": 60_000}, name=str(number)))

    assert not admitted(limits, busy)
    assert len(limits._keys._buckets) <= 20
    for number in range(100):
        admitted(limits, principal(key={"requests_per_minute": 1}, name=f"all busy {number}"))
    assert len(limits._keys._buckets) <= 20


def quota(state: Any, **values: Any) -> Principal:
    known = Quota(
        signal="traces", items_max=100, items_used=120, resets_at=RESETS_AT, state=state, **values
    )
    return Principal("acme", 30, tenant=Tenant(name="acme", quotas=[known]))


def outcome(who: Principal, *, at: float, signal: Signal = Signal.TRACES) -> str:
    """Of a request at a time of the control plane: how it is refused, or what it is told."""
    limits = Admission(key_requests_per_minute=0, unix_clock=lambda: at)
    try:
        limits.account(who).check(signal)
    except TelemetryFlowError as error:
        return f"{type(error).__name__}: {error}"
    return limits.account(who).notice(signal)


def test_a_quota_that_is_nearly_used_is_told_and_data_is_taken() -> None:
    who = quota(Quota.STATE_NEARLY_USED)

    assert outcome(who, at=RESETS_AT - 1) == (
        "120 of the 100 spans of this month are used; the quota resets at 2026-03-01 00:00 UTC"
    )
    assert outcome(who, at=RESETS_AT - 1, signal=Signal.LOGS) == ""
    assert outcome(who, at=RESETS_AT) == ""


def test_a_grace_ends_by_the_control_planes_clock() -> None:
    who = quota(Quota.STATE_GRACE, grace_ends_at=RESETS_AT - 1_000)

    assert "still taken until 2026-02-28 23:43 UTC" in outcome(who, at=RESETS_AT - 1_001)
    assert outcome(who, at=RESETS_AT - 1_000).startswith("QuotaUsed")
    assert outcome(who, at=RESETS_AT) == ""


def test_a_used_up_quota_refuses_for_good_until_the_month_is_over() -> None:
    who = quota(Quota.STATE_REFUSED)

    refused = outcome(who, at=RESETS_AT - 1)
    assert refused.startswith("QuotaUsed: 120 of the 100 spans of this month are used")
    assert "until 2026-03-01 00:00 UTC" in refused
    assert not hasattr(QuotaUsed(""), "retry_after_seconds")
    assert outcome(who, at=RESETS_AT) == ""
    assert outcome(who, at=RESETS_AT - 1, signal=Signal.METRICS) == ""


def test_the_budget_refuses_what_it_cannot_hold_and_takes_it_later() -> None:
    budget = MemoryBudget(bytes_max=100)
    budget.reserve(80, "acme")

    with pytest.raises(Unavailable):
        budget.reserve(5, "acme")
    budget.release(80, "acme")
    budget.reserve(80, "acme")

    assert budget.bytes_held == 80


def filled(budget: MemoryBudget, tenant: str, size_bytes: int) -> int:
    """How much *tenant* gets when it takes all that it can."""
    got = 0
    try:
        while True:
            budget.reserve(size_bytes, tenant)
            got += size_bytes
    except Unavailable:
        return got


def test_L07_a_tenant_that_takes_all_it_can_leaves_room_for_others() -> None:
    budget = MemoryBudget(bytes_max=10_000)

    flood = filled(budget, "flood", 1)
    good = filled(budget, "good", 1)

    assert flood == 8_000
    assert good == 1_600
    # As requests end, what both hold comes to be the same.
    for _ in range(200):
        budget.release(100, "flood")
        budget.release(100, "good")
        flood += filled(budget, "flood", 10) - 100
        good += filled(budget, "good", 10) - 100
    assert flood + good == budget.bytes_held
    assert abs(flood - good) < 1_000


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 3_000)), max_size=80))
def test_L01_L07_the_budget_is_never_passed_and_always_has_room_for_a_new_tenant(
    wishes: list[tuple[str, int]],
) -> None:
    budget, held = MemoryBudget(bytes_max=10_000), dict.fromkeys("abcde", 0)
    for tenant, size_bytes in wishes:
        try:
            budget.reserve(size_bytes, tenant)
        except Unavailable:
            continue
        held[tenant] += size_bytes
    free = budget.bytes_max - budget.bytes_held
    others = sum(1 for size_bytes in held.values() if size_bytes)

    assert budget.bytes_held == sum(held.values())
    assert free >= budget.bytes_max // (1 + SHARE_OF_FREE) ** others - others
    budget.reserve(free * SHARE_OF_FREE // (1 + SHARE_OF_FREE), "new")


def points(*series: str) -> bytes:
    """A request of one data point for each of these series."""
    request = ExportMetricsServiceRequest()
    place = request.resource_metrics.add().scope_metrics.add().metrics.add(name="load")
    for name in series:
        point = place.gauge.data_points.add(time_unix_nano=NOW_NS, as_double=1)
        point.attributes.add(key="host").value.string_value = name
    return request.SerializeToString()


def rejected(limits: Admission, who: Principal, *series: str) -> int:
    """How many of these series the guard of *who* rejects."""
    told = Encoder("metrics", retention_days=30).append(
        points(*series), tenant="acme", received_ns=NOW_NS, guard=limits.account(who).guard()
    )
    return told.rejected.get("too_many_new_series", 0)


def test_L04_keys_of_a_tenant_meet_one_guard_and_tenants_each_their_own() -> None:
    limits = admission(Clock())
    tenant = Tenant(name="acme", limits=Limits(new_series_per_hour=2))
    one, two = (Principal("acme", 30, key=Key(id=name), tenant=tenant) for name in ("a", "b"))
    other = principal(tenant={"new_series_per_hour": 2}, name="globex")

    assert rejected(limits, one, "x", "y", "z") == 1
    assert rejected(limits, two, "x", "y", "z") == 1
    assert rejected(limits, other, "z", "y") == 0


def test_L04_who_has_no_limit_has_no_guard_and_a_limit_of_a_key_is_none() -> None:
    limits = admission(Clock())

    assert limits.account(principal()).guard() is None
    assert limits.account(Principal("", 14, key=Key(id="of a workspace"))).guard() is None
    assert limits.account(principal(key={"new_series_per_hour": 1})).guard() is None


def test_L04_a_changed_limit_holds_at_once_and_what_is_known_stays_so() -> None:
    limits = admission(Clock())

    assert rejected(limits, principal(tenant={"new_series_per_hour": 2}), "a", "b", "c") == 1
    assert rejected(limits, principal(tenant={"new_series_per_hour": 3}), *"abcd") == 1
    assert rejected(limits, principal(tenant={"new_series_per_hour": 1}), *"abcd") == 1


def test_L04_a_tenant_that_is_silent_for_two_hours_is_forgotten_with_its_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(0.0)
    limits = admission(clock)
    before = guards_bytes()
    who = principal(tenant={"new_series_per_hour": 1_000})
    busy = principal(tenant={"new_series_per_hour": 1}, name="busy")
    rejected(limits, who, *map(str, range(500)))
    held = guards_bytes() - before
    assert held > 500 * 8

    for _ in range(2):
        clock.now += 3_600
        assert rejected(limits, busy, "a") == 0
    assert guards_bytes() - before < held / 4

    clock.now += 7_200
    assert rejected(limits, busy, "b") == 0
    monkeypatch.setattr(module, "ACCOUNTS_MAX", 1)
    assert rejected(limits, busy, "c") == 1
    assert rejected(limits, who, "new") == 0
    assert rejected(limits, busy, "c") == 1
