"""Routes of usage: what was stored, and how much of the month's quota that is."""

from control.api_keys.commands.keys import place_of
from control.api_keys.queries import usage as queries
from control.api_keys.queries.keys import get_api_key
from control.api_keys.queries.usage import KeyUsage, KeyUsageQuery, TenantUsage, UsageQuery
from shared.clickhouse.client import ClickHouse
from shared.http.call import Call
from shared.http.routes import Routes
from shared.messaging.events import utc_now

routes = Routes("Usage", "What was stored, by key and signal; quotas count it.")


@routes.get(
    "/api-keys/{id}/usage",
    permission="api-keys:read",
    query=KeyUsageQuery,
    answer=KeyUsage,
    errors=(503,),
)
async def get_api_key_usage(call: Call, query: KeyUsageQuery) -> KeyUsage:
    """Get what was stored with a key, by day, or by hour for at most a week."""
    place, now = place_of(call.caller), utc_now()
    first, last = query.days(now)
    async with call.read() as connection:
        key = await get_api_key(connection, call.id(), place)
        tenant = await connection.fetchval(
            "SELECT telemetry_id FROM tenants WHERE id = $1", place.tenant_id
        )
        if query.granularity == "day":
            data = await queries.usage_by_day(
                connection, place.tenant_id, query, key_id=key.key_id, now=now
            )
    if query.granularity == "hour":
        data = await queries.usage_by_hour(
            call.service(ClickHouse),
            call.services.settings.clickhouse_database,
            tenant,
            key_id=key.key_id,
            query=query,
            now=now,
        )
    return KeyUsage(
        first_day=first,
        last_day=last,
        last_used_at=key.last_used_at,
        data=data,
        totals=queries.totals_of(data),
    )


@routes.get("/usage", permission="api-keys:read", query=UsageQuery, answer=TenantUsage)
async def get_usage(call: Call, query: UsageQuery) -> TenantUsage:
    """Get what was stored for the tenant that you work in, and the quotas of its organization."""
    place, now = place_of(call.caller), utc_now()
    first, last = query.days(now)
    async with call.read() as connection:
        data = await queries.usage_by_day(connection, place.tenant_id, query, key_id=None, now=now)
        return TenantUsage(
            first_day=first,
            last_day=last,
            copied_until=await queries.copied_until(connection),
            data=data,
            totals=queries.totals_of(data),
            keys=await queries.usage_by_key(connection, place.tenant_id, query, now=now),
            quotas=await queries.quotas_of_tenant(connection, place.tenant_id, now=now),
        )
