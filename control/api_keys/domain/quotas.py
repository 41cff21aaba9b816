"""A month's quota of one signal, as it is used up.

room ──80 %──▶ nearly_used ──100 %──▶ grace ──time over──▶ refused

Back to room with the next month, or with a plan that has more.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from control.api_keys.events import (
    IngestionQuotaNearlyUsed,
    IngestionQuotaRefused,
    IngestionQuotaUsedUp,
)
from shared.messaging.events import Event

State = Literal["nearly_used", "grace", "refused"]

NEARLY_USED_PERCENT: Final = 80
# Every note of a quota is told to gateways, so less than this of it is no news.
TOLD_PERCENT: Final = 1
_RANK: Final[dict[State | None, int]] = {None: 0, "nearly_used": 1, "grace": 2, "refused": 3}


@dataclass(frozen=True, slots=True)
class Noted:
    """What was noted of a quota last; *state* None: that it has room."""

    month: date
    state: State | None = None
    items_max: int = 0
    items_used: int = 0
    grace_ends_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """An organization's quota of a signal in a calendar month (UTC); *items_max* None: no limit."""

    organization_id: UUID
    signal: str
    month: date
    items_max: int | None
    items_used: int
    grace_days: int

    def judge(self, noted: Noted, *, now: datetime) -> Noted:
        """What is to be noted now; *noted* itself when that is no news."""
        before = noted if noted.month == self.month else Noted(self.month)
        after = self._state(before, now=now)
        is_news = (
            (noted.month, noted.state, noted.items_max, noted.grace_ends_at)
            != (after.month, after.state, after.items_max, after.grace_ends_at)
            # What has room is not noted at all, whatever its numbers.
            or abs(after.items_used - noted.items_used) * 100 >= after.items_max * TOLD_PERCENT > 0
        )
        return after if is_news else noted

    def events(self, noted: Noted, after: Noted) -> list[Event]:
        """What the organization is told when *after* takes the place of *noted*."""
        before = noted.state if noted.month == self.month else None
        if after.state is None or _RANK[after.state] <= _RANK[before]:
            return []
        event = {
            "nearly_used": IngestionQuotaNearlyUsed,
            "grace": IngestionQuotaUsedUp,
            "refused": IngestionQuotaRefused,
        }[after.state]
        return [
            event(
                aggregate_id=self.organization_id,
                organization_id=self.organization_id,
                signal=self.signal,
                month=self.month,
                items_used=after.items_used,
                items_max=after.items_max,
                grace_ends_at=after.grace_ends_at,
            )
        ]

    def _state(self, before: Noted, *, now: datetime) -> Noted:
        used, most = self.items_used, self.items_max
        if most is None or used * 100 < most * NEARLY_USED_PERCENT:
            return Noted(self.month)
        # Once set it stays for the month: a bigger plan that is given back buys no new grace.
        ends_at = before.grace_ends_at
        if used < most:
            return Noted(self.month, "nearly_used", most, used, ends_at)
        if ends_at is None:
            ends_at = now + timedelta(days=self.grace_days)
        return Noted(self.month, "refused" if now >= ends_at else "grace", most, used, ends_at)


def month_of(now: datetime) -> date:
    """The first day of the calendar month in UTC."""
    return now.astimezone(UTC).date().replace(day=1)


def month_after(month: date) -> date:
    """The first day of the next one."""
    return (month + timedelta(days=31)).replace(day=1)


def forecast(items_used: int, *, now: datetime) -> int:
    """What the month comes to when the rest of it goes on as its days so far."""
    first = month_of(now)
    start, end = (
        datetime(day.year, day.month, 1, tzinfo=UTC) for day in (first, month_after(first))
    )
    # The first hour says little about a month.
    passed = max(now - start, timedelta(hours=1))
    return round(items_used * ((end - start) / passed))
