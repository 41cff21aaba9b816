"""Real-time events to NATS, where a server is set: for screens that are open at this moment.

At most once and never waited for: the outbox is what delivers. NATS that is away costs a counter.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import nats
import orjson
from nats.aio.client import Client
from nats.errors import Error as NatsError
from prometheus_client import Counter

# What a screen shows within moments; everything else it asks for.
REALTIME_EVENTS: Final = frozenset(
    {
        "AlertTriggered",
        "MetricReceived",
        "DashboardUpdated",
        "UserStatusChanged",
        "TraceCompleted",
        "AuthLogin",
        "AuthLogout",
        "MfaValidated",
        "AuditLogCreated",
        "SsoLogin",
        "RolePermissionChanged",
        "SecurityEventDetected",
        "SuspiciousActivityDetected",
    }
)
CONNECT_SECONDS_MAX: Final = 2
RECONNECT_SECONDS: Final = 2
# What waits while the connection is away; more is dropped.
PENDING_BYTES_MAX: Final = 1_048_576
BROADCAST: Final = Counter(
    "telemetryflow_nats_broadcasts_total",
    "Events offered to NATS, by what became of them",
    ["outcome"],
)

logger = logging.getLogger(__name__)


class RealtimePublisher:
    """Publishes to `events.<Type>`; connects in the background, and again for ever."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __call__(self, rows: Sequence[Any]) -> None:
        """Offer the real-time ones among *rows* of the outbox; returns at once."""
        for row in rows:
            if row["event_type"] not in REALTIME_EVENTS:
                continue
            if not self._client.is_connected:
                BROADCAST.labels("dropped").inc()
                continue
            task = asyncio.ensure_future(self._publish(row))
            task.add_done_callback(_counted)

    async def _publish(self, row: Any) -> None:
        message = {
            "type": row["event_type"],
            "data": row["payload"],
            "timestamp": row["occurred_at"],
            "eventId": row["event_id"],
            "organizationId": row["organization_id"],
            "tenantId": row["tenant_id"],
        }
        await self._client.publish(
            f"events.{row['event_type']}",
            orjson.dumps(message),
            headers={"Nats-Msg-Id": str(row["event_id"])},
        )


def _counted(task: "asyncio.Future[None]") -> None:
    failed = task.cancelled() or task.exception() is not None
    BROADCAST.labels("dropped" if failed else "sent").inc()


@asynccontextmanager
async def realtime_publisher(url: str) -> AsyncIterator[RealtimePublisher]:
    """A publisher to the server at *url*, which may be away now and at any time."""
    client = Client()
    connecting = asyncio.create_task(_connect(client, url))
    try:
        yield RealtimePublisher(client)
    finally:
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        if client.is_connected:
            with contextlib.suppress(NatsError, TimeoutError, OSError):
                await asyncio.wait_for(client.drain(), CONNECT_SECONDS_MAX)
        await client.close()


async def _connect(client: Client, url: str) -> None:
    async def lost() -> None:
        logger.warning("NATS is away: events are not broadcast")

    async def back() -> None:
        logger.warning("NATS is back")

    async def failed(_error: Exception) -> None:
        """Each attempt that fails; the change was told already."""

    warned = False
    while True:
        try:
            await client.connect(
                url,
                name="telemetryflow-publisher",
                connect_timeout=CONNECT_SECONDS_MAX,
                allow_reconnect=True,
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_SECONDS,
                pending_size=PENDING_BYTES_MAX,
                disconnected_cb=lost,
                reconnected_cb=back,
                error_cb=failed,
            )
        except (NatsError, nats.errors.NoServersError, OSError, TimeoutError):
            if not warned:
                await lost()
                warned = True
            await asyncio.sleep(RECONNECT_SECONDS)
        else:
            return
