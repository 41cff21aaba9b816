"""A listening socket, its connections and their time limits; `Receiver` is what `app` starts."""

import asyncio
import errno
import logging
import math
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Protocol

from ingest import metrics
from ingest.directory import Principal
from ingest.exports import Exporter
from ingest.receivers.counts import Counts
from ingest.receivers.limits import Limits
from ingest.receivers.tls import Handshake, HandshakeTurns, ServerTls
from shared.errors import Conflict, Unavailable

DRAIN_POLL_SECONDS: Final = 0.02
CLOSE_SECONDS: Final = 0.1
CROWDED_RETRY_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


class Crowded(Unavailable):
    """A tenant has as many connections as leave others theirs; this one is closed."""

    def __init__(self) -> None:
        super().__init__(
            "too many connections of one tenant to this gateway; connect to another one, or send "
            "through an OpenTelemetry Collector",
            retry_after_seconds=CROWDED_RETRY_SECONDS,
        )


class Receiver(Protocol):
    """Serves OTLP over one transport, from `start` to `drain`."""

    async def start(self) -> None:
        """Listen; Conflict when the port is taken."""

    @property
    def port(self) -> int:
        """The port listened on, once started (also when 0 was asked for)."""

    def stop_accepting(self) -> None:
        """Take no new connections and tell clients on open ones to go elsewhere."""

    async def drain(self, seconds: float) -> None:
        """Wait up to *seconds* for requests in flight, then close everything."""


class Connection(Protocol):
    """One client connection, as the listener sees it."""

    @property
    def busy(self) -> bool:
        """Whether a request has been begun and not yet been answered."""

    def tick(self, now: float) -> None:
        """Apply the time limits; called every `tick_seconds`."""

    def go_away(self) -> None:
        """Tell the client to come back elsewhere; close as soon as nothing is in flight."""

    def abort(self) -> None:
        """Close at once."""


class Listener:
    """Implements Receiver for an asyncio protocol; a subclass makes the protocol."""

    transport_name = ""
    # What one read of a socket may bring.
    scratch_bytes = 256 << 10

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
        self.gateway = gateway
        self.limits = limits
        self.counts = Counts(self.transport_name)
        self.draining = False
        # Shared by all connections: it is filled and emptied within one call of the event loop.
        self.read_buffer = bytearray(self.scratch_bytes)
        self.scratch = memoryview(self.read_buffer)
        self._host = host
        self._port = port
        self._tls = tls
        self._reuse_port = reuse_port
        self._server: asyncio.Server | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self.connections: dict[Connection, str] = {}
        self._per_address: Counter[str] = Counter()
        self._tenant_of: dict[Connection, str] = {}
        self._per_tenant: Counter[str] = Counter()
        # Connections that are being made, with the handshakes that stand for them until then.
        self.shaking: dict[object, Handshake] = {}
        self.handshake_turns = HandshakeTurns(limits)

    def new_connection(self) -> asyncio.BaseProtocol:
        """The protocol of a connection just accepted."""
        raise NotImplementedError

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._port

    async def start(self) -> None:
        """Listen; Conflict when the port is taken or may not be used."""
        loop = asyncio.get_running_loop()
        extra: dict[str, Any] = {"reuse_port": True} if self._reuse_port else {}
        tls = self._tls
        accepted = self.new_connection if tls is None else lambda: Handshake(self, tls)
        try:
            self._server = await loop.create_server(
                accepted, self._host, self._port, backlog=1_024, **extra
            )
        except OSError as error:
            raise port_conflict(error, self.transport_name, self._host, self._port) from error
        self._port = self._server.sockets[0].getsockname()[1]
        self._schedule_tick()

    def stop_accepting(self) -> None:
        """Take no new connections and tell clients on open ones to go elsewhere."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for connection in tuple(self.connections):
            connection.go_away()

    async def drain(self, seconds: float) -> None:
        """Wait up to *seconds* for requests in flight, then close everything."""
        self.stop_accepting()
        await self._until(lambda: not self._any_busy(), seconds)
        for connection in tuple(self.connections):
            connection.go_away()
        # Time for the last answers to leave, and for clients to close first.
        await self._until(lambda: not self.connections, CLOSE_SECONDS)
        for connection in tuple(self.connections):
            connection.abort()
        if self._ticker is not None:
            self._ticker.cancel()
        self.counts.flush()

    def admit(self, connection: Connection, transport: asyncio.Transport) -> bool:
        """Whether *connection* may stay; one that may not is closed here."""
        handshake = self.shaking.pop(connection, None)
        if handshake is not None:
            self.forget(handshake)
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        reason = self._reason_to_refuse(address)
        if reason is not None:
            self.counts.refused_connection(reason)
            transport.abort()
            return False
        self.connections[connection] = address
        self._per_address[address] += 1
        metrics.CONNECTIONS.labels(self.transport_name).inc()
        return True

    def charge(self, connection: Connection, principal: Principal) -> bool:
        """Count *connection*, on which the first good key came, as one of its tenant's: True.

        Crowded when that has its share of them; the connection is told to go, then.
        """
        tenant = principal.tenant_id or principal.workspace_id
        free = self.limits.connections_max - len(self.connections) + 1
        if self._per_tenant[tenant] >= self.limits.connections_share_of_free * free:
            self.counts.refused_connection("connections_per_tenant")
            connection.go_away()
            raise Crowded
        self._tenant_of[connection] = tenant
        self._per_tenant[tenant] += 1
        return True

    def forget(self, connection: Connection) -> None:
        """The connection is gone; harmless for one that was not admitted."""
        address = self.connections.pop(connection, None)
        if address is None:
            return
        _discount(self._per_address, address)
        tenant = self._tenant_of.pop(connection, None)
        if tenant is not None:
            _discount(self._per_tenant, tenant)
        metrics.CONNECTIONS.labels(self.transport_name).dec()

    def _reason_to_refuse(self, address: str) -> str | None:
        if self.draining:
            return "draining"
        if len(self.connections) >= self.limits.connections_max:
            return "connections"
        if self._per_address[address] >= self.limits.connections_per_address_max:
            return "connections_per_address"
        return None

    async def _until(self, holds: Callable[[], bool], seconds: float) -> None:
        for _ in range(math.ceil(seconds / DRAIN_POLL_SECONDS)):
            if holds():
                return
            await asyncio.sleep(DRAIN_POLL_SECONDS)

    def _any_busy(self) -> bool:
        return any(connection.busy for connection in self.connections)

    def _schedule_tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._ticker = loop.call_later(self.limits.tick_seconds, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._schedule_tick()
        if self._tls is not None:
            self._tls.refresh()
        now = loop.time()
        for connection in tuple(self.connections):
            try:
                connection.tick(now)
            except Exception:
                # A defect costs its connection, not the time limits of all others.
                logger.exception("a connection's time limits could not be checked")
                connection.abort()
        self.counts.flush()


def _discount(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]


def port_conflict(error: OSError, transport: str, host: str, port: int) -> Conflict:
    """Why *port* cannot be listened on, and what to do about it."""
    setting = f"INGEST_{transport.upper()}_PORT"
    if error.errno == errno.EADDRINUSE:
        why = "is in use by another program: stop that program"
    elif error.errno == errno.EACCES:
        why = "may not be opened by this user: choose a port above 1023"
    else:
        why = f"cannot be listened on ({error.strerror})"
    return Conflict(f"the port {host}:{port} for OTLP/{transport} {why}, or change {setting}")
