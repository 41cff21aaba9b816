"""What all aggregates share: an identity, a version, and the events that they record."""

from dataclasses import dataclass, field
from uuid import UUID, uuid4

from shared.errors import Stale
from shared.messaging.events import Event


@dataclass(kw_only=True)
class Aggregate:
    """A root: outsiders change it only through its methods. *version* 0 is not stored yet."""

    id: UUID = field(default_factory=uuid4)
    version: int = 0
    recorded: list[Event] = field(default_factory=list, repr=False, compare=False)

    def record(self, event: Event) -> None:
        """Tell others, once this is committed."""
        self.recorded.append(event)

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
