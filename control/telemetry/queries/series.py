"""From rows to series: labels, grid, gaps, order. No I/O."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from control.telemetry.queries.catalogue import Source, attribute_of, field_of
from control.telemetry.queries.model import Question, Series
from control.telemetry.queries.sql import Fragment, Part, sql, text
from control.telemetry.queries.time_range import Grid, TimeRange, duration_seconds

Labels = tuple[str, ...]


@dataclass
class Table:
    """Values by aggregation, labels and bucket.

    *names*: of the aggregations that were asked for, whether there is a value or not.
    """

    names: Sequence[str] = ()
    values: dict[tuple[str, Labels], dict[int, float]] = field(default_factory=dict)

    def put(self, name: str, labels: Labels, bucket_ns: int, value: float | None) -> None:
        """One value; None and what is no number count as none."""
        if value is not None and not math.isnan(value):
            self.values.setdefault((name, labels), {})[bucket_ns] = value

    def put_all(self, name: str, labels: Labels, values: dict[int, float]) -> None:
        """Values by bucket; what is no number counts as none."""
        if not _all_finite(values):
            values = {bucket: value for bucket, value in values.items() if not math.isnan(value)}
        if values:
            self.values.setdefault((name, labels), {}).update(values)


def grid_of(question: Question, span: TimeRange) -> Grid | None:
    """The steps that are asked for; None: one value for the whole range."""
    if question.step is None:
        return None
    return Grid(span, duration_seconds(question.step), question.time_zone)


def labels_of(source: Source, question: Question) -> dict[str, Part]:
    """Columns g0, g1 … for what is grouped by."""
    return {f"g{number}": content_of(source, name) for number, name in enumerate(question.group_by)}


def content_of(source: Source, name: str) -> Fragment:
    """A field or an attribute as text; '' where the attribute is missing."""
    found = attribute_of(source, name)
    if found is not None:
        return sql("toString(", found[0].column, "[", text(found[1]), "])")
    return sql("toString(", field_of(source, name).expression, ")")


def number_of(source: Source, name: str) -> Fragment:
    """A field or an attribute as a number; NULL where its text is none."""
    found = attribute_of(source, name)
    if found is not None:
        return sql("toFloat64OrNull(", found[0].column, "[", text(found[1]), "])")
    known = field_of(source, name)
    if known.kind == "number":
        return sql("toFloat64(", known.expression, ")")
    return sql("toFloat64OrNull(", known.expression, ")")


def starts_of(grid: Grid | None, span: TimeRange) -> list[int]:
    """Where the steps begin, in nanoseconds; without steps the range is one."""
    return [span.start_ns] if grid is None else grid.starts()


def seconds_of(bucket_ns: int, grid: Grid | None, span: TimeRange) -> float:
    """What a rate of the bucket divides by."""
    end_ns = span.end_ns if grid is None else grid.end_of(bucket_ns)
    return span.passed_seconds(bucket_ns, end_ns)


def series_of(
    table: Table,
    question: Question,
    starts: Sequence[int],
    times: Sequence[int],
    *,
    offset: str | None = None,
) -> tuple[list[Series], bool]:
    """Series in order, gaps filled, and whether there are more than the limit.

    *starts*: of the steps; *times*: at which they are shown, those of the range that an earlier one
    is compared with, *offset* before.
    """
    shown: list[Series] = []
    is_truncated = False
    # As many, but where a zone left out a whole day.
    steps = list(zip(starts, (time // 1_000_000 for time in times), strict=False))
    sign = -1 if question.order == "desc" else 1
    for name in dict.fromkeys(table.names):
        of_name = [
            (labels, values) for (one, labels), values in table.values.items() if one == name
        ]
        if not of_name and not question.group_by and question.fill != "none":
            # All items are a group, also where there are none; of other groups nobody knows.
            of_name = [((), {})]
        of_name.sort(key=lambda pair: (sign * sum(pair[1].values()), pair[0]))
        is_truncated = is_truncated or len(of_name) > question.limit
        shown += [
            # Not checked: to look at each number again takes longer than all else here.
            Series.model_construct(
                name=name,
                labels=dict(zip(question.group_by, labels, strict=True)),
                offset=offset,
                points=_points(values, steps, question.fill),
            )
            for labels, values in of_name[: question.limit]
        ]
    return shown, is_truncated


def _points(
    values: Mapping[int, float], steps: Sequence[tuple[int, int]], fill: str
) -> list[tuple[int, float | None]]:
    """Values of *steps*, which are the beginning of each and the time that it is shown at."""
    found: list[float | None]
    if fill == "none":
        steps = [step for step in steps if step[0] in values]
        found = [values[start] for start, _time in steps]
    elif fill == "previous":
        found = []
        for start, _time in steps:
            found.append(values.get(start, found[-1] if found else None))
    else:
        missing = {"null": None, "zero": 0.0}[fill]
        found = [values.get(start, missing) for start, _time in steps]
    if not _all_finite(values):
        # JSON has no infinity.
        found = [one if one is None or math.isfinite(one) else None for one in found]
    return [(time, one) for (_start, time), one in zip(steps, found, strict=True)]


def _all_finite(values: Mapping[int, float]) -> bool:
    """Whether all are numbers, told by their sum; False also where that is beyond all numbers."""
    return math.isfinite(sum(values.values()))
