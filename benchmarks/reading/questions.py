"""What is measured: questions as the API's routes ask them, and the same without our help.

`ask` is what the route calls. `plain` has the same answer without rollups, catalogues and indices:
from the items themselves, by the sort key alone. A range that begins a nanosecond late is one that
no rollup can answer.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from control.telemetry.queries.aggregate import answer_question
from control.telemetry.queries.answers import RangeQuery
from control.telemetry.queries.attributes import KeysQuery, list_keys
from control.telemetry.queries.catalogue import METRIC_TABLES
from control.telemetry.queries.engine import Reading
from control.telemetry.queries.logs import LogFilter, VolumeQuery, log_volume, search_logs
from control.telemetry.queries.metric_catalogue import (
    LabelValuesQuery,
    NamesQuery,
    OfMetric,
    label_values,
    list_labels,
    list_names,
)
from control.telemetry.queries.model import MetricQuestion
from control.telemetry.queries.services import (
    OperationQuery,
    RedQuery,
    list_operations,
    list_services,
    red_series,
)
from control.telemetry.queries.spans import ATTRIBUTES, SPAN
from control.telemetry.queries.sql import Select, between, sql, text
from control.telemetry.queries.traces import (
    SpanFilter,
    TraceQuery,
    get_trace,
    list_spans,
    list_traces,
)

SECOND_NS: Final = 1_000_000_000
HOUR_NS: Final = 3_600 * SECOND_NS
DAY_NS: Final = 24 * HOUR_NS
# Zones are written to the minute, and lie within a day.
ZONES: Final = 24 * 60


@dataclass(frozen=True)
class Sample:
    """What one round asks for, taken from the data, and the range (ns).

    *gauge* and *counter* are metrics, each with a service that sends it. *turn* is another way to
    write the same times, up to some millions: by its zone.
    """

    start_ns: int
    end_ns: int
    trace: str
    service: str
    order: str
    gauge: tuple[str, str]
    counter: tuple[str, str]
    turn: int = 0

    def within(self, late_ns: int = 0, *, last_ns: int | None = None) -> dict[str, str]:
        """The range, or the last of it, as parameters."""
        start_ns = self.start_ns if last_ns is None else self.end_ns - last_ns
        end_zone, start_zone = divmod(self.turn, ZONES)
        return {
            "startTime": _written(start_ns + late_ns, start_zone),
            "endTime": _written(self.end_ns, end_zone),
        }


def _written(time_ns: int, zone_minutes: int) -> str:
    seconds, fraction = divmod(time_ns, SECOND_NS)
    zone = timezone(timedelta(minutes=zone_minutes))
    text = datetime.fromtimestamp(seconds, zone).isoformat()
    return f"{text[:19]}.{fraction:09d}{text[19:]}"


Asked = Callable[[Reading, Sample], Awaitable[Any]]
Given = Callable[[Sample], dict[str, Any]]


@dataclass(frozen=True)
class Route:
    """How the API is asked: *path* below /telemetry, and parameters or, where `is_post`, a body."""

    path: str
    given: Given
    is_post: bool = False


@dataclass(frozen=True)
class Question:
    """A goal, if there is one, is of the p95 over 24 hours.

    Without a range, or with one of its own: not `ranged`.
    *ask* is what the route calls.
    """

    name: str
    goal_ms: float | None
    ask: Asked
    plain: Asked
    route: Route
    ranged: bool = True


def _same(path: str, given: Given, load: Any, model: Any) -> tuple[Asked, Route]:
    """A route, and what it calls."""

    def asked(reading: Reading, sample: Sample) -> Awaitable[Any]:
        return load(reading, model.model_validate(given(sample)))  # type: ignore[no-any-return]

    return asked, Route(path, given)


def _trace(with_attributes: bool) -> tuple[Asked, Route]:
    given = {"withAttributes": with_attributes}

    def asked(reading: Reading, sample: Sample) -> Awaitable[Any]:
        return get_trace(reading, sample.trace, TraceQuery.model_validate(given))

    as_text = {name: str(value).lower() for name, value in given.items()}
    return asked, Route("traces/{trace}", lambda _sample: as_text)


def _plain_trace(columns: dict[str, Any]) -> Asked:
    def asked(reading: Reading, sample: Sample) -> Awaitable[Any]:
        where = sql("lower(hex(TraceId)) = ", text(sample.trace))
        return reading.rows(Select(columns=columns, source="tf_traces", where=where))

    return asked


def _red(late_ns: int = 0) -> tuple[Asked, Route]:
    return _same(
        "services/red",
        lambda sample: {**sample.within(late_ns), "service": sample.service, "step": "1m"},
        red_series,
        RedQuery,
    )


def _services(late_ns: int = 0, *, last_ns: int | None = None) -> tuple[Asked, Route]:
    return _same(
        "services",
        lambda sample: sample.within(late_ns, last_ns=last_ns),
        list_services,
        RangeQuery,
    )


def _operations(late_ns: int = 0) -> tuple[Asked, Route]:
    return _same(
        "services/operations",
        lambda sample: {**sample.within(late_ns), "service": sample.service},
        list_operations,
        OperationQuery,
    )


def _volume(late_ns: int = 0) -> tuple[Asked, Route]:
    return _same(
        "logs/histogram",
        lambda sample: {**sample.within(late_ns), "step": "15m"},
        log_volume,
        VolumeQuery,
    )


def _search(word: str) -> tuple[Asked, Route]:
    """Of *word*, or of the sample's order number."""
    return _same(
        "logs",
        lambda sample: {**sample.within(), "search": word or sample.order, "limit": 100},
        search_logs,
        LogFilter,
    )


def _attribute() -> tuple[Asked, Route]:
    def given(sample: Sample) -> dict[str, Any]:
        wanted = f'{{"op": "eq", "field": "attributes.order.id", "value": "order-{sample.order}"}}'
        return {**sample.within(), "filter": wanted}

    return _same("spans", given, list_spans, SpanFilter)


def _page(path: str, load: Any, **conditions: Any) -> tuple[Asked, Route]:
    """The newest of what a list has."""
    return _same(path, lambda sample: {**sample.within(), **conditions}, load, SpanFilter)


def _series(aggregation: str) -> tuple[Asked, Route]:
    def given(sample: Sample) -> dict[str, Any]:
        name, service = sample.counter if aggregation == "rate" else sample.gauge
        return {
            "source": "metric",
            "range": {"type": "absolute", **sample.within()},
            "metric": name,
            "aggregation": aggregation,
            "step": "1m",
            "filter": {"op": "eq", "field": "service", "value": service},
            "groupBy": [
                *("attributes.http.route", "attributes.http.request.method"),
                "resource.k8s.pod.name",
            ],
        }

    ask, _route = _same("query", given, answer_question, MetricQuestion)
    return ask, Route("query", lambda sample: {"query": given(sample)}, is_post=True)


def _plain_series(table: str) -> Asked:
    """By the whole map of attributes, as the exporter's tables are asked."""

    def asked(reading: Reading, sample: Sample) -> Awaitable[Any]:
        name, service = sample.gauge if table == "tf_metrics_gauge" else sample.counter
        return reading.rows(
            Select(
                columns={
                    "bucket": "intDiv(toUnixTimestamp(TimeUnix), 60)",
                    "labels": "tuple(Attributes, ResourceAttributes)",
                    "value": "avg(Value)",
                },
                source=table,
                where=sql(
                    between("TimeUnix", sample.start_ns, sample.end_ns),
                    *(" AND MetricName = ", text(name)),
                    *(" AND ServiceName = ", text(service)),
                ),
                group_by=["bucket", "labels"],
            )
        )

    return asked


def _names() -> tuple[Asked, Route]:
    return _same("metrics/names", Sample.within, list_names, NamesQuery)


async def _plain_names(reading: Reading, sample: Sample) -> None:
    for table in METRIC_TABLES.values():
        await reading.rows(
            Select(
                columns={"name": "MetricName", "unit": "MetricUnit", "points": "count()"},
                source=table,
                where=between("TimeUnix", sample.start_ns, sample.end_ns),
                group_by=["name", "unit"],
            )
        )


def _keys() -> tuple[Asked, Route]:
    return _same("attributes", Sample.within, list_keys, KeysQuery)


def _plain_keys(reading: Reading, sample: Sample) -> Awaitable[Any]:
    return reading.rows(
        Select(
            columns={"key": "arrayJoin(mapKeys(SpanAttributes))", "items": "count()"},
            source="tf_traces",
            where=between("Timestamp", sample.start_ns, sample.end_ns),
            group_by=["key"],
        )
    )


def _labels() -> tuple[Asked, Route]:
    return _same(
        "metrics/labels",
        lambda sample: {**sample.within(), "metricName": sample.gauge[0]},
        list_labels,
        OfMetric,
    )


def _label_values() -> tuple[Asked, Route]:
    return _same(
        "metrics/values",
        lambda sample: {
            **sample.within(),
            "metricName": sample.gauge[0],
            "field": "attributes.http.route",
        },
        label_values,
        LabelValuesQuery,
    )


def _question(
    name: str,
    goal_ms: float | None,
    asked: tuple[Asked, Route],
    plain: Asked | None = None,
    *,
    ranged: bool = True,
) -> Question:
    """Plain is the same question where the engine's own help is all that is left out."""
    ask, route = asked
    return Question(name, goal_ms, ask, plain or ask, route, ranged)


_GET: Final = '{"op": "eq", "field": "attributes.http.request.method", "value": "GET"}'
QUESTIONS: Final = (
    _question(
        *("trace by id, waterfall", 20, _trace(False), _plain_trace(dict(SPAN))), ranged=False
    ),
    _question(
        "trace by id, all columns",
        *(35, _trace(True), _plain_trace({**SPAN, **ATTRIBUTES})),
        ranged=False,
    ),
    _question("RED of a service by minute", 25, _red(), _red(1)[0]),
    _question("RED of all services, with percentiles", 100, _services(), _services(1)[0]),
    _question("log search, a rare word", 100, _search("")),
    _question("newest 100 lines, word in 1 of 50", 50, _search("timeout")),
    _question("newest 100 lines, word in 1 of 500", 50, _search("declined")),
    _question("newest 100 lines, word in 1 of 2 000", 50, _search("deadlock")),
    _question("spans with a rare attribute value", 150, _attribute()),
    _question("newest 100 spans", None, _page("spans", list_spans)),
    _question(
        "newest 100 spans, attribute of 1 in 3", None, _page("spans", list_spans, filter=_GET)
    ),
    _question("newest 100 traces", None, _page("traces", list_traces)),
    _question(
        "newest 100 traces, attribute of 1 in 3", None, _page("traces", list_traces, filter=_GET)
    ),
    _question("20 gauges by minute", 50, _series("avg"), _plain_series("tf_metrics_gauge")),
    _question("20 counters, rate by minute", 50, _series("rate"), _plain_series("tf_metrics_sum")),
    _question("log volume by severity", 50, _volume(), _volume(1)[0]),
    _question(
        "list: services of an hour",
        *(10, _services(last_ns=HOUR_NS), _services(1, last_ns=HOUR_NS)[0]),
        ranged=False,
    ),
    _question("list: operations of a service", 10, _operations(), _operations(1)[0]),
    _question("list: metric names", 10, _names(), _plain_names),
    _question("list: attribute keys", 10, _keys(), _plain_keys),
    _question("list: labels of a metric", 10, _labels()),
    _question("list: values of a label", 10, _label_values()),
)
