"""Metrics of every type, asked of in every way, by whoever does not look up what goes together."""

import time
from urllib.parse import urlencode

import pytest

from tests.control.telemetry import Explorer, store
from tests.control.telemetry_data import (
    MINUTE,
    Distribution,
    Point,
    histograms_request,
    points_request,
    summaries_request,
)

NOW = time.time_ns() // MINUTE * MINUTE - 30 * MINUTE
METRIC = "queue.length"
MEASURED = [Distribution(NOW, NOW - MINUTE, [1.0, 2.0])]
REQUESTS = {
    "gauge": points_request(METRIC, [Point(NOW, 1), Point(NOW + 1, 2)]),
    "sum": points_request(METRIC, [Point(NOW, 1)], temporality=2),
    "histogram": histograms_request(
        METRIC, [Distribution(NOW, NOW - MINUTE, [1.0], bounds=[2.0])], temporality=1
    ),
    "exponential_histogram": histograms_request(METRIC, MEASURED, temporality=1),
    "summary": summaries_request(METRIC, MEASURED),
}
PATHS = {
    "metrics": {},
    "metrics/labels": {},
    "metrics/values": {"field": "attributes.series"},
    "metrics/exemplars": {},
    "metrics/query": {"aggregation": "count"},
    "metrics/timeseries": {"aggregation": "avg", "groupBy": "attributes.series"},
}
AGGREGATIONS = (
    *("avg", "min", "max", "sum", "count", "last", "rate", "increase", "quantile", "unique"),
)


async def _store(explorer: Explorer, kind: str) -> None:
    await store(
        explorer.store, "metrics", explorer.tenant, REQUESTS[kind], received_ns=time.time_ns()
    )


@pytest.mark.parametrize("kind", REQUESTS)
async def test_every_type_of_metric_is_answered_in_every_way(explorer: Explorer, kind: str) -> None:
    await _store(explorer, kind)

    for path, given in PATHS.items():
        for metric_type in ({}, {"metricType": kind}):
            asked = urlencode({"metricName": METRIC} | given | metric_type)
            answer = await explorer.client.get(f"/telemetry/{path}?{asked}")

            assert answer.status == 200, (path, answer.text)
            found = answer.json["series" if "series" in answer.json else "data"]
            assert bool(found) == (path != "metrics/exemplars"), (path, answer.text)
    for aggregation in AGGREGATIONS:
        asked = urlencode({"metricName": METRIC, "aggregation": aggregation})
        answer = await explorer.client.get(f"/telemetry/metrics/query?{asked}")

        assert answer.status in (200, 400), (aggregation, answer.text)
        assert answer.status == 200 or " of " in answer.json["detail"]


@pytest.mark.parametrize("path", ["query", "timeseries", "labels", "values", "exemplars", ""])
async def test_a_metric_of_another_type_is_not_found(explorer: Explorer, path: str) -> None:
    await _store(explorer, "gauge")
    asked = {"metricName": METRIC} | ({"field": "service"} if path == "values" else {})

    for kind, status in (("gauge", 200), ("summary", 404)):
        answer = await explorer.client.get(
            f"/telemetry/metrics/{path}?{urlencode(asked | {'metricType': kind})}".replace(
                "/?", "?"
            )
        )

        assert answer.status == status, answer.text
    assert answer.json["detail"] == f"no metric {METRIC!r} of type summary: it is gauge"


async def test_a_quantile_is_of_the_aggregation_of_that_name(explorer: Explorer) -> None:
    await _store(explorer, "gauge")
    path = f"/telemetry/metrics/query?metricName={METRIC}&quantile=0.5"

    answer = await explorer.client.get(path)
    median = await explorer.client.get(f"{path}&aggregation=quantile")

    assert answer.status == 400
    assert answer.json["errors"] == [
        {"field": "quantile", "message": "it is of aggregation=quantile"}
    ]
    assert [one["name"] for one in median.json["series"]] == ["p50"]


async def test_metrics_over_time_are_filled_and_compared(explorer: Explorer) -> None:
    await _store(explorer, "gauge")
    asked = {
        "metricName": METRIC,
        "aggregation": "sum",
        "startTime": str(NOW - MINUTE),
        "endTime": str(NOW + 2 * MINUTE),
        "step": "1m",
        "fill": "zero",
        "compareTo": "1m",
    }

    answer = await explorer.client.get(f"/telemetry/metrics/timeseries?{urlencode(asked)}")

    assert answer.status == 200, answer.text
    assert [
        (one["offset"], [value for _at, value in one["points"]]) for one in answer.json["series"]
    ] == [(None, [0, 3, 0]), ("1m", [0, 0, 3])]
