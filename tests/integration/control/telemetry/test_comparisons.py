"""A range beside an earlier one: days with days of the calendar, steps with whole steps."""

import time
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest

from tests.control.telemetry import Explorer, store
from tests.control.telemetry_data import MINUTE, SECOND, Line, Span, logs_request, spans_request

ZONE = "Europe/Berlin"
HOUR = 60 * MINUTE
RETENTION_DAYS = 395


def _midnight(day: date) -> int:
    at = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(ZONE))
    return int(at.timestamp()) * SECOND


def _last_day_of_hours(hours: int) -> date:
    """The last day of 23 or 25 hours, two weeks ago or longer."""
    day = datetime.now(ZoneInfo(ZONE)).date() - timedelta(days=14)
    while _midnight(day + timedelta(days=1)) - _midnight(day) != hours * HOUR:
        day -= timedelta(days=1)
    return day


async def _ask(explorer: Explorer, start_ns: int, end_ns: int, **given: Any) -> Any:
    answer = await explorer.client.post(
        "/telemetry/query",
        {
            "query": {
                "range": {"type": "absolute", "startTime": str(start_ns), "endTime": str(end_ns)},
                **given,
            }
        },
    )
    assert answer.status == 200, answer.text
    return answer.json["series"]


@pytest.mark.parametrize("hours", [23, 25])
async def test_a_day_is_compared_with_the_same_day_before_the_clocks_changed(
    explorer: Explorer, hours: int
) -> None:
    changed = _last_day_of_hours(hours)
    # Two days before the change, that day, and two after it.
    days = [changed + timedelta(days=number) for number in range(-2, 3)]
    spans, lines = [], []
    for number, day in enumerate(days):
        before = day - timedelta(days=7)
        first, last = _midnight(before), _midnight(before + timedelta(days=1)) - 1
        times = [first, last, *(first + HOUR for _ in range(number))]
        lines += [Line(at, "line") for at in times]
        spans += [Span(number + 1, one + 1, at) for one, at in enumerate(times)]
    # And what is just outside.
    week = timedelta(days=7)
    begin, end = _midnight(days[0] - week), _midnight(days[-1] + timedelta(days=1) - week)
    lines += [Line(begin - 1, "outside"), Line(end, "outside")]
    for signal, request in (("logs", logs_request(lines)), ("traces", spans_request(spans))):
        await store(
            explorer.store,
            signal,
            explorer.tenant,
            request,
            received_ns=time.time_ns(),
            retention_days=RETENTION_DAYS,
        )
    start, end = _midnight(days[0]), _midnight(days[-1] + timedelta(days=1))
    asked = {"timeZone": ZONE, "compareTo": "1w"}
    counted = {"source": "logs", "aggregations": [{"op": "count"}], **asked}

    (by_day,) = await _ask(explorer, start, end, step="1d", **counted)
    (in_all,) = await _ask(explorer, start, end, **counted)
    red = await _ask(explorer, start, end, source="red", step="24h", **asked)

    counts = [number + 2 for number in range(len(days))]
    times = [_midnight(day) // 1_000_000 for day in days]
    assert by_day["points"] == [list(pair) for pair in zip(times, counts, strict=True)]
    assert in_all["points"] == [[times[0], sum(counts)]]
    (rates,) = [one["points"] for one in red if one["name"] == "rate"]
    assert [at for at, _value in rates] == times
    # All days a week before have 24 hours.
    assert [round(value * 86_400) for _at, value in rates] == counts


async def test_hours_are_compared_with_those_exactly_so_long_before(explorer: Explorer) -> None:
    start = time.time_ns() // HOUR * HOUR - 3 * HOUR
    lines = [Line(start - 24 * HOUR + HOUR + number, "line") for number in range(3)]
    await store(
        explorer.store, "logs", explorer.tenant, logs_request(lines), received_ns=time.time_ns()
    )

    (found,) = await _ask(
        explorer,
        start,
        start + 2 * HOUR,
        source="logs",
        aggregations=[{"op": "count"}],
        timeZone=ZONE,
        step="1h",
        compareTo="1d",
    )

    assert (found["offset"], found["points"]) == ("1d", [[(start + HOUR) // 1_000_000, 3]])


@pytest.mark.parametrize(("step", "compared"), [("1d", "36h"), ("1d", "1h"), ("7m", "1h")])
async def test_S46_a_comparison_of_parts_of_steps_is_refused(
    explorer: Explorer, step: str, compared: str
) -> None:
    answer = await explorer.client.post(
        "/telemetry/query",
        {
            "query": {
                "source": "logs",
                "range": {"type": "relative", "last": "1d"},
                "aggregations": [{"op": "count"}],
                "step": step,
                "compareTo": compared,
            }
        },
    )

    assert answer.status == 400, answer.text
    assert "a comparison is of whole steps" in answer.text
    assert answer.json["errors"][0]["field"] == "compareTo"


@pytest.mark.parametrize("hours", [23, 25])
async def test_days_of_every_route_with_steps_are_those_of_the_time_zone(
    explorer: Explorer, hours: int
) -> None:
    changed = _last_day_of_hours(hours)
    days = [_midnight(changed + timedelta(days=number)) for number in range(-1, 3)]
    # The first and the last moment of three days, and one more of each day that went before.
    times = [
        at
        for number, (first, behind) in enumerate(pairwise(days))
        for at in (first, behind - 1, *(first + HOUR for _ in range(number)))
    ]
    lines = logs_request([Line(at, "line") for at in times])
    spans = spans_request([Span(1, number + 1, at) for number, at in enumerate(times)])
    for signal, request in (("logs", lines), ("traces", spans)):
        await store(
            *(explorer.store, signal, explorer.tenant, request),
            received_ns=time.time_ns(),
            retention_days=RETENTION_DAYS,
        )

    # Of whole days minutes can tell; of a service's operation, or of ranges within minutes, items.
    for cut_ns, more in ((0, {}), (0, {"operation": "GET /"}), (1, {})):
        for route, counted in (
            ("services/red", "spans"),
            ("logs/histogram", "total"),
            ("traces/heatmap", "spans"),
        ):
            if more and route == "logs/histogram":
                continue
            answer = await explorer.client.get(
                f"/telemetry/{route}?"
                + urlencode(
                    {
                        "startTime": days[0],
                        "endTime": days[-1] - cut_ns,
                        "step": "1d",
                        "timeZone": ZONE,
                        **more,
                    }
                )
            )
            assert answer.status == 200, answer.text
            expected = [(first // 1_000_000, 2 + n) for n, first in enumerate(days[:-1])]
            if cut_ns:
                expected[-1] = (expected[-1][0], expected[-1][1] - 1)
            found = [(one["time"], one[counted]) for one in answer.json["data"]]
            assert found == expected, (route, more)
