"""Data points in SQL: of which series, in which bucket, and beside the point before."""

from typing import Final

from control.telemetry.queries.catalogue import Source
from control.telemetry.queries.filters import condition_of
from control.telemetry.queries.model import MetricQuestion
from control.telemetry.queries.services import bucket_of
from control.telemetry.queries.sql import Fragment, Part, Select, all_of, between, sql, text
from control.telemetry.queries.time_range import SECOND_NS, Grid, TimeRange

# The point before the range is looked for that far back: exporters send every minute or faster.
LOOK_BACK_SECONDS: Final = 600
DELTA: Final = 1
SERIES: Final[dict[str, Part]] = {
    "series": "SeriesHash",
    "scope_name": "ScopeName",
    "scope_version": "ScopeVersion",
}
_HAS_VALUE: Final = "bitAnd(Flags, 1) = 0"
WINDOW: Final = (
    "w AS (PARTITION BY series, scope_name, scope_version ORDER BY time_ns ASC, start_ns ASC, "
    "level ASC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
)
POINT: Final[dict[str, Part]] = {
    **SERIES,
    "time_ns": "toUnixTimestamp64Nano(TimeUnix)",
    "start_ns": "toUnixTimestamp64Nano(StartTimeUnix)",
    "temporality": "AggregationTemporality",
}
BEFORE: Final[dict[str, Part]] = {
    "place": "row_number() OVER w",
    "start_before": "lagInFrame(start_ns) OVER w",
    "level_before": "lagInFrame(level) OVER w",
}


def names_of(question: MetricQuestion) -> list[str]:
    """What the series of the answer are called."""
    if question.aggregation == "quantile":
        return [f"p{level * 100:g}" for level in question.quantiles]
    return [question.aggregation]


def all_columns(select: Select) -> dict[str, Part]:
    return {name: name for name in select.columns}


def conditions_of(
    source: Source, question: MetricQuestion, span: TimeRange, *more: str
) -> Fragment:
    found = [
        sql("MetricName = ", text(question.metric)),
        between("TimeUnix", span.start_ns, span.end_ns),
        sql(_HAS_VALUE),
        *(sql(one) for one in more),
    ]
    if question.filter is not None:
        found.append(condition_of(source, question.filter))
    return all_of(found)


def bucket_in(grid: Grid | None, column: str, span: TimeRange) -> Fragment:
    return sql(f"toInt64({span.start_ns})") if grid is None else bucket_of(grid, column)


def seen_before(span: TimeRange) -> TimeRange:
    """The range and what is looked at before it."""
    return TimeRange(max(span.start_ns - LOOK_BACK_SECONDS * SECOND_NS, 0), span.end_ns)
