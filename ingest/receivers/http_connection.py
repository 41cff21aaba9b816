"""One client connection of OTLP over HTTP/1.1, over the llhttp parser of httptools.

A request is refused as early as its headers allow. Bodies of known length are received straight
into the object that is handed to the gateway. Answers leave in the order of the requests.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Final, cast

import httptools

from ingest.receivers import http_responses as responses
from ingest.receivers.bodies import Hold
from ingest.receivers.fields import address_of, credential_key, credentials_in
from ingest.receivers.http_answers import HttpAnswers
from ingest.receivers.http_exchange import Exchange
from ingest.receivers.http_repeats import BODY_BYTES_MAX, KnownHead, known_head
from ingest.receivers.http_requests import (
    HEALTH_PATHS,
    READY_PATH,
    SIGNAL_OF_PATH,
    Export,
    answer_encoding,
    export_of,
    length_to_discard,
    refuse_body_of_upgrade,
    refuse_key_in,
    signal_of,
)
from ingest.receivers.listener import Crowded
from ingest.receivers.statuses import Slow
from shared.errors import Invalid, TelemetryFlowError, TooLarge
from shared.security.credentials import Credentials

if TYPE_CHECKING:
    from ingest.receivers.http import HttpReceiver

# A rest of a body that is shorter goes through the parser: a new parser costs more.
DIRECT_BYTES_MIN: Final = 8 << 10
# What is read at once while no body is received directly: all requests in it are taken in one turn
# of the event loop.
HEAD_READ_BYTES: Final = 64 << 10
# A read with fewer of them for each request in it is not mostly data.
DATA_BYTES_PER_REQUEST: Final = 256
# Nothing of it goes to the client but "again" (D3).
_DEFECT: Final = "a request over HTTP could not be taken"

logger = logging.getLogger(__name__)


class HttpConnection(HttpAnswers, asyncio.BufferedProtocol):
    """One client connection; implements listener.Connection."""

    def __init__(self, listener: "HttpReceiver") -> None:
        super().__init__(listener)
        self._head_scratch = listener.scratch[:HEAD_READ_BYTES]
        self._pipelined_scratch = listener.scratch[: listener.limits.pipelined_read_bytes]
        self._requests_in_read = 0
        self._mostly_data = False
        self._parser: httptools.HttpRequestParser | None = None
        # The request that is being received.
        self._current: Exchange | None = None
        # That of the last request, when the next may be recognised by it.
        self._known_head: KnownHead | None = None
        self._heads_in_read = 0
        self._known_credentials: tuple[tuple[bytes | None, ...], Credentials] = ((), Credentials())
        self._upgrading = False
        self._direct: memoryview | None = None
        self._discarded_bytes = 0

    # --- asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not self._listener.admit(self, self._transport):
            self._closing = True

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  (uvloop's hint is 64 KiB)
        if self._direct is not None:
            return self._direct
        return self._head_scratch if self._mostly_data else self._pipelined_scratch

    def buffer_updated(self, nbytes: int) -> None:
        if self._direct is not None:
            self._receive_direct(nbytes)
        elif self._closing:
            self._discard(nbytes)
        else:
            self._requests_in_read = 0
            taken = self._take_repeats(nbytes) if self._known_head is not None else 0
            if taken < nbytes:
                self._feed(self._head_scratch[taken:nbytes])
            self._mostly_data = nbytes >= DATA_BYTES_PER_REQUEST * self._requests_in_read
            if not self._mostly_data and nbytes >= len(self._pipelined_scratch):
                # The event loop would read on, up to 32 times in this turn.
                self._transport.pause_reading()
                self._loop.call_soon(self._read_next)

    def eof_received(self) -> bool:
        self._half_closed = True
        if self._current is not None or not self._queue or self._linger_until:
            return False
        if not self._transport.can_write_eof():
            return False  # with TLS there is no half of a connection
        self._closing = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._listener.forget(self)
        self._closing = True
        self._direct = None
        for exchange in self._queue:
            # A task that is cancelled before it began does not get to give back what it holds.
            exchange.hold.release()
            if exchange.task is not None:
                exchange.task.cancel()
        self._queue.clear()

    def pause_writing(self) -> None:
        self._stalled_since = self._loop.time()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._stalled_since = 0.0
        self._read_on()

    # --- listener.Connection ---

    @property
    def busy(self) -> bool:
        return bool(self._queue) or self._in_head

    def tick(self, now: float) -> None:
        limits = self._limits
        if self._linger_until:
            if now > self._linger_until:
                self.abort()
            return
        if self._stalled_since and now - self._stalled_since > limits.write_stalled_seconds:
            self._listener.counts.refused_connection("unread_answers")
            self.abort()
            return
        for exchange in self._queue:
            if exchange.task is not None and now > exchange.deadline and not exchange.expired:
                exchange.expired = True
                exchange.task.cancel()
        if self._current is not None:
            self._check_body_rate(self._current, now)
        elif not self._queue:
            self._check_idle(now)

    def go_away(self) -> None:
        if not self.busy and not self._closing:
            self._finish()

    def abort(self) -> None:
        self._closing = True
        self._transport.abort()

    # --- time limits ---

    def _check_body_rate(self, exchange: Exchange, now: float) -> None:
        received = exchange.received_bytes
        if self._direct is not None and exchange.export is not None:
            received = (exchange.export.length or 0) - len(self._direct)
        if exchange.response is None and self._limits.too_slow(received, now - exchange.started):
            self._refuse_unread(Slow("the body of the request came too slowly"))

    def _check_idle(self, now: float) -> None:
        waited = now - self._since
        if self._in_head and waited > self._limits.header_seconds:
            self._refuse_unread(Slow("the headers of the request came too slowly"))
        elif waited > (self._limits.idle_seconds if self._served else self._limits.header_seconds):
            self._finish()

    # --- reading ---

    def _read_next(self) -> None:
        if len(self._queue) < self._limits.pipelined_requests_max:
            self._read_on()

    def _take_repeats(self, nbytes: int) -> int:
        """Take whole requests with the head of the one before; how many bytes those are."""
        read, taken = self._listener.read_buffer, 0
        while (
            (known := self._known_head) is not None
            and not (self._in_head or self._closing or self._current)
            and (body := known.body_in(read, taken, nbytes)) is not None
        ):
            start, taken = body
            try:
                self._take_repeat(known.export, bytes(self._head_scratch[start:taken]))
            except Exception as error:
                logger.exception(_DEFECT)
                self._refuse_unread(error)
        return taken

    def _take_repeat(self, known: Export, body: bytes) -> None:
        now = self._loop.time()
        self._since = now
        self._requests_in_read += 1
        self._headers[b"content-length"] = b"%d" % len(body)
        keep_alive = not self._listener.draining
        exchange = Exchange(
            known.encoding, Hold(self._gateway.budget), keep_alive=keep_alive, now=now
        )
        self._current = exchange
        self._queue.append(exchange)
        exchange.received_bytes = len(body)
        try:
            principal = self._gateway.authenticate(known.credentials, known.signal)
            exchange.hold.tenant = principal.tenant_id
            exchange.hold.add(len(body))
            # Its length is that of the first; nobody asks for it once the body is here.
            exchange.export = known
            exchange.pieces.append(body)
        except TelemetryFlowError as error:
            self._refuse(exchange, error)
        if self._current is exchange:
            self._message_received(exchange)

    def _remember_head(self, data: memoryview) -> None:
        """Keep the head that *data* begins with, if a next request may be taken by it alone."""
        exchange = self._queue[-1] if self._queue else None
        if exchange is None or exchange.export is None or self._in_head:
            return
        length = exchange.export.length
        if (
            length is not None
            and length <= BODY_BYTES_MAX
            and exchange.keep_alive
            and not (self._upgrading or exchange.extra or b"expect" in self._headers)
        ):
            self._known_head = known_head(bytes(data), self._headers_count, exchange.export)

    def _feed(self, data: memoryview) -> None:
        begins, read = not (self._in_head or self._current), data
        self._heads_in_read = 0
        while data:
            parser = self._parser
            if parser is None:
                parser = self._parser = httptools.HttpRequestParser(self)
            try:
                parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # Offers of another protocol are not taken up: what follows is HTTP/1.1.
                self._parser = None
                data = self._past_upgrade(data[upgrade.args[0] :])
                continue
            except httptools.HttpParserCallbackError as error:
                logger.exception(_DEFECT)
                self._refuse_unread(error)
                return
            except httptools.HttpParserError as error:
                if not self._closing:
                    self._refuse_unread(Invalid(f"not a valid HTTP/1.1 request: {error}"))
                return
            break
        if begins and self._heads_in_read == 1:
            self._remember_head(read)
        if self._in_head:
            self._limit_head(len(data))
        elif self._current is not None and not self._closing and self._direct is None:
            self._receive_rest(self._current, len(data))

    def _receive_rest(self, exchange: Exchange, size_bytes: int) -> None:
        export = exchange.export
        if export is None or exchange.response is not None:
            return
        if export.length is None:
            exchange.wire_bytes += size_bytes
            if exchange.overhead_bytes > self._limits.chunk_overhead_bytes_max:
                self._refuse_unread(Invalid("the body has far more chunk framing than data"))
        elif export.length - exchange.received_bytes >= DIRECT_BYTES_MIN:
            self._receive_directly(exchange, export.length)

    def _past_upgrade(self, data: memoryview) -> memoryview:
        """Take the body that the parser left behind an offer to upgrade; what follows it."""
        exchange = self._current
        if exchange is None or exchange.export is None or self._closing:
            return data
        length = exchange.export.length or 0
        body, rest = data[:length], data[length:]
        exchange.pieces.append(bytes(body))
        exchange.received_bytes = len(body)
        if len(body) == length:
            self._message_received(exchange)
        else:
            self._receive_directly(exchange, length)
        return rest

    def _receive_directly(self, exchange: Exchange, length: int) -> None:
        self._direct = exchange.rest_of_body(length)
        self._parser = None

    def _receive_direct(self, nbytes: int) -> None:
        direct = cast("memoryview", self._direct)[nbytes:]
        self._direct = direct
        if direct:
            return
        exchange = cast("Exchange", self._current)
        exchange.received_bytes = cast("Export", exchange.export).length or 0
        self._direct = None
        self._message_received(exchange)

    def _discard(self, nbytes: int) -> None:
        self._discarded_bytes += nbytes
        if self._discarded_bytes > self._limits.discarded_bytes_max and not self._has_key:
            self._transport.pause_reading()

    # --- callbacks of the parser ---

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._heads_in_read += 1
        self._requests_in_read += 1
        self._known_head = None
        if self._closing:
            return
        parser = cast("httptools.HttpRequestParser", self._parser)
        keep_alive = parser.should_keep_alive() and not self._listener.draining
        exchange = Exchange(
            answer_encoding(self._headers),
            Hold(self._gateway.budget),
            keep_alive=keep_alive,
            now=self._loop.time(),
        )
        self._current = exchange
        self._queue.append(exchange)
        self._upgrading = parser.should_upgrade()
        try:
            if self._upgrading:
                refuse_body_of_upgrade(parser.get_method(), self._headers)
            self._open(exchange, parser.get_method())
        except TelemetryFlowError as error:
            exchange.keep_alive = exchange.keep_alive and not isinstance(error, Crowded)
            self._refuse(exchange, error)

    def on_body(self, body: bytes) -> None:
        exchange = self._current
        if exchange is None or self._closing:
            return
        exchange.received_bytes += len(body)
        if exchange.response is not None:
            return
        export = exchange.export
        if export is not None and export.length is None:
            try:
                self._take_chunk(exchange, len(body))
            except TelemetryFlowError as error:
                self._refuse(exchange, error)
                return
        exchange.pieces.append(body)

    def on_message_complete(self) -> None:
        exchange = self._current
        if exchange is None or self._closing:
            return
        if self._upgrading and exchange.export is not None:
            return  # the parser takes the body for another protocol's: see _past_upgrade
        self._message_received(exchange)

    # --- one request ---

    def _open(self, exchange: Exchange, method: bytes) -> None:
        """Decide what the headers allow to decide."""
        headers = self._headers
        path, _, query = self._url.partition(b"?")
        if path in HEALTH_PATHS and method in {b"GET", b"HEAD"}:
            self._answer_health(exchange, path, method)
            return
        origin = headers.get(b"origin")
        if origin is not None and origin in self._listener.cors_origins:
            exchange.extra = responses.cors_lines(origin)
            if method == b"OPTIONS" and path in SIGNAL_OF_PATH:
                exchange.response = responses.preflight(origin, keep_alive=exchange.keep_alive)
                return
        signal = signal_of(method, path)
        if query:
            refuse_key_in(query)
        credentials = self._credentials()
        principal = self._gateway.authenticate(credentials, signal)
        exchange.hold.tenant = principal.tenant_id
        self._has_key = self._has_key or self._listener.charge(self, principal)
        export = export_of(signal, credentials, headers, self._limits)
        exchange.hold.add(export.length or 0)
        exchange.export = export
        if headers.get(b"expect", b"").lower() == b"100-continue" and len(self._queue) == 1:
            self._transport.write(responses.CONTINUE)

    def _credentials(self) -> Credentials:
        """Those of the headers, which clients repeat from request to request."""
        key, known = credential_key(self._headers), self._known_credentials
        if key != known[0]:
            credentials = credentials_in(self._headers, address_of(self._transport))
            known = self._known_credentials = (key, credentials)
        return known[1]

    def _answer_health(self, exchange: Exchange, path: bytes, method: bytes) -> None:
        reason = None
        if path == READY_PATH:
            reason = "shutting down" if self._listener.draining else self._gateway.ready()
        answer = responses.health(reason, keep_alive=exchange.keep_alive)
        exchange.response = answer if method == b"GET" else responses.without_body(answer)

    def _take_chunk(self, exchange: Exchange, size_bytes: int) -> None:
        if exchange.received_bytes > self._limits.body_bytes_max:
            raise TooLarge(f"the body is larger than {self._limits.body_bytes_max} bytes")
        exchange.hold.add(size_bytes)

    def _message_received(self, exchange: Exchange) -> None:
        exchange.complete = True
        self._current = None
        self._listener.counts.wire_bytes += exchange.received_bytes
        if exchange.response is not None:
            self._flush()
            return
        exchange.deadline = self._loop.time() + self._limits.handler_seconds
        exchange.task = self._loop.create_task(self._serve(exchange))
        if len(self._queue) >= self._limits.pipelined_requests_max:
            self._transport.pause_reading()

    # --- refusing before the request is complete ---

    def _refuse(self, exchange: Exchange, error: TelemetryFlowError) -> None:
        """Answer before the body is in; keep the connection only if little of it is left."""
        exchange.keep_alive = exchange.keep_alive and self._may_discard_body()
        self._fail(exchange, error)
        exchange.drop_body()
        if not exchange.keep_alive:
            self._take_no_more(exchange)
            self._flush()

    def _may_discard_body(self) -> bool:
        if self._direct is not None:
            return False
        length = length_to_discard(self._headers)
        return length <= (0 if self._upgrading else self._limits.discarded_bytes_max)

    def _refuse_unread(self, error: BaseException) -> None:
        """Refuse what could not be read to the end as a request, and close."""
        exchange = self._current
        if exchange is None:
            hold = Hold(self._gateway.budget)
            encoding = answer_encoding(self._headers)
            exchange = Exchange(encoding, hold, keep_alive=False, now=self._loop.time())
            self._queue.append(exchange)
        exchange.keep_alive = False
        if exchange.response is None:
            self._fail(exchange, error)
        exchange.drop_body()
        self._in_head = False
        self._take_no_more(exchange)
        self._flush()

    def _take_no_more(self, last: Exchange) -> None:
        last.complete = True
        self._current = None
        self._closing = True
        # The parser may hold headers and trailers that never ended.
        self._direct = self._parser = None
