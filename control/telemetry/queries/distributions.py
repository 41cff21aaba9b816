"""Histograms and summaries: what was recorded in each bucket of time, and its quantiles."""

from collections.abc import Mapping
from typing import Any, Final

from control.telemetry.queries.catalogue import METRICS
from control.telemetry.queries.engine import Reading
from control.telemetry.queries.histograms import Exponential, explicit_quantile, merged
from control.telemetry.queries.known_series import Grouping
from control.telemetry.queries.model import MetricQuestion
from control.telemetry.queries.points import (
    BEFORE,
    DELTA,
    POINT,
    WINDOW,
    all_columns,
    bucket_in,
    conditions_of,
    names_of,
    seen_before,
)
from control.telemetry.queries.series import Labels, Table, grid_of, seconds_of
from control.telemetry.queries.sql import Part, Select, sql
from control.telemetry.queries.time_range import TimeRange
from shared.errors import Invalid

_AGGREGATIONS: Final = ("count", "sum", "avg", "rate", "increase", "quantile")
_EXPLICIT: Final[dict[str, Part]] = {"bounds": "ExplicitBounds", "counts": "BucketCounts"}
_EXPONENTIAL: Final[dict[str, Part]] = {
    "scale": "Scale",
    "zero": "ZeroCount",
    "threshold": "ZeroThreshold",
    "up_offset": "PositiveOffset",
    "up": "PositiveBucketCounts",
    "down_offset": "NegativeOffset",
    "down": "NegativeBucketCounts",
}


async def put_distributions(
    reading: Reading,
    kind: str,
    question: MetricQuestion,
    span: TimeRange,
    into: tuple[Table, Grouping],
) -> None:
    """Of histograms and summaries: what was recorded in each bucket of time."""
    _check(kind, question)
    table, grouping = into
    groups = grouping.columns
    if question.aggregation == "quantile":
        rows = await reading.rows(_buckets(kind, question, span, groups))
        _put_quantiles(rows, question, into)
        return
    grid = grid_of(question, span)
    for row in await reading.rows(_recorded(kind, question, span, groups)):
        labels = grouping.labels(row)
        value = {
            "sum": row["total"],
            "avg": row["total"] / row["items"] if row["items"] > 0 else None,
            "rate": row["items"] / seconds_of(row["bucket"], grid, span),
        }.get(question.aggregation, row["items"])
        table.put(question.aggregation, labels, row["bucket"], value)


def _check(kind: str, question: MetricQuestion) -> None:
    if question.aggregation not in _AGGREGATIONS:
        raise Invalid(
            f"{question.aggregation} is not of a {kind}: use {', '.join(_AGGREGATIONS)}",
            field="aggregation",
        )
    if question.combine not in (None, "sum"):
        raise Invalid("what was recorded is added up: combine is sum", field="combine")
    if question.aggregation == "quantile" and kind == "summary":
        raise Invalid("quantiles of summaries cannot be put together", field="aggregation")


def _put_quantiles(
    rows: list[dict[str, Any]], question: MetricQuestion, into: tuple[Table, Grouping]
) -> None:
    table, grouping = into
    explicit: dict[tuple[int, Labels], list[tuple[list[float], list[float]]]] = {}
    exponential: dict[tuple[int, Labels], list[Exponential]] = {}
    for row in rows:
        key = (row["bucket"], grouping.labels(row))
        if "bounds" in row:
            explicit.setdefault(key, []).append((row["bounds"], row["counts"]))
            continue
        up, down = (dict(zip(*row[side], strict=True)) for side in ("up", "down"))
        exponential.setdefault(key, []).append(
            Exponential(row["scale"], row["zero"], row["threshold"], up, down)
        )
    for level, name in zip(question.quantiles, names_of(question), strict=True):
        for (bucket, labels), many in explicit.items():
            table.put(name, labels, bucket, explicit_quantile(level, *merged(many)))
        for (bucket, labels), found in exponential.items():
            table.put(name, labels, bucket, Exponential.sum_of(found).quantile(level))


def _points_in_order(
    kind: str, question: MetricQuestion, span: TimeRange, groups: Mapping[str, Part]
) -> tuple[Select, str]:
    """Points beside the ones before them, and the condition under which a point stands alone."""
    source = METRICS[kind]
    seen = seen_before(span)
    own = {"histogram": _EXPLICIT, "exponential_histogram": _EXPONENTIAL, "summary": {}}[kind]
    points = Select(
        columns={
            **POINT,
            **({"temporality": "toInt32(2)"} if kind == "summary" else {}),
            **groups,
            "bucket": bucket_in(grid_of(question, span), "TimeUnix", span),
            "level": "Count",
            "total": "Sum",
            **own,
        },
        source=source.table,
        where=conditions_of(source, question, seen, "isFinite(Sum)"),
    )
    before = {f"{name}_before": f"lagInFrame({name}) OVER w" for name in ("total", *own)}
    ordered = Select(
        columns={**all_columns(points), **BEFORE, **before}, source=points, window=WINDOW
    )
    changed = " OR bounds != bounds_before" if kind == "histogram" else ""
    alone = (
        f"temporality = {DELTA} OR place = 1 OR start_ns != start_before "
        f"OR level < level_before{changed}"
    )
    counted = f"temporality = {DELTA} OR place != 1 OR start_ns >= {seen.start_ns}"
    kept = Select(
        columns={**all_columns(ordered), "alone": alone},
        source=ordered,
        where=sql(f"time_ns >= {span.start_ns} AND ({counted})"),
    )
    return kept, "alone"


def _recorded(
    kind: str, question: MetricQuestion, span: TimeRange, groups: Mapping[str, Part]
) -> Select:
    points, alone = _points_in_order(kind, question, span, groups)
    return Select(
        columns={
            "bucket": "bucket",
            **{name: name for name in groups},
            "items": f"toFloat64(sum(if({alone}, toInt64(s_level), "
            "toInt64(s_level) - toInt64(level_before))))",
            "total": f"sum(if({alone}, s_total, s_total - total_before))",
        },
        source=_renamed(points, {"level": "s_level", "total": "s_total"}),
        group_by=["bucket", *groups],
    )


def _renamed(select: Select, names: dict[str, str]) -> Select:
    """With columns under names that no aggregate has."""
    return Select(
        columns={names.get(name, name): name for name in select.columns},
        source=select,
    )


def _buckets(
    kind: str, question: MetricQuestion, span: TimeRange, groups: Mapping[str, Part]
) -> Select:
    points, alone = _points_in_order(kind, question, span, groups)
    shown = {"bucket": "bucket", **{name: name for name in groups}}
    if kind == "histogram":
        gains = Select(
            columns={
                **shown,
                "bounds": "bounds",
                "gain": f"if({alone}, arrayMap(x -> toFloat64(x), counts), "
                "arrayMap((x, y) -> toFloat64(toInt64(x) - toInt64(y)), counts, "
                f"if({alone}, counts, counts_before)))",
            },
            source=points,
        )
        return Select(
            columns={**shown, "bounds": "bounds", "counts": "sumForEach(gain)"},
            source=gains,
            group_by=["bucket", *groups, "bounds"],
        )
    # A point adds its counts and, unless it stands alone, takes away those of the one before it,
    # each at its own scale.
    parts = ("scale", "zero", "threshold", "up_offset", "up", "down_offset", "down")
    now = ", ".join(parts)
    before = ", ".join(f"{name}_before" for name in parts)
    pieces = Select(
        columns={
            **shown,
            "piece": f"arrayJoin([tuple({now}, toFloat64(1)), "
            f"tuple({before}, if({alone}, toFloat64(0), toFloat64(0 - 1)))])",
        },
        source=points,
    )
    fields = Select(
        columns={
            **shown,
            **{
                name: f"tupleElement(piece, {number})"
                for number, name in enumerate((*parts, "sign"), start=1)
            },
        },
        source=pieces,
        where=sql("tupleElement(piece, 8) != 0"),
    )
    return Select(
        columns={
            **shown,
            "scale": "scale",
            "zero": "sum(zero_one * sign)",
            "threshold": "max(threshold_one)",
            "up": _summed("up"),
            "down": _summed("down"),
        },
        source=_renamed(
            fields,
            {name: f"{name}_one" for name in ("zero", "threshold", "up", "down")},
        ),
        group_by=["bucket", *groups, "scale"],
    )


def _summed(side: str) -> str:
    """Counts by index of all points."""
    return (
        f"sumMap(arrayMap(x -> toInt64({side}_offset) + toInt64(x), range(length({side}_one))), "
        f"arrayMap(x -> toFloat64(x) * sign, {side}_one))"
    )
