"""Guards against runaway cardinality: what is new is bounded, what is known passes."""

import resource
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from ingest.codec import Appended, BlockFull, Encoder, Malformed
from ingest.codec.cardinality import Guard, guards_bytes
from ingest.codec.reference import Encoder as ReferenceEncoder
from ingest.codec.reference.cardinality import Guard as ReferenceGuard
from ingest.codec.reference.native import Reader
from tests.unit.ingest.codec.strategies import REQUESTS, requests
from tests.unit.ingest.codec.twins import NOW_NS, SPAN_ID, TRACE_ID

SIGNALS = tuple(REQUESTS)
# Of one set of hashes, and of all: see cardinality.pyx.
HASHES_MAX = 786_432
SET_BYTES_MAX = 8 << 20


class Twins:
    """Both codecs with a guard each, which must agree about every request."""

    def __init__(self, signal: str, **limits: int) -> None:
        self.guards = Guard(**limits), ReferenceGuard(**limits)
        self.encoders = (
            Encoder(signal, retention_days=30),
            ReferenceEncoder(signal, retention_days=30),
        )

    def append(self, body: bytes) -> Appended:
        """What both say of it."""
        told = [self._told(number, body) for number in range(2)]
        assert told[0] == told[1], body.hex()
        [appended, _other] = told
        return appended if isinstance(appended, Appended) else Appended(0, {}, {}, ())

    def _told(self, number: int, body: bytes) -> Appended | str:
        encoder: Any = self.encoders[number]
        try:
            appended: Appended = encoder.append(
                body, tenant="acme", received_ns=NOW_NS, guard=self.guards[number]
            )
        except Malformed:
            return "malformed"
        return appended._replace(spans=tuple(sorted(appended.spans)))

    def turn(self) -> None:
        """An hour ends."""
        for guard in self.guards:
            guard.turn()

    def rows(self) -> list[dict[str, Any]]:
        """All rows, of which both wrote the same."""
        compiled, reference = self.encoders
        blocks = compiled.close()
        assert blocks == reference.close()
        return [row for block in blocks for row in Reader(block.native).rows()]


def points(*series: str, metric: str = "load") -> bytes:
    """A request of one data point for each of these series."""
    request: Any = REQUESTS["metrics"]()
    gauge = request.resource_metrics.add().scope_metrics.add().metrics.add(name=metric).gauge
    for name in series:
        point = gauge.data_points.add(time_unix_nano=NOW_NS, as_double=1)
        point.attributes.add(key="host").value.string_value = name
    content: bytes = request.SerializeToString()
    return content


def items(signal: str, *items: tuple[str, ...], of_resource: tuple[str, ...] = ()) -> bytes:
    """A request of one item for each tuple of attribute keys."""
    request: Any = REQUESTS[signal]()
    if signal == "metrics":
        place = request.resource_metrics.add()
        add = place.scope_metrics.add().metrics.add(name="load").gauge.data_points.add
        fixed: dict[str, Any] = {"time_unix_nano": NOW_NS, "as_double": 1}
    elif signal == "logs":
        place = request.resource_logs.add()
        add = place.scope_logs.add().log_records.add
        fixed = {"time_unix_nano": NOW_NS}
    else:
        place = request.resource_spans.add()
        add = place.scope_spans.add().spans.add
        fixed = {"start_time_unix_nano": NOW_NS, "trace_id": TRACE_ID, "span_id": SPAN_ID}
    for key in of_resource:
        place.resource.attributes.add(key=key).value.string_value = "x"
    for keys in items:
        item = add(**fixed)
        for key in keys:
            item.attributes.add(key=key).value.string_value = "x"
    content: bytes = request.SerializeToString()
    return content


@pytest.mark.parametrize("signal", SIGNALS)
def test_L04_random_requests_meet_guards_that_both_codecs_agree_about(signal: str) -> None:
    @given(
        st.lists(st.tuples(requests(signal), st.booleans()), min_size=1, max_size=4),
        st.integers(0, 6),
        st.integers(0, 20),
    )
    def check(sent: list[tuple[Message, bool]], series_max: int, keys_max: int) -> None:
        twins = Twins(signal, series_max=series_max, keys_max=keys_max)
        for message, hour_ends in sent:
            twins.append(message.SerializeToString())
            if hour_ends:
                twins.turn()
        twins.rows()

    check()


def test_L04_over_the_limit_only_new_series_are_rejected_and_known_ones_pass() -> None:
    twins = Twins("metrics", series_max=3)

    assert twins.append(points("a", "b")).rejected == {}
    assert twins.append(points("a", "c", "d", "b", "e")).rejected == {"too_many_new_series": 2}
    assert twins.append(points("a", "b", "c", "a")).rejected == {}
    assert twins.append(points("d")).rejected == {"too_many_new_series": 1}
    hosts = [row["Attributes"]["host"] for row in twins.rows()]
    assert hosts == ["a", "b", "a", "c", "b", "a", "b", "c", "a"]


def test_L04_the_same_labels_of_another_metric_or_resource_are_another_series() -> None:
    twins = Twins("metrics", series_max=1)

    assert twins.append(points("a", metric="load")).accepted == 1
    assert twins.append(points("a", metric="free")).rejected == {"too_many_new_series": 1}


def test_L04_a_series_that_lasts_is_not_new_at_a_turn_of_the_hour_and_room_is_new() -> None:
    twins = Twins("metrics", series_max=2)
    twins.append(points("a", "b", "c"))

    twins.turn()
    assert twins.append(points("a", "b", "c", "d", "e")).rejected == {"too_many_new_series": 1}
    twins.turn()
    assert twins.append(points("a", "b", "c", "d")).rejected == {}
    twins.turn()
    twins.turn()
    # Two hours of silence: all of them are new.
    assert twins.append(points("a", "b", "c", "d")).rejected == {"too_many_new_series": 2}


@pytest.mark.parametrize("signal", SIGNALS)
def test_L04_over_the_limit_only_items_with_new_attribute_keys_are_rejected(signal: str) -> None:
    twins = Twins(signal, keys_max=4)

    assert twins.append(items(signal, ("a",), ("b", "a"), of_resource=("r",))).rejected == {}
    told = twins.append(items(signal, ("c", "d"), ("c",), ("a", "d"), (), ("r",), ("b", "c")))
    assert told.rejected == {"too_many_attribute_keys": 2}
    assert told.accepted == 4
    # Another resource's key is as new as an item's.
    assert twins.append(items(signal, ("a",), of_resource=("s",))).rejected == {
        "too_many_attribute_keys": 1
    }
    assert twins.append(items(signal, ("a",), ("b",), of_resource=("c",))).rejected == {}


def test_L04_what_a_rejected_item_had_is_as_new_as_before() -> None:
    twins = Twins("metrics", series_max=9, keys_max=3)
    twins.append(items("metrics", ("a",)))

    told = twins.append(items("metrics", ("b", "c", "d"), ("b", "c")))
    again = twins.append(items("metrics", ("b",), ("d",)))

    assert told.rejected == {"too_many_attribute_keys": 1}
    assert again.rejected == {"too_many_attribute_keys": 1}


def test_L04_a_key_twice_is_one_and_one_that_we_add_is_none() -> None:
    twins = Twins("logs", keys_max=2)
    request: Any = REQUESTS["logs"].FromString(
        items("logs", ("a", "a"), ("a", "b"), of_resource=("a",))
    )
    request.resource_logs[0].scope_logs[0].log_records[0].time_unix_nano = 1

    told = twins.append(request.SerializeToString())

    assert (told.accepted, told.warnings) == (2, {"clock_out_of_range": 1})


def test_L04_without_a_limit_a_guard_keeps_nothing() -> None:
    guard = Guard()
    encoder = Encoder("metrics", retention_days=30)

    told = encoder.append(points("a", "b"), tenant="acme", received_ns=NOW_NS, guard=guard)

    assert told.accepted == 2
    assert guard.is_idle


def test_L04_a_request_that_comes_again_behind_a_full_block_is_judged_as_before() -> None:
    guard = Guard(series_max=5)
    encoder = Encoder("metrics", retention_days=30, block_rows_max=4)
    encoder.append(points("a", "b"), tenant="acme", received_ns=NOW_NS, guard=guard)
    body = points(*"abcdefg")

    with pytest.raises(BlockFull):
        encoder.append(body, tenant="acme", received_ns=NOW_NS, guard=guard)
    encoder.close()
    told = encoder.append(body, tenant="acme", received_ns=NOW_NS, guard=guard)

    assert (told.accepted, told.rejected) == (5, {"too_many_new_series": 2})


def test_L04_memory_is_bounded_whatever_the_limit_and_known_series_pass() -> None:
    before = guards_bytes()
    guard = Guard(series_max=1 << 40)
    encoder = Encoder("metrics", retention_days=30, block_bytes_max=1 << 28)
    known = points("a", "b")
    told = Appended(0, {}, {}, ())

    def send(body: bytes) -> Appended:
        encoder.close()
        return encoder.append(body, tenant="acme", received_ns=NOW_NS, guard=guard)

    send(known)
    rss_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step, accepted = 10_000, 2
    for first in range(0, HASHES_MAX + 2 * step, step):
        told = send(points(*map(str, range(first, first + step))))
        accepted += told.accepted

    assert accepted == HASHES_MAX
    assert told.rejected == {"too_many_new_series": step}
    assert send(known).rejected == {}
    assert guards_bytes() - before == SET_BYTES_MAX
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss_kib
    assert grown_kib < 200 * 1024
    guard.turn()
    assert send(known).rejected == {}
    assert guards_bytes() - before <= 2 * SET_BYTES_MAX
    guard.forget()


def test_L04_a_guard_that_is_gone_or_forgotten_holds_no_memory() -> None:
    before = guards_bytes()
    guard = Guard(series_max=1_000, keys_max=5)
    encoder = Encoder("metrics", retention_days=30)
    body = points(*map(str, range(500)))
    encoder.append(body, tenant="acme", received_ns=NOW_NS, guard=guard)
    assert guards_bytes() > before
    assert not guard.is_idle

    guard.forget()

    assert guard.is_idle
    assert guards_bytes() == before
    encoder.append(body, tenant="acme", received_ns=NOW_NS, guard=guard)
    del guard
    assert guards_bytes() == before


def test_L04_which_items_a_guard_rejected_is_told_by_a_hash() -> None:
    told = []
    for known in ("abc", "abc", "abd", "ab", ""):
        twins = Twins("metrics", series_max=3)
        twins.append(points(*known))
        told.append(twins.append(points(*"abcd")).guarded)
    unguarded = Encoder("metrics", retention_days=30).append(
        points("a"), tenant="acme", received_ns=NOW_NS
    )

    assert told[0] == told[1] == told[3] == told[4] != told[2]
    assert 0 not in told
    assert unguarded.guarded == 0


def test_L04_threads_that_decode_for_one_tenant_share_its_guard() -> None:
    threads, series_max = 4, 20_000
    guard = Guard(series_max=series_max)
    # Of each two threads, the half of the series are the same; all of them release the GIL.
    bodies = [
        points(*map(str, range(first * 5_000, first * 5_000 + 10_000))) for first in range(threads)
    ]

    def decode(body: bytes) -> Encoder:
        encoder = Encoder("metrics", retention_days=30)
        encoder.append(body, tenant="acme", received_ns=NOW_NS, guard=guard)
        return encoder

    with ThreadPoolExecutor(threads) as pool:
        encoders = list(pool.map(decode, bodies))

    stored = {
        row["Attributes"]["host"]
        for encoder in encoders
        for block in encoder.close()
        for row in Reader(block.native).rows()
    }
    assert len(stored) == series_max
