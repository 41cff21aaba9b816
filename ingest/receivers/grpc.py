"""OTLP over gRPC: unary calls served by an asyncio protocol over an HTTP/2 session.

A call is refused as early as its headers allow. What a stream sends is accounted as it is read,
so windows may be large; overload is refused with UNAVAILABLE, not queued.
"""

import asyncio
import logging
import random
from contextlib import suppress
from typing import Final, cast

from ingest.exports import FULL_SUCCESS, Encoding
from ingest.receivers import http2
from ingest.receivers.answers import encoded_answer
from ingest.receivers.bodies import IDENTITY, Hold, inflated
from ingest.receivers.fields import address_of, credential_key, credentials_in
from ingest.receivers.grpc_calls import (
    HEALTH_CHECK,
    HEALTH_WATCH,
    PREFIX_BYTES,
    Call,
    Head,
    Message,
    fields_of,
    http_refusal_of,
    is_whole_message,
    unknown_method,
)
from ingest.receivers.grpc_health import Watches, framed_status, known_status_of, service_of
from ingest.receivers.listener import Listener
from ingest.receivers.statuses import Broken, DeadlineExceeded, Slow, grpc_trailers, refusal_of
from ingest.receivers.tls import protocol_of
from shared.errors import TelemetryFlowError, Unavailable
from shared.security.credentials import Credentials

RESPONSE_HEADERS: Final = (
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b"identity,gzip,zstd"),
)
TRAILERS_OK: Final = ((b"grpc-status", b"0"),)
_PROTOBUF: Final = Encoding.PROTOBUF  # looked up once: that costs as much as a call
EMPTY_MESSAGE: Final = bytes(PREFIX_BYTES)
DATA_BYTES_PER_EVENT: Final = 4 << 10
# Connections that started together do not all end together.
_AGE_JITTER: Final = 0.1

logger = logging.getLogger(__name__)


class GrpcReceiver(Listener):
    """Implements Receiver over ngh2."""

    transport_name = "grpc"

    def new_connection(self) -> asyncio.BaseProtocol:
        """The protocol of a connection just accepted."""
        return GrpcConnection(self)


class GrpcConnection(asyncio.BufferedProtocol):
    """One client connection; implements listener.Connection."""

    def __init__(self, listener: GrpcReceiver) -> None:
        self._listener = listener
        self._gateway = listener.gateway
        self._limits = limits = listener.limits
        self._scratch = listener.scratch
        self._counts = listener.counts
        self._loop = asyncio.get_running_loop()
        self._transport = cast("asyncio.Transport", None)
        self._session = http2.ServerSession(limits)
        self._calls: dict[int, Call] = {}
        self._watches = Watches(self._session)
        # Streams to give up once their answers have been written.
        self._resets: list[int] = []
        self._flush_scheduled = False
        # The headers of the last call, with what they mean: clients repeat them.
        self._known_headers: http2.Headers = ()
        self._known_head = cast("Head", None)
        self._known_credentials: tuple[tuple[bytes | None, ...], Credentials] = ((), Credentials())
        self._pings = 0
        self._failures = 0
        # Events since the last request that brought no data.
        self._idle_events = 0
        self._busy_scratch = self._scratch[: limits.busy_read_bytes]
        self._mostly_data = False
        self._closed = False
        self._closed_at = 0.0
        now = self._loop.time()
        self._since = now
        self._served = False
        self._charged = False  # to a tenant
        # Since when the client has not been reading, or has kept its HTTP/2 windows shut.
        self._stalled_since = 0.0
        self._blocked_since = 0.0
        age_seconds = limits.connection_age_seconds * random.uniform(1 - _AGE_JITTER, 1)  # noqa: S311
        self._old_at = now + age_seconds
        self._going_since = 0.0
        self._gone = False

    # --- asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not self._listener.admit(self, self._transport):
            self._closed = True
        elif protocol_of(self._transport) not in {None, "h2"}:
            self._counts.refused_connection("alpn")
            self.abort()
        else:
            self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  (uvloop's hint is 64 KiB)
        return self._scratch if self._mostly_data else self._busy_scratch

    def buffer_updated(self, nbytes: int) -> None:
        if self._closed:
            return
        session = self._session
        try:
            session.receive(self._scratch[:nbytes])
            events = session.events()
            for event in events:
                if isinstance(event, http2.DataReceived):
                    self._on_data(event)
                elif isinstance(event, http2.RequestReceived):
                    self._on_request(event)
                elif not isinstance(event, http2.StreamClosed):
                    self._on_other(event)
        except http2.Http2Error as error:
            self._break(error)
            return
        self._since = self._loop.time()
        # Without an event it was a part of a large frame.
        self._mostly_data = nbytes >= DATA_BYTES_PER_EVENT * len(events)
        self._idle_events += len(events)
        if self._idle_events > self._limits.idle_events_max:
            self._calm_down("idle_events")
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._listener.forget(self)
        self._closed = True
        for call in self._calls.values():
            self._cancel(call)
        self._calls.clear()

    def pause_writing(self) -> None:
        self._stalled_since = self._loop.time()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._stalled_since = 0.0
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # --- listener.Connection ---

    @property
    def busy(self) -> bool:
        return bool(self._calls)

    def tick(self, now: float) -> None:
        if self._closed:
            if now - self._closed_at > self._limits.linger_seconds:
                self.abort()
            return
        self._check_connection(now)
        for call in tuple(self._calls.values()):
            if call.task is None:
                self._check_body_rate(call, now)
            elif now > call.deadline and not call.expired:
                call.expired = True
                call.task.cancel()
        with suppress(*http2.GONE):
            self._tell_watches()
        self._flush()

    def go_away(self) -> None:
        if self._closed:
            return
        with suppress(*http2.GONE):
            if not self._going_since:
                self._going_since = self._loop.time()
                self._session.announce_shutdown()
                self._tell_watches()
            elif not self._gone:
                self._gone = True
                self._session.go_away()
        self._flush()

    def abort(self) -> None:
        self._closed = True
        self._transport.abort()

    # --- time limits ---

    def _check_connection(self, now: float) -> None:
        limits = self._limits
        if not self._session.blocked:
            self._blocked_since = 0.0
        elif not self._blocked_since:
            self._blocked_since = now
        stalled_since = self._stalled_since or self._blocked_since
        if stalled_since and now - stalled_since > limits.write_stalled_seconds:
            self._counts.refused_connection("unread_answers")
            self.abort()
        elif self._going_since:
            if now - self._going_since > limits.connection_age_grace_seconds:
                self.abort()
            elif not self._calls:
                self.go_away()
        elif now > self._old_at:
            self.go_away()
        elif not self._served and now - self._since > limits.header_seconds:
            self._counts.refused_connection("silent")
            self.abort()
        elif not self._calls and now - self._since > limits.grpc_idle_seconds:
            self.go_away()

    def _check_body_rate(self, call: Call, now: float) -> None:
        received = call.message.received_bytes if call.message else 0
        if self._limits.too_slow(received, now - call.started):
            self._fail(call, Slow("the message of the call came too slowly"))

    # --- events ---

    def _on_request(self, event: http2.RequestReceived) -> None:
        stream_id, headers = event.stream_id, event.headers
        self._pings = self._idle_events = 0
        self._served = True
        tenant = ""
        try:
            head = self._known_head if headers == self._known_headers else self._read(event)
            if head is None:
                return
            if head.signal is not None:
                principal = self._gateway.authenticate(head.credentials, head.signal)
                tenant = principal.tenant_id
                self._charged = self._charged or self._listener.charge(self, principal)
            elif head.method not in {HEALTH_CHECK, HEALTH_WATCH}:
                raise unknown_method(head.method)
        except TelemetryFlowError as error:
            self._refuse(stream_id, error, "", ended=event.end_stream)
            return
        except Exception as error:
            logger.exception("a call could not be taken")
            self._refuse(stream_id, error, "", ended=event.end_stream)
            return
        hold = Hold(self._gateway.budget, tenant)
        call = Call(stream_id, head, hold, self._loop.time())
        self._calls[stream_id] = call
        if event.end_stream:
            call.ended = True
            self._fail(call, Broken("the call ended without a message"))

    def _read(self, event: http2.RequestReceived) -> Head | None:
        """What the headers mean; None when the answer is a plain HTTP status."""
        fields = fields_of(event.headers, self._limits)
        answer = http_refusal_of(fields)
        if answer is not None:
            self._respond_only(event.stream_id, answer, ended=event.end_stream)
            return None
        key, known = credential_key(fields), self._known_credentials
        if key != known[0]:
            credentials = credentials_in(fields, address_of(self._transport))
            known = self._known_credentials = (key, credentials)
        head = Head(fields, known[1])
        self._known_headers, self._known_head = event.headers, head
        return head

    def _on_data(self, event: http2.DataReceived) -> None:
        data = event.data
        if len(data) >= self._limits.data_piece_bytes_min:
            self._idle_events -= 1
        call = self._calls.get(event.stream_id)
        if call is None or call.task is not None:
            return
        call.ended = event.end_stream
        try:
            if call.message is None:
                if call.ended and is_whole_message(data, self._limits):
                    call.hold.add(len(data))
                    self._start(call, data[PREFIX_BYTES:], IDENTITY)
                    return
                call.message = Message(self._limits)
            length = call.message.add(data)
            if length:
                call.hold.add(length)
            if call.ended:
                self._end(call, call.message)
        except TelemetryFlowError as error:
            self._fail(call, error)

    def _on_other(self, event: http2.Event) -> None:
        if isinstance(event, http2.StreamReset):
            self._watches.end(event.stream_id)
            call = self._calls.pop(event.stream_id, None)
            if call is not None:
                self._cancel(call)
                self._failed()
        elif isinstance(event, http2.PingReceived):
            self._pings += 1
            if self._pings > self._limits.pings_max:
                self._calm_down("pings", b"too_many_pings")
        elif isinstance(event, http2.TrailersReceived):
            call = self._calls.get(event.stream_id)
            if call is not None and call.task is None:
                call.ended = True
                try:
                    self._end(call, call.message or Message(self._limits))
                except TelemetryFlowError as error:
                    self._fail(call, error)

    def _cancel(self, call: Call) -> None:
        """The client does not want the answer any more; what is being made durable goes on."""
        # A task that is cancelled before it began does not get to give back what it holds.
        call.hold.release()
        self._counts.requests[call.head.signal or "", "cancelled"] += 1
        if call.task is not None:
            call.task.cancel()

    # --- one call ---

    def _end(self, call: Call, message: Message) -> None:
        """All of the message is here."""
        body = message.whole()
        compression = message.compression(call.head.compression)
        call.message = None
        self._start(call, body, compression)

    def _start(self, call: Call, body: bytes, compression: str) -> None:
        self._counts.wire_bytes += len(body)
        if call.head.signal is None:
            self._answer_health(call, body)
            return
        seconds = self._limits.handler_seconds
        timeout_seconds = call.head.timeout_seconds
        if timeout_seconds is not None and timeout_seconds < seconds:
            seconds = timeout_seconds
        call.deadline = self._loop.time() + seconds
        call.task = self._loop.create_task(self._serve(call, body, compression))

    async def _serve(self, call: Call, body: bytes, compression: str) -> None:
        head = call.head
        signal = head.signal
        assert signal is not None  # noqa: S101  (health calls never come here)
        try:
            if compression is not IDENTITY:
                body = await inflated(body, compression, call.hold, self._limits)
            answer = await self._gateway.export(signal, head.credentials, _PROTOBUF, body)
            if answer is FULL_SUCCESS:
                self._counts.requests[signal, "ok"] += 1
                self._answer(call, EMPTY_MESSAGE)
            else:
                self._counts.requests[signal, "partial" if answer.rejected else "ok"] += 1
                message = encoded_answer(signal, _PROTOBUF, answer)
                self._answer(call, b"\0%b%b" % (len(message).to_bytes(4, "big"), message))
        except asyncio.CancelledError:
            if not call.expired:
                raise
            self._fail(call, self._expired(head))
        except TelemetryFlowError as error:
            self._fail(call, error)
        except Exception as error:
            # Anything else is a defect: the client hears nothing of it but "again" (D3).
            logger.exception("an export over gRPC failed")
            self._fail(call, error)
        finally:
            call.hold.release()

    def _expired(self, head: Head) -> Unavailable:
        timeout_seconds = head.timeout_seconds
        if timeout_seconds is not None and timeout_seconds < self._limits.handler_seconds:
            return DeadlineExceeded("the deadline of the call passed")
        return Unavailable("the gateway took too long; send the request again")

    def _answer(self, call: Call, framed: bytes) -> None:
        stream_id = call.stream_id
        if self._calls.pop(stream_id, None) is None:
            return
        if self._failures:
            self._failures -= 1
        session = self._session
        try:
            session.respond(stream_id, RESPONSE_HEADERS)
            session.send(stream_id, framed)
            session.trailers(stream_id, TRAILERS_OK)
        except http2.GONE:
            return
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _fail(self, call: Call, error: BaseException) -> None:
        if self._calls.pop(call.stream_id, None) is None:
            return
        call.hold.release()
        self._refuse(call.stream_id, error, call.head.signal or "", ended=call.ended)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _refuse(self, stream_id: int, error: BaseException, signal: str, *, ended: bool) -> None:
        """Answer with a status alone; what the client still sends is not wanted."""
        refusal = refusal_of(error)
        self._counts.requests[signal, refusal.outcome] += 1
        if refusal.retry_seconds is None:
            self._failed()
        self._respond_only(stream_id, RESPONSE_HEADERS + grpc_trailers(refusal), ended=ended)

    def _respond_only(self, stream_id: int, headers: http2.Headers, *, ended: bool) -> None:
        with suppress(*http2.GONE):
            self._session.respond(stream_id, headers, end_stream=True)
            if not ended:
                self._resets.append(stream_id)

    # --- health ---

    def _answer_health(self, call: Call, body: bytes) -> None:
        service = service_of(body)
        call.hold.release()
        if call.head.method == HEALTH_CHECK:
            status = known_status_of(service, serving=self._serving())
            self._answer(call, framed_status(status))
            return
        del self._calls[call.stream_id]
        with suppress(*http2.GONE):
            self._session.respond(call.stream_id, RESPONSE_HEADERS)
            self._watches.begin(call.stream_id, service, serving=self._serving())

    def _serving(self) -> bool:
        return not self._listener.draining and self._gateway.ready() is None

    def _tell_watches(self) -> None:
        """Send what changed; a connection that goes away ends its watches."""
        going = bool(self._going_since)
        self._watches.tell(serving=self._serving() and not going)
        if going:
            self._watches.end_all()

    # --- writing ---

    def _flush(self) -> None:
        """Write what the session has to say: once for all answers of a turn of the loop."""
        self._flush_scheduled = False
        if self._closed:
            return
        try:
            data = self._session.outgoing()
            if self._resets:
                # A reset drops what is queued for its stream, so it comes after the answer.
                for stream_id in self._resets:
                    with suppress(*http2.GONE):
                        self._session.reset(stream_id, http2.NO_ERROR)
                self._resets.clear()
                data += self._session.outgoing()
        except http2.Http2Error as error:
            self._break(error)
            return
        if data:
            self._transport.write(data)
        if self._session.ended and not self._closed:
            code = http2.farewell_code(data)
            if code != http2.NO_ERROR:
                self._counts.refused_connection("flood" if code in http2.ABUSE else "protocol")
            self._close()
        elif self._gone and not self._calls:
            self._close()

    def _break(self, error: http2.Http2Error) -> None:
        """The client broke HTTP/2."""
        logger.debug("a gRPC connection was closed: %s", error)
        if http2.is_flood(error):
            self._calm_down("flood")
        else:
            self._cut_off("protocol", http2.farewell(http2.PROTOCOL_ERROR))

    def _calm_down(self, reason: str, debug: bytes = b"") -> None:
        """The client keeps to HTTP/2, but too much of it is no telemetry."""
        self._cut_off(reason, http2.farewell(http2.ENHANCE_YOUR_CALM, debug or reason.encode()))

    def _failed(self) -> None:
        self._failures += 1
        if self._failures > self._limits.failures_max:
            self._calm_down("failures")

    def _cut_off(self, reason: str, farewell: bytes) -> None:
        if not self._closed:
            self._counts.refused_connection(reason)
            self._transport.write(farewell)
            self._close()

    def _close(self) -> None:
        self._closed = True
        self._closed_at = self._loop.time()
        self._transport.close()
