"""Events: what one context tells the others, and who listens.

An event is a frozen dataclass named in the past tense. It is stored in the outbox by the
transaction that it tells about, and delivered from there (shared.messaging.relay).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

import orjson
from pydantic import TypeAdapter

from shared.errors import Invalid
from shared.postgres.connection import Connection


def utc_now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to an aggregate, whose id is *aggregate_id*."""

    aggregate_id: UUID
    organization_id: UUID | None = None
    tenant_id: UUID | None = None
    event_id: UUID = field(default_factory=uuid4)
    occurred_at: datetime = field(default_factory=utc_now)

    @property
    def type(self) -> str:
        """Its name on the wire: that of its class."""
        return type(self).__name__

    def payload(self) -> dict[str, Any]:
        """The fields of the subclass, as JSON."""
        own = {one.name: getattr(self, one.name) for one in fields(self)}
        for name in _ENVELOPE:
            del own[name]
        document: dict[str, Any] = orjson.loads(orjson.dumps(own))
        return document


# From what to what, by the name of the property.
Changes = dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Updated(Event):
    """Something has other properties: *changes* (shared.changes) says from what to what.

    *changed* names them all; that is all that events of earlier releases have.
    """

    changes: Changes = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """The names are those of the changes."""
        if not self.changed:
            object.__setattr__(self, "changed", list(self.changes))


_ENVELOPE: Final = ("aggregate_id", "organization_id", "tenant_id", "event_id", "occurred_at")


@dataclass(frozen=True, slots=True)
class Envelope:
    """A stored event as subscribers get it; *context* says who caused it (shared.caller)."""

    event: Event
    position: int
    context: Mapping[str, Any]


Subscriber = Callable[[Envelope, Connection], Awaitable[None]]
# Each subscriber has a name that never changes: the record of what it has seen hangs on it.
Subscribers = Mapping[type[Event], Mapping[str, Subscriber]]


class EventBus:
    """Who listens to what; the same name twice for one event stops the start."""

    def __init__(self, known: Sequence[type[Event]], tables: Sequence[Subscribers]) -> None:
        self._types = {event.__name__: event for event in known}
        if len(self._types) != len(known):
            raise Invalid("two events have the same name")
        self._adapters: dict[str, TypeAdapter[Event]] = {
            name: TypeAdapter(event) for name, event in self._types.items()
        }
        self.subscribers: dict[str, list[tuple[str, Subscriber]]] = {}
        for table in tables:
            for event, named in table.items():
                self._subscribe(event, named)

    def _subscribe(self, event: type[Event], named: Mapping[str, Subscriber]) -> None:
        if event.__name__ not in self._types:
            raise Invalid(f"{event.__name__} is subscribed to, but no context declares it")
        listeners = self.subscribers.setdefault(event.__name__, [])
        for name, subscriber in named.items():
            if name in (taken for taken, _ in listeners):
                raise Invalid(f"two subscribers of {event.__name__} are named {name}")
            listeners.append((name, subscriber))

    def decode(self, event_type: str, envelope: Mapping[str, Any], payload: Any) -> Event:
        """The event as it was recorded; Invalid for an unknown type or a payload that lacks fields.

        Fields that this release does not know are left out: an older process reads newer events.
        """
        adapter = self._adapters.get(event_type)
        if adapter is None:
            raise Invalid(f"unknown event {event_type}")
        try:
            return adapter.validate_python({**payload, **envelope})
        except (ValueError, TypeError) as error:
            raise Invalid(f"{event_type} cannot be read: {type(error).__name__}") from error
