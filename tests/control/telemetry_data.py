"""Telemetry as exporters send it, small enough to be counted by hand."""

import bisect
import math
import statistics
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
            kind=one.kind,
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
            severity_number=one.severity,
            trace_id=trace_id(one.trace) if one.trace else b"",
            span_id=span_id(one.span) if one.span else b"",
        )
        record.body.string_value = one.body
        _set(record.attributes, one.attributes)
    return request


@dataclass(frozen=True)
class Point:
    """A point of a gauge or a sum; *series* and *zone* become attributes."""

    time_ns: int
    value: float
    series: int = 0
    zone: str = "a"
    start_ns: int = 0
    flags: int = 0


def points_request(
    name: str, points: Sequence[Point], *, temporality: int | None = None, is_monotonic: bool = True
) -> ExportMetricsServiceRequest:
    """An export of a gauge, or of a sum of that *temporality* (1 delta, 2 cumulative)."""
    request = ExportMetricsServiceRequest()
    metric = _metric(request, name)
    if temporality is not None:
        metric.sum.aggregation_temporality = temporality
        metric.sum.is_monotonic = is_monotonic
    for one in points:
        kind = metric.gauge if temporality is None else metric.sum
        point = kind.data_points.add(
            time_unix_nano=one.time_ns,
            start_time_unix_nano=one.start_ns,
            as_double=one.value,
            flags=one.flags,
        )
        _set(point.attributes, {"series": str(one.series), "zone": one.zone})
    return request


@dataclass(frozen=True)
class Distribution:
    """A point of a histogram: explicit with *bounds*, else exponential with *scale*."""

    time_ns: int
    start_ns: int
    values: Sequence[float]
    series: int = 0
    bounds: Sequence[float] = ()
    scale: int = 0


def histograms_request(
    name: str, points: Sequence[Distribution], *, temporality: int
) -> ExportMetricsServiceRequest:
    """An export of a histogram; the buckets are counted here."""
    request = ExportMetricsServiceRequest()
    metric = _metric(request, name)
    for one in points:
        is_explicit = bool(one.bounds)
        kind: Any = metric.histogram if is_explicit else metric.exponential_histogram
        kind.aggregation_temporality = temporality
        point = kind.data_points.add(
            time_unix_nano=one.time_ns,
            start_time_unix_nano=one.start_ns,
            count=len(one.values),
            sum=sum(one.values),
        )
        _set(point.attributes, {"series": str(one.series)})
        if is_explicit:
            counts = [0] * (len(one.bounds) + 1)
            for value in one.values:
                counts[bisect.bisect_left(one.bounds, value)] += 1
            point.explicit_bounds.extend(one.bounds)
            point.bucket_counts.extend(counts)
        else:
            _fill_exponential(point, one)
    return request


def summaries_request(name: str, points: Sequence[Distribution]) -> ExportMetricsServiceRequest:
    """An export of a summary, with the median."""
    request = ExportMetricsServiceRequest()
    metric = _metric(request, name)
    for one in points:
        point = metric.summary.data_points.add(
            time_unix_nano=one.time_ns,
            start_time_unix_nano=one.start_ns,
            count=len(one.values),
            sum=sum(one.values),
        )
        point.quantile_values.add(quantile=0.5, value=statistics.median(one.values))
        _set(point.attributes, {"series": str(one.series)})
    return request


def exponential_index(value: float, scale: int) -> int:
    """The bucket of a positive value: (base^i, base^(i+1)]."""
    return math.ceil(math.log2(value) * 2.0**scale) - 1


def _fill_exponential(point: Any, one: Distribution) -> None:
    point.scale = one.scale
    point.zero_count = sum(1 for value in one.values if value == 0)
    for side, sign in ((point.positive, 1), (point.negative, -1)):
        found = [
            exponential_index(abs(value), one.scale) for value in one.values if value * sign > 0
        ]
        if found:
            side.offset = min(found)
            side.bucket_counts.extend([0] * (max(found) - min(found) + 1))
            for index in found:
                side.bucket_counts[index - min(found)] += 1


def _metric(request: ExportMetricsServiceRequest, name: str) -> Any:
    of_resource = request.resource_metrics.add()
    _set(of_resource.resource.attributes, {"service.name": "web"})
    return of_resource.scope_metrics.add().metrics.add(name=name, unit="s")


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
