"""Routes of events that a subscriber could not handle, for who runs the platform."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from shared.errors import NotFound
from shared.http.call import Call
from shared.http.models import Done, Page, PageMeta, PageQuery, View
from shared.http.routes import Routes
from shared.platform.events import note_maintenance

routes = Routes("Events", "Events that a subscriber gave up: what, why, trying again.")


class DeadEventQuery(PageQuery):
    """A page of dead events, the newest first."""

    SORTS: ClassVar[Sequence[str]] = ("createdAt",)


class DeadEvent(View):
    """An event that a subscriber gave up after ten attempts."""

    event_id: UUID
    subscriber: str
    type: str
    aggregate_id: UUID
    occurred_at: datetime
    attempts: int
    error: str | None
    payload: dict[str, Any]


@routes.get(
    "/admin/events/dead",
    permission="queue:read",
    query=DeadEventQuery,
    answer=Page[DeadEvent],
)
async def list_dead_events(call: Call, query: DeadEventQuery) -> Page[DeadEvent]:
    """List events that a subscriber gave up."""
    async with call.read() as connection:
        rows = await connection.fetch(
            """
            SELECT event_id, subscriber, event_type AS type, outbox.aggregate_id, occurred_at,
                   attempts, error, payload, count(*) OVER () AS total
              FROM event_deliveries JOIN outbox USING (event_id)
             WHERE state = 'dead' ORDER BY outbox.position DESC, subscriber LIMIT $1 OFFSET $2
            """,
            query.limit,
            query.offset,
        )
    total = rows[0]["total"] if rows else 0
    return Page[DeadEvent](
        data=[DeadEvent.of(row) for row in rows],
        meta=PageMeta(
            page=query.page,
            limit=query.limit,
            total=total,
            total_pages=-(-total // query.limit),
        ),
    )


async def _set_state(call: Call, state: str) -> None:
    async with call.write() as connection:
        status = await connection.execute(
            """
            UPDATE event_deliveries SET state = $3, attempts = 0, next_attempt_at = now()
             WHERE event_id = $1 AND subscriber = $2 AND state = 'dead'
            """,
            call.id("event_id"),
            call.text("subscriber"),
            state,
        )
        if status != "UPDATE 1":
            raise NotFound("no such dead event")
        target = f"{call.id('event_id')}/{call.text('subscriber')}"
        await note_maintenance(connection, f"event.{state}", target)


@routes.post("/admin/events/{event_id}/{subscriber}/retry", permission="queue:write", answer=Done)
async def retry_dead_event(call: Call) -> Done:
    """Give an event to its subscriber again."""
    await _set_state(call, "waiting")
    return Done(message="the event is delivered again")


@routes.post("/admin/events/{event_id}/{subscriber}/discard", permission="queue:write", answer=Done)
async def discard_dead_event(call: Call) -> Done:
    """Leave it at that: the subscriber never gets the event."""
    await _set_state(call, "discarded")
    return Done(message="the event is discarded")
