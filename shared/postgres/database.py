"""The pool of connections, and transactions that see only what their scope allows.

Every connection takes on the role `telemetryflow_app`, which owns nothing and cannot bypass
row-level security. A transaction says at its start on whose behalf it runs; policies of the tables
compare that with each row. Without a scope a transaction sees no rows: a query that forgets its
tenant finds nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Generic, Protocol, Self, TypeVar
from uuid import UUID, SafeUUID

import asyncpg
import orjson

from shared.errors import Conflict, Invalid, Unavailable
from shared.messaging.events import Event
from shared.postgres.address import PostgresAddress
from shared.postgres.claims import mark_claim
from shared.postgres.connection import CONNECTION_LOST, Connection, PooledConnection
from shared.postgres.embedded import embedded_address
from shared.postgres.outbox import append_to_outbox
from shared.postgres.scope import Scope
from shared.settings import Settings

APPLICATION_ROLE: Final = "telemetryflow_app"
CONNECT_SECONDS_MAX: Final = 5
# A request that gets no connection in that time is refused, not queued without end.
ACQUIRE_SECONDS_MAX: Final = 2
RETRY_AFTER_SECONDS: Final = 2


def address_of(settings: Settings) -> PostgresAddress:
    """The configured database, or the embedded one."""
    if settings.is_database_embedded:
        return embedded_address(settings)
    return PostgresAddress(
        host=settings.db_host,
        port=settings.db_port,
        user=settings.db_username,
        password=settings.db_password,
        database=settings.db_database,
        ssl=settings.db_ssl,
    )


class Database:
    """A pool; connections are opened as they are needed, so that it outlives its server."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    @classmethod
    async def open(
        cls, address: PostgresAddress, *, size_max: int, statement_seconds_max: int
    ) -> Self:
        """A pool of at most *size_max* connections; none is made before it is asked for."""
        pool = asyncpg.create_pool(
            **address.options(),
            min_size=0,
            max_size=size_max,
            timeout=CONNECT_SECONDS_MAX,
            init=_prepare,
            reset=_reset,
            connection_class=PooledConnection,
            server_settings={
                "role": APPLICATION_ROLE,
                "application_name": "telemetryflow",
                "statement_timeout": str(statement_seconds_max * 1_000),
                "idle_in_transaction_session_timeout": str(statement_seconds_max * 2_000),
                "timezone": "UTC",
            },
        )
        with _driver_errors():
            await pool
        return cls(pool)

    async def close(self) -> None:
        """Wait for the transactions that run, then close all connections."""
        try:
            await asyncio.wait_for(self._pool.close(), CONNECT_SECONDS_MAX)
        except TimeoutError:
            self._pool.terminate()

    @asynccontextmanager
    async def begin(self, scope: Scope) -> AsyncIterator[Connection]:
        """A transaction within *scope*; commits when the block ends, rolls back when it fails."""
        async with self._transaction("BEGIN", scope) as connection:
            yield connection

    @asynccontextmanager
    async def read(self, scope: Scope) -> AsyncIterator[Connection]:
        """A transaction within *scope* that cannot write."""
        async with self._transaction("BEGIN READ ONLY", scope) as connection:
            yield connection

    @asynccontextmanager
    async def snapshot(self, scope: Scope) -> AsyncIterator[Connection]:
        """As `read`, but all its statements see the same moment."""
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
        async with self._transaction(begin, scope) as connection:
            yield connection

    @asynccontextmanager
    async def _transaction(self, begin: str, scope: Scope) -> AsyncIterator[Connection]:
        with _driver_errors():
            async with self._pool.acquire(timeout=ACQUIRE_SECONDS_MAX) as connection:
                try:
                    await enter(connection, scope, begin)
                    yield connection
                except BaseException:
                    await _end(connection, "ROLLBACK")
                    raise
                await _end(connection, "COMMIT")

    async def look_up(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """The rows of one statement outside of any scope, in a single exchange.

        It may only call functions that look up by key: what a statement sets for the session would
        stay, because nothing is reset after it.
        """
        with _driver_errors():
            async with self._pool.acquire(timeout=ACQUIRE_SECONDS_MAX) as connection:
                rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
                connection.mark_clean()
                return rows

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """A connection without a transaction or a scope; its locks and settings end with it."""
        with _driver_errors():
            async with self._pool.acquire(timeout=ACQUIRE_SECONDS_MAX) as connection:
                yield connection

    async def is_up(self) -> bool:
        """Whether PostgreSQL answers."""
        try:
            with _driver_errors():
                await self._pool.fetchval("SELECT 1", timeout=ACQUIRE_SECONDS_MAX)
        except Unavailable:
            return False
        return True

    @property
    def pool(self) -> "asyncpg.Pool[asyncpg.Record]":
        """For libraries that bring their own statements."""
        return self._pool


async def enter(connection: Connection, scope: Scope, begin: str) -> None:
    """Begin a transaction in which row-level security sees *scope*, in a single exchange."""
    await connection.execute(
        f"{begin}; SET LOCAL app.organization_id = '{_digits(scope.organization_id)}'; "
        f"SET LOCAL app.tenant_id = '{_digits(scope.tenant_id)}'; "
        f"SET LOCAL app.platform = '{'on' if scope.is_platform else ''}'"
    )


def _digits(value: UUID | None) -> str:
    """What an id is in a statement that takes no arguments, as several in one exchange do not."""
    return value.hex if value else ""


async def _end(connection: Connection, end: str) -> None:
    """End the transaction, and reset the session, in a single exchange."""
    await connection.execute(f"{end}; {connection.get_reset_query()}")
    connection.mark_clean()


async def _reset(connection: Any) -> None:
    """What the pool does with a connection that comes back."""
    if not connection.take_clean():
        await connection.execute(connection.get_reset_query())


async def _prepare(connection: Any) -> None:
    # asyncpg has a UUID class of its own, which orjson does not know.
    await connection.set_type_codec(
        "uuid",
        schema="pg_catalog",
        encoder=lambda value: value.bytes,
        decoder=_uuid,
        format="binary",
    )
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: b"\x01" + orjson.dumps(value),
        decoder=lambda data: orjson.loads(data[1:]),
        format="binary",
    )


def _uuid(data: bytes) -> UUID:
    # As UUID itself makes one of an integer from Python 3.14 on: its constructor looks at every
    # way to be called, which is three times the work, for each id of each row.
    made = object.__new__(UUID)
    object.__setattr__(made, "int", int.from_bytes(data, "big"))
    object.__setattr__(made, "is_safe", SafeUUID.unknown)
    return made


class Repositories(Protocol):
    """What a context opens on one transaction: its repositories, and the events they recorded."""

    @property
    def events(self) -> list[Event]: ...


R = TypeVar("R", bound=Repositories)


class UnitOfWork(Generic[R]):
    """Transactions of one context: rows and the events about them are committed together."""

    def __init__(self, database: Database, open_repositories: Callable[[Connection], R]) -> None:
        self._database = database
        self._open_repositories = open_repositories

    @asynccontextmanager
    async def begin(self, scope: Scope) -> AsyncIterator[R]:
        """Commits, with the events of what was saved, when the block ends; else rolls back."""
        async with self._database.begin(scope) as connection:
            repositories = self._open_repositories(connection)
            yield repositories
            await append_to_outbox(connection, repositories.events)
            if repositories.events:
                await mark_claim(connection, repositories.events[0].aggregate_id)


@contextmanager
def _driver_errors() -> Iterator[None]:
    """Turn asyncpg's errors into ours; texts of the server stay in the log."""
    try:
        yield
    except (asyncpg.UniqueViolationError, asyncpg.ExclusionViolationError) as error:
        raise Conflict(f"already exists ({error.constraint_name})") from error
    except asyncpg.ForeignKeyViolationError as error:
        raise Conflict(f"something else refers to it ({error.constraint_name})") from error
    except (asyncpg.CheckViolationError, asyncpg.CharacterNotInRepertoireError) as error:
        raise Invalid("a value is outside of what is allowed") from error
    except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError) as error:
        raise Conflict("somebody else changed the same thing: try again") from error
    except (
        *CONNECTION_LOST,
        asyncpg.TooManyConnectionsError,
        asyncpg.QueryCanceledError,
        asyncpg.ReadOnlySQLTransactionError,
        asyncpg.DiskFullError,
    ) as error:
        raise Unavailable(
            "the database is not available: try again", retry_after_seconds=RETRY_AFTER_SECONDS
        ) from error
