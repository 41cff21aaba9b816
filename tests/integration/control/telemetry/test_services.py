"""Services over the API: lists, rate, errors, durations, dependencies."""

import time
from collections import Counter

import pytest

from control.telemetry.queries.services import red_of
from control.telemetry.queries.sql import Rendering
from control.telemetry.queries.time_range import TimeRange
from tests.control.telemetry import DATABASE, Explorer, store
from tests.control.telemetry_data import MINUTE, MS, SECOND, Span, spans_request

NOW = time.time_ns() // MINUTE * MINUTE - 30 * MINUTE
HOUR_NS = 60 * MINUTE


def _range(start: int, end: int) -> str:
    return f"startTime={start}&endTime={end}"


async def _shop(explorer: Explorer) -> None:
    """Ten requests to web, each with a call of checkout; two of those fail."""
    spans = []
    for number in range(10):
        at = NOW + number * 6 * SECOND
        trace = number + 1
        spans.append(Span(trace, 1, at, 100 * MS, service="web", name="GET /cart"))
        spans.append(
            Span(
                trace,
                2,
                at + 10 * MS,
                50 * MS,
                parent=1,
                service="checkout",
                name="Pay",
                status=2 if number < 2 else 0,
            )
        )
    await store(
        explorer.store, "traces", explorer.tenant, spans_request(spans), received_ns=time.time_ns()
    )


async def test_services_are_listed_with_rate_errors_and_durations(explorer: Explorer) -> None:
    await _shop(explorer)

    answer = await explorer.client.get(f"/telemetry/services?{_range(NOW, NOW + MINUTE)}")

    assert answer.status == 200, answer.text
    checkout, web = answer.json["data"]
    assert (checkout["service"], web["service"]) == ("checkout", "web")
    assert (checkout["spans"], checkout["errors"], checkout["errorRate"]) == (10, 2, 0.2)
    assert web["rate"] == pytest.approx(10 / 60)
    assert web["p99Ms"] == pytest.approx(100)
    assert answer.json["meta"]["source"] == "tf_red_1m"
    assert answer.json["meta"]["statistics"]["rowsRead"] > 0


async def test_a_range_within_a_minute_is_answered_exactly_by_the_spans(
    explorer: Explorer,
) -> None:
    await _shop(explorer)

    answer = await explorer.client.get(f"/telemetry/services?{_range(NOW + 1, NOW + 30 * SECOND)}")

    assert answer.json["meta"]["source"] == "tf_traces"
    # The span of the first nanosecond is outside, its child is inside.
    assert [one["spans"] for one in answer.json["data"]] == [5, 4]


async def test_red_over_time_counts_each_step(explorer: Explorer) -> None:
    await _shop(explorer)

    rolled = await explorer.client.get(
        f"/telemetry/services/red?service=checkout&step=1m&{_range(NOW, NOW + 2 * MINUTE)}"
    )
    fine = await explorer.client.get(
        f"/telemetry/services/red?service=checkout&step=30s&{_range(NOW, NOW + MINUTE)}"
    )

    assert [one["spans"] for one in rolled.json["data"]] == [10]
    assert rolled.json["meta"]["source"] == "tf_red_1m"
    assert [(one["spans"], one["errors"]) for one in fine.json["data"]] == [(5, 2), (5, 0)]
    assert fine.json["meta"]["source"] == "tf_traces"
    assert fine.json["data"][0]["p50Ms"] == pytest.approx(50)


async def test_operations_come_from_counts_and_with_percentiles_from_spans(
    explorer: Explorer,
) -> None:
    await _shop(explorer)
    start = NOW // (5 * MINUTE) * 5 * MINUTE

    rolled = await explorer.client.get(
        f"/telemetry/services/operations?service=web&{_range(start, start + 10 * MINUTE)}"
    )
    fine = await explorer.client.get(
        f"/telemetry/services/operations?service=web&{_range(NOW - 1, NOW + MINUTE)}"
    )

    assert [(one["operation"], one["spans"]) for one in rolled.json["data"]] == [("GET /cart", 10)]
    assert rolled.json["data"][0]["p99Ms"] is None
    assert fine.json["data"][0]["p99Ms"] == pytest.approx(100)


async def test_dependencies_are_calls_between_services(explorer: Explorer) -> None:
    await _shop(explorer)

    answer = await explorer.client.get(
        f"/telemetry/services/dependencies?{_range(NOW, NOW + MINUTE)}"
    )

    assert answer.status == 200, answer.text
    (edge,) = answer.json["data"]
    assert (edge["caller"], edge["callee"], edge["calls"], edge["errors"]) == (
        "web",
        "checkout",
        10,
        2,
    )


async def test_S38_a_closed_range_is_kept_for_its_tenant_alone(explorer: Explorer) -> None:
    await _shop(explorer)
    assert explorer.other is not None
    path = f"/telemetry/services?{_range(NOW, NOW + MINUTE)}"

    first = await explorer.client.get(path)
    second = await explorer.client.get(path)
    foreign = await explorer.other.client.get(path)
    open_range = await explorer.client.get("/telemetry/services?last=1h")

    assert [one.headers["X-Cache"] for one in (first, second, foreign, open_range)] == [
        "MISS",
        "HIT",
        "MISS",
        "BYPASS",
    ]
    assert first.json == second.json
    assert foreign.json["data"] == []


async def test_whole_hours_of_a_long_range_are_exact_also_where_data_came_late(
    explorer: Explorer,
) -> None:
    # Spans before the first whole hour and after the last, whatever time it is.
    hour = NOW // HOUR_NS * HOUR_NS
    start, end = hour - 250 * MINUTE, hour - 10 * MINUTE
    kept = [
        Span(number, 1, start + number * 7 * MINUTE // 2, (number + 1) * MS, service="web",
             status=2 if number % 9 == 0 else 0)
        for number in range(1, 66)
    ]  # fmt: skip
    outside = [Span(90, 1, start - 1, MS), Span(91, 1, end, MS)]
    for spans in (kept[::2], outside, kept[1::2]):
        request = spans_request(spans)
        await store(explorer.store, "traces", explorer.tenant, request, received_ns=time.time_ns())
    path = f"/telemetry/services?{_range(start, end)}"

    (listed,) = (await explorer.client.get(path)).json["data"]
    by_hour = await explorer.client.get(
        f"/telemetry/services/red?service=web&step=1h&{_range(start, end)}"
    )

    assert (listed["spans"], listed["errors"]) == (65, sum(one.status == 2 for one in kept))
    assert listed["maxMs"] == 66
    assert listed["averageMs"] == pytest.approx(sum(range(2, 67)) / 65)
    assert listed["p50Ms"] == pytest.approx(34, rel=0.05)
    found = {one["time"] * 1_000_000: one["spans"] for one in by_hour.json["data"]}
    hours = Counter(one.start_ns // HOUR_NS * HOUR_NS for one in kept)
    assert found == hours
    assert by_hour.json["meta"]["source"] == "tf_red_1m"


async def test_the_engine_answers_whole_hours_from_what_it_keeps_of_them(
    explorer: Explorer,
) -> None:
    await _shop(explorer)
    hour = NOW // HOUR_NS * HOUR_NS
    span = TimeRange(hour - 5 * HOUR_NS, hour + HOUR_NS)
    rendering = Rendering(DATABASE, explorer.tenant)
    text = rendering.text_of(red_of(span, None, {"service": "ServiceName"}, []))

    plan = await explorer.store.query(f"EXPLAIN projections = 1 {text}", rendering.parameters)

    assert any("(by_hour)" in row[0] for row in plan), plan
