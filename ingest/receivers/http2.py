"""HTTP/2 without I/O: the one module that knows ngh2 (libnghttp2).

Bytes go in, events come out, and the other way round. What the rest of the product needs of an
HTTP/2 library is what is named here, so that another one could take its place.
"""

from typing import Final, TypeAlias

from ngh2 import (
    Configuration,
    Connection,
    ConnectionClosed,
    ConnectionClosingError,
    ConnectionStateError,
    DataReceived,
    ErrorCode,
    Event,
    GoAwayReceived,
    NGH2Error,
    PingReceived,
    RequestReceived,
    Role,
    Setting,
    StreamClosed,
    StreamProtocolError,
    StreamReset,
    TrailersReceived,
)

from ingest.receivers.limits import Limits

__all__ = [
    "GONE",
    "ConnectionClosed",
    "DataReceived",
    "Event",
    "GoAwayReceived",
    "Headers",
    "Http2Error",
    "PingReceived",
    "RequestReceived",
    "ServerSession",
    "StreamClosed",
    "StreamReset",
    "TrailersReceived",
]

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]
Http2Error = NGH2Error
# Nobody waits for an answer any more: the client has reset the stream, perhaps in the very bytes
# that opened it, or the session is ending.
GONE: Final = (StreamProtocolError, ConnectionStateError, ConnectionClosingError)

# Header blocks beyond this cost the connection; between it and the receiver's own limits only
# the call is refused, in words.
_HEADERS_BYTES_MAX: Final = 64 << 10
_HEADERS_MAX: Final = 1_000
# GOAWAY, stream 0, for a session that can say nothing any more.
_GOAWAY_PREFIX: Final = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + bytes(4)


class ServerSession:
    """The server's side of one connection. Methods raise Http2Error when the peer broke HTTP/2.

    receive(data): take bytes in; events(): what happened since; outgoing(): bytes to send.
    respond(stream_id, headers, end_stream=…), send(stream_id, data, end_stream=…),
    trailers(stream_id, headers): parts of an answer. reset(stream_id, code): give a stream up.
    """

    __slots__ = (
        "_connection",
        "events",
        "outgoing",
        "receive",
        "reset",
        "respond",
        "send",
        "trailers",
    )

    def __init__(self, limits: Limits) -> None:
        configuration = Configuration(
            auto_window_update=True,
            max_inbound_header_list_size=_HEADERS_BYTES_MAX,
            max_inbound_header_count=_HEADERS_MAX,
        )
        connection = Connection(Role.SERVER, configuration)
        connection.initiate_connection(
            {
                Setting.MAX_CONCURRENT_STREAMS: limits.streams_max,
                Setting.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
                Setting.MAX_FRAME_SIZE: limits.frame_bytes_max,
                Setting.MAX_HEADER_LIST_SIZE: limits.metadata_bytes_max,
            }
        )
        connection.set_local_window_size(limits.connection_window_bytes)
        self._connection = connection
        # Bound once: a call through another Python function would cost as much as the work.
        self.receive = connection.receive_data
        self.events = connection.events
        self.outgoing = connection.data_to_send
        self.respond = connection.send_response
        self.send = connection.send_data
        self.trailers = connection.send_trailers
        self.reset = connection.reset_stream

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to receive or to send."""
        return not self._connection.want_read and not self._connection.want_write

    @property
    def blocked(self) -> bool:
        """Whether answers wait for the client to open its windows."""
        return self._connection.queued_body_size() > 0

    def announce_shutdown(self) -> None:
        """GOAWAY that still allows the streams that are on their way."""
        self._connection.send_shutdown_notice()

    def go_away(self, *, calm_down: bool = False) -> None:
        """GOAWAY after the streams that came so far; they may finish."""
        code = ErrorCode.ENHANCE_YOUR_CALM if calm_down else ErrorCode.NO_ERROR
        debug = b"too_many_pings" if calm_down else b""
        self._connection.send_goaway(code, debug_data=debug)


def farewell(error: Http2Error) -> bytes:
    """The GOAWAY frame for a peer that broke the protocol; its session cannot write it."""
    code = ErrorCode.PROTOCOL_ERROR
    if type(error).__name__ == "DenialOfServiceError":
        code = ErrorCode.ENHANCE_YOUR_CALM
    return _GOAWAY_PREFIX + int(code).to_bytes(4, "big")


NO_ERROR: Final = int(ErrorCode.NO_ERROR)
CANCEL: Final = int(ErrorCode.CANCEL)
