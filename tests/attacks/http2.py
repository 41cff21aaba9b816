"""Floods of HTTP/2: what each sends, and how the receiver answers it.

References: CVE-2023-44487 (rapid reset), CVE-2025-8671 (resets that the server is made to send),
CVE-2024-27316 and its family (CONTINUATION), CVE-2019-9511 to 9518 (pings, settings, empty frames,
window and priority games), RFC 7541 7.3 (HPACK's memory).
"""

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from tests.attacks.frames import data, frame, header_block, headers, reset

CALM: Final = "ENHANCE_YOUR_CALM"
DATA, PRIORITY, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 2, 4, 6, 8, 9
PRIORITY_UPDATE: Final = 16
ACK: Final = 1
PADDED: Final = 8
# The newest entry of HPACK's dynamic table.
NEWEST: Final = b"\xbe"


class Flood(NamedTuple):
    """*payload(n, block)* is the flood of n frames; *block* is the header block of a good call.

    *frames* are enough to be cut off; *code* and *reason* are how ngh2's receiver says so: the
    GOAWAY and the label of `telemetryflow_ingest_connections_refused` ("a|b": one of them, by how
    the bytes happen to be read).
    """

    payload: Callable[[int, bytes], bytes]
    frames: int
    code: str
    reason: str
    limit: str


def _odd(count: int) -> range:
    return range(1, 2 * count, 2)


def hpack_bomb(references: int) -> bytes:
    """A block that refers *references* times to one field of 4 000 bytes: one byte each."""
    length = 4_000 - 127
    value = b"\x7f" + bytes([length & 127 | 128, length >> 7]) + b"v" * 4_000
    return b"\x40\x01x" + value + NEWEST * references


FLOODS: Final[dict[str, Flood]] = {
    "rapid_reset": Flood(
        lambda n, block: b"".join(headers(i, block) + reset(i) for i in _odd(n)),
        *(600, CALM, "failures", "failures_max"),
    ),
    "reset_of_closed_stream": Flood(
        lambda n, block: headers(1, block) + reset(1) * n,
        *(2_000, "INTERNAL_ERROR", "flood", "the library's 1 000, and 33 in a second"),
    ),
    "streams": Flood(
        lambda n, block: b"".join(headers(i, block) for i in _odd(n)),
        *(2_000, CALM, "flood", "streams_max, then glitches_rate"),
    ),
    "refused_calls": Flood(
        lambda n, _: b"".join(headers(i, header_block({":path": "/x.Y/Z"})) for i in _odd(n)),
        *(3_000, CALM, "failures|flood", "failures_max, glitches_rate"),
    ),
    "forbidden_headers": Flood(
        lambda n, _: b"".join(headers(i, b"\x00\x01A\x01b", end=True) for i in _odd(n)),
        *(2_000, CALM, "flood", "glitches_rate"),
    ),
    "settings": Flood(
        lambda n, _: frame(SETTINGS, struct.pack("!HI", 3, 100) * 9) * n,
        *(5_000, CALM, "idle_events", "idle_events_max, and 1 000 acknowledgements unsent"),
    ),
    "ping": Flood(
        lambda n, _: frame(PING, bytes(8)) * n,
        *(200, CALM, "pings", "pings_max"),
    ),
    "ping_acknowledgement": Flood(
        lambda n, _: frame(PING, bytes(8), flags=ACK) * n,
        *(5_000, CALM, "idle_events", "idle_events_max"),
    ),
    "settings_acknowledgement": Flood(
        lambda n, _: frame(SETTINGS, flags=ACK) * n,
        *(10, "PROTOCOL_ERROR", "protocol", "as many as were asked for"),
    ),
    "priority": Flood(
        lambda n, _: b"".join(frame(PRIORITY, bytes(5), stream_id=i) for i in _odd(n)),
        *(2_000, CALM, "flood", "glitches_rate"),
    ),
    "priority_update": Flood(
        lambda n, _: b"".join(
            frame(PRIORITY_UPDATE, struct.pack("!I", i) + b"u=1") for i in _odd(n)
        ),
        *(2_000, CALM, "flood", "glitches_rate"),
    ),
    "window_update": Flood(
        lambda n, _: frame(WINDOW_UPDATE, struct.pack("!I", 1)) * n,
        *(5_000, CALM, "idle_events", "idle_events_max"),
    ),
    "window_update_of_stream": Flood(
        lambda n, block: (
            headers(1, block) + frame(WINDOW_UPDATE, struct.pack("!I", 1), stream_id=1) * n
        ),
        *(5_000, CALM, "idle_events", "idle_events_max"),
    ),
    "window_update_of_nothing": Flood(
        lambda n, _: frame(WINDOW_UPDATE, bytes(4)) * n,
        *(2, "PROTOCOL_ERROR", "protocol", "RFC 9113 6.9"),
    ),
    "empty_data": Flood(
        lambda n, block: headers(1, block) + frame(DATA, stream_id=1) * n,
        *(5_000, CALM, "flood", "glitches_rate"),
    ),
    "padding": Flood(
        lambda n, block: (
            headers(1, block) + frame(DATA, b"\xff" + bytes(255), flags=PADDED, stream_id=1) * n
        ),
        *(20_000, CALM, "idle_events", "idle_events_max, stream_window_bytes"),
    ),
    "tiny_data": Flood(
        lambda n, block: (
            headers(1, block) + data(1, b"\0" + struct.pack("!I", 2 * n)) + data(1, b"xy") * n
        ),
        *(5_000, CALM, "idle_events", "idle_events_max, data_piece_bytes_min"),
    ),
    "unknown_frames": Flood(
        lambda n, _: frame(99) * n,
        *(2_000, CALM, "flood", "glitches_rate"),
    ),
    "continuation": Flood(
        lambda n, block: (
            headers(1, block, end_headers=False) + frame(CONTINUATION, b"", stream_id=1) * n
        ),
        *(20, CALM, "flood", "8 CONTINUATION frames"),
    ),
    "hpack_bomb": Flood(
        lambda n, block: headers(1, block + hpack_bomb(n)),
        *(10_000, CALM, "flood", "64 KiB and 1 000 fields, decoded"),
    ),
}
