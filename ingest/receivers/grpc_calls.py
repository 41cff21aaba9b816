"""A gRPC call: what its headers ask for, and its one message out of DATA frames.

Formats: gRPC over HTTP/2 (PROTOCOL-HTTP2.md of grpc/grpc).
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from ingest.receivers.bodies import IDENTITY, Hold, encoding_named
from ingest.receivers.http2 import Headers
from ingest.receivers.limits import Limits
from ingest.receivers.statuses import Broken, HeadersTooLarge, NotImplementedHere
from ingest.signals import Signal
from shared.errors import Invalid, TooLarge, Unsupported
from shared.security.credentials import Credentials

_SERVICES: Final = {
    Signal.TRACES: "opentelemetry.proto.collector.trace.v1.TraceService",
    Signal.METRICS: "opentelemetry.proto.collector.metrics.v1.MetricsService",
    Signal.LOGS: "opentelemetry.proto.collector.logs.v1.LogsService",
}
SERVICE_NAMES: Final = frozenset(_SERVICES.values())
SIGNAL_OF_METHOD: Final = {
    f"/{service}/Export".encode(): signal for signal, service in _SERVICES.items()
}
HEALTH_CHECK: Final = b"/grpc.health.v1.Health/Check"
HEALTH_WATCH: Final = b"/grpc.health.v1.Health/Watch"
PREFIX_BYTES: Final = 5
# RFC 9113 6.5.2: what a field costs beside its bytes.
_FIELD_OVERHEAD_BYTES: Final = 32
_SECONDS_OF_UNIT: Final = {
    ord("H"): 3600.0,
    ord("M"): 60.0,
    ord("S"): 1.0,
    ord("m"): 1e-3,
    ord("u"): 1e-6,
    ord("n"): 1e-9,
}
_CONTENT_TYPES: Final = frozenset({b"application/grpc", b"application/grpc+proto"})


class Head:
    """What the headers of one call say."""

    __slots__ = ("compression", "credentials", "method", "signal", "timeout_seconds")

    def __init__(self, fields: Mapping[bytes, bytes], credentials: Credentials) -> None:
        self.method = fields.get(b":path", b"")
        self.signal = SIGNAL_OF_METHOD.get(self.method)
        self.credentials = credentials
        self.compression = fields.get(b"grpc-encoding", b"identity")
        self.timeout_seconds = timeout_of(fields.get(b"grpc-timeout"))


def fields_of(headers: Headers, limits: Limits) -> dict[bytes, bytes]:
    """Headers by name, repeated ones joined by a comma; HeadersTooLarge beyond the limits."""
    size_bytes = len(headers) * _FIELD_OVERHEAD_BYTES
    for name, value in headers:
        size_bytes += len(name) + len(value)
    if size_bytes > limits.metadata_bytes_max or len(headers) > limits.headers_max:
        raise HeadersTooLarge(
            f"the metadata of the call is larger than {limits.metadata_bytes_max} bytes "
            f"or {limits.headers_max} fields"
        )
    fields = dict(headers)
    if len(fields) == len(headers):
        return fields
    fields.clear()
    for name, value in headers:
        known = fields.get(name)
        fields[name] = value if known is None else known + b", " + value
    return fields


def http_refusal_of(fields: Mapping[bytes, bytes]) -> Headers | None:
    """The headers of the HTTP answer to what is not gRPC at all, or None."""
    if fields.get(b":method") != b"POST":
        return (b":status", b"405"), (b"allow", b"POST")
    content_type = fields.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return None if content_type in _CONTENT_TYPES else ((b":status", b"415"),)


def timeout_of(text: bytes | None) -> float | None:
    """grpc-timeout in seconds: up to 8 digits and a unit."""
    if text is None:
        return None
    seconds = _SECONDS_OF_UNIT.get(text[-1]) if text else None
    digits = text[:-1]
    if seconds is None or not digits.isdigit() or len(digits) > 8:
        raise Invalid("grpc-timeout must be up to 8 digits and one of H M S m u n")
    return int(digits) * seconds


def unknown_method(method: bytes) -> NotImplementedHere:
    """The refusal of a method that is not served."""
    return NotImplementedHere(f"unknown method {method[:200].decode('latin-1')}")


def is_whole_message(data: bytes, limits: Limits) -> bool:
    """The common case: one frame with one message that is not compressed."""
    length = len(data) - PREFIX_BYTES
    return (
        length >= 0
        and not data[0]
        and int.from_bytes(data[1:PREFIX_BYTES], "big") == length
        and length <= limits.body_bytes_max
    )


class Message:
    """The one message of a call, put together from DATA frames.

    `add` returns how many bytes to hold once that is known. Broken when the framing is wrong.
    """

    __slots__ = ("_flag", "_length", "_limits", "_pieces", "_received", "_start")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._start = b""
        self._flag = 0
        self._length = -1
        self._received = 0
        self._pieces: list[bytes] = []

    @property
    def received_bytes(self) -> int:
        """Bytes of the message that have come, without its prefix."""
        return self._received

    def add(self, data: bytes) -> int:
        """Take one frame's data; the message's length when this brought its prefix, else 0."""
        known = 0
        if self._length < 0:
            data = self._start + data if self._start else data
            if len(data) < PREFIX_BYTES:
                self._start = data
                return 0
            known = self._read_prefix(data)
            data = data[PREFIX_BYTES:]
        self._received += len(data)
        if self._received > self._length:
            raise Broken("the call has more than one message, or a message longer than it says")
        if data:
            self._pieces.append(data)
        return known

    def _read_prefix(self, data: bytes) -> int:
        self._flag = data[0]
        self._length = int.from_bytes(data[1:PREFIX_BYTES], "big")
        if self._flag > 1:
            raise Broken(f"the message has the unknown flag {self._flag}")
        if self._length > self._limits.body_bytes_max:
            raise TooLarge(
                f"the message of {self._length} bytes is larger than "
                f"{self._limits.body_bytes_max}; send smaller batches"
            )
        return self._length

    def whole(self) -> bytes:
        """The message as it came over the wire; Broken when it is not all there."""
        if self._length < 0:
            raise Broken("the call ended without a message")
        if self._received != self._length:
            raise Broken(f"the message ended after {self._received} of {self._length} bytes")
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def compression(self, encoding: bytes) -> str:
        """How to inflate the message, given the call's grpc-encoding."""
        if not self._flag:
            return IDENTITY
        try:
            name = encoding_named(encoding.decode("latin-1"))
        except Unsupported as error:
            raise NotImplementedHere(str(error)) from None
        if name is IDENTITY:
            raise Broken("a message is flagged as compressed in a call without grpc-encoding")
        return name


class Call:
    """One call that has not been answered."""

    __slots__ = (
        "deadline",
        "ended",
        "expired",
        "head",
        "hold",
        "message",
        "started",
        "stream_id",
        "task",
    )

    def __init__(self, stream_id: int, head: Head, hold: Hold, now: float) -> None:
        self.stream_id = stream_id
        self.head = head
        self.hold = hold
        self.started = now
        self.deadline = 0.0
        # Whether the client has said everything.
        self.ended = False
        self.expired = False
        self.message: Message | None = None
        self.task: asyncio.Task[None] | None = None
