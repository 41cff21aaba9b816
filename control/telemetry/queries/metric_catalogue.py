"""What metrics there are: names, labels, points, exemplars."""

from typing import Annotated, Any, Final

from pydantic import Field

from control.telemetry.queries.answers import MetaView, RangeQuery, meta_of
from control.telemetry.queries.catalogue import METRICS, Source, attribute_of, of_given_type
from control.telemetry.queries.engine import Reading, both
from control.telemetry.queries.filters import condition_of, filter_of
from control.telemetry.queries.known_series import CATALOGUE, series_of_metric
from control.telemetry.queries.logs import ValueList, counted_values
from control.telemetry.queries.model import MetricType
from control.telemetry.queries.paging import FilteredQuery, Items, PagedQuery, page_of
from control.telemetry.queries.sql import Fragment, Select, all_of, between, on_days, sql, text
from control.telemetry.queries.time_range import iso
from shared.http.models import Text, View

NAMES_MAX: Final = 5_000
LABELS_MAX: Final = 1_000
DAY_SECONDS: Final = 86_400
_SERIES: Final = "uniqExact(SeriesHash)"
EXEMPLARS_MAX: Final = 1_000

MetricText = Annotated[Text, Field(min_length=1, max_length=200, examples=["shop.requests"])]


class NamesQuery(RangeQuery):
    """Which metrics."""

    service: Text | None = Field(None, max_length=100)
    search: Text | None = Field(None, max_length=200, description="part of the name")


class MetricNameView(View):
    """A metric; the same name with another type or unit is another one."""

    metric_name: str
    type: str = Field(examples=["sum"])
    unit: str = Field(examples=["s"])
    services: list[str]
    points: int = Field(description="data points on the days of the range")


class MetricNameList(View):
    """Metrics by name."""

    data: list[MetricNameView]
    meta: MetaView


class OfMetric(FilteredQuery):
    """Of which metric."""

    metric_name: MetricText
    metric_type: MetricType | None = Field(None, description="needed when a name has several")


class LabelList(View):
    """Labels as filters and groupBy name them."""

    data: list[str] = Field(examples=[["attributes.http.route", "resource.host.name"]])
    meta: MetaView


class LabelValuesQuery(OfMetric):
    """The values of which label."""

    field: Annotated[Text, Field(max_length=220, examples=["attributes.http.route"])]
    limit: int = Field(100, ge=1, le=1_000)


class PointsQuery(PagedQuery):
    """Of which metric."""

    metric_name: MetricText
    metric_type: MetricType | None = Field(None, description="needed when a name has several")


class PointView(View):
    """A data point as it was sent."""

    time: str
    start_time: str
    service: str
    value: float | None = Field(description="null for histograms and summaries")
    count: int | None = None
    sum: float | None = None
    attributes: dict[str, str]
    resource_attributes: dict[str, str]


class PointList(View):
    """Data points, the newest first."""

    data: list[PointView]
    type: str
    next_cursor: str | None
    meta: MetaView


class ExemplarView(View):
    """A value that was recorded, with the trace in which it was."""

    time: str
    value: float | None
    trace_id: str
    span_id: str
    service: str
    attributes: dict[str, str] = Field(description="of the data point")
    filtered_attributes: dict[str, str] = Field(description="of the measurement alone")


class ExemplarList(View):
    """Exemplars, the newest first."""

    data: list[ExemplarView]
    meta: MetaView


async def list_names(reading: Reading, query: NamesQuery) -> MetricNameList:
    """From the catalogue, which is kept by day."""
    span = query.span
    conditions = [on_days(span.start_ns, span.end_ns)]
    if query.service is not None:
        conditions.append(sql("ServiceName = ", text(query.service)))
    if query.search is not None:
        conditions.append(sql("positionCaseInsensitive(MetricName, ", text(query.search), ") > 0"))
    rows = await reading.rows(
        Select(
            columns={
                "metric_name": "MetricName",
                "type": "Type",
                "unit": "MetricUnit",
                "services": "arraySort(groupUniqArray(ServiceName))",
                "points": "sum(Points)",
            },
            source="tf_metric_names",
            where=all_of(conditions),
            group_by=["metric_name", "type", "unit"],
            order_by="metric_name ASC, type ASC, unit ASC",
            limit=NAMES_MAX,
        )
    )
    return MetricNameList(
        data=[MetricNameView.of(row) for row in rows],
        meta=meta_of(reading, span, "tf_metric_names", 86_400),
    )


async def source_of(reading: Reading, name: str, given: str | None) -> tuple[str, Source]:
    """The type of a metric and where its points are; the one with the most points, if several."""
    rows = await reading.rows(
        Select(
            columns={"type": "Type", "points": "sum(Points)"},
            source="tf_metric_names",
            where=sql("MetricName = ", text(name)),
            group_by=["type"],
            order_by="points DESC, type ASC",
        )
    )
    kinds = [row["type"] for row in rows]
    of_given_type(name, given, kinds)
    kind = given or kinds[0]
    return kind, METRICS[kind]


def _conditions(source: Source, query: OfMetric | PointsQuery) -> list[Fragment]:
    found = [sql("MetricName = ", text(query.metric_name))]
    if query.filter is not None:
        found.append(condition_of(source, filter_of(query.filter)))
    return found


def _in_catalogue(query: OfMetric) -> Fragment | None:
    """The series in the catalogue, which knows no types; None when it cannot tell."""
    if query.metric_type is not None:
        return None
    given = None if query.filter is None else filter_of(query.filter)
    return series_of_metric(query.metric_name, given, query.span)


async def list_labels(reading: Reading, query: OfMetric) -> LabelList:
    """The keys of the attributes of the metric's points and their resources."""
    span = query.span
    known = _in_catalogue(query)
    if known is not None:
        (row,) = await reading.rows(
            Select(
                columns={
                    "series": "count()",
                    "own": "arraySort(groupUniqArrayArray(mapKeys(Attributes)))",
                    "of_resource": "arraySort(groupUniqArrayArray(mapKeys(ResourceAttributes)))",
                },
                source=CATALOGUE.table,
                where=known,
            )
        )
        if row["series"]:
            names = [f"attributes.{key}" for key in row["own"][:LABELS_MAX]]
            names += [f"resource.{key}" for key in row["of_resource"][:LABELS_MAX]]
            return LabelList(data=names, meta=meta_of(reading, span, CATALOGUE.table, DAY_SECONDS))
    _kind, source = await source_of(reading, query.metric_name, query.metric_type)
    within = [between("TimeUnix", span.start_ns, span.end_ns), *_conditions(source, query)]
    rows, of_resource = await both(
        *(
            reading.rows(
                Select(
                    columns={"key": f"arrayJoin(mapKeys({column}))", "items": "count()"},
                    source=source.table,
                    where=all_of(within),
                    group_by=["key"],
                    order_by="key ASC",
                    limit=LABELS_MAX,
                )
            )
            for column in ("Attributes", "ResourceAttributes")
        )
    )
    names = [f"attributes.{row['key']}" for row in rows]
    names += [f"resource.{row['key']}" for row in of_resource]
    return LabelList(data=names, meta=meta_of(reading, span, source.table, 0))


async def label_values(reading: Reading, query: LabelValuesQuery) -> ValueList:
    """The values of a label, those of the most series first."""
    span = query.span
    known = _in_catalogue(query)
    if known is not None and (
        query.field in CATALOGUE.fields or attribute_of(CATALOGUE, query.field) is not None
    ):
        data = await counted_values(reading, CATALOGUE, query, [known], _SERIES)
        if data:
            return ValueList(data=data, meta=meta_of(reading, span, CATALOGUE.table, DAY_SECONDS))
    _kind, source = await source_of(reading, query.metric_name, query.metric_type)
    within = [between("TimeUnix", span.start_ns, span.end_ns), *_conditions(source, query)]
    data = await counted_values(reading, source, query, within, _SERIES)
    return ValueList(data=data, meta=meta_of(reading, span, source.table, 0))


async def list_points(reading: Reading, query: PointsQuery) -> PointList:
    """A page of data points."""
    kind, source = await source_of(reading, query.metric_name, query.metric_type)
    measured = {"value": "Value"} if kind in ("gauge", "sum") else {"count": "Count", "sum": "Sum"}
    found = await page_of(
        reading,
        Items(
            source.table,
            "TimeUnix",
            f"cityHash64(SeriesHash, ScopeName, StartTimeUnix, {', '.join(measured.values())})",
            {
                "start_ns": "toUnixTimestamp64Nano(StartTimeUnix)",
                "service": "ServiceName",
                "attributes": "Attributes",
                "resource": "ResourceAttributes",
                **{f"m_{name}": column for name, column in measured.items()},
            },
        ),
        query,
        _conditions(source, query),
    )
    return PointList(
        data=[_point(row, measured) for row in found.rows],
        type=kind,
        next_cursor=found.next_cursor,
        meta=meta_of(reading, found.span, source.table, 0),
    )


def _point(row: dict[str, Any], measured: dict[str, str]) -> PointView:
    return PointView(
        time=iso(row["time_ns"]),
        start_time=iso(row["start_ns"]),
        service=row["service"],
        attributes=row["attributes"],
        resource_attributes=row["resource"],
        **{"value": None, **{name: row[f"m_{name}"] for name in measured}},
    )


async def list_exemplars(reading: Reading, query: OfMetric) -> ExemplarList:
    """The measurements that the points of the range came with."""
    span = query.span
    kind, source = await source_of(reading, query.metric_name, query.metric_type)
    if kind == "summary":
        # OTLP gives them none.
        return ExemplarList(data=[], meta=meta_of(reading, span, source.table, 0))
    points = Select(
        columns={
            "service": "ServiceName",
            "attributes": "Attributes",
            "times": "arrayMap(x -> toUnixTimestamp64Nano(x), `Exemplars.TimeUnix`)",
            "numbers": "`Exemplars.Value`",
            "traces": "`Exemplars.TraceId`",
            "spans": "`Exemplars.SpanId`",
            "filtered": "`Exemplars.FilteredAttributes`",
        },
        source=source.table,
        where=all_of(
            [
                between("TimeUnix", span.start_ns, span.end_ns),
                sql("length(`Exemplars.TimeUnix`) > 0"),
                *_conditions(source, query),
            ]
        ),
    )
    rows = await reading.rows(
        Select(
            columns={
                name: name
                for name in (
                    *("service", "attributes", "time_ns", "number", "trace", "span"),
                    "filtered_one",
                )
            },
            source=points,
            array_join="times AS time_ns, numbers AS number, traces AS trace, spans AS span, "
            "filtered AS filtered_one",
            order_by="time_ns DESC, trace ASC, span ASC",
            limit=EXEMPLARS_MAX,
        )
    )
    data = [
        ExemplarView(
            time=iso(row["time_ns"]),
            value=row["number"],
            trace_id=row["trace"],
            span_id=row["span"],
            service=row["service"],
            attributes=row["attributes"],
            filtered_attributes=row["filtered_one"],
        )
        for row in rows
    ]
    return ExemplarList(data=data, meta=meta_of(reading, span, source.table, 0))
