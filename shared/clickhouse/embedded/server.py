"""ClickHouse's HTTP interface over the embedded engine.

Enough of it for clickhouse-connect, curl and Grafana: SQL in the body, in `query` or in a form,
data of an INSERT behind it, streaming both ways, `param_…`, settings, sessions, compression both
ways, exception codes, readonly, limits, and an end to what the client no longer waits for.
Source: https://clickhouse.com/docs/interfaces/http.
"""

import asyncio
import hmac
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from aiohttp import web

from shared.clickhouse.embedded.bodies import Body
from shared.clickhouse.embedded.engine import (
    Engine,
    EngineError,
    Handle,
    Inserting,
    Stream,
    Summary,
)
from shared.clickhouse.embedded.frames import Encoder, encoder
from shared.clickhouse.embedded.lease import Lease
from shared.clickhouse.embedded.replies import failure, headers, refusal
from shared.clickhouse.embedded.requests import (
    DEFAULT_SETTINGS,
    Call,
    credentials,
    form_of,
    is_cross_site,
    is_for_this_machine,
    parameters_of,
    settings_of,
)
from shared.clickhouse.embedded.sessions import Sessions
from shared.clickhouse.embedded.statements import (
    STATEMENT_BYTES_MAX,
    Insert,
    is_select,
    killed_query,
    may_be_insert,
    output_format,
    split_insert,
)
from shared.clickhouse.embedded.work import Threads
from shared.errors import TelemetryFlowError

QUERIES_MAX: Final = 64
# Expressions in the data of INSERT … VALUES are checked as the statement is; longer data may
# hold none.
VALUES_BYTES_MAX: Final = STATEMENT_BYTES_MAX


class Server:
    """Answers ClickHouse's HTTP requests."""

    def __init__(
        self, engine: Engine, *, user: str, password: str, allow_outside: bool = False
    ) -> None:
        self._engine = engine
        self._user = user
        self._password = password
        self._allow_outside = allow_outside
        self._threads = Threads(QUERIES_MAX)
        self._sessions = Sessions(engine, self._threads)
        self._queries = 0
        self._comments: dict[str, str] = {}  # of what runs, by query id

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
        # What still runs was cancelled; its threads end it, for which the loop must go on.
        for comment in list(self._comments.values()):
            await asyncio.to_thread(self._engine.kill, comment)
        await asyncio.to_thread(self._threads.close)
        self._sessions.close()

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
            return failure(error)
        except TelemetryFlowError as error:
            return failure(refusal("CANNOT_DECOMPRESS", str(error)))

    def _authenticate(self, request: web.Request) -> None:
        user, password = credentials(request)
        same_user = hmac.compare_digest(user.encode(), self._user.encode())
        same_password = hmac.compare_digest(password.encode(), self._password.encode())
        if not (same_user and same_password):
            raise refusal("AUTHENTICATION_FAILED", f"{user!r}: wrong user or password")
        if is_cross_site(request) or not (self._password or is_for_this_machine(request)):
            raise refusal("ACCESS_DENIED", "web pages of other sites may not ask this server")

    async def _carry_out(self, request: web.Request) -> web.StreamResponse:
        body = Body(request, self._threads)
        form = await form_of(request)
        statement, insert = await self._read_statement(request, body, form.get("query", ""))
        given = {**form, **request.query}
        call = Call(
            request=request,
            comment=secrets.token_hex(16),
            query_id=request.query.get("query_id") or secrets.token_hex(16),
            statement=self._by_comment(statement),
            parameters=parameters_of(given),
            settings=settings_of(given),
        )
        self._check(call, insert)
        self._comments[call.query_id] = call.comment
        try:
            async with self._lease(call) as lease:
                if insert is not None:
                    return await self._insert(call, insert, body, lease)
                return await self._query(call, lease)
        finally:
            self._comments.pop(call.query_id, None)

    async def _read_statement(
        self, request: web.Request, body: Body, of_form: str
    ) -> tuple[str, Insert | None]:
        """The statement, and the INSERT when data comes with it."""
        head = (request.query.get("query", "") + of_form).encode()
        insert = split_insert(head + b"\n") if head else None
        if head:
            head += b"\n"
        while insert is None:
            piece = b""
            if request.method == "POST":
                piece = await body.read(STATEMENT_BYTES_MAX * 16)
            head += piece
            insert = split_insert(head) if piece and may_be_insert(head) else None
            if insert is None and not piece:
                return head.decode(errors="replace").strip(), None
            if insert is None and len(head) > STATEMENT_BYTES_MAX:
                raise refusal(
                    "QUERY_IS_TOO_LARGE", f"a statement has at most {STATEMENT_BYTES_MAX} bytes"
                )
        if insert.format == "Values":
            insert = await self._with_values(insert, body)
        return insert.statement, insert

    async def _with_values(self, insert: Insert, body: Body) -> Insert:
        """With as much of the data as is checked for what it calls."""
        data = insert.data
        while len(data) <= VALUES_BYTES_MAX:
            piece = await body.read(STATEMENT_BYTES_MAX * 16)
            if not piece:
                break
            data += piece
        return Insert(insert.statement, insert.format, data)

    def _by_comment(self, statement: str) -> str:
        """KILL QUERY by the id that the client knows, as one that the engine knows."""
        killed = killed_query(statement)
        comment = self._comments.get(killed[0]) if killed else None
        if killed is None or comment is None:
            return statement
        return f"KILL QUERY WHERE Settings['log_comment'] = '{comment}' {killed[1]}"

    def _check(self, call: Call, insert: Insert | None) -> None:
        if not call.statement:
            raise refusal("SYNTAX_ERROR", "Empty query")
        for name in ("compress", "decompress"):
            if call.request.query.get(name, "0") not in ("0", "false"):
                raise refusal("NOT_IMPLEMENTED", f"{name}=1: use HTTP compression instead")
        if self._allow_outside:
            return
        surface = self._engine.surface
        words = surface.outside(call.statement)
        if insert is not None and insert.format == "Values" and words is None:
            words = surface.outside(insert.data[:VALUES_BYTES_MAX].decode(errors="replace"))
        if words is not None:
            raise refusal(
                "ACCESS_DENIED", f"'{words}' reaches outside of this server, which it refuses"
            )

    @asynccontextmanager
    async def _lease(self, call: Call) -> AsyncIterator[Lease]:
        session_id = call.request.query.get("session_id")
        if session_id:
            async with self._sessions.lend(session_id, call) as handle:
                if call.database:
                    await self._threads.run(partial(handle.use, call.database))
                yield Lease.of_session(handle)
            return
        lease = Lease(partial(_opened, self._engine, call))
        try:
            yield lease
        finally:
            if lease.is_open:
                await asyncio.shield(self._threads.run(lease.give_back))

    async def _insert(
        self, call: Call, insert: Insert, body: Body, lease: Lease
    ) -> web.StreamResponse:
        inserting = await self._threads.run(partial(_inserting, lease, insert))
        try:
            if insert.data:
                await self._threads.run(partial(inserting.append, insert.data))
            await body.feed(inserting)
            summary = await self._threads.run(inserting.finish)
        finally:
            await asyncio.shield(self._threads.run(inserting.cancel))
        return web.Response(headers=headers(call.query_id, summary))

    async def _query(self, call: Call, lease: Lease) -> web.StreamResponse:
        chosen = output_format(call.statement, call.default_format)
        stop = partial(self._engine.kill, call.comment)
        if not is_select(call.statement):
            data, summary = await self._threads.run(partial(_ran, lease, call, chosen), stop=stop)
            return web.Response(
                body=data, headers=headers(call.query_id, summary, chosen if data else None)
            )
        try:
            begun = await self._threads.run(partial(_begun, lease, call, chosen), stop=stop)
            return await self._stream(call, chosen, begun)
        finally:
            if lease.is_streaming:
                # Ending it waits for the block that is being computed, however long.
                await self._threads.clean_up(lease.handle().end_stream, stop=stop)

    async def _stream(
        self, call: Call, chosen: str, begun: tuple[Stream, bytes, bytes]
    ) -> web.StreamResponse:
        stream, piece, following = begun
        compressed = None
        if call.wants_compression:
            compressed = encoder(call.request.headers.get("Accept-Encoding", ""))
        fetch = partial(
            self._threads.run, stream.fetch, stop=partial(self._engine.kill, call.comment)
        )
        found = headers(call.query_id, stream.summary, chosen)
        if compressed is not None:
            found["Content-Encoding"] = compressed.name
        if not following:
            if compressed is not None:
                piece = compressed.feed(piece) + compressed.finish()
            return web.Response(body=piece, headers=found)
        response = web.StreamResponse(headers=found)
        await response.prepare(call.request)
        try:
            while piece:
                await _write(response, piece, compressed)
                piece = following
                following = await fetch() if piece else b""
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


async def _write(response: web.StreamResponse, data: bytes, compressed: Encoder | None) -> None:
    await response.write(data if compressed is None else compressed.feed(data))


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()


def _opened(engine: Engine, call: Call) -> Handle:
    """A handle with the settings of *call*: all at once, since readonly lets none be changed."""
    handle = engine.handle(call.database)
    try:
        handle.set(
            {
                **DEFAULT_SETTINGS,
                **call.settings,
                "log_comment": call.comment,
                "readonly": call.readonly,
            }
        )
    except EngineError:
        handle.close()
        raise
    return handle


def _check_alone(handle: Handle, call: Call) -> None:
    # To parse it takes a millisecond, which nearly no statement needs.
    if ";" not in call.statement.rstrip("; \t\r\n"):
        return
    if handle.statement_count(call.statement) > 1:
        raise refusal("SYNTAX_ERROR", "Multi-statements are not allowed")


def _inserting(lease: Lease, insert: Insert) -> Inserting:
    handle = lease.handle()
    if len(insert.data) > VALUES_BYTES_MAX and insert.format == "Values":
        handle.set({"input_format_values_interpret_expressions": "0"})
    return handle.insert(insert.statement, insert.format)


def _ran(lease: Lease, call: Call, chosen: str) -> tuple[bytes, Summary]:
    handle = lease.handle()
    _check_alone(handle, call)
    result = handle.run(call.statement, chosen, call.parameters)
    lease.give_back()
    return result


def _begun(lease: Lease, call: Call, chosen: str) -> tuple[Stream, bytes, bytes]:
    """A result with its first two pieces.

    So errors in these get their own status, and most results, which have one piece, cost one turn
    of a thread.
    """
    handle = lease.handle()
    _check_alone(handle, call)
    stream = handle.stream(call.statement, chosen, call.parameters)
    piece = stream.fetch()
    following = stream.fetch() if piece else b""
    if not following:
        lease.give_back()
    return stream, piece, following
