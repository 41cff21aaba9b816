"""The one way to ClickHouse for every process: clickhouse-connect's async HTTP client.

Driver errors end here: callers see `Unavailable`, `SchemaMismatch`, `Invalid` or `Conflict`,
chosen by ClickHouse's exception code (`shared.clickhouse.exception_codes`).
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import clickhouse_connect
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import ClickHouseError, Error

from shared.clickhouse.exception_codes import CAUSES, error_of, read_error_of
from shared.errors import TelemetryFlowError, Unavailable
from shared.settings import Settings

CONNECT_SECONDS_MAX: Final = 5
# An insert of 100 000 rows takes seconds; more than this means that the server hangs.
ANSWER_SECONDS_MAX: Final = 120
CONNECTIONS_MAX: Final = 16
MESSAGE_CHARACTERS_MAX: Final = 1_000

# The answer's status must tell the outcome, so the server may not answer before it is known.
_ANSWER_LAST: Final = {"wait_end_of_query": "1", "send_progress_in_http_headers": "0"}
# For servers that have it; others refuse a query that names it. For `ORDER BY time LIMIT n` they
# look at the time before anything else, and without this they read all that WHERE names.
_FASTER: Final = {"optimize_prewhere_after_pushdown": "1"}
_DRIVER_ERRORS: Final = (ClickHouseError, aiohttp.ClientError, OSError, TimeoutError)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClickHouseAddress:
    """Where ClickHouse is and who asks; the password is not shown."""

    host: str
    port: int
    username: str = "default"
    password: str = ""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The configured server; the embedded one listens on loopback."""
        return cls(
            host=settings.clickhouse_host or "127.0.0.1",
            port=settings.clickhouse_port,
            username=settings.clickhouse_username,
            password=settings.clickhouse_password,
        )

    def __repr__(self) -> str:
        return f"ClickHouseAddress({self.username}@{self.host}:{self.port})"


@dataclass(frozen=True, slots=True)
class ReadResult:
    """The rows of a read, and what it cost."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    rows_read: int
    bytes_read: int


class ClickHouse:
    """A connection pool to one server, opened by the first call. Close it, or use `async with`."""

    def __init__(
        self, address: ClickHouseAddress, *, answer_seconds_max: float = ANSWER_SECONDS_MAX
    ) -> None:
        self._address = address
        self._answer_seconds_max = answer_seconds_max
        self._client: AsyncClient | None = None
        self._connecting = asyncio.Lock()

    @classmethod
    async def connect(cls, address: ClickHouseAddress) -> Self:
        """A pool that has reached its server; Unavailable when that does not answer."""
        clickhouse = cls(address)
        await clickhouse._connected()
        return clickhouse

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def query(
        self, sql: str, parameters: Mapping[str, Any] | None = None
    ) -> Sequence[Sequence[Any]]:
        """The rows of a SELECT; values go in as `{name:Type}` parameters."""
        client = await self._connected()
        try:
            return (await client.query(sql, parameters=dict(parameters or {}))).result_rows
        except _DRIVER_ERRORS as error:
            raise translated(error) from error

    async def read(
        self, sql: str, parameters: Mapping[str, Any], settings: Mapping[str, str], *, query_id: str
    ) -> ReadResult:
        """A SELECT on somebody's behalf: limited by *settings*, and ended by `kill`.

        Raises Invalid when it passes a limit, with what to do about it.
        """
        client = await self._connected()
        try:
            found = await client.query(
                sql,
                parameters=dict(parameters),
                settings={
                    **{name: _FASTER[name] for name in _FASTER.keys() & client.server_settings},
                    **settings,
                    "query_id": query_id,
                    "wait_end_of_query": "1",
                },
            )
        except _DRIVER_ERRORS as error:
            raise read_error(error) from error
        return ReadResult(
            found.column_names,
            found.result_rows,
            int(found.summary.get("read_rows", 0)),
            int(found.summary.get("read_bytes", 0)),
        )

    async def kill(self, query_id: str) -> None:
        """End the query *query_id* if it runs; ids are of hexadecimal digits."""
        await self.command(f"KILL QUERY WHERE query_id = '{int(query_id, 16):032x}' ASYNC")

    async def command(self, sql: str, settings: Mapping[str, str] | None = None) -> None:
        """A statement without a result; Conflict when it makes something that exists."""
        client = await self._connected()
        try:
            await client.command(sql, settings=dict(settings or {}))
        except _DRIVER_ERRORS as error:
            raise translated(error) from error

    async def insert_native(
        self,
        table: str,
        columns: Sequence[str],
        body: bytes,
        *,
        encoding: str,
        token: str,
        settings: Mapping[str, str],
    ) -> None:
        """INSERT … FORMAT Native of compressed frames, one behind the other, forwarded untouched.

        *encoding* (zstd or lz4) is that of each frame. Returns when the rows are stored, or were
        stored before under the same *token*. Raises Invalid when these bytes will never be
        accepted, SchemaMismatch when the server must be changed first, Unavailable when the
        outcome is unknown or may be another later.
        """
        client = await self._connected()
        try:
            await client.raw_insert(
                table,
                column_names=columns,
                insert_block=body,
                settings={**settings, **_ANSWER_LAST, "insert_deduplication_token": token},
                fmt="Native",
                compression=encoding,
            )
        except _DRIVER_ERRORS as error:
            raise translated(error) from error

    async def insert_json(self, table: str, body: bytes, *, token: str) -> None:
        """INSERT … FORMAT JSONEachRow; as insert_native, for few rows that need no speed."""
        client = await self._connected()
        try:
            await client.raw_insert(
                table,
                insert_block=body,
                settings={**_ANSWER_LAST, "async_insert": "0", "insert_deduplication_token": token},
                fmt="JSONEachRow",
            )
        except _DRIVER_ERRORS as error:
            raise translated(error) from error

    async def close(self) -> None:
        """Close all connections. Safe to repeat."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _connected(self) -> AsyncClient:
        async with self._connecting:
            if self._client is None:
                self._client = await self._new_client()
            return self._client

    async def _new_client(self) -> AsyncClient:
        address = self._address
        try:
            return await clickhouse_connect.get_async_client(
                host=address.host,
                port=address.port,
                username=address.username,
                password=address.password,
                compress=False,
                connect_timeout=CONNECT_SECONDS_MAX,
                send_receive_timeout=self._answer_seconds_max,
                connector_limit=CONNECTIONS_MAX,
                connector_limit_per_host=CONNECTIONS_MAX,
                query_retries=0,
                autogenerate_session_id=False,
            )
        except _DRIVER_ERRORS as error:
            raise translated(error) from error


def read_error(error: Exception) -> TelemetryFlowError:
    """The same for a read on somebody's behalf, who can ask for less."""
    code = error.code if isinstance(error, Error) else None
    return read_error_of(code, str(error)) or translated(error)


def translated(error: Exception) -> TelemetryFlowError:
    """Our error for one of the driver, the system or the network."""
    code = error.code if isinstance(error, Error) else None
    text = str(error).partition("(for url")[0].strip() or type(error).__name__
    message = f"ClickHouse: {text}"[:MESSAGE_CHARACTERS_MAX]
    if code is None:
        return Unavailable(message)
    if code not in CAUSES:
        logger.error("ClickHouse answered with a code that is not classified: %s", message)
    return error_of(code, message)
