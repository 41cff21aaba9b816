"""What comes hours late is found wherever what came in time is."""

import time
from typing import Any
from urllib.parse import urlencode

import pytest

from shared.clickhouse.client import ClickHouse
from shared.clickhouse.rollups import run_due
from tests.control.telemetry import DATABASE, Explorer, note_all_series, store
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

HOUR = 60 * MINUTE
NOW = time.time_ns() // HOUR * HOUR
LATE = NOW - 3 * HOUR
RANGE = {"startTime": str(LATE - HOUR), "endTime": str(NOW + HOUR)}
METRIC = "late.queue.length"


async def _look_at_all_that_is_due(client: ClickHouse) -> None:
    """As the writer does each minute."""
    while await run_due(client, database=DATABASE, now_seconds=time.time()):
        pass


async def _store_points(explorer: Explorer, name: str, host: str, points: list[Point]) -> None:
    request = points_request(name, points)
    (of_resource,) = request.resource_metrics
    of_resource.resource.attributes.add(key=f"host.{host}").value.string_value = host
    for point in of_resource.scope_metrics[0].metrics[0].gauge.data_points:
        point.attributes.add(key=f"only.{host}").value.string_value = "yes"
    await store(explorer.store, "metrics", explorer.tenant, request, received_ns=time.time_ns())


async def _get(explorer: Explorer, path: str, **parameters: str) -> Any:
    answer = await explorer.client.get(f"/telemetry/{path}?{urlencode(RANGE | parameters)}")
    assert answer.status == 200, answer.text
    return answer.json


@pytest.fixture
async def late(explorer: Explorer) -> Explorer:
    """Points of a new series that came three hours late, beside some that came in time."""
    in_time = [Point(LATE + number * SECOND, 1, zone="b") for number in range(10)]
    await _store_points(explorer, METRIC, "early", in_time)
    await note_all_series(explorer.store, LATE - HOUR, NOW)
    await _look_at_all_that_is_due(explorer.store)
    points = [Point(LATE + number * SECOND, 4, series=7) for number in range(5)]
    await _store_points(explorer, METRIC, "late", points)
    await _store_points(explorer, "late.alone", "late", points)
    await _look_at_all_that_is_due(explorer.store)
    return explorer


async def test_series_that_came_hours_late_are_in_the_catalogue(late: Explorer) -> None:
    labels = await _get(late, "metrics/labels", metricName=METRIC)
    zones = await _get(late, "metrics/values", metricName=METRIC, field="attributes.zone")
    hosts = await _get(late, "metrics/values", metricName=METRIC, field="resource.host.late")
    alone = await _get(late, "metrics/labels", metricName="late.alone")

    assert labels["data"] == [
        *("attributes.only.early", "attributes.only.late", "attributes.series", "attributes.zone"),
        *("resource.host.early", "resource.host.late", "resource.service.name"),
    ]
    assert zones["data"] == [{"value": "a", "count": 1}, {"value": "b", "count": 1}]
    assert hosts["data"] == [{"value": "late", "count": 1}]
    assert alone["data"] == [label for label in labels["data"] if "early" not in label]
    for found in (labels, zones, hosts, alone):
        assert found["meta"]["source"] == "tf_metric_series"


async def test_numbers_of_points_that_came_hours_late_are_grouped_by_their_labels(
    late: Explorer,
) -> None:
    names = await _get(late, "metrics/names", search="late.")
    asked = {"metricName": METRIC, "aggregation": "sum", "groupBy": "attributes.zone"}
    value = await _get(late, "metrics/query", **asked)
    steps = await _get(late, "metrics/timeseries", step="1h", **asked)
    points = await _get(late, "metrics", metricName="late.alone")

    assert {one["metricName"]: one["points"] for one in names["data"]} == {
        METRIC: 15,
        "late.alone": 5,
    }
    labelled = [("a", 20), ("b", 10)]
    for answer, at in ((value, LATE - HOUR), (steps, LATE)):
        assert [(one["labels"]["attributes.zone"], one["points"]) for one in answer["series"]] == [
            (zone, [[at // 1_000_000, total]]) for zone, total in labelled
        ]
    assert [one["value"] for one in points["data"]] == [4] * 5


async def test_spans_and_lines_that_came_hours_late_count_as_the_others(
    explorer: Explorer,
) -> None:
    for trace, count in ((1, 4), (2, 3)):
        spans = [Span(trace, number + 1, LATE + number, status=2) for number in range(count)]
        lines = [Line(LATE + number, "late", severity=17) for number in range(count)]
        for signal, request in (("traces", spans_request(spans)), ("logs", logs_request(lines))):
            await store(
                explorer.store, signal, explorer.tenant, request, received_ns=time.time_ns()
            )

    for path, rollup, parameters, counts in (
        ("services", "tf_red_1m", {}, {"spans": 7, "errors": 7}),
        ("services/operations", "tf_ops_5m", {}, {"spans": 7, "errors": 7}),
        ("services/red", "tf_red_1m", {"step": "1h"}, {"spans": 7, "errors": 7}),
        ("logs/histogram", "tf_log_volume_1m", {"step": "1h"}, {"total": 7}),
    ):
        answer = await _get(explorer, path, **parameters)

        (found,) = answer["data"]
        assert answer["meta"]["source"] == rollup
        assert {name: found[name] for name in counts} == counts, path
