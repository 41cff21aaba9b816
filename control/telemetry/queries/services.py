"""Services: which there are, their rate, errors and durations, operations, dependencies.

Rollups answer where they can answer exactly: whole minutes, or five minutes for operations; whole
hours of a range come from what the minutes add up to (projection `by_hour` of tf_red_1m). What they
cannot, the spans do. Percentiles come from t-digest states, or from the spans themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from pydantic import Field

from control.telemetry.queries.answers import MetaView, RangeQuery, SteppedQuery, meta_of
from control.telemetry.queries.engine import Reading
from control.telemetry.queries.sql import (
    Fragment,
    Join,
    Part,
    Select,
    all_of,
    any_of,
    during,
    sql,
    text,
)
from control.telemetry.queries.time_range import (
    MINUTE_SECONDS,
    SECOND_NS,
    Grid,
    TimeRange,
)
from shared.http.models import Text, View

SERVICES_MAX: Final = 1_000
OPERATIONS_MAX: Final = 1_000
DEPENDENCIES_MAX: Final = 1_000
SLOT_SECONDS: Final = 300
HOUR_SECONDS: Final = 3_600

_QUANTILES: Final = "0.5, 0.9, 0.99"
# The same columns, from a table of counts and from the spans.
_COUNTED: Final[dict[str, Part]] = {
    "spans": "sum(Spans)",
    "errors": "sum(Errors)",
    "duration_sum": "toFloat64(sum(DurationSum))",
    "duration_max": "max(DurationMax)",
}
OF_SPANS: Final[dict[str, Part]] = {
    "spans": "count()",
    "errors": "countIf(StatusCode = 'Error')",
    "duration_sum": "toFloat64(sum(Duration))",
    "duration_max": "max(Duration)",
    "quantiles": f"quantilesTDigest({_QUANTILES})(Duration)",
}
# Of minutes, or of the hours that the engine keeps of them: the expressions are the projection's.
_STATES: Final[dict[str, Part]] = {
    "some_spans": "sum(Spans)",
    "some_errors": "sum(Errors)",
    "some_duration": "sum(DurationSum)",
    "some_max": "max(DurationMax)",
    "digest": f"quantilesTDigestMergeState({_QUANTILES})(DurationQ)",
}
_OF_STATES: Final[dict[str, Part]] = {
    "spans": "sum(some_spans)",
    "errors": "sum(some_errors)",
    "duration_sum": "toFloat64(sum(some_duration))",
    "duration_max": "max(some_max)",
    "quantiles": f"quantilesTDigestMerge({_QUANTILES})(digest)",
}
# Of minutes alone, which need no second step.
_OF_MINUTES: Final[dict[str, Part]] = {
    **_COUNTED,
    "quantiles": f"quantilesTDigestMerge({_QUANTILES})(DurationQ)",
}
_HOUR: Final = "toStartOfHour(Minute, 'UTC')"


class RedView(View):
    """Rate, errors and durations over a time; durations in milliseconds."""

    spans: int
    errors: int
    rate: float = Field(description="spans per second")
    error_rate: float = Field(description="share of spans with status Error, 0 to 1")
    average_ms: float | None
    max_ms: float | None
    p50_ms: float | None = Field(None, description="null where only counts are kept")
    p90_ms: float | None = None
    p99_ms: float | None = None


class ServiceView(RedView):
    """A service and how it did."""

    service: str


class ServiceList(View):
    """The services that sent spans, the busiest first."""

    data: list[ServiceView]
    meta: MetaView


class OperationView(RedView):
    """An operation of a service and how it did."""

    service: str
    operation: str
    kind: str = Field(examples=["Server"])


class OperationList(View):
    """Operations, the busiest first."""

    data: list[OperationView]
    meta: MetaView


class RedPoint(RedView):
    """How a service did in one step."""

    time: int = Field(description="beginning of the step, milliseconds since 1970")


class RedSeries(View):
    """Steps without spans have none of either."""

    data: list[RedPoint]
    step_seconds: int
    meta: MetaView


class DependencyView(View):
    """Calls of one service to another."""

    caller: str
    callee: str
    calls: int
    errors: int
    average_ms: float | None
    p99_ms: float | None


class DependencyList(View):
    """Who calls whom."""

    data: list[DependencyView]
    meta: MetaView


class OperationQuery(RangeQuery):
    """Of which service."""

    service: Text | None = Field(None, max_length=100)


class RedQuery(SteppedQuery):
    """Of which service, and operation."""

    service: Text | None = Field(None, max_length=100)
    operation: Text | None = Field(None, max_length=200)


async def list_services(reading: Reading, query: RangeQuery) -> ServiceList:
    """From the minutes of the range; one that begins within a minute is answered by the spans."""
    span = _whole(query, query.span, MINUTE_SECONDS)
    rolled = span.is_aligned(MINUTE_SECONDS)
    rows = await reading.rows(
        replace(
            red_of(span, None, {"service": "ServiceName"}, []),
            order_by="spans DESC, service ASC",
            limit=SERVICES_MAX,
        )
    )
    seconds = span.passed_seconds(span.start_ns, span.end_ns)
    data = [ServiceView(service=row["service"], **_red(row, seconds)) for row in rows]
    return ServiceList(data=data, meta=_meta(reading, span, rolled, "tf_red_1m", MINUTE_SECONDS))


async def list_operations(reading: Reading, query: OperationQuery) -> OperationList:
    """Counts per five minutes answer for whole five minutes, else the spans."""
    span = _whole(query, query.span, SLOT_SECONDS)
    rolled = span.is_aligned(SLOT_SECONDS)
    conditions = [_within("Slot" if rolled else "Timestamp", span, is_coarse=rolled)]
    if query.service is not None:
        conditions.append(sql("ServiceName = ", text(query.service)))
    rows = await reading.rows(
        Select(
            columns={
                "service": "ServiceName",
                "operation": "SpanName",
                "kind": "SpanKind",
                **(_COUNTED if rolled else OF_SPANS),
            },
            source="tf_ops_5m" if rolled else "tf_traces",
            where=all_of(conditions),
            group_by=["service", "operation", "kind"],
            order_by="spans DESC, service ASC, operation ASC, kind ASC",
            limit=OPERATIONS_MAX,
        )
    )
    seconds = span.passed_seconds(span.start_ns, span.end_ns)
    data = [
        OperationView(
            service=row["service"],
            operation=row["operation"],
            kind=row["kind"],
            **_red(row, seconds),
        )
        for row in rows
    ]
    return OperationList(data=data, meta=_meta(reading, span, rolled, "tf_ops_5m", SLOT_SECONDS))


async def red_series(reading: Reading, query: RedQuery) -> RedSeries:
    """By step; from minutes where service and step are all that is asked, else from the spans."""
    asked = query.span
    step = query.step_seconds(least=MINUTE_SECONDS)
    rolled = step % MINUTE_SECONDS == 0 and query.operation is None
    span = _whole(query, asked, MINUTE_SECONDS) if rolled else asked
    rolled = rolled and span.is_aligned(MINUTE_SECONDS)
    grid = query.grid(span, step)
    conditions = []
    if query.service is not None:
        conditions.append(sql("ServiceName = ", text(query.service)))
    if query.operation is not None:
        conditions.append(sql("SpanName = ", text(query.operation)))
    select = red_of(span, grid, {}, conditions, rolled=rolled)
    rows = await reading.rows(replace(select, order_by="bucket ASC"))
    data = []
    for row in rows:
        seconds = span.passed_seconds(row["bucket"], grid.end_of(row["bucket"]))
        data.append({"time": row["bucket"] // 1_000_000, **_red(row, seconds)})
    meta = _meta(reading, span, rolled, "tf_red_1m", MINUTE_SECONDS)
    # All points at once: one by one takes twice as long.
    return RedSeries.model_validate({"data": data, "step_seconds": step, "meta": meta})


def red_of(
    span: TimeRange,
    grid: Grid | None,
    groups: Mapping[str, Part],
    conditions: Sequence[Fragment],
    *,
    rolled: bool | None = None,
) -> Select:
    """Spans, errors and durations by *groups* and, where there is a *grid*, by `bucket`.

    *rolled*: from minutes; by default when range and steps are whole ones.
    """
    if rolled is None:
        rolled = span.is_aligned(MINUTE_SECONDS) and (
            grid is None or grid.step_seconds % MINUTE_SECONDS == 0
        )
    if not rolled:
        return _red_select("tf_traces", "Timestamp", [span], (grid, groups, conditions), OF_SPANS)
    hours, edges = _hours_of(span, grid)
    if not hours:
        return _red_select("tf_red_1m", "Minute", edges, (grid, groups, conditions), _OF_MINUTES)
    pieces = [
        _red_select("tf_red_1m", column, spans, (grid, groups, conditions), _STATES)
        for column, spans in ((_HOUR, hours), ("Minute", edges))
        if spans
    ]
    names = [*(() if grid is None else ("bucket",)), *groups]
    return Select(
        columns={**{name: name for name in names}, **_OF_STATES},
        source=tuple(pieces),
        group_by=names,
    )


def _red_select(
    table: str,
    column: str,
    spans: Sequence[TimeRange],
    asked: tuple[Grid | None, Mapping[str, Part], Sequence[Fragment]],
    measured: Mapping[str, Part],
) -> Select:
    grid, groups, conditions = asked
    is_coarse = column != "Timestamp"
    buckets: dict[str, Part] = {}
    if grid is not None:
        buckets["bucket"] = bucket_of(grid, column, is_coarse=is_coarse)
    within = any_of([_within(column, one, is_coarse=is_coarse) for one in spans])
    return Select(
        columns={**buckets, **groups, **measured},
        source=table,
        where=all_of([within, *conditions]),
        group_by=[*buckets, *groups],
    )


def _hours_of(span: TimeRange, grid: Grid | None) -> tuple[list[TimeRange], list[TimeRange]]:
    """The whole hours of a range of minutes, and what is left of it at both ends."""
    hour_ns = HOUR_SECONDS * SECOND_NS
    first, last = -(-span.start_ns // hour_ns) * hour_ns, span.end_ns // hour_ns * hour_ns
    is_coarse = grid is None or (
        grid.step_seconds % HOUR_SECONDS == 0 and (not grid.is_daily or grid.time_zone == "UTC")
    )
    if first >= last or not is_coarse:
        return [], [span]
    edges = [(span.start_ns, first), (last, span.end_ns)]
    return [TimeRange(first, last)], [TimeRange(*one) for one in edges if one[0] < one[1]]


async def list_dependencies(reading: Reading, query: RangeQuery) -> DependencyList:
    """Spans whose parent is a span of another service, within the range."""
    span = query.span
    within = _within("Timestamp", span, is_coarse=False)
    child = Select(
        columns={
            "trace": "TraceId",
            "parent": "ParentSpanId",
            "callee": "ServiceName",
            "failed": "StatusCode = 'Error'",
            "duration": "Duration",
        },
        source="tf_traces",
        where=within,
    )
    parent = Select(
        columns={"trace": "TraceId", "span": "SpanId", "caller": "ServiceName"},
        source="tf_traces",
        where=within,
    )
    rows = await reading.rows(
        Select(
            columns={
                "caller": "p.caller",
                "callee": "s.callee",
                "spans": "count()",
                "errors": "countIf(s.failed)",
                "duration_sum": "toFloat64(sum(s.duration))",
                "duration_max": "max(s.duration)",
                "quantiles": f"quantilesTDigest({_QUANTILES})(s.duration)",
            },
            source=child,
            joins=[Join(parent, "p", "s.trace = p.trace AND s.parent = p.span")],
            where=sql("s.callee != p.caller"),
            group_by=["caller", "callee"],
            order_by="spans DESC, caller ASC, callee ASC",
            limit=DEPENDENCIES_MAX,
        )
    )
    data = []
    for row in rows:
        red = _red(row, span.seconds)
        data.append(
            DependencyView(
                caller=row["caller"],
                callee=row["callee"],
                calls=red["spans"],
                errors=red["errors"],
                average_ms=red["average_ms"],
                p99_ms=red["p99_ms"],
            )
        )
    return DependencyList(data=data, meta=meta_of(reading, span, "tf_traces", 0))


def bucket_of(grid: Grid, column: str, *, is_coarse: bool = False) -> Fragment:
    """The beginning of the bucket in nanoseconds; *is_coarse*: the column is of whole seconds."""
    if grid.is_daily:
        return sql(
            f"toInt64(toUnixTimestamp(toStartOfDay({column}, ", text(grid.time_zone),
            f"))) * {SECOND_NS}",
        )  # fmt: skip
    step = grid.step_seconds
    if is_coarse:
        return sql(f"toInt64(intDiv(toUnixTimestamp({column}), {step})) * {step * SECOND_NS}")
    return sql(f"intDiv(toUnixTimestamp64Nano({column}), {step * SECOND_NS}) * {step * SECOND_NS}")


def _whole(query: RangeQuery, span: TimeRange, seconds: int) -> TimeRange:
    """A range that was given as a while is widened, so that rollups can answer it."""
    return span.widened(seconds) if query.start_time is None else span


def _within(column: str, span: TimeRange, *, is_coarse: bool) -> Fragment:
    if not is_coarse:
        return during("tf_traces", column, span.start_ns, span.end_ns)
    start, end = span.start_ns // SECOND_NS, span.end_ns // SECOND_NS
    return sql(f"{column} >= toDateTime({start}) AND {column} < toDateTime({end})")


def _red(row: dict[str, Any], seconds: float) -> dict[str, Any]:
    spans, errors = int(row["spans"]), int(row["errors"])
    quantiles: list[float | None] = [float(one) / 1e6 for one in row.get("quantiles", ())]
    if not quantiles:
        quantiles = [None] * 3
    return {
        "spans": spans,
        "errors": errors,
        "rate": spans / seconds,
        "error_rate": errors / spans if spans else 0.0,
        "average_ms": row["duration_sum"] / spans / 1e6 if spans else None,
        "max_ms": row["duration_max"] / 1e6 if spans else None,
        "p50_ms": quantiles[0],
        "p90_ms": quantiles[1],
        "p99_ms": quantiles[2],
    }


def _meta(
    reading: Reading, span: TimeRange, rolled: bool, table: str, resolution_seconds: int
) -> MetaView:
    if rolled:
        return meta_of(reading, span, table, resolution_seconds)
    return meta_of(reading, span, "tf_traces", 0)
