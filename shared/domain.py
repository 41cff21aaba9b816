"""What all aggregates share: an identity, a version, and the events that they record."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from shared.changes import changes_of
from shared.errors import Stale
from shared.messaging.events import Changes, Event


@dataclass(kw_only=True)
class Aggregate:
    """A root: outsiders change it only through its methods. *version* 0 is not stored yet."""

    id: UUID = field(default_factory=uuid4)
    version: int = 0
    recorded: list[Event] = field(default_factory=list, repr=False, compare=False)

    def record(self, event: Event) -> None:
        """Tell others, once this is committed."""
        self.recorded.append(event)

    def take(self, values: Mapping[str, Any]) -> Changes:
        """Set the attributes that are given (not None) and differ; what changed by that."""
        given = {name: value for name, value in values.items() if value is not None}
        changes = changes_of({name: getattr(self, name) for name in given}, given)
        for name in changes:
            setattr(self, name, given[name])
        return changes

    def release_events(self) -> list[Event]:
        """The events since the last call."""
        released, self.recorded = self.recorded, []
        return released

    def require_version(self, expected: int | None) -> None:
        """Stale, unless this is the version that the caller read; None takes any."""
        if expected is not None and expected != self.version:
            raise Stale(
                f"it is at version {self.version}, you edit version {expected}: read it again"
            )
