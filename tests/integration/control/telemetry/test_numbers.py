"""Numbers of spans and log records against the same in plain Python; days of the calendar."""

import math
import time
from collections import defaultdict
from datetime import datetime
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from control.telemetry.queries.aggregate import answer_question
from control.telemetry.queries.engine import Engine, Reading
from control.telemetry.queries.model import AnyQuestion, QueryAnswer
from shared.clickhouse.client import ClickHouse
from tests.control.telemetry import store
from tests.control.telemetry_data import MINUTE, SECOND, Line, Span, logs_request, spans_request

NOW = time.time_ns() // MINUTE * MINUTE - 60 * MINUTE
END = NOW + 3 * MINUTE
SPANS = st.lists(
    st.tuples(
        st.one_of(
            st.integers(NOW - MINUTE, END + MINUTE),
            st.sampled_from([NOW - 1, NOW, NOW + MINUTE - 1, NOW + MINUTE, END - 1, END]),
        ),
        st.integers(0, 10**10),
        st.sampled_from(["web", "checkout"]),
        st.one_of(st.just("no number"), st.integers(-5, 5), st.floats(-1e3, 1e3, width=32)),
        st.sampled_from([0, 2]),
    ),
    max_size=30,
)


async def _ask(engine: Engine, tenant: str, **fields: Any) -> QueryAnswer:
    question = TypeAdapter[Any](AnyQuestion).validate_python(
        {"range": {"type": "absolute", "startTime": str(NOW), "endTime": str(END)}, **fields}
    )
    return await answer_question(Reading(engine, tenant), question)


@given(rows=SPANS)
@settings(
    max_examples=8,
    phases=(Phase.explicit, Phase.generate),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_spans_are_counted_and_measured_as_plain_Python_does(
    engine: Engine, telemetry_store: ClickHouse, rows: list[tuple[int, int, str, Any, int]]
) -> None:
    tenant = uuid4().hex
    spans = [
        Span(1, number, at, duration, service=service, status=status, attributes={"n": content})
        for number, (at, duration, service, content, status) in enumerate(rows, start=1)
    ]
    # One far away, so that there is a request at all.
    spans.append(Span(2, 1, NOW - 600 * MINUTE))
    request = spans_request(spans)
    await store(telemetry_store, "traces", tenant, request, received_ns=time.time_ns())
    groups: dict[tuple[str, int], list[Span]] = defaultdict(list)
    for one in spans:
        if NOW <= one.start_ns < END:
            groups[one.service, one.start_ns // MINUTE * MINUTE // 1_000_000].append(one)

    answer = await _ask(
        engine,
        tenant,
        source="traces",
        step="1m",
        groupBy=["service"],
        aggregations=[
            {"op": "count"},
            {"op": "rate"},
            {"op": "max", "field": "durationNs"},
            {"op": "sum", "field": "attributes.n"},
            {"op": "unique", "field": "attributes.n"},
        ],
    )
    red = await _ask(engine, tenant, source="red", step="1m", groupBy=["service"])

    found = {
        (one.name, one.labels["service"], at): value
        for series in (answer.series, red.series)
        for one in series
        for at, value in one.points
    }
    for (service, at), own in groups.items():
        numbers = [one.attributes["n"] for one in own if one.attributes["n"] != "no number"]
        expected = {
            "count": len(own),
            "rate": len(own) / 60,
            "max durationNs": max(one.duration_ns for one in own),
            "unique attributes.n": len({_text(one.attributes["n"]) for one in own}),
            "errorRate": sum(one.status == 2 for one in own) / len(own),
            "avg": sum(one.duration_ns for one in own) / len(own),
        }
        if numbers:
            expected["sum attributes.n"] = math.fsum(numbers)
        for name, value in expected.items():
            assert found[name, service, at] == pytest.approx(value, rel=1e-9, abs=1e-6), name
    assert {(service, at) for _name, service, at in found} == groups.keys()
    assert red.meta.source == "tf_red_1m"


def _text(content: Any) -> str:
    """As the codec writes it: a whole number alike, whatever its type."""
    return (
        str(int(content)) if isinstance(content, float) and content.is_integer() else str(content)
    )


async def test_a_day_is_that_of_the_calendar_where_it_is_asked_for(
    engine: Engine, telemetry_store: ClickHouse
) -> None:
    tenant = uuid4().hex
    zone = ZoneInfo("Asia/Kathmandu")
    today = datetime.fromtimestamp(NOW / 1e9, zone).replace(hour=0, minute=0, second=0)
    midnight = int(today.timestamp()) * SECOND
    lines = [Line(midnight - 1, "yesterday"), Line(midnight, "today"), Line(midnight + 1, "too")]
    await store(telemetry_store, "logs", tenant, logs_request(lines), received_ns=time.time_ns())

    answer = await _ask(
        engine,
        tenant,
        source="logs",
        range={
            "type": "absolute",
            "startTime": str(midnight - 3_600 * SECOND),
            "endTime": str(midnight + 3_600 * SECOND),
        },
        step="1d",
        timeZone="Asia/Kathmandu",
        aggregations=[{"op": "count"}],
    )

    (series,) = answer.series
    day = 86_400_000
    assert series.points == [(midnight // 1_000_000 - day, 1), (midnight // 1_000_000, 2)]


async def test_a_comparison_shows_what_was_before_at_the_times_of_the_range(
    engine: Engine, telemetry_store: ClickHouse
) -> None:
    tenant = uuid4().hex
    lines = [Line(NOW, "now"), Line(NOW + 1, "now"), Line(NOW - 60 * MINUTE, "an hour before")]
    await store(telemetry_store, "logs", tenant, logs_request(lines), received_ns=time.time_ns())

    answer = await _ask(
        engine,
        tenant,
        source="logs",
        step="1m",
        compareTo="1h",
        fill="zero",
        aggregations=[{"op": "count"}],
    )

    start = NOW // 1_000_000
    times = [start, start + 60_000, start + 120_000]
    assert [(one.offset, one.points) for one in answer.series] == [
        (None, list(zip(times, [2, 0, 0], strict=True))),
        ("1h", list(zip(times, [1, 0, 0], strict=True))),
    ]
