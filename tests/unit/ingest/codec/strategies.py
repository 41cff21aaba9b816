"""Random OTLP requests, made from the published descriptors: every field of every message.

Most items are good, so that most requests become rows, and each field is sometimes wrong in each
way that the codec knows. They are drawn from a seed: filling a message by hypothesis' own draws
is a hundred times slower, and such requests are too large to shrink well anyway.
"""

import math
from collections.abc import Callable
from random import Random
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.payloads import NOW_NS

REQUESTS: Final[dict[str, type[Message]]] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}
DAY_NS: Final = 86_400 * 10**9
LISTS_MAX: Final = 3  # arrays and key-value lists around a value
SET_PART: Final = 0.7  # of the fields of a message
WRONG_PART: Final = 0.06  # of ids, times and histograms
TENANT_PART: Final = 0.2  # of resources: they name a tenant, or a workspace
_TENANTS: Final = ("acme", "tenant-0", "tenant-1", "shop", "")

_KEYS: Final = (
    *("service.name", "http.route", "host", "a", "b", "b", "ä", "", "ab", "\U0001f600", "\uffff"),
    "telemetryflow.original_time_unix_nano",
)
_TEXTS: Final = (
    *("", "x", "GET /", "shop", 'quote"', "back\\slash", "<&>", "\x00\n\x1f\x7f", "\u2028\u2029"),
    *("ä€", "\U0001f600", "y" * 127, "z" * 128, "\t" * 200),
)
_WRONG_TIMES: Final = (
    *(0, 1, NOW_NS - 10 * DAY_NS, NOW_NS - 30 * DAY_NS, NOW_NS - 30 * DAY_NS - 1),
    *(NOW_NS - 40 * DAY_NS, NOW_NS + DAY_NS, NOW_NS + DAY_NS + 1, 2**63 - 1, 2**63, 2**64 - 1),
    *(946_684_800 * 10**9 - 1, 946_684_800 * 10**9),
)
_DOUBLES: Final = (
    *(0.0, -0.0, 9.0, -1.5, 1e-7, 9.99e-7, 1e-6, 1e20, 1e21, 5e-324, 123456789.125),
    *(math.nan, math.inf, -math.inf, 1.7976931348623157e308, 0.1, 2.0**53),
)
_BITS: Final = {
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_ENUM: (-2, 30),
}
_ID_BYTES: Final = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}
# Fields whose messages are items or hold items: nearly always there.
_WAY_TO_ITEMS: Final = (
    *("resource_spans", "resource_logs", "resource_metrics", "scope_spans", "scope_logs"),
    *("scope_metrics", "spans", "log_records", "metrics", "data_points"),
)
_REFERENCES: Final = ("key_strindex", "string_value_strindex")


def requests(signal: str) -> st.SearchStrategy[Message]:
    """Requests of *signal*."""
    seeds = st.integers(0, 2**64 - 1)
    return seeds.map(lambda seed: random_request(Random(seed), signal))


def random_request(random: Random, signal: str) -> Message:
    """A request of *signal* with up to some dozen items."""
    request = REQUESTS[signal]()
    _fill(random, request, 0)
    return request


def _fill(random: Random, message: Any, lists: int) -> None:
    lists += message.DESCRIPTOR.name in ("ArrayValue", "KeyValueList")
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof is None and _is_wanted(random, field):
            _set(random, message, field, lists)
    for oneof in message.DESCRIPTOR.oneofs:
        if random.random() < 0.95:
            _set(random, message, _member(random, oneof, lists), lists)
    if message.DESCRIPTOR.name == "HistogramDataPoint" and random.random() > WRONG_PART:
        counts = len(message.explicit_bounds) + 1
        message.bucket_counts[:] = [random.randrange(9) for _ in range(counts)]
    if message.DESCRIPTOR.name == "Resource" and random.random() < TENANT_PART:
        key = random.choice(("telemetryflow.tenant.id", "telemetryflow.workspace.id"))
        message.attributes.add(key=key).value.string_value = random.choice(_TENANTS)


def _is_wanted(random: Random, field: Any) -> bool:
    if field.name in _WAY_TO_ITEMS:
        return True
    if field.name in _REFERENCES:
        return random.random() < WRONG_PART / 2
    if field.name in ("trace_id", "span_id"):
        return random.random() > WRONG_PART / 2
    return random.random() < SET_PART


def _member(random: Random, oneof: Any, lists: int) -> Any:
    members = [field for field in oneof.fields if field.name not in _REFERENCES]
    if lists >= LISTS_MAX:
        members = [field for field in members if field.message_type is None]
    return random.choice(members)


def _set(random: Random, message: Any, field: Any, lists: int) -> None:
    count = random.choice((0, 1, 1, 1, 2, 3)) if field.is_repeated else 1
    if field.name in _WAY_TO_ITEMS:
        count = random.choice((1, 1, 1, 2, 3))
    place = getattr(message, field.name)
    if field.message_type is None:
        values = [_scalar(random, field) for _ in range(count)]
        if field.is_repeated:
            place.extend(values)
        else:
            setattr(message, field.name, values[0])
        return
    for _ in range(count):
        child = place.add() if field.is_repeated else place
        child.SetInParent()
        _fill(random, child, lists)


def _scalar(random: Random, field: Any) -> Any:
    if field.name in _ID_BYTES:
        return _id(random, _ID_BYTES[field.name])
    if field.name.endswith("time_unix_nano"):
        return _time(random)
    if field.name in ("key", "id_keys"):
        return random.choice(_KEYS)
    if field.type in _BITS:
        low, high = _BITS[field.type]
        small = random.randrange(max(low, -3), min(high, 300))
        return random.choice((low, high, small, small, random.randint(low, high)))
    return _OTHERS[field.type](random)


def _id(random: Random, size: int) -> bytes:
    if random.random() < WRONG_PART:
        return random.choice((b"", bytes(size), bytes(3), random.randbytes(random.randrange(20))))
    return random.randbytes(size)


def _time(random: Random) -> int:
    if random.random() < WRONG_PART:
        return random.choice(_WRONG_TIMES)
    return NOW_NS - random.randrange(10**9)


def _text(random: Random) -> str:
    if random.random() < 0.5:
        return random.choice(_TEXTS)
    return "".join(chr(random.randrange(32, 0x2FF)) for _ in range(random.randrange(12)))


def _double(random: Random) -> float:
    if random.random() < 0.5:
        return random.choice(_DOUBLES)
    return random.uniform(-10, 10) * 10.0 ** random.randrange(-25, 25)


_OTHERS: Final[dict[int, Callable[[Random], Any]]] = {
    FieldDescriptor.TYPE_STRING: _text,
    FieldDescriptor.TYPE_BYTES: lambda random: random.randbytes(random.randrange(6)),
    FieldDescriptor.TYPE_BOOL: lambda random: random.random() < 0.5,
    FieldDescriptor.TYPE_DOUBLE: _double,
}
