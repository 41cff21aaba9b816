"""OTLP over gRPC by grpcio: the second engine behind the same interface.

It costs some thirty times the CPU of `receivers.grpc` for a small call. It is the fallback while
ngh2 is young, and its twin in the contract tests.
"""

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, NoReturn, TypeAlias
from urllib.parse import unquote

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from ingest.exports import Encoding, Exporter
from ingest.receivers.answers import encoded_answer
from ingest.receivers.bodies import Hold
from ingest.receivers.counts import Counts
from ingest.receivers.fields import credentials_in
from ingest.receivers.grpc_calls import (
    HEALTH_CHECK,
    HEALTH_WATCH,
    SIGNAL_OF_METHOD,
    fields_of,
)
from ingest.receivers.grpc_health import known_status_of, service_of, status_of
from ingest.receivers.limits import Limits
from ingest.receivers.listener import port_conflict
from ingest.receivers.statuses import DETAILS_TRAILER, Broken, refusal_of, status_protobuf
from ingest.receivers.tls import ServerTls
from ingest.signals import Signal
from shared.errors import TelemetryFlowError, Unavailable
from shared.security.credentials import Credentials

_WATCH_POLL_SECONDS: Final = 0.5
_CODE_OF: Final = {code.value[0]: code for code in grpc.StatusCode}

logger = logging.getLogger(__name__)

# grpcio ships no types.
Context: TypeAlias = Any
Handler: TypeAlias = Any


class GrpcioReceiver:
    """Implements Receiver over grpcio."""

    def __init__(
        self,
        gateway: Exporter,
        host: str,
        port: int,
        *,
        limits: Limits,
        tls: ServerTls | None = None,
        reuse_port: bool = False,
    ) -> None:
        self._gateway = gateway
        self._host = host
        self._port = port
        self._limits = limits
        self._tls = tls
        self._reuse_port = reuse_port
        self._counts = Counts("grpc")
        self._server: Any = None
        self._stopping: asyncio.Task[None] | None = None
        self._draining = False
        self._ticker: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._port

    async def start(self) -> None:
        """Listen; Conflict when the port is taken."""
        server = grpc.aio.server(options=_options(self._limits, reuse_port=self._reuse_port))
        server.add_generic_rpc_handlers((_Methods(self._handlers()),))
        host = f"[{self._host}]" if ":" in self._host else self._host
        address = f"{host}:{self._port}"
        try:
            if self._tls is None:
                self._port = server.add_insecure_port(address)
            else:
                self._port = server.add_secure_port(address, _credentials(self._tls))
        except RuntimeError as error:
            taken = OSError(errno.EADDRINUSE, str(error))
            raise port_conflict(taken, "grpc", self._host, self._port) from error
        await server.start()
        self._server = server
        self._tick()

    def stop_accepting(self) -> None:
        """Answer NOT_SERVING to health checks, refuse new calls, let those in flight finish."""
        if self._draining or self._server is None:
            return
        self._draining = True
        grace = self._limits.connection_age_grace_seconds
        self._stopping = asyncio.create_task(self._server.stop(grace))

    async def drain(self, seconds: float) -> None:
        """Wait up to *seconds* for calls in flight, then close everything."""
        self.stop_accepting()
        if self._stopping is not None and self._server is not None:
            _, pending = await asyncio.wait([self._stopping], timeout=seconds)
            if pending:
                await self._server.stop(None)
                await self._stopping
        if self._ticker is not None:
            self._ticker.cancel()
        self._counts.flush()

    def _tick(self) -> None:
        self._counts.flush()
        loop = asyncio.get_running_loop()
        self._ticker = loop.call_later(self._limits.tick_seconds, self._tick)

    def _handlers(self) -> dict[str, Handler]:
        handlers = {
            # To grpcio a stream, so that nothing of a message is read before the key is checked.
            method.decode(): grpc.stream_unary_rpc_method_handler(self._export_of(signal))
            for method, signal in SIGNAL_OF_METHOD.items()
        }
        handlers[HEALTH_CHECK.decode()] = grpc.unary_unary_rpc_method_handler(self._check)
        handlers[HEALTH_WATCH.decode()] = grpc.unary_stream_rpc_method_handler(self._watch)
        return handlers

    def _export_of(
        self, signal: Signal
    ) -> Callable[[AsyncIterator[bytes], Context], Awaitable[bytes]]:
        async def export(messages: AsyncIterator[bytes], context: Context) -> bytes:
            return await self._export(signal, messages, context)

        return export

    async def _export(
        self, signal: Signal, messages: AsyncIterator[bytes], context: Context
    ) -> bytes:
        hold = Hold(self._gateway.budget)
        try:
            credentials = _credentials_of(context, self._limits)
            hold.tenant = self._gateway.authenticate(credentials, signal).tenant_id
            body = await _only(messages)
            # grpcio reads and inflates a message as a whole, so it is held only now.
            self._counts.wire_bytes += len(body)
            hold.add(len(body))
            async with asyncio.timeout(self._limits.handler_seconds):
                answer = await self._gateway.export(signal, credentials, Encoding.PROTOBUF, body)
        except asyncio.CancelledError:
            self._counts.requests[signal, "cancelled"] += 1
            raise
        except TimeoutError:
            late = Unavailable("the gateway took too long; send the request again")
            await self._abort(context, late, signal)
        except TelemetryFlowError as error:
            await self._abort(context, error, signal)
        except Exception as error:
            # Anything else is a defect: the client hears nothing of it but "again" (D3).
            logger.exception("an export over gRPC failed")
            await self._abort(context, error, signal)
        finally:
            hold.release()
        self._counts.requests[signal, "partial" if answer.rejected else "ok"] += 1
        return encoded_answer(signal, Encoding.PROTOBUF, answer)

    async def _check(self, body: bytes, context: Context) -> bytes:
        try:
            return _status_message(known_status_of(service_of(body), serving=self._serving()))
        except TelemetryFlowError as error:
            await self._abort(context, error, "")

    async def _watch(self, body: bytes, context: Context) -> None:
        try:
            service = service_of(body)
        except TelemetryFlowError as error:
            await self._abort(context, error, "")
        told = -1
        while not self._draining:
            status = status_of(service, serving=self._serving())
            if status != told:
                await context.write(_status_message(status))
                told = status
            await asyncio.sleep(_WATCH_POLL_SECONDS)
        await self._abort(context, Unavailable("the gateway is shutting down"), "")

    def _serving(self) -> bool:
        return not self._draining and self._gateway.ready() is None

    async def _abort(self, context: Context, error: BaseException, signal: str) -> NoReturn:
        refusal = refusal_of(error)
        self._counts.requests[signal, refusal.outcome] += 1
        await context.abort(
            _CODE_OF[refusal.grpc_code],
            refusal.message,
            trailing_metadata=((DETAILS_TRAILER.decode(), status_protobuf(refusal)),),
        )
        raise AssertionError("abort raises")


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, handlers: dict[str, Handler]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: Any) -> Handler | None:
        return self._handlers.get(handler_call_details.method)


async def _only(messages: AsyncIterator[bytes]) -> bytes:
    """The one message of a unary call; Broken when there is none, or another."""
    body = await anext(messages, None)
    if body is None:
        raise Broken("the call ended without a message")
    if await anext(messages, None) is not None:
        raise Broken("the call has more than one message")
    return body


def _credentials_of(context: Context, limits: Limits) -> Credentials:
    # grpcio lets more metadata through than its own limits say.
    headers = tuple(
        (name.encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in context.invocation_metadata() or ()
    )
    return credentials_in(fields_of(headers, limits), _address_of(context.peer()))


def _address_of(peer: str) -> str:
    """The address in `ipv4:127.0.0.1:5` or `ipv6:%5B::1%5D:5`, as grpcio tells it."""
    return unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")


def _status_message(status: int) -> bytes:
    return b"\x08%c" % status


def _credentials(tls: ServerTls) -> Any:
    """Those that ask at each handshake, in a thread of grpcio, whether the files have changed."""

    def configuration() -> Any:
        authority = tls.files.client_authority
        return grpc.ssl_server_certificate_configuration(
            [(tls.files.key.read_bytes(), tls.files.certificate.read_bytes())],
            root_certificates=authority.read_bytes() if authority else None,
        )

    return grpc.dynamic_ssl_server_credentials(
        configuration(),
        lambda: configuration() if tls.refresh() else None,
        require_client_authentication=tls.files.client_authority is not None,
    )


def _options(limits: Limits, *, reuse_port: bool) -> list[tuple[str, int]]:
    """Channel arguments. maximum_concurrent_rpcs is not used: what it answers makes SDKs drop."""
    return [
        ("grpc.so_reuseport", int(reuse_port)),
        ("grpc.max_receive_message_length", limits.body_bytes_max),
        ("grpc.max_send_message_length", 4 << 20),
        ("grpc.max_concurrent_streams", limits.streams_max),
        ("grpc.max_metadata_size", limits.metadata_bytes_max),
        ("grpc.absolute_max_metadata_size", limits.metadata_bytes_max),
        ("grpc.max_allowed_incoming_connections", limits.connections_max),
        ("grpc.server_handshake_timeout_ms", int(limits.header_seconds * 1e3)),
        ("grpc.max_connection_idle_ms", int(limits.grpc_idle_seconds * 1e3)),
        # So that a client which is gone without a word is noticed.
        ("grpc.keepalive_time_ms", int(limits.idle_seconds * 1e3)),
        ("grpc.keepalive_timeout_ms", int(limits.header_seconds * 1e3)),
        ("grpc.max_connection_age_ms", int(limits.connection_age_seconds * 1e3)),
        ("grpc.max_connection_age_grace_ms", int(limits.connection_age_grace_seconds * 1e3)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 2),
    ]
