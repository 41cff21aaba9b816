"""The type of a pooled connection, for repositories, queries and subscribers, and how one ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = PoolConnectionProxy

CONNECTION_LOST: Final = (
    OSError,  # TimeoutError is one
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    # What asyncpg raises for a statement on a connection that it has just found dead.
    asyncpg.InternalClientError,
)


class PooledConnection(asyncpg.Connection):  # type: ignore[misc]
    """Knows whether its session is as new, so that it goes back to the pool without an exchange."""

    __slots__ = ("_is_clean",)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._is_clean = False

    def mark_clean(self) -> None:
        """The session is as new, and nothing else is asked until the connection goes back."""
        self._is_clean = True

    def take_clean(self) -> bool:
        """Whether it was marked; the mark is good for one return."""
        was_clean, self._is_clean = self._is_clean, False
        return was_clean


@asynccontextmanager
async def savepoint(connection: Connection) -> AsyncIterator[None]:
    """What fails within the block is undone; the transaction around it goes on."""
    await connection.execute("SAVEPOINT attempt")
    try:
        yield
    except BaseException:
        await connection.execute("ROLLBACK TO SAVEPOINT attempt")
        raise
    await connection.execute("RELEASE SAVEPOINT attempt")
