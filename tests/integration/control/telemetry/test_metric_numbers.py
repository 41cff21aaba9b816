"""Numbers of data points against the same in plain Python, over generated points."""

import math
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from control.telemetry.queries.aggregate import answer_question
from control.telemetry.queries.engine import Engine, Reading
from control.telemetry.queries.metric_catalogue import (
    LabelValuesQuery,
    OfMetric,
    label_values,
    list_labels,
)
from control.telemetry.queries.model import MetricQuestion
from shared.clickhouse.client import ClickHouse
from tests.control.telemetry import note_all_series, store
from tests.control.telemetry_data import (
    MINUTE,
    SECOND,
    Distribution,
    Point,
    histograms_request,
    points_request,
)

NOW = time.time_ns() // MINUTE * MINUTE - 60 * MINUTE
STEPS = 4
END = NOW + STEPS * MINUTE
EXAMPLES = settings(
    max_examples=8,
    phases=(Phase.explicit, Phase.generate),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# Before the range (also beyond what is looked back for), on the edges of steps, and after it.
TIMES = st.one_of(
    st.integers(NOW - 12 * MINUTE, END + MINUTE),
    st.sampled_from([NOW - 1, NOW, NOW + MINUTE - 1, NOW + MINUTE, END - 1, END]),
)
VALUES = st.one_of(
    st.floats(-1e6, 1e6, width=32), st.sampled_from([0.0, -0.0, 1e300, -1e300, math.nan, math.inf])
)
POINTS = st.lists(
    st.builds(
        Point,
        time_ns=TIMES,
        value=VALUES,
        series=st.integers(0, 2),
        zone=st.sampled_from(["a", "b"]),
        flags=st.sampled_from([0, 0, 0, 1]),
    ),
    max_size=25,
)
COUNTERS = st.lists(
    st.builds(
        Point,
        time_ns=TIMES,
        value=st.integers(0, 100).map(float),
        series=st.integers(0, 1),
        zone=st.just("a"),
        start_ns=st.sampled_from([0, NOW - 20 * MINUTE, NOW - 5 * MINUTE, NOW + MINUTE]),
    ),
    max_size=25,
)


async def _asked(
    engine: Engine, tenant: str, aggregation: str, **options: Any
) -> dict[tuple[str, str], dict[int, float | None]]:
    """Points by name and zone."""
    question = MetricQuestion.model_validate(
        {
            "range": {"type": "absolute", "startTime": str(NOW), "endTime": str(END)},
            "source": "metric",
            "metric": "m",
            "aggregation": aggregation,
            "step": "1m",
            **options,
        }
    )
    answer = await answer_question(Reading(engine, tenant), question)
    return {
        (one.name, one.labels.get("attributes.zone", "")): dict(one.points) for one in answer.series
    }


def _bucket(time_ns: int) -> int:
    return time_ns // MINUTE * MINUTE // 1_000_000


def _in_range(points: list[Point]) -> list[Point]:
    return [one for one in points if NOW <= one.time_ns < END]


def _last(points: list[Point]) -> float:
    return max(points, key=lambda one: (one.time_ns, one.value)).value


OF_SERIES: dict[str, Callable[[list[Point]], float]] = {
    "avg": lambda points: math.fsum(one.value for one in points) / len(points),
    "min": lambda points: min(one.value for one in points),
    "max": lambda points: max(one.value for one in points),
    "sum": lambda points: sum(one.value for one in points),
    "count": lambda points: float(len(points)),
    "last": _last,
}
COMBINED: dict[str, Callable[[list[float]], float]] = {
    "avg": lambda values: sum(values) / len(values),
    "last": lambda values: sum(values) / len(values),
    "min": min,
    "max": max,
    "sum": sum,
    "count": sum,
}


async def _stored(
    client: ClickHouse, tenant: str, points: list[Point], *, noted: int, **options: Any
) -> None:
    """Stores points; the catalogue of series has the first *noted* of the series."""
    first = [Point(NOW - 3_000 * MINUTE, 1.0), *(one for one in points if one.series < noted)]
    rest = [one for one in points if one.series >= noted]
    for some in (first, rest):
        if some:
            request = points_request("m", some, **options)
            await store(client, "metrics", tenant, request, received_ns=time.time_ns())
        if some is first and noted:
            await note_all_series(client, NOW - 60 * MINUTE, END + MINUTE)


@given(points=POINTS, noted=st.integers(0, 3))
@EXAMPLES
async def test_gauges_are_what_plain_Python_says(
    engine: Engine, telemetry_store: ClickHouse, points: list[Point], noted: int
) -> None:
    tenant = uuid4().hex
    await _stored(telemetry_store, tenant, points, noted=noted)
    for name, of_series in OF_SERIES.items():
        groups: dict[tuple[str, int], dict[int, list[Point]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for one in _in_range(points):
            if math.isfinite(one.value) and not one.flags:
                groups[one.zone, _bucket(one.time_ns)][one.series].append(one)
        expected: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
        for (zone, bucket), series in groups.items():
            expected[name, zone][bucket] = COMBINED[name]([of_series(s) for s in series.values()])

        found = await _asked(engine, tenant, name, groupBy=["attributes.zone"])

        assert found.keys() == expected.keys(), name
        for key, values in expected.items():
            assert found[key] == pytest.approx(values, rel=1e-9, abs=1e-3), (name, key)


def _gained(points: list[Point], temporality: int, *, is_monotonic: bool) -> dict[int, float]:
    """The specification of `increase`."""
    gains: dict[int, float] = defaultdict(float)
    seen_from = NOW - 10 * MINUTE
    for series in {one.series for one in points}:
        before: Point | None = None
        own = [one for one in points if one.series == series and seen_from <= one.time_ns < END]
        for one in sorted(own, key=lambda one: (one.time_ns, one.start_ns, one.value)):
            if temporality == 1:
                gain = one.value
            elif before is None:
                gain = one.value if one.start_ns >= seen_from else 0.0
            elif one.start_ns != before.start_ns or (is_monotonic and one.value < before.value):
                gain = one.value
            else:
                gain = one.value - before.value
            before = one
            if one.time_ns >= NOW:
                gains[_bucket(one.time_ns)] += gain
    return dict(gains)


@pytest.mark.parametrize(("temporality", "is_monotonic"), [(1, True), (2, True), (2, False)])
@given(points=COUNTERS, noted=st.integers(0, 2))
# A lower value, then another start time with a higher one.
@example(
    points=[
        Point(NOW + 1 * SECOND, 5.0, zone="a", start_ns=NOW - 5 * MINUTE),
        Point(NOW + 61 * SECOND, 3.0, zone="a", start_ns=NOW - 5 * MINUTE),
        Point(NOW + 121 * SECOND, 9.0, zone="a", start_ns=NOW + MINUTE),
    ],
    noted=2,
)
@EXAMPLES
async def test_increases_go_through_resets_gaps_and_repeated_times(
    engine: Engine,
    telemetry_store: ClickHouse,
    *,
    temporality: int,
    is_monotonic: bool,
    points: list[Point],
    noted: int,
) -> None:
    tenant = uuid4().hex
    options = {"temporality": temporality, "is_monotonic": is_monotonic}
    await _stored(telemetry_store, tenant, points, noted=noted, **options)
    expected = _gained(points, temporality, is_monotonic=is_monotonic)

    zone = {"groupBy": ["attributes.zone"]}
    increase = (await _asked(engine, tenant, "increase", **zone)).get(("increase", "a"), {})
    rate = (await _asked(engine, tenant, "rate")).get(("rate", ""), {})

    assert increase == pytest.approx(expected)
    assert rate == pytest.approx({bucket: gain / 60 for bucket, gain in expected.items()})


BOUNDS = (1.0, 5.0, 10.0, 50.0)
RECORDED = st.lists(st.floats(-20, 100, width=32), max_size=30)


def _distributions(
    steps: list[list[float]], *, series: int, temporality: int, **options: Any
) -> list[Distribution]:
    """What is recorded in each minute of the range, as points at its middle."""
    points: list[Distribution] = []
    told: list[float] = []
    for number, recorded in enumerate(steps):
        told = [*told, *recorded] if temporality == 2 else recorded
        at = NOW + number * MINUTE + 30 * SECOND
        start = NOW if temporality == 2 else at - MINUTE
        points.append(Distribution(at, start, told, series, **options))
    return points


@pytest.mark.parametrize("temporality", [1, 2])
@given(steps=st.lists(st.tuples(RECORDED, RECORDED), min_size=STEPS, max_size=STEPS))
@EXAMPLES
async def test_quantiles_of_explicit_histograms_are_within_the_right_bucket(
    engine: Engine,
    telemetry_store: ClickHouse,
    temporality: int,
    steps: list[tuple[list[float], list[float]]],
) -> None:
    tenant = uuid4().hex
    points = [
        one
        for series in (0, 1)
        for one in _distributions(
            [step[series] for step in steps], series=series, temporality=temporality, bounds=BOUNDS
        )
    ]
    request = histograms_request("m", points, temporality=temporality)
    await store(telemetry_store, "metrics", tenant, request, received_ns=time.time_ns())

    found = await _asked(engine, tenant, "quantile", quantiles=[0.5, 0.9])
    counts = (await _asked(engine, tenant, "count")).get(("count", ""), {})

    for number, step in enumerate(steps):
        values = sorted([*step[0], *step[1]])
        bucket = _bucket(NOW + number * MINUTE)
        assert counts.get(bucket, 0) == len(values)
        for name, level in (("p50", 0.5), ("p90", 0.9)):
            got = found.get((name, ""), {}).get(bucket)
            assert (got is None) == (not values)
            if got is not None:
                _check_within(got, values, level)


def _check_within(got: float, values: list[float], level: float) -> None:
    """The quantile lies in the bucket that the value of that rank is in."""
    exact = values[max(math.ceil(level * len(values)), 1) - 1]
    edges = (-math.inf, *BOUNDS, math.inf)
    low, high = next((low, high) for low, high in pairwise(edges) if low < exact <= high)
    if high == math.inf:
        assert got == BOUNDS[-1]
    else:
        assert max(low, 0.0) - 1e-9 <= got <= high + 1e-9


@pytest.mark.parametrize("temporality", [1, 2])
@given(
    steps=st.lists(st.tuples(RECORDED, RECORDED), min_size=STEPS, max_size=STEPS),
    scales=st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
@EXAMPLES
async def test_quantiles_of_exponential_histograms_are_as_near_as_their_scale(
    engine: Engine,
    telemetry_store: ClickHouse,
    temporality: int,
    steps: list[tuple[list[float], list[float]]],
    scales: tuple[int, int],
) -> None:
    tenant = uuid4().hex
    points = [
        one
        for series in (0, 1)
        for one in _distributions(
            [step[series] for step in steps],
            series=series,
            temporality=temporality,
            scale=scales[series],
        )
    ]
    request = histograms_request("m", points, temporality=temporality)
    await store(telemetry_store, "metrics", tenant, request, received_ns=time.time_ns())

    found = await _asked(engine, tenant, "quantile", quantiles=[0.5, 0.9])

    base = 2.0 ** (2.0 ** -min(scales))
    for number, step in enumerate(steps):
        values = sorted([*step[0], *step[1]])
        for name, level in (("p50", 0.5), ("p90", 0.9)):
            got = found.get((name, ""), {}).get(_bucket(NOW + number * MINUTE))
            assert (got is None) == (not values)
            if got is not None:
                exact = values[max(math.ceil(level * len(values)), 1) - 1]
                low, high = sorted((exact / base, exact * base))
                assert low - 1e-9 <= got <= high + 1e-9


# When a point was told, in seconds; what was recorded since the one before; what happened between.
EVENTS = st.lists(
    st.tuples(
        st.integers(-11 * 60, STEPS * 60 + 30),
        st.lists(st.floats(0.125, 100, width=32), max_size=6),
        st.sampled_from(["on", "on", "on", "restart", "drop"]),
    ),
    max_size=12,
    unique_by=lambda event: event[0],
)


def _with_resets(
    events: list[tuple[int, list[float], str]], *, series: int, started: int, **options: Any
) -> tuple[list[Distribution], dict[int, list[float]]]:
    """Cumulative points of a process that starts anew (another start time), or forgets in silence
    (a lower count), and what was recorded in each bucket of the range."""
    points: list[Distribution] = []
    recorded: dict[int, list[float]] = defaultdict(list)
    told: list[float] = []
    start = NOW + started * MINUTE
    is_first = True
    for seconds, values, kind in sorted(events):
        at = NOW + seconds * SECOND
        if kind == "restart":
            start, told = at - SECOND // 2, []
        elif kind == "drop" and len(values) < len(told):
            told = []
        told = [*told, *values]
        points.append(Distribution(at, start, told, series, **options))
        if seconds < -10 * 60:
            continue
        was_first, is_first = is_first, False
        gained = told if was_first else values
        # What a first point says is known to belong here only where its beginning is in sight.
        if was_first and start < NOW - 10 * MINUTE:
            continue
        if NOW <= at < END:
            recorded[_bucket(at)] += gained
    return points, recorded


@pytest.mark.parametrize("kind", ["explicit", "exponential"])
@given(both=st.tuples(EVENTS, EVENTS), started=st.sampled_from([-20, -5]))
# Another start time with a higher count, which nothing else tells.
@example(both=([(30, [1.0], "on"), (90, [2.0, 3.0], "restart")], []), started=-5)
@EXAMPLES
async def test_histograms_go_through_resets_of_both_kinds(
    engine: Engine,
    telemetry_store: ClickHouse,
    kind: str,
    both: tuple[list[tuple[int, list[float], str]], ...],
    started: int,
) -> None:
    tenant = uuid4().hex
    options: dict[str, Any] = {"bounds": BOUNDS} if kind == "explicit" else {"scale": 3}
    points = [Distribution(NOW - 3_000 * MINUTE, NOW - 3_001 * MINUTE, [1.0], **options)]
    expected: dict[int, list[float]] = defaultdict(list)
    for series, events in enumerate(both):
        own, recorded = _with_resets(events, series=series, started=started, **options)
        points += own
        for bucket, values in recorded.items():
            expected[bucket] += values
    request = histograms_request("m", points, temporality=2)
    await store(telemetry_store, "metrics", tenant, request, received_ns=time.time_ns())

    asked = {
        name: (await _asked(engine, tenant, name)).get((name, ""), {})
        for name in ("count", "increase", "rate", "sum", "avg")
    }
    median = (await _asked(engine, tenant, "quantile", quantiles=[0.5])).get(("p50", ""), {})

    counts = {bucket: float(len(values)) for bucket, values in expected.items()}
    assert asked["count"] == asked["increase"] == counts
    assert asked["rate"] == pytest.approx({one: count / 60 for one, count in counts.items()})
    sums = {one: math.fsum(values) for one, values in expected.items()}
    assert asked["sum"] == pytest.approx(sums, abs=1e-6)
    filled = {one: sorted(values) for one, values in expected.items() if values}
    means = {one: sums[one] / len(values) for one, values in filled.items()}
    assert asked["avg"] == pytest.approx(means, abs=1e-6)
    assert median.keys() == filled.keys()
    for bucket, values in filled.items():
        if kind == "explicit":
            _check_within(median[bucket] or 0.0, values, 0.5)
        else:
            exact, base = values[math.ceil(0.5 * len(values)) - 1], 2.0 ** (2.0**-3)
            assert exact / base - 1e-9 <= (median[bucket] or 0.0) <= exact * base + 1e-9


async def test_a_name_of_two_types_is_asked_about_and_series_are_counted(
    engine: Engine, telemetry_store: ClickHouse
) -> None:
    tenant = uuid4().hex
    points = [Point(NOW + number, float(number), series=number % 3) for number in range(9)]
    for request in (points_request("m", points), points_request("m", points, temporality=1)):
        await store(telemetry_store, "metrics", tenant, request, received_ns=time.time_ns())

    with pytest.raises(Exception, match="metricType"):
        await _asked(engine, tenant, "unique")
    found = await _asked(engine, tenant, "unique", metricType="gauge", fill="zero")

    assert list(found["unique", ""].values()) == [3, 0, 0, 0]


async def test_labels_come_from_the_catalogue_and_before_it_knows_them_from_the_points(
    engine: Engine, telemetry_store: ClickHouse
) -> None:
    tenant = uuid4().hex
    points = [Point(NOW + number, 1.0, series=number % 3, zone="ab"[number % 2])
              for number in range(6)]  # fmt: skip
    await store(
        telemetry_store, "metrics", tenant, points_request("m", points), received_ns=NOW + MINUTE
    )
    within = {"startTime": str(NOW), "endTime": str(END), "metricName": "m"}
    labels = OfMetric.model_validate(within)
    values = LabelValuesQuery.model_validate({**within, "field": "attributes.zone"})
    told = []
    for source in ("tf_metrics_gauge", "tf_metric_series"):
        listed = await list_labels(Reading(engine, tenant), labels)
        counted = await label_values(Reading(engine, tenant), values)
        assert (listed.meta.source, counted.meta.source) == (source, source)
        told.append((listed.data, {one.value: one.count for one in counted.data}))
        await note_all_series(telemetry_store, NOW, END)

    assert told[0] == told[1]
    assert told[0][1] == {"a": 3, "b": 3}
    narrow = {**within, "field": "attributes.zone"}
    narrow["filter"] = '{"op": "eq", "field": "attributes.zone", "value": "b"}'
    found = await label_values(Reading(engine, tenant), LabelValuesQuery.model_validate(narrow))
    assert [(one.value, one.count) for one in found.data] == [("b", 3)]
    # The catalogue knows no types.
    request = points_request("m", [Point(NOW, 1.0, zone="c")], temporality=1)
    await store(telemetry_store, "metrics", tenant, request, received_ns=NOW + MINUTE)
    await note_all_series(telemetry_store, NOW, END)
    typed = {**within, "metricType": "sum"}
    by_zone = LabelValuesQuery.model_validate({**typed, "field": "attributes.zone"})
    of_type = await label_values(Reading(engine, tenant), by_zone)
    assert [(one.value, one.count) for one in of_type.data] == [("c", 1)]
    typed_labels = await list_labels(Reading(engine, tenant), OfMetric.model_validate(typed))
    assert typed_labels.meta.source == "tf_metrics_sum"
