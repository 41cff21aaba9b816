"""Numbers of data points: each series by itself, then the series of a group together.

A series is what has the same name, resource, scope and attributes. Points that are no numbers, or
say that they hold no value, are left out. What a counter gained is attributed to the point that
told it: a delta is added; of cumulative points each gains on the one before it, or, after a reset
(another start time, or a lower value), all that it says. Of a point without one before it in sight,
what it says counts only when its start time is in sight.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from control.telemetry.queries.catalogue import METRICS, Source, of_given_type
from control.telemetry.queries.distributions import put_distributions
from control.telemetry.queries.engine import Reading, both
from control.telemetry.queries.known_series import Grouping, UnknownSeries, known_grouping
from control.telemetry.queries.model import MetricQuestion
from control.telemetry.queries.points import (
    BEFORE,
    DELTA,
    POINT,
    SERIES,
    WINDOW,
    all_columns,
    bucket_in,
    conditions_of,
    names_of,
    seen_before,
)
from control.telemetry.queries.series import Table, grid_of, labels_of, seconds_of
from control.telemetry.queries.sql import Part, Select, sql, text
from control.telemetry.queries.time_range import TimeRange
from shared.errors import Invalid

_OF_SERIES: Final = {
    "avg": "avg(Value)",
    "min": "min(Value)",
    "max": "max(Value)",
    "sum": "sum(Value)",
    "count": "toFloat64(count())",
    "last": "argMax(Value, tuple(TimeUnix, Value))",
}
# How series are put together where that gives the same as all their points at once.
_ASSOCIATIVE: Final = {
    **dict.fromkeys(("count", "sum", "increase", "rate"), "sum"),
    "min": "min",
    "max": "max",
}
# Of all series together.
VALUES_MAX: Final = 50_000
Counted = tuple[Table, str, float, str]


async def metric_table(reading: Reading, question: MetricQuestion, span: TimeRange) -> Counted:
    """Values by group and bucket; Invalid when the metric cannot be aggregated so."""
    (kind, unit), known = await both(
        _kind_of(reading, question), known_grouping(reading, question, span)
    )
    source = METRICS[kind]
    try:
        if known is None:
            raise UnknownSeries
        table = await _values(reading, kind, question, span, known)
    except UnknownSeries:
        table = await _values(reading, kind, question, span, Grouping(labels_of(source, question)))
    return table, source.table, 0, unit


async def _values(
    reading: Reading, kind: str, question: MetricQuestion, span: TimeRange, grouping: Grouping
) -> Table:
    table = Table(names_of(question))
    if kind not in ("gauge", "sum"):
        await put_distributions(reading, kind, question, span, (table, grouping))
    elif question.aggregation in ("quantile", "unique"):
        await _put_of_points(reading, METRICS[kind], question, span, (table, grouping))
    else:
        await _scalars(reading, METRICS[kind], question, span, (table, grouping))
    return table


async def _kind_of(reading: Reading, question: MetricQuestion) -> tuple[str, str]:
    """Type and unit of the metric."""
    rows = await reading.rows(
        Select(
            columns={"kind": "Type", "unit": "anyLast(MetricUnit)"},
            source="tf_metric_names",
            where=sql("MetricName = ", text(question.metric)),
            group_by=["kind"],
            order_by="kind ASC",
        )
    )
    found = {row["kind"]: row["unit"] for row in rows}
    of_given_type(question.metric, question.metric_type, found)
    if question.metric_type is not None:
        return question.metric_type, found[question.metric_type]
    if len(found) > 1:
        raise Invalid(
            f"{question.metric} is {' and '.join(found)}: say which as metricType",
            field="metricType",
        )
    return next(iter(found.items()))


async def _scalars(
    reading: Reading,
    source: Source,
    question: MetricQuestion,
    span: TimeRange,
    into: tuple[Table, Grouping],
) -> None:
    table, grouping = into
    grid, groups = grid_of(question, span), grouping.columns
    aggregation = question.aggregation
    if aggregation in ("rate", "increase") and source.table != "tf_metrics_sum":
        raise Invalid(f"{aggregation} is of counters and histograms, not of gauges")
    if aggregation in ("rate", "increase"):
        select = _increases(source, question, span, groups)
    else:
        select = _levels(source, question, span, groups)
    # A row for each group: a row for each of its values would cost more here than all of it there.
    rows = await reading.rows(
        Select(
            columns={
                **{name: name for name in groups},
                "buckets": "groupArray(bucket)",
                "numbers": "groupArray(value)",
            },
            source=select,
            group_by=list(groups),
        )
    )
    if sum(len(row["buckets"]) for row in rows) > VALUES_MAX:
        raise Invalid(f"more than {VALUES_MAX} values: take a longer step, or fewer series")
    seconds: dict[int, float] = {}
    for row in rows:
        values = dict(zip(row["buckets"], row["numbers"], strict=True))
        if aggregation == "rate":
            for bucket in values.keys() - seconds.keys():
                seconds[bucket] = seconds_of(bucket, grid, span)
            values = {bucket: gain / seconds[bucket] for bucket, gain in values.items()}
        table.put_all(aggregation, grouping.labels(row), values)


async def _put_of_points(
    reading: Reading,
    source: Source,
    question: MetricQuestion,
    span: TimeRange,
    into: tuple[Table, Grouping],
) -> None:
    """What is of all points of a group, whatever their series."""
    table, grouping = into
    grid, groups = grid_of(question, span), grouping.columns
    levels = ", ".join(f"{level:.6f}" for level in question.quantiles)
    is_quantile = question.aggregation == "quantile"
    rows = await reading.rows(
        Select(
            columns={
                "bucket": bucket_in(grid, "TimeUnix", span),
                **groups,
                "value": f"quantilesTDigest({levels})(Value)"
                if is_quantile
                else "toFloat64(uniqExact(SeriesHash, ScopeName, ScopeVersion))",
            },
            source=source.table,
            where=conditions_of(source, question, span, "isFinite(Value)"),
            group_by=["bucket", *groups],
        )
    )
    for row in rows:
        labels = grouping.labels(row)
        if not is_quantile:
            table.put(question.aggregation, labels, row["bucket"], row["value"])
            continue
        for name, value in zip(table.names, row["value"], strict=True):
            table.put(name, labels, row["bucket"], value)


def _levels(
    source: Source, question: MetricQuestion, span: TimeRange, groups: Mapping[str, Part]
) -> Select:
    """What the points of a bucket say."""
    measure = _OF_SERIES[question.aggregation]
    points = Select(
        columns={
            "bucket": bucket_in(grid_of(question, span), "TimeUnix", span),
            **groups,
            **SERIES,
            "one": measure,
        },
        source=source.table,
        where=conditions_of(source, question, span, "isFinite(Value)"),
        group_by=["bucket", *groups, *SERIES],
    )
    if not _is_of_all_points(question):
        return _combined(question, points)
    columns = {"bucket": points.columns["bucket"], **groups, "value": measure}
    return replace(points, columns=columns, group_by=["bucket", *groups])


def _is_of_all_points(question: MetricQuestion) -> bool:
    """Whether it does not matter which series a point is of: a sum of sums is one of all."""
    return _ASSOCIATIVE.get(question.aggregation) == _combine_of(question)


def _combine_of(question: MetricQuestion) -> str:
    return question.combine or _ASSOCIATIVE.get(question.aggregation, "avg")


def _combined(question: MetricQuestion, of_series: Select) -> Select:
    groups = [name for name in of_series.columns if name not in (*SERIES, "bucket", "one")]
    return Select(
        columns={
            "bucket": "bucket",
            **{name: name for name in groups},
            "value": f"{_combine_of(question)}(one)",
        },
        source=of_series,
        group_by=["bucket", *groups],
    )


def _increases(
    source: Source, question: MetricQuestion, span: TimeRange, groups: Mapping[str, Part]
) -> Select:
    """What each counter gained, by bucket."""
    seen = seen_before(span)
    points = Select(
        columns={
            **POINT,
            **groups,
            "bucket": bucket_in(grid_of(question, span), "TimeUnix", span),
            "level": "Value",
            "counts_up": "IsMonotonic",
        },
        source=source.table,
        where=conditions_of(source, question, seen, "isFinite(Value)"),
    )
    ordered = Select(
        columns={**all_columns(points), **BEFORE},
        source=points,
        window=WINDOW,
    )
    gained = Select(
        columns={
            "bucket": "bucket",
            **{name: name for name in groups},
            **{name: name for name in SERIES},
            "gain": f"multiIf(temporality = {DELTA}, level, place = 1, "
            f"if(start_ns >= {seen.start_ns}, level, 0), "
            "start_ns != start_before OR (counts_up AND level < level_before), level, "
            "level - level_before)",
        },
        source=ordered,
        where=sql(f"time_ns >= {span.start_ns}"),
    )
    names = ["bucket", *groups]
    if _is_of_all_points(question):
        columns = {**{name: name for name in names}, "value": "sum(gain)"}
        return Select(columns=columns, source=gained, group_by=names)
    names += SERIES
    columns = {**{name: name for name in names}, "one": "sum(gain)"}
    return _combined(question, Select(columns=columns, source=gained, group_by=names))
