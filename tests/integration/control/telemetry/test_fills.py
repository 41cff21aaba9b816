"""Steps without a value get what is asked for, also where there is no value at all."""

import time
from typing import Any

import pytest

from tests.control.telemetry import Explorer, store
from tests.control.telemetry_data import (
    MINUTE,
    Distribution,
    Point,
    histograms_request,
    points_request,
)

NOW = time.time_ns() // MINUTE * MINUTE - 30 * MINUTE
RANGE = {"type": "absolute", "startTime": str(NOW), "endTime": str(NOW + 3 * MINUTE)}
TIMES = [(NOW + number * MINUTE) // 1_000_000 for number in range(3)]
COUNT = [{"op": "count"}]
RED = ["rate", "errorRate", "avg", "max", "p50", "p90", "p99"]


async def _series(explorer: Explorer, **given: Any) -> list[Any]:
    answer = await explorer.client.post(
        "/telemetry/query", {"query": {"range": RANGE, "fill": "zero", "step": "1m"} | given}
    )
    assert answer.status == 200, answer.text
    return list(answer.json["series"])


@pytest.fixture
async def measured(explorer: Explorer) -> Explorer:
    """Metrics that were measured long before the range."""
    for request in (
        points_request("gauge", [Point(NOW - 60 * MINUTE, 1)]),
        points_request("counter", [Point(NOW - 60 * MINUTE, 1)], temporality=1),
        histograms_request(
            "histogram", [Distribution(NOW - 60 * MINUTE, 0, [1.0], bounds=[2.0])], temporality=1
        ),
    ):
        await store(explorer.store, "metrics", explorer.tenant, request, received_ns=NOW)
    return explorer


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"source": "traces", "aggregations": [*COUNT, {"op": "rate"}]}, ["count", "rate"]),
        (
            {"source": "logs", "aggregations": [{"op": "avg", "field": "attributes.n"}]},
            ["avg attributes.n"],
        ),
        ({"source": "red"}, RED),
        ({"source": "metric", "metric": "gauge", "aggregation": "last"}, ["last"]),
        ({"source": "metric", "metric": "gauge", "aggregation": "unique"}, ["unique"]),
        ({"source": "metric", "metric": "counter", "aggregation": "rate"}, ["rate"]),
        (
            {
                "source": "metric",
                "metric": "histogram",
                "aggregation": "quantile",
                "quantiles": [0.5, 0.99],
            },
            ["p50", "p99"],
        ),
        ({"source": "metric", "metric": "histogram", "aggregation": "avg"}, ["avg"]),
    ],
    ids=lambda given: str(given)[:60],
)
async def test_where_there_is_nothing_each_step_of_the_range_is_filled(
    measured: Explorer, given: dict[str, Any], names: list[str]
) -> None:
    for fill, value in (("zero", 0.0), ("null", None), ("previous", None)):
        series = await _series(measured, **given, fill=fill)

        assert [(one["name"], one["labels"], one["points"]) for one in series] == [
            (name, {}, [[at, value] for at in TIMES]) for name in names
        ]
    assert await _series(measured, **given, fill="none") == []
    assert await _series(measured, **given, groupBy=["service"]) == []


async def test_what_is_compared_with_nothing_is_compared_with_zeros(explorer: Explorer) -> None:
    series = await _series(explorer, source="logs", aggregations=COUNT, compareTo="1h")
    whole = await _series(explorer, source="logs", aggregations=COUNT, step=None)

    assert [(one["offset"], one["points"]) for one in series] == [
        (offset, [[at, 0.0] for at in TIMES]) for offset in (None, "1h")
    ]
    assert [one["points"] for one in whole] == [[[TIMES[0], 0.0]]]
