"""The outbox: events are rows of the transaction that they tell about."""

from collections.abc import Sequence

from shared.caller import current_context
from shared.messaging.events import Event
from shared.postgres.connection import Connection

OUTBOX_CHANNEL = "outbox"


async def append_to_outbox(connection: Connection, events: Sequence[Event]) -> None:
    """Store *events* with who caused them; relays are woken when the transaction commits."""
    if not events:
        return
    context = current_context()
    await connection.executemany(
        """
        INSERT INTO outbox (event_id, event_type, aggregate_id, organization_id, tenant_id,
                            payload, context, occurred_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        [
            (
                event.event_id,
                event.type,
                event.aggregate_id,
                event.organization_id,
                event.tenant_id,
                event.payload(),
                context,
                event.occurred_at,
            )
            for event in events
        ],
    )
    await connection.execute("SELECT pg_notify($1, '')", OUTBOX_CHANNEL)
