"""Telemetry as exporters send it, small enough to be counted by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

MS = 1_000_000
SECOND = 1_000 * MS
MINUTE = 60 * SECOND


@dataclass(frozen=True)
class Span:
    """A span; ids are small numbers, times in nanoseconds."""

    trace: int
    id: int
    start_ns: int
    duration_ns: int = MS
    parent: int = 0
    service: str = "web"
    name: str = "GET /"
    kind: int = 2
    status: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """A log record."""

    time_ns: int
    body: str
    severity: int = 9
    service: str = "web"
    trace: int = 0
    span: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)


def trace_id(number: int) -> bytes:
    """Its id."""
    return number.to_bytes(16, "big")


def span_id(number: int) -> bytes:
    """Its id."""
    return number.to_bytes(8, "big")


def spans_request(spans: Sequence[Span]) -> ExportTraceServiceRequest:
    """An export of *spans*."""
    request = ExportTraceServiceRequest()
    for one in spans:
        of_resource = request.resource_spans.add()
        _set(of_resource.resource.attributes, {"service.name": one.service})
        span = of_resource.scope_spans.add().spans.add(
            trace_id=trace_id(one.trace),
            span_id=span_id(one.id),
            parent_span_id=span_id(one.parent) if one.parent else b"",
            name=one.name,
            kind=one.kind,  # type: ignore[arg-type]
            start_time_unix_nano=one.start_ns,
            end_time_unix_nano=one.start_ns + one.duration_ns,
        )
        span.status.code = one.status  # type: ignore[assignment]
        _set(span.attributes, one.attributes)
    return request


def logs_request(lines: Sequence[Line]) -> ExportLogsServiceRequest:
    """An export of *lines*."""
    request = ExportLogsServiceRequest()
    for one in lines:
        of_resource = request.resource_logs.add()
        _set(of_resource.resource.attributes, {"service.name": one.service})
        record = of_resource.scope_logs.add().log_records.add(
            time_unix_nano=one.time_ns,
            severity_number=one.severity,  # type: ignore[arg-type]
            trace_id=trace_id(one.trace) if one.trace else b"",
            span_id=span_id(one.span) if one.span else b"",
        )
        record.body.string_value = one.body
        _set(record.attributes, one.attributes)
    return request


def metrics_request() -> ExportMetricsServiceRequest:
    """An export of metrics, empty."""
    return ExportMetricsServiceRequest()


def _set(target: Any, attributes: Mapping[str, Any]) -> None:
    for key, value in attributes.items():
        content = target.add(key=key).value
        if isinstance(value, bool):
            content.bool_value = value
        elif isinstance(value, int):
            content.int_value = value
        elif isinstance(value, float):
            content.double_value = value
        else:
            content.string_value = value
