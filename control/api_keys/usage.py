"""Carries usage from ClickHouse into PostgreSQL, and keeps the quotas of the month.

ClickHouse notes with every row when it was told (ToldAt, by its own clock). A copy reads the days
of which anything was told since the last one, and writes the whole of each: however often it is
repeated, and however late a document comes, the numbers are the same.
"""

import asyncio
import logging
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

COPY_SECONDS: Final = 30.0
# An INSERT becomes visible at most so long after the ToldAt of its rows.
OVERLAP: Final = timedelta(minutes=5)
_SINCE_EVER: Final = datetime(2000, 1, 1, tzinfo=UTC)
_DAY: Final = timedelta(days=1)

logger = logging.getLogger(__name__)


class UsageCopy:
    """Copies until it is told to stop; any number of processes may, one of them does."""

    def __init__(
        self, database: Database, clickhouse: ClickHouse, clickhouse_database: str
    ) -> None:
        self._work = UnitOfWork(database, UsageRows)
        self._clickhouse = clickhouse
        self._table = f"`{clickhouse_database}`.tf_usage"
        self._is_waiting = False

    async def run(self, stopping: asyncio.Event) -> None:
        """Copy and keep quotas, every half minute; databases that are away are waited for."""
        await repeat(
            lambda: self.step(now=utc_now()),
            every_seconds=COPY_SECONDS,
            stopping=stopping,
            failing="usage and quotas wait",
        )

    async def step(self, *, now: datetime) -> None:
        """Copy what is new; whether or not ClickHouse answers, keep the quotas."""
        try:
            await self.copy()
        except (Unavailable, SchemaMismatch) as error:
            if not self._is_waiting:
                logger.warning("usage is not copied until ClickHouse answers: %s", error)
            self._is_waiting = True
        else:
            if self._is_waiting:
                logger.info("usage is copied again")
            self._is_waiting = False
        await self.keep_quotas(now=now)

    async def copy(self) -> int:
        """Copy the days of which anything was told since the last time; how many rows.

        Raises Unavailable, or SchemaMismatch when the tables are not there yet.
        """
        async with self._work.begin(PLATFORM) as usage:
            since = (await usage.copied_until() or _SINCE_EVER) - OVERLAP
        ((unix_now,),) = await self._clickhouse.query("SELECT toUnixTimestamp(now())")
        told_at = datetime.fromtimestamp(int(unix_now), UTC)
        # A clock that was put back, or a copy of an older ClickHouse.
        since = min(since, told_at - OVERLAP)
        copied = 0
        for day in await self._changed_days(since):
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

    async def _changed_days(self, since: datetime) -> list[date]:
        rows = await self._clickhouse.query(
            f"SELECT DISTINCT toDate(Hour, 'UTC') AS Day FROM {self._table} "  # noqa: S608 - names of our own
            f"WHERE ToldAt >= toDateTime({int(since.timestamp())}) ORDER BY Day"
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
