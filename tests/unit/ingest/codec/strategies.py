"""Random OTLP requests, made from the published descriptors: every field of every message."""

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
# Messages nest without end; below this depth values are scalars.
DEPTH_MAX: Final = 9
_KEYS = ("service.name", "a", "b", "b", "ä", "", "http.route")
_TIMES = st.sampled_from(
    (
        0,
        1,
        NOW_NS,
        NOW_NS - 1,
        NOW_NS - 10 * DAY_NS,
        NOW_NS - 40 * DAY_NS,
        NOW_NS + 2 * DAY_NS,
        2**63 - 1,
        2**63,
        2**64 - 1,
    )
)
_TEXTS = st.one_of(
    st.sampled_from(_KEYS), st.text(max_size=12), st.text(min_size=120, max_size=140)
)
_DOUBLES = st.one_of(
    st.floats(), st.sampled_from((0.0, -0.0, 9.0, 1e-7, 1e-6, 1e20, 1e21, 5e-324, 123456789.125))
)
_SCALARS: Final[dict[int, st.SearchStrategy[Any]]] = {
    FieldDescriptor.TYPE_STRING: _TEXTS,
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=5),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_DOUBLE: _DOUBLES,
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_ENUM: st.integers(-2, 30),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: st.integers(0, 2**64 - 1),
}
_IDS = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}


def _scalar(field: Any) -> st.SearchStrategy[Any]:
    if field.name in _IDS:
        size = _IDS[field.name]
        good = st.binary(min_size=size, max_size=size)
        return st.one_of(
            good, good, good, st.just(bytes(size)), st.just(b""), st.binary(max_size=20)
        )
    if field.name.endswith("time_unix_nano"):
        return _TIMES
    return _SCALARS[field.type]


def _fill(draw: st.DrawFn, message: Message, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        is_repeated = field.is_repeated
        if depth == 0 or draw(st.integers(0, 3)) > 0:
            count = draw(st.integers(0, 3)) if is_repeated else 1
            _set(draw, message, field, count, depth)


def _set(draw: st.DrawFn, message: Message, field: Any, count: int, depth: int) -> None:
    if field.message_type is None:
        values = [draw(_scalar(field)) for _ in range(count)]
        if field.is_repeated:
            getattr(message, field.name).extend(values)
        elif values:
            setattr(message, field.name, values[0])
    elif depth < DEPTH_MAX:
        for _ in range(count):
            place = getattr(message, field.name)
            child = place.add() if field.is_repeated else place
            if not field.is_repeated:
                child.SetInParent()
            _fill(draw, child, depth + 1)


@st.composite
def requests(draw: st.DrawFn, signal: str) -> Message:
    """A request of *signal*; oneofs keep the member that was set last."""
    message = REQUESTS[signal]()
    _fill(draw, message, 0)
    return message
