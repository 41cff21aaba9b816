"""Reads of usage: what was stored, by day from PostgreSQL, by hour from ClickHouse."""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import BeforeValidator, Field

from control.api_keys.domain.quotas import State, forecast, month_after, month_of
from shared.clickhouse.client import ClickHouse
from shared.errors import Invalid
from shared.http.models import Query, View
from shared.postgres.connection import Connection

DAYS_DEFAULT: Final = 30
# As long as usage is kept; hours are asked of ClickHouse itself, for as long as a chart can show.
DAYS_MAX: Final = 25 * 31
HOURLY_DAYS_MAX: Final = 7
KEYS_SHOWN_MAX: Final = 1_000
SIGNALS: Final = ("metrics", "logs", "traces")

Signal = Literal["metrics", "logs", "traces"]


def _is_a_day(text: object) -> object:
    # Else a number is taken for seconds since 1970.
    if isinstance(text, str) and not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError("give a day such as 2026-03-31")
    return text


Day = Annotated[date, BeforeValidator(_is_a_day)]


class UsageQuery(Query):
    """Which days (UTC), both included; by default the last 30."""

    since: Day | None = Field(None, alias="from", description="the first day, UTC")
    until: Day | None = Field(None, alias="to", description="the last day, UTC")
    signal: Signal | None = Field(None, description="only this one")

    def days(self, now: datetime) -> tuple[date, date]:
        """The first and the last day; Invalid when they are too many, or none."""
        last = self.until or now.astimezone(UTC).date()
        first = self.since
        if first is None:
            first = date.fromordinal(max(1, last.toordinal() - self._days_default() + 1))
        if not 0 <= (last - first).days < DAYS_MAX:
            raise Invalid(f"give at least one day and at most {DAYS_MAX}", field="from")
        return first, last

    def _days_default(self) -> int:
        return DAYS_DEFAULT


class KeyUsageQuery(UsageQuery):
    """Which days (UTC), both included, and how fine; by default the last 30, by hour the last 7."""

    granularity: Literal["day", "hour"] = Field(
        "day", description=f"`hour` for at most {HOURLY_DAYS_MAX} days"
    )

    def _days_default(self) -> int:
        return HOURLY_DAYS_MAX if self.granularity == "hour" else DAYS_DEFAULT


class UsagePoint(View):
    """What was stored of one signal in a day or an hour."""

    start: datetime = Field(description="of the day or hour, UTC")
    signal: str = Field(examples=["logs"])
    items: int = Field(description="spans, data points or log records", examples=[120_000])
    bytes: int = Field(description="of the requests, as decompressed protobuf")


class SignalTotal(View):
    """All that was stored of one signal."""

    signal: str = Field(examples=["logs"])
    items: int
    bytes: int


class KeyTotal(View):
    """All that was stored of one signal with one key."""

    api_key_id: UUID | None = Field(
        description="null: sent without a key, or with one that is gone"
    )
    name: str | None
    signal: str = Field(examples=["logs"])
    items: int
    bytes: int


class KeyUsage(View):
    """What was stored with one key."""

    first_day: date
    last_day: date
    last_used_at: datetime | None = Field(description="to the minute")
    data: list[UsagePoint]
    totals: list[SignalTotal]


class QuotaView(View):
    """The organization's quota of one signal, in this calendar month (UTC)."""

    signal: str = Field(examples=["logs"])
    month: date
    items_used: int = Field(description="by all tenants of the organization")
    items_max: int | None = Field(description="null: no quota")
    items_forecast: int = Field(description="what the month comes to at the pace so far")
    state: State | None = Field(description="null: there is room")
    grace_ends_at: datetime | None = Field(description="from then on the signal is refused")


class TenantUsage(View):
    """What was stored for a tenant."""

    first_day: date
    last_day: date
    copied_until: datetime | None = Field(description="what was stored later may be missing")
    data: list[UsagePoint]
    totals: list[SignalTotal]
    keys: list[KeyTotal] = Field(description=f"those with most items, at most {KEYS_SHOWN_MAX}")
    quotas: list[QuotaView]


async def usage_by_day(
    connection: Connection, tenant_id: UUID, query: UsageQuery, *, key_id: str | None, now: datetime
) -> list[UsagePoint]:
    """By day and signal, with the key that clients call *key_id*, or with any."""
    first, last = query.days(now)
    rows = await connection.fetch(
        """
        SELECT day::timestamp AT TIME ZONE 'UTC' AS start, signal,
               sum(items)::bigint AS items, sum(bytes)::bigint AS bytes
          FROM usage_days
         WHERE tenant_id = $1 AND ($2::text IS NULL OR key_id = $2) AND day BETWEEN $3 AND $4
           AND ($5::text IS NULL OR signal = $5)
         GROUP BY day, signal ORDER BY day, signal
        """,
        *(tenant_id, key_id, first, last, query.signal),
    )
    return [UsagePoint.of(row) for row in rows]


async def usage_by_hour(
    clickhouse: ClickHouse,
    database: str,
    tenant: str,
    *,
    key_id: str,
    query: UsageQuery,
    now: datetime,
) -> list[UsagePoint]:
    """By hour and signal, as ClickHouse has it; Unavailable when that does not answer."""
    first, last = query.days(now)
    if (last - first).days >= HOURLY_DAYS_MAX:
        raise Invalid(f"by hour at most {HOURLY_DAYS_MAX} days", field="granularity")
    rows = await clickhouse.query(
        "SELECT toUnixTimestamp(Hour) AS Start, Signal, sum(Items), sum(Bytes) "
        f"FROM `{database}`.tf_usage "  # S608 - names of our own
        "WHERE TenantId = {tenant:String} AND KeyId = {key:String} "
        "AND Hour >= toDateTime({first:Int64}) AND Hour < toDateTime({end:Int64}) "
        "AND ({signal:String} = '' OR Signal = {signal:String}) "
        "GROUP BY Start, Signal ORDER BY Start, Signal",
        {
            "tenant": tenant,
            "key": key_id,
            "first": _unix(first),
            "end": _unix(last + timedelta(days=1)),
            "signal": query.signal or "",
        },
    )
    return [
        UsagePoint(
            start=datetime.fromtimestamp(int(start), UTC),
            signal=signal,
            items=int(items),
            bytes=int(size),
        )
        for start, signal, items, size in rows
    ]


async def usage_by_key(
    connection: Connection, tenant_id: UUID, query: UsageQuery, *, now: datetime
) -> list[KeyTotal]:
    """By key and signal, the most first; what has no key that is known stands together."""
    first, last = query.days(now)
    rows = await connection.fetch(
        """
        SELECT api_keys.id AS api_key_id, api_keys.name, signal,
               sum(items)::bigint AS items, sum(bytes)::bigint AS bytes
          FROM usage_days
          LEFT JOIN api_keys
            ON api_keys.key_id = usage_days.key_id
           AND api_keys.organization_id = usage_days.organization_id
         WHERE usage_days.tenant_id = $1 AND day BETWEEN $2 AND $3
           AND ($4::text IS NULL OR signal = $4)
         GROUP BY api_keys.id, api_keys.name, signal
         ORDER BY items DESC, api_keys.id, signal LIMIT $5
        """,
        *(tenant_id, first, last, query.signal, KEYS_SHOWN_MAX),
    )
    return [KeyTotal.of(row) for row in rows]


async def quotas_of_tenant(
    connection: Connection, tenant_id: UUID, *, now: datetime
) -> list[QuotaView]:
    """The quotas of the organization that the tenant belongs to, and what is used of them."""
    month = month_of(now)
    rows = await connection.fetch(
        """
        SELECT one.signal, coalesce(used.items, 0) AS items_used,
               CASE one.signal WHEN 'traces' THEN traces_per_month WHEN 'logs' THEN logs_per_month
                               ELSE metrics_per_month END AS items_max,
               noted.state, noted.grace_ends_at
          FROM tenants
         CROSS JOIN unnest($2::text[]) AS one (signal)
          LEFT JOIN organization_plans AS has ON has.organization_id = tenants.organization_id
          LEFT JOIN ingestion_plans ON ingestion_plans.name = has.plan
          LEFT JOIN ingestion_quotas AS noted
            ON noted.organization_id = tenants.organization_id AND noted.signal = one.signal
           AND noted.month = $3
          LEFT JOIN LATERAL (
            SELECT sum(items)::bigint AS items FROM usage_days AS days
             WHERE days.organization_id = tenants.organization_id AND days.signal = one.signal
               AND day >= $3 AND day < $4
          ) AS used ON true
         WHERE tenants.id = $1
        """,
        *(tenant_id, list(SIGNALS), month, month_after(month)),
    )
    return [
        QuotaView(
            month=month,
            items_forecast=forecast(row["items_used"], now=now),
            **dict(row),
        )
        for row in rows
    ]


async def copied_until(connection: Connection) -> datetime | None:
    """Until when usage by day is complete; None before the first copy."""
    until: datetime | None = await connection.fetchval("SELECT copied_until FROM usage_copies")
    return until


def totals_of(points: Iterable[UsagePoint]) -> list[SignalTotal]:
    """The sum of each signal, none where nothing was stored."""
    found: dict[str, tuple[int, int]] = {}
    for point in points:
        items, size = found.get(point.signal, (0, 0))
        found[point.signal] = items + point.items, size + point.bytes
    return [
        SignalTotal(signal=signal, items=items, bytes=size)
        for signal, (items, size) in sorted(found.items())
    ]


def _unix(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
