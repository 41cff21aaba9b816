"""What all answers have in common: from which data, and at what cost."""

from typing import Annotated

from pydantic import Field

from control.telemetry.queries.engine import Reading
from control.telemetry.queries.time_range import (
    Duration,
    Grid,
    Time,
    TimeRange,
    TimeZone,
    iso,
    range_of,
    step_for,
)
from shared.http.models import Query, View


class StatisticsView(View):
    """What the queries behind an answer cost."""

    queries: int
    rows_read: int
    bytes_read: int
    elapsed_ms: float


class MetaView(View):
    """Where an answer comes from."""

    source: str = Field(description="table that was read", examples=["tf_red_1m"])
    resolution_seconds: float = Field(description="of that table; 0: each item by itself")
    start_time: str
    end_time: str
    statistics: StatisticsView


def meta_of(reading: Reading, span: TimeRange, source: str, resolution_seconds: float) -> MetaView:
    """The meta of an answer that is about to be sent."""
    told = reading.statistics
    return MetaView(
        source=source,
        resolution_seconds=resolution_seconds,
        start_time=iso(span.start_ns),
        end_time=iso(span.end_ns),
        statistics=StatisticsView(
            queries=told.queries,
            rows_read=told.rows_read,
            bytes_read=told.bytes_read,
            elapsed_ms=round(told.elapsed_ms, 1),
        ),
    )


class RangeQuery(Query):
    """When: from startTime up to endTime (default: now), or the last while."""

    start_time: Time | None = None
    end_time: Time | None = None
    last: Annotated[Duration | None, Field(description="instead of startTime; default 1h")] = None

    @property
    def span(self) -> TimeRange:
        """The range; at each call anew when it goes up to now."""
        return range_of(self.start_time, self.end_time, self.last)

    @property
    def fixed_span(self) -> TimeRange | None:
        """The range when it is the same at each call, else None."""
        return self.span if self.start_time is not None and self.end_time is not None else None


class SteppedQuery(RangeQuery):
    """When, and in which steps: about a hundred when none is given."""

    step: Duration | None = None
    time_zone: TimeZone = Field("UTC", description="where days begin, for a step of 1d")

    def step_seconds(self, *, least: int = 1) -> int:
        """How long a step is; of its own choice at *least* that."""
        return step_for(self.span, self.step, least=least)

    def grid(self, span: TimeRange, step_seconds: int) -> Grid:
        """The steps of *span*; Invalid when there are too many."""
        return Grid(span, step_seconds, self.time_zone)
