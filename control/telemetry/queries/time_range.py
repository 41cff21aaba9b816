"""When: time ranges, absolute and relative, and steps on a grid.

Times are integers of nanoseconds since the epoch, UTC, as OTLP has them.
"""

import re
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field

from shared.errors import Invalid

SECOND_NS: Final = 1_000_000_000
MINUTE_SECONDS: Final = 60
DAY_SECONDS: Final = 86_400
DAY_NS: Final = DAY_SECONDS * SECOND_NS
RANGE_DAYS_MAX: Final = 395
POINTS_MAX: Final = 11_000
# What came later than that belongs to a range that ended before is rare: answers may be kept.
CLOSED_AFTER_NS: Final = 300 * SECOND_NS
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_TIME: Final = re.compile(
    r"(?P<seconds>.{19})(?:\.(?P<fraction>\d{1,9}))?(?P<zone>Z|[+-]\d\d:\d\d)?"
)
_DURATION: Final = r"[1-9][0-9]{0,4}[smhdw]"
_NANOSECONDS: Final = re.compile(r"\d{19}")
# Steps for people, in seconds: the first with at most STEPS points is taken.
_STEPS: Final = (1, 5, 10, 15, 30, 60, 300, 900, 1_800, 3_600, 10_800, 21_600, 86_400)
_STEPS_MAX: Final = 120


def time_ns(text: str) -> int:
    """Nanoseconds of an ISO 8601 time (UTC unless it names a zone) or of 19 digits."""
    if _NANOSECONDS.fullmatch(text):
        found = int(text)
        if found < 2**63 - RANGE_DAYS_MAX * DAY_NS:
            return found
    # A plus sign in a query string is a space.
    match = _TIME.fullmatch(text.replace(" ", "+") if re.search(r" \d\d:\d\d$", text) else text)
    if match is not None:
        try:
            seconds = datetime.fromisoformat(f"{match['seconds']}{match['zone'] or '+00:00'}")
        except ValueError:
            seconds = None
        if seconds is not None and 1970 < seconds.year < 2260:
            epoch = datetime(1970, 1, 1, tzinfo=UTC)
            whole = (seconds - epoch) // timedelta(seconds=1)
            return whole * SECOND_NS + int((match["fraction"] or "0").ljust(9, "0"))
    raise ValueError("give a time as 2026-11-28T16:00:00Z or as nanoseconds since 1970, after 1970")


def iso(time_in_ns: int) -> str:
    """As answers have it, to the nanosecond."""
    seconds, fraction = divmod(time_in_ns, SECOND_NS)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def duration_seconds(text: str) -> int:
    """Seconds of a duration such as 15m."""
    return int(text[:-1]) * _UNITS[text[-1]]


def _is_duration(text: str) -> str:
    if not re.fullmatch(_DURATION, text):
        raise ValueError("give a number and s, m, h, d or w, such as 15m")
    return text


def _is_time(text: str) -> str:
    time_ns(text)
    return text


def _is_zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("no such time zone: give a name such as Europe/Berlin") from None
    return text


Time = Annotated[
    str,
    Field(
        max_length=40,
        description="ISO 8601 with up to nine digits of a second, or nanoseconds since 1970",
        examples=["2026-11-28T16:00:00Z"],
    ),
    AfterValidator(_is_time),
]
Duration = Annotated[
    str,
    Field(
        description="a number and s, m, h, d or w",
        examples=["1h"],
        json_schema_extra={"pattern": f"^{_DURATION}$"},
    ),
    AfterValidator(_is_duration),
]
TimeZone = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_+/-]{1,64}$", examples=["UTC"]),
    AfterValidator(_is_zone),
]


@dataclass(frozen=True, slots=True)
class TimeRange:
    """From *start_ns* on, before *end_ns*."""

    start_ns: int
    end_ns: int

    def __post_init__(self) -> None:
        """Invalid when it is empty."""
        if self.start_ns >= self.end_ns:
            raise Invalid("the time range is empty: startTime comes before endTime")

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (self.end_ns - self.start_ns) / SECOND_NS

    def passed_seconds(self, start_ns: int, end_ns: int) -> float:
        """How much of a step lies in the range and is over: what a rate divides by.

        A range that is widened for a rollup ends a little ahead. At least a second, or all of a
        shorter step: a clock that is ahead of ours shall not make a peak of a step that just began.
        """
        # Asked for each step, so without calls.
        start_ns = max(self.start_ns, start_ns)
        end_ns = min(self.end_ns, end_ns)
        if start_ns < (now_ns := time.time_ns()) < end_ns:
            end_ns = min(max(now_ns, start_ns + SECOND_NS), end_ns)
        return (end_ns - start_ns if end_ns > start_ns else 1) / SECOND_NS

    @property
    def is_closed(self) -> bool:
        """Whether it ended so long ago that answers may be kept for a while."""
        return self.end_ns < time.time_ns() - CLOSED_AFTER_NS

    def earlier(self, seconds: int, time_zone: str | None = None) -> "TimeRange":
        """The same, *seconds* before; Invalid when there was no time yet.

        Whole days in a *time_zone* are those of its calendar, of 23 to 25 hours: from 9 o'clock it
        is so many days back to 9 o'clock, and from midnight to midnight.
        """
        if self.start_ns < seconds * SECOND_NS:
            raise Invalid("the time to compare with begins before 1970", field="compareTo")
        if time_zone is None or seconds % DAY_SECONDS:
            return TimeRange(self.start_ns - seconds * SECOND_NS, self.end_ns - seconds * SECOND_NS)
        days, zone = timedelta(seconds=seconds), ZoneInfo(time_zone)
        start = max(_days_before(self.start_ns, days, zone), 0)
        # Of a part of the hour that there is twice, nothing may be left.
        return TimeRange(start, max(_days_before(self.end_ns, days, zone), start + 1))

    def widened(self, seconds: int) -> "TimeRange":
        """Its ends moved outwards to multiples of *seconds*."""
        unit = seconds * SECOND_NS
        return TimeRange(self.start_ns // unit * unit, -(-self.end_ns // unit) * unit)

    def is_aligned(self, seconds: int) -> bool:
        """Whether its ends are multiples of *seconds*."""
        unit = seconds * SECOND_NS
        return not self.start_ns % unit and not self.end_ns % unit


def range_of(
    start: str | None, end: str | None, last: str | None, *, default: str = "1h"
) -> TimeRange:
    """The range that is given, or the *default* up to now."""
    if last is not None and start is not None:
        raise Invalid("give startTime or last, not both", field="last")
    end_ns = time.time_ns() if end is None else time_ns(end)
    start_ns = end_ns - duration_seconds(last or default) * SECOND_NS
    if start is not None:
        start_ns = time_ns(start)
    if end_ns - start_ns > RANGE_DAYS_MAX * DAY_NS:
        raise Invalid(f"a time range has at most {RANGE_DAYS_MAX} days")
    if start_ns < 0:
        raise Invalid("the time range begins before 1970")
    return TimeRange(start_ns, end_ns)


@dataclass(frozen=True, slots=True)
class Grid:
    """Buckets of *step_seconds*, aligned to the epoch; days begin at midnight of *time_zone*."""

    span: TimeRange
    step_seconds: int
    time_zone: str = "UTC"

    def __post_init__(self) -> None:
        """Invalid when there would be too many buckets."""
        if self.span.seconds / self.step_seconds > POINTS_MAX:
            raise Invalid(f"more than {POINTS_MAX} points: take a longer step", field="step")
        if self.step_seconds > DAY_SECONDS:
            raise Invalid("the longest step is 1d", field="step")

    @property
    def is_daily(self) -> bool:
        """Whether a bucket is a day of the calendar, of 23 to 25 hours."""
        return self.step_seconds == DAY_SECONDS

    def starts(self) -> list[int]:
        """The beginning of each bucket, in nanoseconds; the first may be before the range."""
        if not self.is_daily:
            step = self.step_seconds * SECOND_NS
            first = self.span.start_ns // step * step
            return list(range(first, self.span.end_ns, step))
        zone = ZoneInfo(self.time_zone)
        day = datetime.fromtimestamp(self.span.start_ns // SECOND_NS, zone).date()
        found = []
        while (start := _midnight(day, zone)) < self.span.end_ns:
            found.append(start)
            day += timedelta(days=1)
        return found

    def end_of(self, start_ns: int) -> int:
        """The end of the bucket that begins at *start_ns*."""
        if not self.is_daily:
            return start_ns + self.step_seconds * SECOND_NS
        zone = ZoneInfo(self.time_zone)
        day = datetime.fromtimestamp(start_ns // SECOND_NS, zone).date() + timedelta(days=1)
        return _midnight(day, zone)


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * SECOND_NS


def _days_before(time_in_ns: int, days: timedelta, zone: ZoneInfo) -> int:
    seconds, fraction = divmod(time_in_ns, SECOND_NS)
    at = datetime.fromtimestamp(seconds, zone)
    # Some days begin at 1 o'clock.
    if time_in_ns == _midnight(at.date(), zone):
        return _midnight(at.date() - days, zone)
    return int((at - days).timestamp()) * SECOND_NS + fraction


def step_for(span: TimeRange, step: str | None, *, least: int = 1) -> int:
    """The step that is given, or one that gives a picture of at most 120 points."""
    if step is not None:
        return duration_seconds(step)
    wanted = [one for one in _STEPS if one >= least and span.seconds / one <= _STEPS_MAX]
    return wanted[0] if wanted else 86_400
