"""The catalogue of series: labels by series and day, which need not be read from each point.

A job notes new series within a minute of their being stored (`shared.clickhouse.rollups`), so one
that just came may be missing. Who puts points together finds out, and reads the labels from the
points then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from control.telemetry.queries.catalogue import Attributes, Field, Source, attribute_of
from control.telemetry.queries.engine import Reading
from control.telemetry.queries.filters import condition_of
from control.telemetry.queries.model import MetricQuestion
from control.telemetry.queries.series import Labels, labels_of
from control.telemetry.queries.sql import Fragment, Part, Select, all_of, on_days, sql, text
from control.telemetry.queries.time_range import TimeRange
from shared.errors import Invalid

# Each is named in the query that follows, by twenty digits.
SERIES_MAX: Final = 500

CATALOGUE: Final = Source(
    "tf_metric_series",
    "Day",
    {"service": Field("ServiceName", "text")},
    {"attributes": Attributes("Attributes"), "resource": Attributes("ResourceAttributes")},
)


class UnknownSeries(Exception):
    """Points are of a series that the catalogue does not have yet."""


@dataclass(frozen=True)
class Grouping:
    """What is grouped by, and the labels that a row of the result has.

    *numbered*: the labels that the numbers of the only column, `g0`, stand for; 0 for none of them.
    """

    columns: Mapping[str, Part]
    numbered: Sequence[Labels] | None = None

    def labels(self, row: Mapping[str, Any]) -> Labels:
        """Of a row; UnknownSeries when the catalogue cannot tell."""
        if self.numbered is None:
            return tuple(row[name] for name in self.columns)
        number: int = row["g0"]
        if number == 0:
            raise UnknownSeries
        return self.numbered[number - 1]


async def known_grouping(
    reading: Reading, question: MetricQuestion, span: TimeRange
) -> Grouping | None:
    """By the labels that the catalogue has; None when it cannot help."""
    if not any(attribute_of(CATALOGUE, name) for name in question.group_by):
        return None
    where = series_of_metric(question.metric, question.filter, span)
    if where is None:
        return None
    try:
        groups = labels_of(CATALOGUE, question)
    except Invalid:
        return None
    rows = await reading.rows(
        Select(
            columns={"series": "SeriesHash", **groups},
            source=CATALOGUE.table,
            where=where,
            group_by=["series", *groups],
            limit=SERIES_MAX + 1,
        )
    )
    if not 0 < len(rows) <= SERIES_MAX:
        return None
    numbers: dict[Labels, int] = {}
    for row in rows:
        numbers.setdefault(tuple(row[name] for name in groups), len(numbers) + 1)
    series = ", ".join(str(int(row["series"])) for row in rows)
    of_series = ", ".join(str(numbers[tuple(row[name] for name in groups)]) for row in rows)
    number = f"transform(SeriesHash, [{series}], [{of_series}], 0)"
    return Grouping({"g0": number}, list(numbers))


def series_of_metric(metric: str, given: Any, span: TimeRange) -> Fragment | None:
    """The series of a metric on the days of *span*; None when a filter asks for more."""
    conditions = [
        sql("MetricName = ", text(metric)),
        on_days(span.start_ns, span.end_ns),
    ]
    if given is not None:
        try:
            conditions.append(condition_of(CATALOGUE, given))
        except Invalid:
            return None
    return all_of(conditions)
