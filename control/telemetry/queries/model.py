"""The typed query: what to count or measure, of which items, by what, over which time.

One model for all that asks for numbers: routes here, and whatever shows or watches numbers later.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from control.telemetry.queries.answers import MetaView
from control.telemetry.queries.filters import Filter, Name
from control.telemetry.queries.time_range import (
    MINUTE_SECONDS,
    Duration,
    Time,
    TimeRange,
    TimeZone,
    range_of,
)
from shared.http.models import Body, Text, View

GROUPS_MAX: Final = 8
AGGREGATIONS_MAX: Final = 10
QUANTILES_MAX: Final = 10
SERIES: Final = 100
SERIES_MAX: Final = 1_000

MetricName = Annotated[Text, Field(min_length=1, max_length=500, examples=["http.server.requests"])]
MetricType = Literal["gauge", "sum", "histogram", "exponential_histogram", "summary"]
MetricAggregation = Literal[
    "avg", "min", "max", "sum", "count", "last", "rate", "increase", "quantile", "unique"
]
Fill = Literal["none", "null", "zero", "previous"]
Combination = Literal["sum", "avg", "min", "max"]
Quantiles = Annotated[
    list[Annotated[float, Field(ge=0, le=1)]],
    Field(min_length=1, max_length=QUANTILES_MAX, examples=[[0.5, 0.99]]),
]


class AbsoluteRange(Body):
    """From startTime on, before endTime."""

    type: Literal["absolute"]
    start_time: Time
    end_time: Time


class RelativeRange(Body):
    """The last while, up to now."""

    type: Literal["relative"]
    last: Duration


class Count(Body):
    """How many items."""

    op: Literal["count"]


class Rate(Body):
    """Items per second."""

    op: Literal["rate"]


class OfNumber(Body):
    """Of a field, or an attribute whose text is a number; other items are left out."""

    op: Literal["sum", "avg", "min", "max"]
    field: Name


class Quantile(Body):
    """A quantile, 0 to 1, of a field or an attribute whose text is a number (t-digest)."""

    op: Literal["quantile"]
    field: Name
    quantile: float = Field(ge=0, le=1)


class Unique(Body):
    """How many different values, exactly."""

    op: Literal["unique"]
    field: Name


Aggregation = Annotated[Count | Rate | OfNumber | Quantile | Unique, Field(discriminator="op")]
Aggregations = Annotated[list[Aggregation], Field(min_length=1, max_length=AGGREGATIONS_MAX)]


class Question(Body):
    """What all sources have in common."""

    range: Annotated[AbsoluteRange | RelativeRange, Field(discriminator="type")]
    filter: Filter | None = None
    group_by: list[Name] = Field(default_factory=list, max_length=GROUPS_MAX)
    step: Duration | None = Field(None, description="absent: one value for the whole range")
    time_zone: TimeZone = Field("UTC", description="where days begin, for a step of 1d")
    fill: Fill = Field(
        "none",
        description="what steps without a value get; none: no point. Without groupBy, also when "
        "nothing was found at all",
    )
    order: Literal["desc", "asc"] = Field("desc", description="of series, by their sum")
    limit: int = Field(SERIES, ge=1, le=SERIES_MAX, description="series of each aggregation")
    compare_to: Duration | None = Field(
        None,
        description="the same that long before, at the times of the range; a multiple of step, and "
        "with a step of 1d or none, days of the calendar in timeZone",
    )

    @property
    def span(self) -> TimeRange:
        """The range; a relative one ends now."""
        if isinstance(self.range, AbsoluteRange):
            return range_of(self.range.start_time, self.range.end_time, None)
        return range_of(None, None, self.range.last)

    @property
    def fixed_span(self) -> TimeRange | None:
        """The range when it is the same at each call, else None."""
        return self.span if isinstance(self.range, AbsoluteRange) else None


class TracesQuestion(Question):
    """Of spans."""

    source: Literal["traces"]
    aggregations: Aggregations


class LogsQuestion(Question):
    """Of log records."""

    source: Literal["logs"]
    aggregations: Aggregations


class RedQuestion(Question):
    """Rate, errors and durations of services, from minutes that are already summed up.

    Durations are in nanoseconds. A relative range is widened to whole minutes.
    """

    source: Literal["red"]
    services: list[Text] = Field(default_factory=list, max_length=100)
    group_by: list[Literal["service"]] = Field(default_factory=list, max_length=1)  # type: ignore[assignment]
    filter: None = None

    @property
    def span(self) -> TimeRange:
        """The range, so that minutes can answer it."""
        asked = super().span
        return asked if isinstance(self.range, AbsoluteRange) else asked.widened(MINUTE_SECONDS)


class MetricQuestion(Question):
    """Of data points.

    First each series by itself: avg, min, max, sum, count or last of the points of a step; increase
    and rate (per second) of counters, through resets, whatever their temporality; of histograms,
    count, sum, avg, increase, rate and quantile of what was recorded in the step. Then the
    series of a group together: `combine`.
    """

    source: Literal["metric"]
    metric: MetricName
    metric_type: MetricType | None = Field(None, description="needed when a name has several")
    aggregation: MetricAggregation
    combine: Combination | None = Field(
        None, description="default: sum for count, sum, increase and rate; min, max; else avg"
    )
    quantiles: Quantiles = Field(default_factory=lambda: [0.5, 0.9, 0.99])


AnyQuestion = Annotated[
    TracesQuestion | LogsQuestion | RedQuestion | MetricQuestion, Field(discriminator="source")
]


class QueryBody(Body):
    """One question."""

    query: AnyQuestion


class Series(View):
    """Values over time of one group."""

    name: str = Field(description="of the aggregation", examples=["p99"])
    labels: dict[str, str]
    offset: str | None = Field(None, description="how long before, in a comparison")
    points: list[tuple[int, float | None]] = Field(
        description="beginning of the step in milliseconds since 1970, and the value"
    )


class QueryAnswer(View):
    """Series, and where they come from."""

    series: list[Series]
    step_seconds: int | None
    unit: str = ""
    is_truncated: bool = Field(description="there are more series than `limit`")
    meta: MetaView
