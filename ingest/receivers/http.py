"""OTLP over HTTP/1.1: an asyncio protocol for each connection."""

import asyncio

from ingest.exports import Exporter
from ingest.receivers.http_connection import HttpConnection
from ingest.receivers.limits import Limits
from ingest.receivers.listener import Listener
from ingest.receivers.tls import ServerTls


class HttpReceiver(Listener):
    """Implements Receiver. *cors_origins* are the origins whose pages may send from a browser."""

    transport_name = "http"
    scratch_bytes = 32 << 10  # of a large body, only what comes in the first read is copied

    def __init__(
        self,
        gateway: Exporter,
        host: str,
        port: int,
        *,
        limits: Limits,
        tls: ServerTls | None = None,
        reuse_port: bool = False,
        cors_origins: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(gateway, host, port, limits=limits, tls=tls, reuse_port=reuse_port)
        self.cors_origins = frozenset(origin.encode() for origin in cors_origins)

    def new_connection(self) -> asyncio.BaseProtocol:
        """The protocol of a connection just accepted."""
        return HttpConnection(self)
