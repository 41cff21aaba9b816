"""A handle for as long as one statement takes."""

from collections.abc import Callable
from typing import Self

from shared.clickhouse.embedded.engine import Handle


class Lease:
    """Opens its handle in the thread that first needs it, where it may be given back too.

    So a statement that is done in one turn of a thread costs no other. `give_back` is safe to
    repeat; it closes the handle, unless that is a session's.
    """

    def __init__(self, opened: Callable[[], Handle]) -> None:
        self._opened = opened
        self._is_of_session = False
        self._handle: Handle | None = None

    @classmethod
    def of_session(cls, handle: Handle) -> Self:
        """A handle that is another's, who sees to its end."""
        lease = cls(lambda: handle)
        lease._is_of_session = True
        return lease

    def handle(self) -> Handle:
        """The handle; the first call opens it."""
        if self._handle is None:
            self._handle = self._opened()
        return self._handle

    @property
    def is_open(self) -> bool:
        """Whether there is a handle to give back."""
        return self._handle is not None

    @property
    def is_streaming(self) -> bool:
        """Whether a result of the handle was neither read to its end nor stopped."""
        return self._handle is not None and self._handle.is_streaming

    def give_back(self) -> None:
        """Close the handle."""
        handle, self._handle = self._handle, None
        if handle is not None and not self._is_of_session:
            handle.close()
