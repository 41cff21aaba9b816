"""What is asked carelessly is answered, or refused with what to do; ranges up to now."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from control.telemetry.api import kit
from control.telemetry.queries import logs
from control.telemetry.queries.time_range import time_ns
from shared.errors import Unavailable
from tests.control.telemetry import Explorer, store
from tests.control.telemetry_data import (
    MINUTE,
    SECOND,
    Line,
    Point,
    Span,
    logs_request,
    points_request,
    spans_request,
)

NOW = time.time_ns() // MINUTE * MINUTE - 30 * MINUTE
SPANS = 6
METRIC = "queue.length"


async def _store_spans(explorer: Explorer) -> None:
    spans = [Span(number + 1, 1, NOW + number * SECOND) for number in range(SPANS)]
    await store(
        explorer.store, "traces", explorer.tenant, spans_request(spans), received_ns=time.time_ns()
    )


async def _store_lines(explorer: Explorer, count: int) -> None:
    lines = [Line(NOW + number, "x" * 1_000) for number in range(count)]
    await store(
        explorer.store, "logs", explorer.tenant, logs_request(lines), received_ns=time.time_ns()
    )


async def _store_points(explorer: Explorer) -> None:
    request = points_request(METRIC, [Point(NOW, 1), Point(NOW + 1, 2)])
    await store(explorer.store, "metrics", explorer.tenant, request, received_ns=time.time_ns())


def _question(**given: Any) -> dict[str, Any]:
    return {
        "query": {
            "source": "traces",
            "range": {"type": "relative", "last": "1h"},
            "aggregations": [{"op": "count"}],
            **given,
        }
    }


@pytest.mark.parametrize("step", [None, "1m", "1h"])
async def test_minutes_answer_a_question_of_services_up_to_now(
    explorer: Explorer, step: str | None
) -> None:
    await _store_spans(explorer)
    question = {"source": "red", "range": {"type": "relative", "last": "7d"}}
    if step is not None:
        question |= {"step": step}

    answer = await explorer.client.post("/telemetry/query", {"query": question})

    assert answer.status == 200, answer.text
    assert answer.json["meta"]["source"] == "tf_red_1m"
    assert {one["name"] for one in answer.json["series"]} >= {"rate", "errorRate", "p99"}


@pytest.mark.parametrize("path", ["/telemetry/services", "/telemetry/services/operations"])
async def test_a_rate_up_to_now_divides_by_the_time_that_has_passed(
    explorer: Explorer, path: str
) -> None:
    """Though the range is widened to the end of the minute for the rollup."""
    await _store_spans(explorer)

    begun = time.time_ns()
    answer = await explorer.client.get(f"{path}?last=40m")
    ended = time.time_ns()

    (found,) = answer.json["data"]
    start = time_ns(answer.json["meta"]["startTime"])
    seconds = found["spans"] / found["rate"]
    assert (begun - start) / SECOND - 0.001 <= seconds <= (ended - start) / SECOND + 0.001


async def test_S46_the_longest_range_is_answered_and_a_longer_one_refused(
    explorer: Explorer,
) -> None:
    await _store_spans(explorer)

    for path in (
        *("services", "services/red", "services/operations", "services/dependencies", "traces"),
        *("spans", "logs", "logs/histogram", "logs/patterns", "traces/heatmap"),
    ):
        longest = await explorer.client.get(f"/telemetry/{path}?last=395d")
        longer = await explorer.client.get(f"/telemetry/{path}?last=396d")

        assert longest.status == 200, (path, longest.text)
        assert (longer.status, longer.json["detail"]) == (400, "a time range has at most 395 days")


async def test_what_is_wrong_with_a_filter_is_said_of_the_filter(explorer: Explorer) -> None:
    for given, field, told in (
        ("{", "filter", "Invalid JSON"),
        ('{"op": "eq", "value": 1}', "filter.eq.field", "required"),
        ('{"op": "like"}', "filter.op", "'contains'"),
        ('{"op": "exists", "field": "body", "x": 1}', "filter.exists.x", "no such field"),
        ('{"op": "regex", "field": "body", "value": ""}', "filter.regex.value", "1 character"),
        (json.dumps({"op": "regex", "value": "x" * 800}), "filter", "at most 800 characters"),
    ):
        answer = await explorer.client.get(f"/telemetry/logs?{urlencode({'filter': given})}")

        assert answer.status == 400
        assert any(
            one["field"] == field and told in one["message"] for one in answer.json["errors"]
        ), answer.text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        # Python has it, the engine does not: it counts leap seconds.
        ({"step": "1d", "timeZone": "right/UTC"}, "time zone"),
        ({"compareTo": "99999w"}, "the time to compare with begins before 1970"),
        ({"step": "1y"}, "give a number and s, m, h, d or w, such as 15m"),
    ],
)
async def test_what_cannot_be_asked_is_refused_with_what_to_do(
    explorer: Explorer, given: dict[str, Any], told: str
) -> None:
    answer = await explorer.client.post("/telemetry/query", _question(**given))

    assert answer.status == 400, answer.text
    assert told in answer.text


async def test_labels_to_group_by_may_have_spaces_between_them(explorer: Explorer) -> None:
    answer = await explorer.client.get(
        "/telemetry/metrics/timeseries?metricName=none&groupBy=service,%20attributes.a"
    )

    assert answer.status == 404, answer.text


async def test_S46_an_export_whose_reader_leaves_ends_and_is_no_error(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    all_logs, ended = logs.all_logs, asyncio.Event()

    async def watched(*arguments: Any, **named: Any) -> AsyncIterator[logs.LogView]:
        try:
            async for view in all_logs(*arguments, **named):
                yield view
        finally:
            ended.set()

    monkeypatch.setattr(logs, "all_logs", watched)
    await _store_lines(explorer, 12_000)
    url = f"{explorer.client.url}/api/v2/telemetry/logs/export"
    headers = {"Authorization": f"Bearer {explorer.client.token}"}

    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        await answer.content.read(1_000)
        assert answer.connection is not None
        assert answer.connection.transport is not None
        answer.connection.transport.abort()
    async with asyncio.timeout(20):
        await ended.wait()
    again = await explorer.client.get("/telemetry/logs?limit=1")

    assert again.status == 200
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


async def test_an_export_whose_engine_goes_away_breaks_so_that_its_client_knows(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await _store_lines(explorer, 3_000)
    search, pages = logs.search_logs, 0

    async def twice(*arguments: Any) -> logs.LogList:
        nonlocal pages
        pages += 1
        if pages > 2:
            raise Unavailable("ClickHouse is away")
        return await search(*arguments)

    monkeypatch.setattr(logs, "search_logs", twice)
    with pytest.raises(aiohttp.ClientPayloadError):
        await explorer.client.get("/telemetry/logs/export")

    (told,) = [one for one in caplog.records if one.name == kit.__name__]
    assert told.getMessage() == "/api/v2/telemetry/logs/export broke off: ClickHouse is away"


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("services/red", {}),
        ("logs/histogram", {}),
        ("traces/heatmap", {}),
        ("metrics/timeseries", {"metricName": METRIC}),
    ],
)
async def test_the_longest_step_is_a_day(
    explorer: Explorer, path: str, given: dict[str, str]
) -> None:
    await _store_points(explorer)

    for step, status in (("24h", 200), ("25h", 400), ("1w", 400)):
        answer = await explorer.client.get(
            f"/telemetry/{path}?{urlencode(given | {'step': step, 'last': '2d'})}"
        )

        assert answer.status == status, answer.text
        assert status == 200 or answer.json["detail"] == "the longest step is 1d"


async def test_an_export_has_as_many_lines_as_it_is_asked_for(explorer: Explorer) -> None:
    await _store_lines(explorer, 1_200)

    for limit, expected in (("1", 1), ("1100", 1_100), ("100000", 1_200)):
        answer = await explorer.client.get(f"/telemetry/logs/export?limit={limit}")
        assert len(answer.text.splitlines()) == expected
    too_many = await explorer.client.get("/telemetry/logs/export?limit=100001")
    paged = await explorer.client.get("/telemetry/logs/export?cursor=x")

    assert [one.json["errors"][0]["field"] for one in (too_many, paged)] == ["limit", "cursor"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"op": "eq", "field": "status", "value": "error"}, "one of Unset, Ok, Error"),
        ({"op": "ne", "field": "status", "value": "OK"}, "one of Unset, Ok, Error"),
        ({"op": "in", "field": "kind", "values": ["Server", "client"]}, "Server, Client"),
        ({"op": "notIn", "field": "kind", "values": [""]}, "Server, Client"),
    ],
)
async def test_a_word_that_a_field_never_is_is_refused(
    explorer: Explorer, given: dict[str, Any], told: str
) -> None:
    """Rather than that nothing is found, or everything."""
    answer = await explorer.client.get(
        f"/telemetry/spans?{urlencode({'filter': json.dumps(given)})}"
    )
    searched = await explorer.client.post(
        "/telemetry/query", _question(filter={"op": "regex", "field": "status", "value": "rr"})
    )

    assert answer.status == 400, answer.text
    assert told in answer.json["detail"]
    assert answer.json["errors"][0]["field"] == given["field"]
    assert searched.status == 200


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        (
            {"source": "metrics"},
            "query.source",
            "Input should be 'traces', 'logs', 'red' or 'metric'",
        ),
        ({"source": None}, "query.source", "Input should be 'traces', 'logs', 'red' or 'metric'"),
        ({"range": {"last": "1h"}}, "query.traces.range.type", "Field required"),
        (
            {"range": {"type": "last", "last": "1h"}},
            "query.traces.range.type",
            "Input should be 'absolute' or 'relative'",
        ),
        (
            {"aggregations": [{"field": "durationNs"}]},
            "query.traces.aggregations.0.op",
            "Field required",
        ),
    ],
)
async def test_what_a_question_lacks_is_named_as_a_field(
    explorer: Explorer, given: dict[str, Any], field: str, message: str
) -> None:
    answer = await explorer.client.post("/telemetry/query", _question(**given))

    assert answer.json["errors"] == [{"field": field, "message": message}]
