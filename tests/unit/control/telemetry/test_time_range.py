"""Times, durations, and days of the calendar."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.telemetry.queries.time_range import (
    DAY_NS,
    SECOND_NS,
    Grid,
    TimeRange,
    iso,
    range_of,
    time_ns,
)
from shared.errors import Invalid


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", None),
        ("2026-11-28T16:00:00Z", 1_795_881_600_000_000_000),
        ("2026-11-28T16:00:00", 1_795_881_600_000_000_000),
        ("2026-11-28T18:00:00+02:00", 1_795_881_600_000_000_000),
        ("2026-11-28T18:00:00 02:00", 1_795_881_600_000_000_000),
        ("2026-11-28T16:00:00.123456789Z", 1_795_881_600_123_456_789),
        ("2026-11-28T16:00:00.1Z", 1_795_881_600_100_000_000),
        ("1795881600123456789", 1_795_881_600_123_456_789),
        ("9999999999999999999", None),
        ("yesterday", None),
        ("2026-13-28T16:00:00Z", None),
        ("2026-11-28T16:00:00.1234567890Z", None),
    ],
)
def test_times_are_read_to_the_nanosecond(text: str, expected: int | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="give a time"):
            time_ns(text)
    else:
        assert time_ns(text) == expected
        assert time_ns(iso(expected)) == expected


def test_S46_a_range_that_is_empty_or_endless_is_refused() -> None:
    for start, end, last in (
        ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z", None),
        ("2016-01-02T00:00:00Z", "2026-01-01T00:00:00Z", None),
        (None, None, "9999w"),
        ("2026-01-02T00:00:00Z", None, "1h"),
    ):
        with pytest.raises(Invalid):
            range_of(start, end, last)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", datetime(2026, 3, 29, tzinfo=UTC), 23),
        ("Europe/Berlin", datetime(2026, 10, 25, tzinfo=UTC), 25),
        ("UTC", datetime(2026, 10, 25, tzinfo=UTC), 24),
        ("Asia/Kathmandu", datetime(2026, 10, 25, tzinfo=UTC), 24),
    ],
)
def test_days_have_the_hours_of_their_calendar(zone: str, day: datetime, hours: int) -> None:
    noon = int(day.replace(hour=12, tzinfo=ZoneInfo(zone)).timestamp()) * SECOND_NS

    grid = Grid(TimeRange(noon, noon + 2 * DAY_NS), 86_400, zone)
    starts = grid.starts()

    assert starts[1] - starts[0] == hours * 3_600 * SECOND_NS
    assert [grid.end_of(start) for start in starts[:-1]] == starts[1:]
    assert starts[0] <= noon < starts[1]


YEAR_2026_NS = 1_767_225_600 * SECOND_NS


@given(
    zone=st.sampled_from(
        ["Europe/Berlin", "Africa/Cairo", "America/Havana", "Australia/Lord_Howe", "UTC"]
    ),
    start=st.integers(0, 365 * 24 * 4),
    quarters=st.integers(1, 9 * 24 * 4),
    days=st.integers(1, 400),
)
def test_an_earlier_range_has_the_same_days_that_many_days_before(
    zone: str, start: int, quarters: int, days: int
) -> None:
    """Also of zones whose clocks change at midnight."""
    quarter = 900 * SECOND_NS
    span = TimeRange(YEAR_2026_NS + start * quarter, YEAR_2026_NS + (start + quarters) * quarter)

    before = span.earlier(days * 86_400, zone)

    def days_of(one: TimeRange) -> list[datetime]:
        starts = Grid(one, 86_400, zone).starts()
        return [datetime.fromtimestamp(at // SECOND_NS, ZoneInfo(zone)) for at in starts]

    assert [one.date() for one in days_of(before)] == [
        one.date() - timedelta(days=days) for one in days_of(span)
    ]


def test_a_grid_has_a_limit() -> None:
    with pytest.raises(Invalid, match="longer step"):
        Grid(TimeRange(0, DAY_NS), 1)


def test_a_rate_divides_by_what_has_passed_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000 * SECOND_NS
    monkeypatch.setattr("control.telemetry.queries.time_range.time.time_ns", lambda: now)
    span = TimeRange(900 * SECOND_NS, 1_020 * SECOND_NS)

    assert span.passed_seconds(900 * SECOND_NS, 960 * SECOND_NS) == 60
    assert span.passed_seconds(840 * SECOND_NS, 960 * SECOND_NS) == 60
    assert span.passed_seconds(960 * SECOND_NS, 1_080 * SECOND_NS) == 40
    # A step that just began, or that only data of clocks ahead of ours is in.
    assert span.passed_seconds(now - 1, now + 60 * SECOND_NS) == 1
    assert span.passed_seconds(now + SECOND_NS, now + 11 * SECOND_NS) == 10
