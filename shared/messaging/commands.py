"""The command bus: one door for everything that changes something.

A command is a frozen dataclass that stands above the function that carries it out; a context lists
both in its handler table, with the permission that is needed. The bus is the one place that checks
the permission, opens the span, and says on whose behalf events are recorded.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from shared.caller import Caller, acting_as
from shared.errors import Forbidden, Invalid
from shared.otel.spans import span

T = TypeVar("T")

# Instead of a permission: whoever has signed in may, or everybody may.
SIGNED_IN: Final = "signed-in"
ANYBODY: Final = "anybody"


class Command(Generic[T]):
    """Base of commands; T is what carrying it out returns."""


@dataclass(frozen=True, slots=True)
class Handler:
    """The function that carries a command out, and the permission that this needs."""

    function: Callable[[Any, Caller], Awaitable[Any]]
    permission: str


CommandHandlers = Mapping[type[Command[Any]], Handler]


class CommandBus:
    """All handlers; two for the same command stop the start."""

    def __init__(self, tables: Sequence[CommandHandlers]) -> None:
        self._handlers: dict[type[Command[Any]], Handler] = {}
        for table in tables:
            if twice := self._handlers.keys() & table.keys():
                names = ", ".join(sorted(command.__name__ for command in twice))
                raise Invalid(f"two handlers for {names}")
            self._handlers.update(table)

    async def execute(self, command: Command[T], by: Caller) -> T:
        """Carry *command* out on behalf of *by*; Forbidden when they may not."""
        handler = self._handlers[type(command)]
        if handler.permission == SIGNED_IN:
            if by.user_id is None:
                raise Forbidden("this is for people who have signed in")
        elif handler.permission != ANYBODY:
            by.require(handler.permission)
        with span(type(command).__name__), acting_as(by):
            result: T = await handler.function(command, by)
        return result
