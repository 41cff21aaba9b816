"""What is measured: questions as the API's routes ask them, and the same without our help.

`ask` is what a route calls. `plain` has the same answer without rollups, catalogues and indices:
from the items themselves, by the sort key alone. A range that begins a nanosecond late is one that
no rollup can answer.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
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
from control.telemetry.queries.time_range import iso
from control.telemetry.queries.traces import SpanFilter, TraceQuery, get_trace, list_spans

SECOND_NS: Final = 1_000_000_000
HOUR_NS: Final = 3_600 * SECOND_NS
DAY_NS: Final = 24 * HOUR_NS


@dataclass(frozen=True)
class Sample:
    """What one round asks for, taken from the data, and the range (ns).

    *gauge* and *counter* are metrics, each with a service that sends it.
    """

    start_ns: int
    end_ns: int
    trace: str
    service: str
    order: str
    gauge: tuple[str, str]
    counter: tuple[str, str]

    def within(self, late_ns: int = 0) -> dict[str, str]:
        """The range, as parameters."""
        return {"startTime": iso(self.start_ns + late_ns), "endTime": iso(self.end_ns)}


Asked = Callable[[Reading, Sample], Awaitable[Any]]


@dataclass(frozen=True)
class Question:
    """A goal is of the p95 over 24 hours. Without a range, or with one of its own: not `ranged`."""

    name: str
    goal_ms: float
    ask: Asked
    plain: Asked
    ranged: bool = True


def _waterfall(reading: Reading, sample: Sample) -> Awaitable[Any]:
    return get_trace(reading, sample.trace, TraceQuery.model_validate({"withAttributes": False}))


def _whole_trace(reading: Reading, sample: Sample) -> Awaitable[Any]:
    return get_trace(reading, sample.trace, TraceQuery.model_validate({}))


def _plain_trace(columns: dict[str, Any]) -> Asked:
    def asked(reading: Reading, sample: Sample) -> Awaitable[Any]:
        where = sql("lower(hex(TraceId)) = ", text(sample.trace))
        return reading.rows(Select(columns=columns, source="tf_traces", where=where))

    return asked


def _red(late_ns: int) -> Asked:
    def asked(reading: Reading, sample: Sample) -> Awaitable[Any]:
        given = {**sample.within(late_ns), "service": sample.service, "step": "1m"}
        return red_series(reading, RedQuery.model_validate(given))

    return asked


def _services(late_ns: int) -> Asked:
    def asked(reading: Reading, sample: Sample) -> Awaitable[Any]:
        return list_services(reading, RangeQuery.model_validate(sample.within(late_ns)))

    return asked


def _services_of_hour(late_ns: int) -> Asked:
    def asked(reading: Reading, sample: Sample) -> Awaitable[Any]:
        start_ns = sample.end_ns - HOUR_NS + late_ns
        given = {"startTime": iso(start_ns), "endTime": iso(sample.end_ns)}
        return list_services(reading, RangeQuery.model_validate(given))

    return asked


def _operations(late_ns: int) -> Asked:
    def asked(reading: Reading, sample: Sample) -> Awaitable[Any]:
        given = {**sample.within(late_ns), "service": sample.service}
        return list_operations(reading, OperationQuery.model_validate(given))

    return asked


def _volume(late_ns: int) -> Asked:
    def asked(reading: Reading, sample: Sample) -> Awaitable[Any]:
        given = {**sample.within(late_ns), "step": "15m"}
        return log_volume(reading, VolumeQuery.model_validate(given))

    return asked


def _search(word: str) -> Asked:
    """Of *word*, or of the sample's order number."""

    def asked(reading: Reading, sample: Sample) -> Awaitable[Any]:
        given = {**sample.within(), "search": word or sample.order, "limit": 100}
        return search_logs(reading, LogFilter.model_validate(given))

    return asked


def _attribute(reading: Reading, sample: Sample) -> Awaitable[Any]:
    wanted = f'{{"op": "eq", "field": "attributes.order.id", "value": "order-{sample.order}"}}'
    return list_spans(reading, SpanFilter.model_validate({**sample.within(), "filter": wanted}))


def _series(aggregation: str) -> Asked:
    def asked(reading: Reading, sample: Sample) -> Awaitable[Any]:
        name, service = sample.counter if aggregation == "rate" else sample.gauge
        given = {
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
        return answer_question(reading, MetricQuestion.model_validate(given))

    return asked


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


def _names(reading: Reading, sample: Sample) -> Awaitable[Any]:
    return list_names(reading, NamesQuery.model_validate(sample.within()))


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


def _keys(reading: Reading, sample: Sample) -> Awaitable[Any]:
    return list_keys(reading, KeysQuery.model_validate(sample.within()))


def _plain_keys(reading: Reading, sample: Sample) -> Awaitable[Any]:
    return reading.rows(
        Select(
            columns={"key": "arrayJoin(mapKeys(SpanAttributes))", "items": "count()"},
            source="tf_traces",
            where=between("Timestamp", sample.start_ns, sample.end_ns),
            group_by=["key"],
        )
    )


def _labels(reading: Reading, sample: Sample) -> Awaitable[Any]:
    given = {**sample.within(), "metricName": sample.gauge[0]}
    return list_labels(reading, OfMetric.model_validate(given))


def _label_values(reading: Reading, sample: Sample) -> Awaitable[Any]:
    given = {
        **sample.within(),
        "metricName": sample.gauge[0],
        "field": "attributes.http.route",
    }
    return label_values(reading, LabelValuesQuery.model_validate(given))


QUESTIONS: Final = (
    Question("trace by id, waterfall", 20, _waterfall, _plain_trace(dict(SPAN)), ranged=False),
    Question(
        "trace by id, all columns",
        *(35, _whole_trace, _plain_trace({**SPAN, **ATTRIBUTES})),
        ranged=False,
    ),
    Question("RED of a service by minute", 25, _red(0), _red(1)),
    Question("RED of all services, with percentiles", 100, _services(0), _services(1)),
    Question("log search, a rare word", 100, _search(""), _search("")),
    Question("newest 100 lines, word in 1 of 50", 50, _search("timeout"), _search("timeout")),
    Question("newest 100 lines, word in 1 of 500", 50, _search("declined"), _search("declined")),
    Question("newest 100 lines, word in 1 of 2 000", 50, _search("deadlock"), _search("deadlock")),
    Question("spans with a rare attribute value", 150, _attribute, _attribute),
    Question("20 gauges by minute", 50, _series("avg"), _plain_series("tf_metrics_gauge")),
    Question("20 counters, rate by minute", 50, _series("rate"), _plain_series("tf_metrics_sum")),
    Question("log volume by severity", 50, _volume(0), _volume(1)),
    Question("list: services of an hour", 10, _services_of_hour(0), _services_of_hour(1), False),
    Question("list: operations of a service", 10, _operations(0), _operations(1)),
    Question("list: metric names", 10, _names, _plain_names),
    Question("list: attribute keys", 10, _keys, _plain_keys),
    Question("list: labels of a metric", 10, _labels, _labels),
    Question("list: values of a label", 10, _label_values, _label_values),
)
