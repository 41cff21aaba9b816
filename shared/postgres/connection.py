"""The type of a pooled connection, for repositories, queries and subscribers, and how one ends."""

from typing import Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Connection = PoolConnectionProxy

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
