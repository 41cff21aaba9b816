"""What is told about calls that were refused: somebody may want to know who tried."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from shared.caller import Caller
from shared.errors import Forbidden, RateLimited, Unauthenticated

REFUSALS = (Forbidden, RateLimited, Unauthenticated)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that was refused; *path* is the route's, with names in place of ids."""

    error: Exception
    by: Caller
    method: str
    path: str


Refused = Callable[[Refusal], Awaitable[None]]


async def told_to_nobody(_refusal: Refusal) -> None:
    """For an application that keeps no trail."""
