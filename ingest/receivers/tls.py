"""TLS of the receivers: at least 1.2, client certificates where an authority is given, and files
that are read again when they change."""

import asyncio
import logging
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from cryptography import x509

from ingest import metrics
from ingest.receivers.limits import Limits
from shared.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from ingest.receivers.listener import Listener

HTTP_PROTOCOLS: Final = ("http/1.1",)
GRPC_PROTOCOLS: Final = ("h2",)
# Turns that were not taken are kept for so long.
PACED_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. With *client_authority* clients must show a certificate that it signed."""

    certificate: Path
    key: Path
    client_authority: Path | None = None

    def state(self) -> tuple[tuple[int, int, int], ...]:
        """What changes when a file is written anew or replaced; a missing one is zeros."""
        paths = (self.certificate, self.key, self.client_authority)
        return tuple(_state_of(path) for path in paths if path is not None)


def server_context(files: TlsFiles, protocols: tuple[str, ...]) -> ssl.SSLContext:
    """A server's context; Invalid, naming the file, when one cannot be used.

    *protocols* are offered by ALPN.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(list(protocols))
    try:
        context.load_cert_chain(files.certificate, files.key)
    except (OSError, ssl.SSLError) as error:
        pair = f"{files.certificate} with key {files.key}"
        raise Invalid(f"the certificate {pair}: {error}") from error
    if files.client_authority is not None:
        try:
            context.load_verify_locations(files.client_authority)
        except (OSError, ssl.SSLError) as error:
            raise Invalid(f"the client authority {files.client_authority}: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class ServerTls:
    """What new connections of one receiver get: `context` follows the files.

    Raises Invalid when the files cannot be used at the start. Later ones that cannot are told of
    in the log, and what was in force stays so.
    """

    def __init__(self, files: TlsFiles, protocols: tuple[str, ...]) -> None:
        self.files = files
        self._protocols = protocols
        self._state = files.state()
        self.context = server_context(files, protocols)
        _tell_expiry(files)

    def refresh(self) -> bool:
        """Read the files again if they changed; whether new ones are in force now."""
        state = self.files.state()
        if state == self._state:
            return False
        self._state = state
        try:
            # A context of its own, not the old one changed: no session of a client whose
            # authority is gone can be resumed.
            self.context = server_context(self.files, self._protocols)
        except Invalid as error:
            metrics.TLS_RELOADS.labels("failed").inc()
            logger.error("TLS goes on as before, for the new files cannot be used: %s", error)
            return False
        metrics.TLS_RELOADS.labels("done").inc()
        logger.info("the certificate %s was read again", self.files.certificate)
        _tell_expiry(self.files)
        return True


class HandshakeTurns:
    """Paces the handshakes of a receiver: what they may cost is bounded, whoever asks for them."""

    def __init__(self, limits: Limits) -> None:
        self._seconds_each = 1 / limits.tls_handshakes_per_second_max
        self._seconds_max = limits.tls_handshake_seconds
        self._next_at = 0.0

    async def take(self) -> None:
        """Wait for one's turn; Unavailable when that would be too long."""
        now = asyncio.get_running_loop().time()
        at = max(self._next_at, now - PACED_SECONDS)
        if at - now > self._seconds_max:
            raise Unavailable("too many TLS handshakes")
        self._next_at = at + self._seconds_each
        if at > now:
            await asyncio.sleep(at - now)


class Handshake(asyncio.Protocol):
    """A connection until its TLS is agreed upon; implements listener.Connection.

    It counts from its first byte on, so silent clients cannot be more than others. It is accepted
    in the clear and then handed over, so that each gets the context which is in force then.
    """

    busy = False

    def __init__(self, listener: "Listener", tls: ServerTls) -> None:
        self._listener = listener
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        plain = cast("asyncio.Transport", transport)
        if not self._listener.admit(self, plain):
            return
        sock = plain.get_extra_info("socket").dup()
        sock.setblocking(False)
        plain.abort()
        self._task = self._loop.create_task(self._shake(sock))

    def tick(self, now: float) -> None:
        """A handshake has a time limit of its own."""

    def go_away(self) -> None:
        self.abort()

    def abort(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _shake(self, sock: socket.socket) -> None:
        connection = self._listener.new_connection()
        self._listener.shaking[connection] = self
        made = False
        try:
            await self._listener.handshake_turns.take()
            await self._loop.connect_accepted_socket(
                lambda: connection,
                sock,
                ssl=self._tls.context,
                ssl_handshake_timeout=self._listener.limits.tls_handshake_seconds,
            )
            made = True
        except (OSError, TimeoutError, Unavailable) as error:
            logger.debug("a TLS handshake failed: %s", error)
            self._listener.counts.refused_connection("tls_handshake")
        finally:
            if not made:
                sock.close()
            self._listener.shaking.pop(connection, None)
            self._listener.forget(self)


def protocol_of(transport: asyncio.BaseTransport) -> str | None:
    """What TLS agreed to speak, "" when nothing; None without TLS."""
    tls = transport.get_extra_info("ssl_object")
    return None if tls is None else tls.selected_alpn_protocol() or ""


def _state_of(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return found.st_ino, found.st_mtime_ns, found.st_size


def _tell_expiry(files: TlsFiles) -> None:
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    metrics.TLS_CERTIFICATE_EXPIRES.set(certificate.not_valid_after_utc.timestamp())
