"""Numbers of spans, log records and services: plan, run, give as series."""

from collections.abc import Callable
from typing import Any, Final

from control.telemetry.queries.answers import meta_of
from control.telemetry.queries.catalogue import LOGS, TRACES, Source
from control.telemetry.queries.engine import Reading
from control.telemetry.queries.filters import condition_of
from control.telemetry.queries.metrics import metric_table
from control.telemetry.queries.model import (
    LogsQuestion,
    MetricQuestion,
    OfNumber,
    Quantile,
    QueryAnswer,
    Question,
    Rate,
    RedQuestion,
    TracesQuestion,
    Unique,
)
from control.telemetry.queries.series import (
    Table,
    content_of,
    grid_of,
    labels_of,
    number_of,
    seconds_of,
    series_of,
    starts_of,
)
from control.telemetry.queries.services import bucket_of, red_of
from control.telemetry.queries.sql import Fragment, Part, Select, all_of, during, sql, texts
from control.telemetry.queries.time_range import (
    MINUTE_SECONDS,
    Grid,
    TimeRange,
    duration_seconds,
)
from shared.errors import Invalid

# Table, where it comes from, how fine that is, and the unit of its values.
Counted = tuple[Table, str, float, str]


async def answer_question(reading: Reading, question: Question) -> QueryAnswer:
    """Series of the range, and of the one that it is compared with."""
    span = question.span
    before = _before(question, span)
    table, source, resolution, unit = await _table(reading, question, span)
    grid = grid_of(question, span)
    times = starts_of(grid, span)
    series, is_truncated = series_of(table, question, times, times)
    if before is not None:
        found, *_ = await _table(reading, question, before)
        starts = starts_of(grid_of(question, before), before)
        earlier, _ = series_of(found, question, starts, times, offset=question.compare_to)
        series += earlier
    return QueryAnswer(
        series=series,
        step_seconds=None if grid is None else grid.step_seconds,
        unit=unit,
        is_truncated=is_truncated,
        meta=meta_of(reading, span, source, resolution),
    )


def _before(question: Question, span: TimeRange) -> TimeRange | None:
    """What is compared with: it has as many steps."""
    if question.compare_to is None:
        return None
    seconds, grid = duration_seconds(question.compare_to), grid_of(question, span)
    if grid is not None and seconds % grid.step_seconds:
        raise Invalid(
            "a comparison is of whole steps: compareTo is a multiple of step", field="compareTo"
        )
    by_calendar = grid is None or grid.is_daily
    return span.earlier(seconds, question.time_zone if by_calendar else None)


async def _table(reading: Reading, question: Question, span: TimeRange) -> Counted:
    match question:
        case MetricQuestion():
            return await metric_table(reading, question, span)
        case RedQuestion():
            return await _red_table(reading, question, span)
        case TracesQuestion():
            return await _counted(reading, TRACES, question, span)
        case LogsQuestion():
            return await _counted(reading, LOGS, question, span)
    raise TypeError(f"no plan for {type(question).__name__}")


async def _counted(
    reading: Reading, source: Source, question: TracesQuestion | LogsQuestion, span: TimeRange
) -> Counted:
    grid = grid_of(question, span)
    groups = labels_of(source, question)
    conditions = [during(source.table, source.time_column, span.start_ns, span.end_ns)]
    if question.filter is not None:
        conditions.append(condition_of(source, question.filter))
    names = [_name(one) for one in question.aggregations]
    rows = await reading.rows(
        Select(
            columns={
                "bucket": _bucket(grid, source.time_column, span),
                **groups,
                **{
                    f"a{number}": _aggregate(source, one)
                    for number, one in enumerate(question.aggregations)
                },
            },
            source=source.table,
            where=all_of(conditions),
            group_by=["bucket", *groups],
        )
    )
    table = Table(names)
    for row in rows:
        labels = tuple(row[name] for name in groups)
        for number, (name, one) in enumerate(zip(names, question.aggregations, strict=True)):
            value = row[f"a{number}"]
            if isinstance(one, Rate):
                value = value / seconds_of(row["bucket"], grid, span)
            table.put(name, labels, row["bucket"], None if value is None else float(value))
    return table, source.table, 0, ""


def _name(aggregation: Any) -> str:
    match aggregation:
        case Quantile():
            return f"p{aggregation.quantile * 100:g} {aggregation.field}"
        case OfNumber() | Unique():
            return f"{aggregation.op} {aggregation.field}"
    return str(aggregation.op)


def _aggregate(source: Source, aggregation: Any) -> Part:
    match aggregation:
        case OfNumber():
            return sql(f"{aggregation.op}(", number_of(source, aggregation.field), ")")
        case Quantile():
            # A number of the model, written as one.
            level = f"{float(aggregation.quantile):.6f}"
            return sql(f"quantileTDigest({level})(", number_of(source, aggregation.field), ")")
        case Unique():
            return sql("uniqExact(", content_of(source, aggregation.field), ")")
    return "count()"


def _bucket(grid: Grid | None, column: str, span: TimeRange) -> Fragment:
    if grid is None:
        return sql(f"toInt64({span.start_ns})")
    return bucket_of(grid, column)


_RED: Final[dict[str, Callable[[Any, float], float | None]]] = {
    "rate": lambda row, seconds: row["spans"] / seconds,
    "errorRate": lambda row, _seconds: row["errors"] / row["spans"],
    "avg": lambda row, _seconds: row["duration_sum"] / row["spans"],
    "max": lambda row, _seconds: float(row["duration_max"]),
    "p50": lambda row, _seconds: float(row["quantiles"][0]),
    "p90": lambda row, _seconds: float(row["quantiles"][1]),
    "p99": lambda row, _seconds: float(row["quantiles"][2]),
}


async def _red_table(reading: Reading, question: RedQuestion, span: TimeRange) -> Counted:
    """From minutes when range and step are whole ones, else from the spans."""
    grid = grid_of(question, span)
    rolled = span.is_aligned(MINUTE_SECONDS) and (
        grid is None or grid.step_seconds % MINUTE_SECONDS == 0
    )
    groups: dict[str, Part] = {"g0": "ServiceName"} if question.group_by else {}
    conditions = []
    if question.services:
        conditions.append(sql("has(", texts(question.services), ", ServiceName)"))
    rows = await reading.rows(red_of(span, grid, groups, conditions))
    table = Table(list(_RED))
    for row in rows:
        labels = tuple(row[name] for name in groups)
        bucket_ns = span.start_ns if grid is None else row["bucket"]
        seconds = seconds_of(bucket_ns, grid, span)
        if row["spans"]:
            for name, value in _RED.items():
                table.put(name, labels, bucket_ns, value(row, seconds))
    return table, *(("tf_red_1m", MINUTE_SECONDS, "") if rolled else ("tf_traces", 0, ""))
