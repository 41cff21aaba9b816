"""HTTP/2 byte by byte: the frames that attacks are made of, and what a server answered to them.

Frames are made with hyperframe and hpack, which also write what breaks RFC 9113.
"""

import struct
from collections.abc import Iterator
from typing import Final

from hpack import Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
)

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
EXPORT: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
FRAME_HEADER_BYTES: Final = 9
CODES: Final = {
    0: "NO_ERROR",
    1: "PROTOCOL_ERROR",
    2: "INTERNAL_ERROR",
    3: "FLOW_CONTROL_ERROR",
    4: "SETTINGS_TIMEOUT",
    5: "STREAM_CLOSED",
    6: "FRAME_SIZE_ERROR",
    7: "REFUSED_STREAM",
    8: "CANCEL",
    9: "COMPRESSION_ERROR",
    11: "ENHANCE_YOUR_CALM",
}


def opening(settings: dict[int, int] | None = None) -> bytes:
    """What a client says first."""
    return PREFACE + SettingsFrame(settings=settings or {}).serialize()


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream_id: int = 0) -> bytes:
    """Any frame at all."""
    return (
        struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream_id) + payload
    )


def header_block(fields: dict[str, str] | None = None, *, authorization: str = "") -> bytes:
    """The header block of an export call, with more fields behind it; nothing of it is indexed."""
    pairs = {
        ":method": "POST",
        ":scheme": "http",
        ":path": EXPORT,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    pairs |= {"authorization": authorization} if authorization else {}
    never_indexed = [(name, value, True) for name, value in (pairs | (fields or {})).items()]
    return Encoder().encode(never_indexed, huffman=False)


def headers(stream_id: int, block: bytes, *, end_headers: bool = True, end: bool = False) -> bytes:
    flags = (["END_HEADERS"] if end_headers else []) + (["END_STREAM"] if end else [])
    return HeadersFrame(stream_id, block, flags=flags).serialize()


def data(stream_id: int, payload: bytes, *, end: bool = False) -> bytes:
    return DataFrame(stream_id, payload, flags=["END_STREAM"] if end else []).serialize()


def reset(stream_id: int) -> bytes:
    return RstStreamFrame(stream_id, error_code=8).serialize()


def frames_of(received: bytes) -> Iterator[Frame]:
    """The frames of what a server sent; a last one that is cut short is left out."""
    rest = memoryview(received)
    while len(rest) >= FRAME_HEADER_BYTES:
        parsed, length = Frame.parse_frame_header(rest[:FRAME_HEADER_BYTES])
        if len(rest) < FRAME_HEADER_BYTES + length:
            return
        parsed.parse_body(rest[FRAME_HEADER_BYTES : FRAME_HEADER_BYTES + length])
        yield parsed
        rest = rest[FRAME_HEADER_BYTES + length :]


def farewell_in(received: bytes) -> str:
    """The code of the last GOAWAY of what a server sent, "" without one."""
    codes = [one.error_code for one in frames_of(received) if isinstance(one, GoAwayFrame)]
    return CODES.get(codes[-1], str(codes[-1])) if codes else ""
