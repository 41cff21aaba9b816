"""Wire bytes to a protobuf message, with texts that are not UTF-8 repaired on the way.

protobuf's own library (upb) decides what is a message. It refuses a request for one bad byte in a
text, though, so the texts are repaired first: a walk over the wire format, which knows by the
published descriptors which fields are texts, replaces each ill-formed part by U+FFFD. The walk also
limits nesting, on every path.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

from google._upb import _message as upb  # type: ignore[import-untyped, import-not-found, unused-ignore]
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingest.codec.results import Malformed

REQUEST_OF_SIGNAL: Final[dict[str, type[Message]]] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}
VALUE_DEPTH_MAX: Final = 32  # arrays and key-value lists around a value
GROUP_DEPTH_MAX: Final = 100  # unknown groups, and the lists around them
NUMBER_BYTES_MAX: Final = 10
LENGTH_BYTES_MAX: Final = 5  # padding included
VARINT, FIXED64, LENGTH, START_GROUP, END_GROUP, FIXED32 = range(6)
_LISTS: Final = ("ArrayValue", "KeyValueList")
_STRING_INDICES: Final = ("key_strindex", "string_value_strindex")
_decoding = Lock()


@dataclass(frozen=True, slots=True)
class Request:
    """A decoded Export request, and how often what kind of thing in it was put right.

    repaired_utf8: texts in which bytes were replaced; string_index: references to a table of
    strings, which only profiles have, so that they mean nothing and are left out of account.
    """

    message: Any
    warnings: dict[str, int]


def decoded(signal: str, body: bytes) -> Request:
    """The request that *body* holds. Raises Malformed when it is none."""
    request = REQUEST_OF_SIGNAL[signal]()
    walk = _Walk()
    repaired = walk.message(body, request.DESCRIPTOR, 0)
    with _any_depth():  # the walk has limited it, in units that mean something to a sender
        try:
            request.MergeFromString(repaired)
        except DecodeError as error:
            raise Malformed("the body is not an OTLP request in protobuf") from error
    return Request(request, walk.warnings)


@contextmanager
def _any_depth() -> Iterator[None]:
    # The limit belongs to the whole process: it is lifted for as short as possible.
    with _decoding:
        upb.SetAllowOversizeProtos(True)
        try:
            yield
        finally:
            upb.SetAllowOversizeProtos(False)


def varint(data: bytes, at: int, bytes_max: int = NUMBER_BYTES_MAX) -> tuple[int, int]:
    """The varint at *at*, and the place behind it. Raises Malformed for one that does not end."""
    value = 0
    for size in range(bytes_max):
        if at + size >= len(data):
            break
        value |= (data[at + size] & 0x7F) << (7 * size)
        if data[at + size] < 0x80:
            return value, at + size + 1
    raise Malformed("a number that does not end")


def uvarint(value: int) -> bytes:
    """That number as a varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


class _Walk:
    """One pass over a request."""

    def __init__(self) -> None:
        self.warnings: dict[str, int] = {}

    def message(self, data: bytes, descriptor: Any, lists: int) -> bytes:
        """*data* with its texts repaired; *lists* are the arrays and key-value lists around it."""
        lists += descriptor.name in _LISTS
        if lists > VALUE_DEPTH_MAX:
            raise Malformed(f"values nested more than {VALUE_DEPTH_MAX} levels deep")
        out = []
        at = 0
        while at < len(data):
            start = at
            tag, at = varint(data, at)
            field = descriptor.fields_by_number.get(tag >> 3)
            if tag & 7 != LENGTH:
                at = _behind(data, at, tag, lists)
                self._note_string_index(field, tag)
                out.append(data[start:at])
                continue
            head = data[start:at]
            content, at = _content(data, at)
            repaired = self._repaired(field, content, lists)
            unchanged = repaired is content  # then the length may keep its padding
            out.append(data[start:at] if unchanged else head + uvarint(len(repaired)) + repaired)
        return b"".join(out)

    def _repaired(self, field: FieldDescriptor | None, content: bytes, lists: int) -> bytes:
        if field is None:
            return content
        if field.message_type is not None:
            repaired = self.message(content, field.message_type, lists)
        elif field.type == FieldDescriptor.TYPE_STRING:
            repaired = content.decode("utf-8", "replace").encode()
            if repaired != content:
                self._warn("repaired_utf8")
        else:
            return content
        return content if repaired == content else repaired

    def _note_string_index(self, field: FieldDescriptor | None, tag: int) -> None:
        if field is not None and field.name in _STRING_INDICES and tag & 7 == VARINT:
            self._warn("string_index")

    def _warn(self, kind: str) -> None:
        self.warnings[kind] = self.warnings.get(kind, 0) + 1


def _content(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = varint(data, at, LENGTH_BYTES_MAX)
    if size > len(data) - at:
        raise Malformed("a field runs past the end of its message")
    return data[at : at + size], at + size


def _behind(data: bytes, at: int, tag: int, depth: int) -> int:
    """The place behind the field with that tag; *depth* is what is around it, groups included."""
    pass_over: Callable[[], int] | None = {
        VARINT: lambda: varint(data, at)[1],
        FIXED64: lambda: at + 8,
        LENGTH: lambda: _content(data, at)[1],
        START_GROUP: lambda: _behind_group(data, at, tag, depth + 1),
        FIXED32: lambda: at + 4,
    }.get(tag & 7)
    if pass_over is None:
        raise Malformed("a wire type that does not exist, or the end of a group that never began")
    behind = pass_over()
    if behind > len(data):
        raise Malformed("a field runs past the end of its message")
    return behind


def _behind_group(data: bytes, at: int, start: int, depth: int) -> int:
    if depth > GROUP_DEPTH_MAX:
        raise Malformed(f"groups nested more than {GROUP_DEPTH_MAX} levels deep")
    while True:
        tag, at = varint(data, at, LENGTH_BYTES_MAX)
        if not 8 <= tag < 1 << 32:
            raise Malformed("a field number that does not exist")
        if tag & 7 == END_GROUP:
            if tag >> 3 != start >> 3:
                raise Malformed("a group that ends as another one")
            return at
        at = _behind(data, at, tag, depth)
