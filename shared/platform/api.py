"""Routes of health and statistics."""

from datetime import datetime
from typing import Any, Final

from pydantic import Field

from shared.cache.cache import Cache
from shared.cache.keys import cache_key
from shared.http.call import Answer, Call
from shared.http.models import View
from shared.http.routes import Routes
from shared.messaging.commands import ANYBODY
from shared.messaging.events import utc_now
from shared.platform.health import Health, State

STATS_SECONDS: Final = 60.0

routes = Routes("Platform", "Health and figures of the installation.")


class HealthView(View):
    """How it stands: `degraded` works, but not all of it."""

    status: State
    engines: dict[str, State] = Field(examples=[{"postgres": "healthy"}])


class PlatformStats(View):
    """How much there is."""

    organizations: int
    workspaces: int
    tenants: int
    users: int
    active_sessions: int
    events_waiting: int = Field(description="deliveries of events that are still to be made")
    events_dead: int = Field(description="deliveries that were given up")
    timestamp: datetime


@routes.get("/health", permission=ANYBODY, answer=HealthView, is_prefixed=False)
async def get_health(call: Call) -> Answer:
    """Get whether the engines answer; 503 when nothing works without the one that does not."""
    report = await call.service(Health).report()
    view = HealthView(status=report.state, engines=report.engines)
    return Answer(view, status=503 if report.state is State.UNHEALTHY else 200)


@routes.get("/platform/stats", permission="platform:read", answer=PlatformStats)
async def get_platform_stats(call: Call) -> PlatformStats:
    """Get how much there is, of everything; counted anew every minute."""
    key = cache_key("platform", "platform", "stats")
    counted = await call.service(Cache).wrap(key, lambda: _count(call), ttl_seconds=STATS_SECONDS)
    return PlatformStats.model_validate(counted)


async def _count(call: Call) -> dict[str, Any]:
    async with call.read() as connection:
        row = await connection.fetchrow(
            """
            SELECT (SELECT count(*) FROM organizations WHERE deleted_at IS NULL) AS organizations,
                   (SELECT count(*) FROM workspaces WHERE deleted_at IS NULL) AS workspaces,
                   (SELECT count(*) FROM tenants WHERE deleted_at IS NULL) AS tenants,
                   (SELECT count(*) FROM users WHERE deleted_at IS NULL) AS users,
                   (SELECT count(*) FROM sessions WHERE ended_at IS NULL AND expires_at > now())
                     AS active_sessions,
                   (SELECT count(*) FROM event_deliveries WHERE state = 'waiting')
                     + (SELECT count(*) FROM outbox WHERE relayed_at IS NULL) AS events_waiting,
                   (SELECT count(*) FROM event_deliveries WHERE state = 'dead') AS events_dead
            """
        )
    return {**dict(row), "timestamp": utc_now()}
