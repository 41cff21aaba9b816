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
    DenialOfServiceError,
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
_FRAME_HEADER_BYTES: Final = 9
_GOAWAY: Final = 7
# Type, no flags, stream 0.
_GOAWAY_HEADER: Final = bytes([_GOAWAY, 0]) + bytes(4)


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
            glitch_rate_limit=limits.glitches_rate,
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

    def go_away(self) -> None:
        """GOAWAY after the streams that came so far; they may finish."""
        self._connection.send_goaway(ErrorCode.NO_ERROR)


def is_flood(error: Http2Error) -> bool:
    """Whether the library found that the peer does not break HTTP/2 but abuses it."""
    return isinstance(error, DenialOfServiceError)


def farewell(code: int, debug: bytes = b"") -> bytes:
    """A GOAWAY frame for a peer that is cut off: its session writes no more."""
    payload = bytes(4) + code.to_bytes(4, "big") + debug
    return len(payload).to_bytes(3, "big") + _GOAWAY_HEADER + payload


def farewell_code(sent: bytes) -> int:
    """The code of the GOAWAY in the frames that a session ended with; NO_ERROR without one."""
    at, code = 0, NO_ERROR
    while at + _FRAME_HEADER_BYTES <= len(sent):
        if sent[at + 3] == _GOAWAY:
            code = int.from_bytes(sent[at + 13 : at + 17], "big")
        at += _FRAME_HEADER_BYTES + int.from_bytes(sent[at : at + 3], "big")
    return code


NO_ERROR: Final = int(ErrorCode.NO_ERROR)
PROTOCOL_ERROR: Final = int(ErrorCode.PROTOCOL_ERROR)
ENHANCE_YOUR_CALM: Final = int(ErrorCode.ENHANCE_YOUR_CALM)
# What the library says of a peer that it takes for an attacker.
ABUSE: Final = frozenset({ENHANCE_YOUR_CALM, int(ErrorCode.INTERNAL_ERROR)})
CANCEL: Final = int(ErrorCode.CANCEL)
