"""The labels of metric series, noted by a job, because a view on insert would cost too much.

Call `run_due` every minute. It fills `tf_metric_series` with the labels of series that appeared in
the last minutes, once more of each hour after its end, and of older points in what was stored since
the last call, however late they came. Every step may be repeated, also by several processes: a
series is replaced by itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

HOUR_SECONDS: Final = 3_600
# An hour is looked at so long after its end: senders that retry are through by then.
CLOSED_AFTER_SECONDS: Final = 900
# Series are looked for in the points of so long: the calls overlap, so that none is missed.
RECENT_SECONDS: Final = 600
# After a pause, so much is made up for, and so many hours by one call.
HOURS_BACK_MAX: Final = 24
HOURS_PER_CALL_MAX: Final = 6
# What was stored so long before the last look may have become visible after it.
STORING_SECONDS_MAX: Final = 60
# If looking at what was stored fails for longer, older points of that time are not looked for.
STORED_BACK_SECONDS_MAX: Final = 600

METRIC_TABLES: Final = (
    "tf_metrics_gauge",
    "tf_metrics_sum",
    "tf_metrics_histogram",
    "tf_metrics_exponential_histogram",
    "tf_metrics_summary",
)
# One block, so that the token stands for all of it; and never in the way of ingestion.
_SETTINGS: Final = {
    "async_insert": "0",
    "max_threads": "1",
    "max_insert_threads": "1",
    "min_insert_block_size_rows": "10000000",
    "min_insert_block_size_bytes": "4000000000",
    "max_memory_usage": "2000000000",
    "max_execution_time": "50",
}


class Client(Protocol):
    """The part of `ClickHouse` that is needed here."""

    async def query(self, sql: str) -> Sequence[Sequence[Any]]:
        """The rows of a SELECT."""

    async def command(self, sql: str, settings: Mapping[str, str] | None = None) -> None:
        """A statement without a result."""


async def run_due(
    client: Client, *, database: str, now_seconds: float, looked_seconds: float = 0
) -> int:
    """Carry out what is due; gives the number of hours that were looked at.

    *looked_seconds*: when the last call that was carried out began. Errors are the client's; what
    is then missing is made up for by a later call.
    """
    now = int(now_seconds)
    for table in METRIC_TABLES:
        await note_series(client, database, table, start=now - RECENT_SECONDS, end=now + 60)
    due = await _due(client, database, now)
    for table, hour in due:
        await note_series(client, database, table, start=hour, end=hour + HOUR_SECONDS)
        await client.command(
            f"INSERT INTO {database}.tf_rollup_runs (Source, Hour) "
            f"SELECT '{table}', toDateTime({hour})"
        )
    for table, start, end, parts in await _stored_late(client, database, now, int(looked_seconds)):
        await note_series(client, database, table, start=start, end=end, parts=parts)
    return len({hour for _table, hour in due})


async def _due(client: Client, database: str, now: int) -> list[tuple[str, int]]:
    """Tables and the closed hours of theirs that were not looked at yet, the newest first."""
    newest = (now - CLOSED_AFTER_SECONDS) // HOUR_SECONDS * HOUR_SECONDS - HOUR_SECONDS
    oldest = newest - (HOURS_BACK_MAX - 1) * HOUR_SECONDS
    rows = await client.query(
        f"SELECT Source, toUnixTimestamp(Hour) FROM {database}.tf_rollup_runs "  # noqa: S608
        f"WHERE Hour >= toDateTime({oldest})"
    )
    done = {(str(source), int(hour)) for source, hour in rows}
    hours = [
        hour
        for hour in range(newest, oldest - 1, -HOUR_SECONDS)
        if any((table, hour) not in done for table in METRIC_TABLES)
    ]
    return [
        (table, hour)
        for hour in hours[:HOURS_PER_CALL_MAX]
        for table in METRIC_TABLES
        if (table, hour) not in done
    ]


async def _stored_late(
    client: Client, database: str, now: int, looked: int
) -> list[tuple[str, int, int, Sequence[str]]]:
    """Where points are that were stored since *looked*, and late: table, times, and parts, by day.

    What was stored is in a part that was made then, or of such parts by a merge since. Of a part
    that is merged before it is read, the next call finds what became of it.
    """
    end = now - RECENT_SECONDS
    seconds = min(now - looked + STORING_SECONDS_MAX, STORED_BACK_SECONDS_MAX)
    rows = await client.query(
        "SELECT table, toUnixTimestamp(min(min_time)), toUnixTimestamp(max(max_time)), "  # noqa: S608
        f"groupArray(name) FROM system.parts WHERE database = '{database}' "
        # Times of making are those of the server's clock, which need not be ours.
        f"AND table IN {METRIC_TABLES} AND active AND modification_time >= now() - {seconds} "
        f"AND min_time < toDateTime({end}) GROUP BY table, toDate(min_time)"
    )
    return [(table, first, min(last + 1, end), parts) for table, first, last, parts in rows]


async def note_series(
    client: Client, database: str, table: str, *, start: int, end: int, parts: Sequence[str] = ()
) -> None:
    """Note the labels of the series from *start* up to *end* (seconds since 1970).

    Only of those that the catalogue does not know on that day; with *parts*, of points in them.
    """
    prefix = f"{database}."
    series = "cityHash64(TenantId, MetricName, SeriesHash, {day})"
    in_parts = f"AND _part IN ({', '.join(map(repr, parts))}) " if parts else ""
    await client.command(
        f"INSERT INTO {prefix}tf_metric_series (TenantId, MetricName, ServiceName, SeriesHash, "  # noqa: S608
        "Day, ResourceAttributes, Attributes) "
        "SELECT TenantId, MetricName, ServiceName, SeriesHash, toDate(TimeUnix) AS PointDay, "
        f"any(ResourceAttributes), any(Attributes) FROM {prefix}{table} "
        f"WHERE TimeUnix >= toDateTime({start}) AND TimeUnix < toDateTime({end}) {in_parts}"
        f"AND {series.format(day='toDate(TimeUnix)')} NOT IN "
        f"(SELECT {series.format(day='Day')} FROM {prefix}tf_metric_series "
        f"WHERE Day >= toDate(toDateTime({start})) AND "
        f"Day <= toDate(toDateTime({end}))) "
        "GROUP BY TenantId, MetricName, ServiceName, SeriesHash, PointDay",
        _SETTINGS,
    )
