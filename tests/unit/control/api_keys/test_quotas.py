"""The month's quota: when it is nearly used, used up, refused, and when it begins anew."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest

from control.api_keys.domain.quotas import Noted, Quota, forecast, month_after, month_of

MARCH = date(2026, 3, 1)
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
ROOM = Noted(MARCH)


def quota(used: int, *, most: int | None = 1_000, grace_days: int = 7) -> Quota:
    return Quota(
        organization_id=uuid4(),
        signal="logs",
        month=MARCH,
        items_max=most,
        items_used=used,
        grace_days=grace_days,
    )


def told(one: Quota, noted: Noted, after: Noted) -> list[str]:
    return [event.type for event in one.events(noted, after)]


def test_G20_a_quota_is_nearly_used_at_80_percent_and_used_up_at_100() -> None:
    states = {
        used: quota(used).judge(ROOM, now=NOW).state for used in (0, 799, 800, 999, 1_000, 5_000)
    }
    assert states == {
        0: None,
        799: None,
        800: "nearly_used",
        999: "nearly_used",
        1_000: "grace",
        5_000: "grace",
    }
    assert quota(10**12, most=None).judge(ROOM, now=NOW) is ROOM


def test_G20_each_step_up_is_told_once() -> None:
    noted, steps = ROOM, []
    for used, days in ((800, 0), (900, 0), (1_000, 0), (1_500, 1), (1_500, 7), (1_600, 8)):
        one = quota(used)
        after = one.judge(noted, now=NOW + timedelta(days=days))
        steps.append(told(one, noted, after))
        noted = after
    assert steps == [
        ["IngestionQuotaNearlyUsed"],
        [],
        ["IngestionQuotaUsedUp"],
        [],
        ["IngestionQuotaRefused"],
        [],
    ]


def test_the_end_of_the_grace_never_moves_within_the_month() -> None:
    noted = quota(1_000).judge(ROOM, now=NOW)
    assert noted.grace_ends_at == NOW + timedelta(days=7)
    later = quota(2_000, grace_days=31).judge(noted, now=NOW + timedelta(days=3))
    assert (later.state, later.grace_ends_at) == ("grace", noted.grace_ends_at)
    # A bigger plan for a while.
    bigger = quota(2_000, most=2_400).judge(later, now=NOW + timedelta(days=4))
    assert bigger.state == "nearly_used"
    back = quota(2_000).judge(bigger, now=NOW + timedelta(days=8))
    assert (back.state, back.grace_ends_at) == ("refused", noted.grace_ends_at)


def test_without_a_grace_it_is_refused_at_once() -> None:
    one = quota(1_000, grace_days=0)
    after = one.judge(ROOM, now=NOW)
    assert after.state == "refused"
    assert told(one, ROOM, after) == ["IngestionQuotaRefused"]


def test_the_next_month_and_a_plan_with_room_begin_anew() -> None:
    refused = Noted(MARCH, "refused", 1_000, 1_000, NOW)
    april = replace(quota(0), month=date(2026, 4, 1))
    assert april.judge(refused, now=NOW).state is None
    at_once = replace(quota(1_200), month=date(2026, 4, 1))
    after = at_once.judge(refused, now=NOW)
    assert (after.state, after.grace_ends_at) == ("grace", NOW + timedelta(days=7))
    assert told(at_once, refused, after) == ["IngestionQuotaUsedUp"]
    assert quota(1_000, most=10_000).judge(refused, now=NOW).state is None
    assert quota(1_000, most=None).judge(refused, now=NOW).state is None


def test_less_than_one_percent_is_no_news() -> None:
    noted = quota(850).judge(ROOM, now=NOW)
    assert quota(859).judge(noted, now=NOW) is noted
    assert quota(860).judge(noted, now=NOW).items_used == 860
    assert quota(840).judge(noted, now=NOW).items_used == 840
    assert quota(850, most=1_010).judge(noted, now=NOW).items_max == 1_010


@pytest.mark.parametrize(
    ("at", "month"),
    [
        ("2026-02-28T23:59:59+00:00", date(2026, 2, 1)),
        ("2026-03-01T00:00:00+00:00", MARCH),
        # In Jakarta it is March already, in New York still February.
        ("2026-03-01T06:59:59+07:00", date(2026, 2, 1)),
        ("2026-02-28T19:00:00-05:00", MARCH),
    ],
)
def test_a_month_is_that_of_utc(at: str, month: date) -> None:
    assert month_of(datetime.fromisoformat(at)) == month


def test_the_forecast_goes_on_as_the_month_so_far() -> None:
    assert month_after(date(2026, 12, 1)) == date(2027, 1, 1)
    assert forecast(100, now=datetime(2026, 3, 2, tzinfo=UTC)) == 3_100
    assert forecast(100, now=datetime(2026, 2, 15, tzinfo=UTC)) == 200
    # In the first hour as if it were over.
    assert forecast(1, now=datetime(2026, 2, 1, tzinfo=UTC)) == 28 * 24
    assert forecast(0, now=NOW) == 0
