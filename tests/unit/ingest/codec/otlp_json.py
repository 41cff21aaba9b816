"""Random OTLP requests, and a plain writer of OTLP/JSON that shares no code with the mapper."""

import base64
import json
import math
from collections.abc import Callable, Iterable
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

REQUEST_OF_SIGNAL: Final[dict[str, type[Message]]] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}
IDS: Final = ("trace_id", "span_id", "parent_span_id")
ANY_VALUE_LEVELS_MAX: Final = 3
FIELDS_MAX: Final = 7
ELEMENTS_MAX: Final = 2

_F = FieldDescriptor
_INT32 = st.integers(-(2**31), 2**31 - 1) | st.integers(-3, 3)
_UINT32 = st.integers(0, 2**32 - 1)
_INT64 = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 300)
_UINT64 = st.integers(0, 2**64 - 1) | st.integers(0, 300)
_DOUBLE = st.floats().map(lambda value: math.nan if math.isnan(value) else value)
_TEXT = st.text(max_size=9) | st.sampled_from(["", 'quote"', "back\\slash", "\U0001f600", "\x00\n"])
_SCALARS: Final[dict[int, st.SearchStrategy[Any]]] = {
    _F.TYPE_DOUBLE: _DOUBLE,
    _F.TYPE_INT64: _INT64,
    _F.TYPE_SFIXED64: _INT64,
    _F.TYPE_UINT64: _UINT64,
    _F.TYPE_FIXED64: _UINT64,
    _F.TYPE_INT32: _INT32,
    _F.TYPE_SINT32: _INT32,
    _F.TYPE_ENUM: _INT32,
    _F.TYPE_UINT32: _UINT32,
    _F.TYPE_FIXED32: _UINT32,
    _F.TYPE_BOOL: st.booleans(),
    _F.TYPE_STRING: _TEXT,
}
_WIDE: Final = (_F.TYPE_INT64, _F.TYPE_SFIXED64, _F.TYPE_UINT64, _F.TYPE_FIXED64)


def _scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.type != _F.TYPE_BYTES:
        return _SCALARS[field.type]
    if field.name == "trace_id":
        return st.binary(min_size=16, max_size=16)
    if field.name in IDS:
        return st.binary(min_size=8, max_size=8)
    return st.binary(max_size=9)


def _fields(fields: Iterable[FieldDescriptor], levels: int) -> list[FieldDescriptor]:
    """The fields to choose from; deep down none that would go deeper without end."""
    return [
        field
        for field in fields
        if levels < ANY_VALUE_LEVELS_MAX or field.name not in ("array_value", "kvlist_value")
    ]


@st.composite
def requests(draw: st.DrawFn, signal: str) -> Message:
    """A request of that signal in which any field may be set to any value of its type."""
    request = REQUEST_OF_SIGNAL[signal]()
    _fill(draw, request, 0)
    return request


def _fill(draw: st.DrawFn, message: Message, levels: int) -> None:
    descriptor: Any = message.DESCRIPTOR  # one of two classes, as protobuf is built
    levels += descriptor.name == "AnyValue"
    chosen = st.lists(
        st.sampled_from(_fields(descriptor.fields, levels)),
        unique_by=lambda field: field.number,
        min_size=1 if levels == 0 else 0,
        max_size=FIELDS_MAX,
    )
    for field in draw(chosen):
        if field.message_type is None:
            _set_scalar(draw, message, field)
        elif field.is_repeated:
            for _ in range(draw(st.integers(1, ELEMENTS_MAX))):
                _fill(draw, getattr(message, field.name).add(), levels)
        else:
            getattr(message, field.name).SetInParent()
            _fill(draw, getattr(message, field.name), levels)


def _set_scalar(draw: st.DrawFn, message: Message, field: FieldDescriptor) -> None:
    if field.is_repeated:
        values = draw(st.lists(_scalar(field), max_size=4))
        getattr(message, field.name).extend(values)
    else:
        setattr(message, field.name, draw(_scalar(field)))


def to_json(message: Message, *, numbers_as_strings: bool, unknown: bool = False) -> str:
    """The request as OTLP/JSON: *numbers_as_strings* quotes all but enums, *unknown* strews in
    members that no version of the protocol has."""

    def number(value: float, *, wide: bool) -> str:
        if isinstance(value, float) and not math.isfinite(value):
            return json.dumps(str(value).replace("inf", "Infinity").replace("nan", "NaN"))
        text = repr(value)
        return json.dumps(text) if numbers_as_strings or wide else text

    def scalar(field: FieldDescriptor, value: Any) -> str:
        if field.type == _F.TYPE_BYTES:
            return json.dumps(
                value.hex() if field.name in IDS else base64.b64encode(value).decode()
            )
        if field.type in (_F.TYPE_STRING, _F.TYPE_BOOL, _F.TYPE_ENUM):
            return json.dumps(value, ensure_ascii=numbers_as_strings)
        return number(value, wide=field.type in _WIDE and value % 2 == 0)

    return _object(message, scalar, unknown=unknown)


def _object(
    message: Message, scalar: Callable[[FieldDescriptor, Any], str], *, unknown: bool
) -> str:
    def one(field: FieldDescriptor, value: Any) -> str:
        if field.message_type is None:
            return scalar(field, value)
        return _object(value, scalar, unknown=unknown)

    members = []
    for field, value in message.ListFields():
        if field.is_repeated:
            text = "[" + " ,\n".join(one(field, element) for element in value) + "]"
        else:
            text = one(field, value)
        members.append(f'"{field.json_name}" : {text}')
    if unknown:
        members.insert(0, '"future":[{"deep":[1e5,null,{"a":"\\u0062"}]},[],{}]')
        members.append('"resource_spans":[{"traceId":5}]')
    return "{" + ",".join(members) + "}"
