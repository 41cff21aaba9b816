"""ClickHouse's HTTP interface over the embedded engine.

Enough of it for clickhouse-connect, curl and Grafana: SQL in the body or in `query`, data of an
INSERT behind it, streaming both ways, `param_…`, settings, sessions, compression both ways,
exception codes, readonly, limits, and an end to what the client no longer waits for.
Source: https://clickhouse.com/docs/interfaces/http.
"""

import asyncio
import base64
import binascii
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, Final, TypeVar

import orjson
from aiohttp import web

from shared.clickhouse.embedded.engine import (
    Engine,
    EngineError,
    Handle,
    Inserting,
    Stream,
    Summary,
)
from shared.clickhouse.embedded.frames import Decoder, Encoder, decoder, encoder
from shared.clickhouse.embedded.statements import (
    STATEMENT_BYTES_MAX,
    Insert,
    is_select,
    may_be_insert,
    output_format,
    reaches_outside,
    split_insert,
)
from shared.errors import Invalid, TelemetryFlowError

QUERIES_MAX: Final = 64
THREADS: Final = 16
SESSIONS_MAX: Final = 100
SESSION_SECONDS_DEFAULT: Final = 60
SESSION_SECONDS_MAX: Final = 3600
# Data goes to the engine in pieces of about this size: each costs a change of threads.
PIECE_BYTES: Final = 1 << 20
# What a statement may use unless it says otherwise; the engine shares the machine.
DEFAULT_SETTINGS: Final = {"max_memory_usage": "8000000000", "max_execution_time": "600"}
_OUR_PARAMETERS: Final = frozenset(
    (
        "query",
        "database",
        "default_format",
        "user",
        "password",
        "query_id",
        "session_id",
        "session_timeout",
        "session_check",
        "compress",
        "decompress",
        "quota_key",
        "role",
        "client_protocol_version",
        "wait_end_of_query",
        "buffer_size",
        "http_make_head_request",
        "stacktrace",
    )
)
_STATUS_OF_CODE: Final = {
    60: 404,
    81: 404,
    46: 404,
    62: 400,
    36: 400,
    115: 404,
    516: 403,
    497: 403,
    164: 403,
    373: 503,
    202: 503,
    241: 500,
    159: 500,
}
_CODES: Final = {
    "AUTHENTICATION_FAILED": 516,
    "ACCESS_DENIED": 497,
    "SYNTAX_ERROR": 62,
    "TOO_MANY_SIMULTANEOUS_QUERIES": 202,
    "CANNOT_DECOMPRESS": 271,
    "SESSION_IS_LOCKED": 373,
    "SESSION_NOT_FOUND": 372,
    "QUERY_IS_TOO_LARGE": 307,
}

logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")


def refusal(name: str, text: str) -> EngineError:
    """An error of the server itself, with ClickHouse's name and code for it."""
    return EngineError(f"Code: {_CODES[name]}. DB::Exception: {text} ({name})", _CODES[name])


@dataclass(slots=True)
class Session:
    """A handle that outlives its request."""

    handle: Handle
    expires_at: float
    seconds: float
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class Call:
    """A request, taken apart."""

    request: web.Request
    comment: str
    query_id: str
    statement: str
    parameters: Mapping[str, str]
    settings: Mapping[str, str]

    @property
    def default_format(self) -> str:
        """The format for a query that names none."""
        given = self.request.query.get("default_format")
        return str(given or self.request.headers.get("X-ClickHouse-Format", "TabSeparated"))


class Server:
    """Answers ClickHouse's HTTP requests."""

    def __init__(
        self, engine: Engine, *, user: str, password: str, allow_outside: bool = False
    ) -> None:
        self._engine = engine
        self._user = user
        self._password = password
        self._allow_outside = allow_outside
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="clickhouse")
        self._sessions: dict[str, Session] = {}
        self._queries = 0

    def application(self) -> web.Application:
        """The aiohttp application. Bodies must reach it as they are (no automatic inflating)."""
        app = web.Application(client_max_size=1 << 40)
        app.router.add_get("/ping", self._ping)
        app.router.add_get("/replicas_status", self._ping)
        app.router.add_route("*", "/", self._answer)
        app.on_cleanup.append(self._close)
        return app

    async def _ping(self, _request: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    async def _close(self, _app: web.Application) -> None:
        for session in self._sessions.values():
            session.handle.close()
        self._threads.shutdown(cancel_futures=True)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.method not in ("GET", "POST", "HEAD"):
            return web.Response(
                status=405, text="Use GET or POST.\n", headers={"Allow": "GET, POST"}
            )
        try:
            self._authenticate(request)
            if request.method != "POST" and "query" not in request.query:
                return web.Response(text="Ok.\n")
            if self._queries >= QUERIES_MAX:
                raise refusal("TOO_MANY_SIMULTANEOUS_QUERIES", f"more than {QUERIES_MAX} queries")
            self._queries += 1
            try:
                return await self._carry_out(request)
            finally:
                self._queries -= 1
        except EngineError as error:
            return _failure(error)
        except TelemetryFlowError as error:
            return _failure(refusal("CANNOT_DECOMPRESS", str(error)))

    def _authenticate(self, request: web.Request) -> None:
        user, password = _credentials(request)
        same_user = hmac.compare_digest(user.encode(), self._user.encode())
        same_password = hmac.compare_digest(password.encode(), self._password.encode())
        if not (same_user and same_password):
            raise refusal("AUTHENTICATION_FAILED", f"{user!r}: wrong user or password")

    async def _carry_out(self, request: web.Request) -> web.StreamResponse:
        body = _Body(request, decoder(request.headers.get("Content-Encoding", "")), self._in_thread)
        statement, insert = await self._read_statement(request, body)
        call = Call(
            request=request,
            comment=secrets.token_hex(16),
            query_id=request.query.get("query_id") or secrets.token_hex(16),
            statement=statement,
            parameters={
                name.removeprefix("param_"): text
                for name, text in request.query.items()
                if name.startswith("param_")
            },
            settings=_settings_of(request),
        )
        self._check(call)
        work = partial(self._insert, call, insert, body) if insert else partial(self._query, call)
        session_id = request.query.get("session_id")
        if session_id:
            return await self._in_session(call, session_id, work)
        handle = await self._in_thread(self._engine.handle)
        try:
            await self._in_thread(partial(_prepare, handle, call))
            return await work(handle)
        except asyncio.CancelledError:
            await asyncio.shield(self._in_thread(partial(self._engine.kill, call.comment)))
            raise
        finally:
            await asyncio.shield(self._in_thread(handle.close))

    async def _read_statement(
        self, request: web.Request, body: "_Body"
    ) -> tuple[str, Insert | None]:
        """The statement, and the INSERT when data comes with it."""
        head = request.query.get("query", "").encode()
        insert = split_insert(head + b"\n") if head else None
        if insert is not None:
            return insert.statement, insert
        if head:
            head += b"\n"
        while len(head) <= STATEMENT_BYTES_MAX:
            piece = await body.read() if request.method == "POST" else b""
            head += piece
            insert = split_insert(head) if piece or may_be_insert(head) else None
            if insert is not None:
                return insert.statement, insert
            if not piece:
                return head.decode(errors="replace").strip(), None
        raise refusal("QUERY_IS_TOO_LARGE", f"a statement has at most {STATEMENT_BYTES_MAX} bytes")

    def _check(self, call: Call) -> None:
        if not call.statement:
            raise refusal("SYNTAX_ERROR", "Empty query")
        word = None if self._allow_outside else reaches_outside(call.statement)
        if word is not None:
            raise refusal(
                "ACCESS_DENIED",
                f"{word.strip(' (')!r} reaches outside of this server, which it refuses",
            )

    async def _in_session(
        self, call: Call, session_id: str, work: Callable[[Handle], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        await self._expire_sessions()
        session = self._sessions.get(session_id)
        if session is None:
            if call.request.query.get("session_check") == "1":
                raise refusal("SESSION_NOT_FOUND", f"no session {session_id!r}")
            if len(self._sessions) >= SESSIONS_MAX:
                raise refusal("TOO_MANY_SIMULTANEOUS_QUERIES", f"more than {SESSIONS_MAX} sessions")
            session = Session(
                await self._in_thread(self._engine.handle), 0, _session_seconds(call.request)
            )
            self._sessions[session_id] = session
        if session.lock.locked():
            raise refusal("SESSION_IS_LOCKED", f"session {session_id!r} is busy")
        async with session.lock:
            try:
                await self._in_thread(partial(_prepare, session.handle, call))
                return await work(session.handle)
            except asyncio.CancelledError:
                await asyncio.shield(self._in_thread(partial(self._engine.kill, call.comment)))
                raise
            finally:
                session.expires_at = monotonic() + session.seconds

    async def _expire_sessions(self) -> None:
        now = monotonic()
        for session_id, session in list(self._sessions.items()):
            if session.expires_at < now and not session.lock.locked():
                del self._sessions[session_id]
                await self._in_thread(session.handle.close)

    async def _insert(
        self, call: Call, insert: Insert, body: "_Body", handle: Handle
    ) -> web.StreamResponse:
        inserting = await self._in_thread(partial(handle.insert, insert.statement, insert.format))
        try:
            if insert.data:
                await self._in_thread(partial(inserting.append, insert.data))
            await body.feed(inserting)
            summary = await asyncio.shield(self._in_thread(inserting.finish))
        except BaseException:
            await asyncio.shield(self._in_thread(inserting.cancel))
            raise
        return web.Response(headers=_headers(call, summary))

    async def _query(self, call: Call, handle: Handle) -> web.StreamResponse:
        chosen = output_format(call.statement, call.default_format)
        count = await self._in_thread(partial(handle.statement_count, call.statement))
        if count > 1:
            raise refusal("SYNTAX_ERROR", "Multi-statements are not allowed")
        if not is_select(call.statement):
            data, summary = await self._in_thread(
                partial(handle.run, call.statement, chosen, call.parameters)
            )
            return web.Response(
                body=data, headers=_headers(call, summary, chosen if data else None)
            )
        stream = await self._in_thread(
            partial(handle.stream, call.statement, chosen, call.parameters)
        )
        return await self._stream(call, chosen, stream)

    async def _stream(self, call: Call, chosen: str, stream: Stream) -> web.StreamResponse:
        compressed = None
        if call.request.query.get("enable_http_compression") == "1":
            compressed = encoder(call.request.headers.get("Accept-Encoding", ""))
        first = await self._in_thread(stream.fetch)
        second = await self._in_thread(stream.fetch) if first else b""
        headers = _headers(call, stream.summary, chosen)
        if compressed is not None:
            headers["Content-Encoding"] = compressed.name
        if not second:
            if compressed is not None:
                first = compressed.feed(first) + compressed.finish()
            return web.Response(body=first, headers=headers)
        response = web.StreamResponse(headers=headers)
        await response.prepare(call.request)
        await _write(response, first, compressed)
        piece = second
        try:
            while piece:
                await _write(response, piece, compressed)
                piece = await self._in_thread(stream.fetch)
        except EngineError as error:
            # The status is gone already: as ClickHouse does, the text ends the body, and the
            # connection is cut, so that no client takes the result for whole.
            await _write(response, f"\n{error}\n".encode(), compressed)
            _cut(call.request)
            return response
        if compressed is not None:
            await response.write(compressed.finish())
        await response.write_eof()
        return response

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


class _Body:
    """The decompressed body, in pieces."""

    def __init__(self, request: web.Request, frames: Decoder, in_thread: Any) -> None:
        self._content = request.content
        self._frames = frames
        self._in_thread = in_thread

    async def read(self) -> bytes:
        """The next piece, empty at the end."""
        while data := await self._content.readany():
            if plain := self._frames.feed(data):
                return plain
        self._frames.finish()
        return b""

    async def feed(self, inserting: Inserting) -> None:
        """Hand everything that is left to *inserting*."""
        gathered: list[bytes] = []
        size = 0
        while data := await self._content.readany():
            gathered.append(data)
            size += len(data)
            if size >= PIECE_BYTES:
                await self._in_thread(partial(self._append, inserting, gathered))
                gathered, size = [], 0
        await self._in_thread(partial(self._append, inserting, gathered))
        self._frames.finish()

    def _append(self, inserting: Inserting, gathered: list[bytes]) -> None:
        if plain := self._frames.feed(b"".join(gathered)):
            inserting.append(plain)


async def _write(response: web.StreamResponse, data: bytes, compressed: Encoder | None) -> None:
    await response.write(data if compressed is None else compressed.feed(data))


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()


def _prepare(handle: Handle, call: Call) -> None:
    """Settings, then database, then the limits that must not be changed afterwards."""
    database = call.request.query.get("database") or call.request.headers.get(
        "X-ClickHouse-Database"
    )
    settings = {**DEFAULT_SETTINGS, **call.settings, "log_comment": call.comment}
    readonly = settings.pop("readonly", "0")
    handle.set(settings)
    if database:
        handle.use(database)
    if readonly == "0" and call.request.method != "POST":
        readonly = "2"  # as ClickHouse: what comes by GET changes nothing
    if readonly != "0":
        handle.set({"readonly": readonly})


def _settings_of(request: web.Request) -> dict[str, str]:
    return {
        name: text
        for name, text in request.query.items()
        if name not in _OUR_PARAMETERS and not name.startswith("param_")
    }


def _session_seconds(request: web.Request) -> float:
    try:
        seconds = float(request.query.get("session_timeout", SESSION_SECONDS_DEFAULT))
    except ValueError:
        raise Invalid("session_timeout is a number of seconds") from None
    return min(max(seconds, 0.0), SESSION_SECONDS_MAX)


def _credentials(request: web.Request) -> tuple[str, str]:
    header = request.headers.get("Authorization", "")
    if header.startswith("Basic "):
        try:
            text = base64.b64decode(header[6:], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        user, _colon, password = text.partition(":")
        return user, password
    user = request.headers.get("X-ClickHouse-User") or request.query.get("user") or "default"
    password = request.headers.get("X-ClickHouse-Key") or request.query.get("password") or ""
    return user, password


def _headers(call: Call, summary: Summary, chosen: str | None = None) -> dict[str, str]:
    values = {
        "read_rows": summary.rows_read,
        "read_bytes": summary.bytes_read,
        "written_rows": summary.rows_written,
        "written_bytes": summary.bytes_written,
        "result_rows": summary.result_rows,
        "elapsed_ns": 0,
    }
    headers = {
        "X-ClickHouse-Summary": orjson.dumps({k: str(v) for k, v in values.items()}).decode(),
        "X-ClickHouse-Query-Id": call.query_id,
        "X-ClickHouse-Timezone": "UTC",
        "Content-Type": "text/plain; charset=UTF-8",
    }
    if chosen is not None:
        headers["X-ClickHouse-Format"] = chosen
        headers["Content-Type"] = _content_type(chosen)
    return headers


def _content_type(chosen: str) -> str:
    if chosen.startswith("JSONEachRow"):
        return "application/x-ndjson; charset=UTF-8"
    if chosen.startswith("JSON"):
        return "application/json; charset=UTF-8"
    if chosen.startswith(("Native", "RowBinary", "Arrow", "Parquet")):
        return "application/octet-stream"
    if chosen.startswith("CSV"):
        return "text/csv; charset=UTF-8"
    return "text/tab-separated-values; charset=UTF-8"


def _failure(error: EngineError) -> web.Response:
    return web.Response(
        status=_STATUS_OF_CODE.get(error.code, 500),
        text=f"{error}\n",
        headers={"X-ClickHouse-Exception-Code": str(error.code)},
    )
