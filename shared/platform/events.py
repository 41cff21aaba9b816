"""What people do by hand to caches, queues and events that are stuck."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shared.http.call import Call
from shared.messaging.events import Event
from shared.postgres.connection import Connection
from shared.postgres.outbox import append_to_outbox

# These are no aggregates: the platform itself was looked after.
_PLATFORM_ID: Final = UUID(int=0)


@dataclass(frozen=True, kw_only=True)
class PlatformMaintained(Event):
    """Somebody looked after the platform: *what* they did, to what."""

    what: str
    target: str


EVENTS: tuple[type[Event], ...] = (PlatformMaintained,)


async def note_maintenance(connection: Connection, what: str, target: str) -> None:
    """Record it with the transaction that does it."""
    event = PlatformMaintained(aggregate_id=_PLATFORM_ID, what=what, target=target)
    await append_to_outbox(connection, [event])


async def note_maintenance_alone(call: Call, what: str, target: str) -> None:
    """Record what no transaction does, before it is done."""
    async with call.write() as connection:
        await note_maintenance(connection, what, target)
