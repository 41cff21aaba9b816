"""What audit tells the other contexts: nothing; it listens to all of them."""

from shared.messaging.events import Event

EVENTS: tuple[type[Event], ...] = ()
