"""Carries usage from ClickHouse into PostgreSQL, and keeps the quotas of the month.

ClickHouse notes with every row when it was told (ToldAt, by its own clock). A copy reads the days
of which anything was told since the last one, and writes the whole of each: however often it is
repeated, and however late a document comes, the numbers are the same.

A quota is noticed within ten seconds of being crossed (docs/api-keys.md): every few seconds a copy
looks at what was told just now of the last hours, and once a minute at all that came late.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Final

from control.api_keys.domain.quotas import month_of
from control.api_keys.repository.usage import UsageRows, UsedInADay
from shared.clickhouse.client import ClickHouse
from shared.clickhouse.exception_codes import SchemaMismatch
from shared.errors import Unavailable
from shared.messaging.events import utc_now
from shared.postgres.database import Database, UnitOfWork
from shared.postgres.scope import PLATFORM
from shared.repeating import repeat

COPY_SECONDS: Final = 3.0
# However much there is to copy, it takes at most a fifth of the time.
REST_FACTOR: Final = 4
WIDE_SECONDS: Final = 60.0
# An INSERT becomes visible at most five minutes after the ToldAt of its rows; a minute for the time
# between two wide looks.
OVERLAP: Final = timedelta(minutes=6)
# Of the looks in between: what nearly every INSERT takes, of hours that are counted right now.
NARROW_OVERLAP: Final = timedelta(seconds=10)
NARROW_HOURS: Final = timedelta(hours=2)
_SINCE_EVER: Final = datetime(2000, 1, 1, tzinfo=UTC)
_DAY: Final = timedelta(days=1)

logger = logging.getLogger(__name__)


class UsageCopy:
    """Copies until it is told to stop; any number of processes may, one of them does."""

    def __init__(
        self,
        database: Database,
        clickhouse: ClickHouse,
        clickhouse_database: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work = UnitOfWork(database, UsageRows)
        self._clickhouse = clickhouse
        self._table = f"`{clickhouse_database}`.tf_usage"
        self._is_waiting = False
        self._clock = clock
        self._wide_at = float("-inf")

    async def run(self, stopping: asyncio.Event) -> None:
        """Copy and keep quotas, every few seconds; databases that are away are waited for."""
        await repeat(
            lambda: self._paced_step(stopping),
            every_seconds=COPY_SECONDS,
            stopping=stopping,
            failing="usage and quotas wait",
        )

    async def _paced_step(self, stopping: asyncio.Event) -> None:
        begun = self._clock()
        await self.step(now=utc_now())
        rest = (self._clock() - begun) * REST_FACTOR - COPY_SECONDS
        if rest > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), rest)

    async def step(self, *, now: datetime) -> None:
        """Copy what is new; whether or not ClickHouse answers, keep the quotas."""
        begun = self._clock()
        is_wide = begun >= self._wide_at
        try:
            await self.copy(is_wide=is_wide)
        except (Unavailable, SchemaMismatch) as error:
            if not self._is_waiting:
                logger.warning("usage is not copied until ClickHouse answers: %s", error)
            self._is_waiting = True
        else:
            if self._is_waiting:
                logger.info("usage is copied again")
            self._is_waiting = False
            if is_wide:
                self._wide_at = begun + WIDE_SECONDS
        await self.keep_quotas(now=now)

    async def copy(self, *, is_wide: bool = True) -> int:
        """Copy the days of which anything was told since the last time; how many rows.

        Unless it *is_wide*, what came late or is of earlier hours is left to one that is.
        Raises Unavailable, or SchemaMismatch when the tables are not there yet.
        """
        async with self._work.begin(PLATFORM) as usage:
            until = await usage.copied_until()
        # The first copy ever has everything to look at.
        is_wide = is_wide or until is None
        overlap = OVERLAP if is_wide else NARROW_OVERLAP
        since = (until or _SINCE_EVER) - overlap
        ((unix_now,),) = await self._clickhouse.query("SELECT toUnixTimestamp(now())")
        told_at = datetime.fromtimestamp(int(unix_now), UTC)
        # A clock that was put back, or a copy of an older ClickHouse.
        since = min(since, told_at - overlap)
        first_hour = _SINCE_EVER if is_wide else since - NARROW_HOURS
        copied = 0
        for day in await self._changed_days(since, first_hour):
            # One day at a time: a first copy of two years must fit into memory.
            async with self._work.begin(PLATFORM) as usage:
                if not await usage.is_alone():
                    return copied
                rows = await self._day(day, since)
                await usage.save_day(day, rows)
                copied += len(rows)
        async with self._work.begin(PLATFORM) as usage:
            await usage.note_copied(told_at)
        return copied

    async def keep_quotas(self, *, now: datetime) -> None:
        """Compare the month with each organization's plan, and note and tell what changed."""
        async with self._work.begin(PLATFORM) as usage:
            if not await usage.is_alone():
                return
            for quota, noted in await usage.quotas(month_of(now)):
                after = quota.judge(noted, now=now)
                if after is not noted:
                    await usage.save_quota(quota, noted, after)

    async def _changed_days(self, since: datetime, first_hour: datetime) -> list[date]:
        rows = await self._clickhouse.query(
            f"SELECT DISTINCT toDate(Hour, 'UTC') AS Day FROM {self._table} "  # noqa: S608 - names of our own
            f"WHERE ToldAt >= toDateTime({int(since.timestamp())}) "
            f"AND Hour >= toDateTime({int(first_hour.timestamp())}) ORDER BY Day"
        )
        return [day for (day,) in rows]

    async def _day(self, day: date, since: datetime) -> list[UsedInADay]:
        """The whole of each row of that day of which anything was told."""
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        rows = await self._clickhouse.query(
            "SELECT TenantId, KeyId, Signal, sum(Items), sum(Bytes), "  # noqa: S608 - names of our own
            f"toUnixTimestamp(max(LastMinute)) FROM {self._table} "
            f"WHERE Hour >= toDateTime({int(start.timestamp())}) "
            f"AND Hour < toDateTime({int((start + _DAY).timestamp())}) "
            "GROUP BY TenantId, KeyId, Signal "
            f"HAVING max(ToldAt) >= toDateTime({int(since.timestamp())})"
        )
        return [
            UsedInADay(
                *(tenant, key_id, signal, int(items), int(size)),
                datetime.fromtimestamp(int(last), UTC),
            )
            for tenant, key_id, signal, items, size, last in rows
        ]
