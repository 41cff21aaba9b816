"""Protobuf bytes written by hand, for what no library would write."""

from typing import Final

from tests.unit.ingest.codec.twins import NOW_NS, SPAN_ID, TRACE_ID

VARINT, FIXED64, LENGTH, START_GROUP, END_GROUP, FIXED32 = range(6)


def varint(value: int, *, padding: int = 0) -> bytes:
    """*value* as a varint, with that many bytes more than it takes."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    for _ in range(padding):
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


def tag(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)


def message(number: int, *content: bytes) -> bytes:
    """A field of bytes: a text, a message or packed numbers."""
    joined = b"".join(content)
    return tag(number, LENGTH) + varint(len(joined)) + joined


def number(number_: int, value: int) -> bytes:
    return tag(number_, VARINT) + varint(value % 2**64)


def fixed64(number_: int, value: int) -> bytes:
    return tag(number_, FIXED64) + value.to_bytes(8, "little")


def fixed32(number_: int, value: int) -> bytes:
    return tag(number_, FIXED32) + value.to_bytes(4, "little")


def group(number_: int, *content: bytes) -> bytes:
    return tag(number_, START_GROUP) + b"".join(content) + tag(number_, END_GROUP)


SPAN: Final = message(1, TRACE_ID) + message(2, SPAN_ID) + fixed64(7, NOW_NS)
RECORD: Final = fixed64(1, NOW_NS)


def request_of(*items: bytes, resource: bytes = b"", scope: bytes = b"") -> bytes:
    """A request of any signal with one resource and one scope around those items."""
    scope_items = message(1, scope) + b"".join(message(2, item) for item in items)
    return message(1, message(1, resource), message(2, scope_items))


def span_with(*fields: bytes) -> bytes:
    """A request with one span that is good, and has these fields, too."""
    return request_of(SPAN + b"".join(fields))


def record_with(*fields: bytes) -> bytes:
    """A request with one log record that is good, and has these fields, too."""
    return request_of(RECORD + b"".join(fields))


def body_of(any_value: bytes) -> bytes:
    """A request with one log record with that AnyValue as its body."""
    return record_with(message(5, any_value))
