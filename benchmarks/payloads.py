"""Deterministic OTLP requests, shaped like real traffic, for benchmarks and load.

`requests` builds a few templates with the protobuf library and makes every request from one of
them by overwriting ids, times and values in place, so that hundreds of distinct requests take
milliseconds each and still do not compress better than real ones. What has to differ is written
into a template as an 8-byte mark (`_Marks`), which no other content contains.

Shapes (bytes per item of 500-item requests): traces about 550, with two resources of eight
attributes, two scopes each, twelve attributes a span, an event on every fifth and a link on every
twentieth; logs about 320; metrics about 190 a point, over all five kinds of metric.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from random import Random
from typing import Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Exemplar,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    SummaryDataPoint,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from benchmarks.resources import pod_of, text

SEED: Final = 42
# 2026-06-15 12:00 UTC, when requests are received unless the caller says otherwise.
NOW_NS: Final = 1_781_524_800_000_000_000
SIGNALS: Final = ("traces", "logs", "metrics")

_TEMPLATES_MAX: Final = 8
_ITEMS_MAX: Final = 100_000
_MARK: Final = b"\xf1\x9bT\xfa"
_MARK_PATTERN: Final = re.compile(re.escape(_MARK) + b"([\x01-\x05])(...)", re.DOTALL)
_TRACE_ID, _SPAN_ID, _TIME, _DOUBLE, _INT = 1, 2, 3, 4, 5

_CUMULATIVE: Final = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
_DELTA: Final = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA

_SERVICES: Final = ("checkout", "cart", "payments", "frontend", "catalogue", "shipping", "страж")
_OPERATIONS: Final = (
    "GET /api/v1/products/{id}",
    "POST /api/v1/cart/items",
    "SELECT inventory.items",
    "redis GET",
    "kafka publish orders.created",
    "grpc hipstershop.Currency/Convert",
    "render template café",
)
_ROUTES: Final = ("/api/v1/products/{id}", "/api/v1/cart/items", "/api/v1/orders", "/healthz")
_METHODS: Final = ("GET", "POST", "PUT", "DELETE")
_SEVERITIES: Final = (
    ("DEBUG", SeverityNumber.SEVERITY_NUMBER_DEBUG),
    ("INFO", SeverityNumber.SEVERITY_NUMBER_INFO),
    ("WARN", SeverityNumber.SEVERITY_NUMBER_WARN),
    ("ERROR", SeverityNumber.SEVERITY_NUMBER_ERROR),
)
_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


@dataclass(frozen=True, slots=True)
class _Patch:
    start: int
    end: int
    kind: int
    number: int


@dataclass(frozen=True, slots=True)
class _Template:
    body: bytes
    patches: tuple[_Patch, ...]


def _mark(kind: int, number: int) -> bytes:
    return _MARK + bytes((kind,)) + number.to_bytes(3, "little")


def _time_mark(number: int) -> int:
    return int.from_bytes(_mark(_TIME, number), "little")


def _double_mark(number: int) -> float:
    (value,) = struct.unpack("<d", _mark(_DOUBLE, number))
    return float(value)


def _int_mark(number: int) -> int:
    return int.from_bytes(_mark(_INT, number), "little", signed=True)


def _trace_id_mark(number: int) -> bytes:
    return _mark(_TRACE_ID, number) + bytes(8)


def _number(key: str, value: int) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(int_value=value))


def _resource(random: Random) -> Resource:
    return pod_of(random, random.choice(_SERVICES), hosts=10_000, hosts_of_subnet=250)


def _span_attributes(random: Random) -> list[KeyValue]:
    route = random.choice(_ROUTES)
    tags = AnyValue()
    for tag in random.sample(("beta", "eu", "gold", "mobile"), 2):
        tags.array_value.values.add(string_value=tag)
    return [
        text("http.request.method", random.choice(_METHODS)),
        text("http.route", route),
        text("url.path", f"{route.split('{')[0]}/{random.randrange(1_000_000)}"),
        _number("http.response.status_code", random.choice((200, 200, 200, 201, 404, 500))),
        text("server.address", f"{random.choice(_SERVICES[:-1])}.shop.svc.cluster.local"),
        _number("server.port", 8080),
        text(
            "user_agent.original",
            f"Mozilla/5.0 ({random.choice(('X11; Linux x86_64', 'Macintosh', 'Windows NT 10.0'))}) "
            f"AppleWebKit/537.36 Chrome/{random.randrange(120, 140)}.0 Safari/537.36",
        ),
        text("enduser.id", f"user-{random.randrange(50_000)}"),
        KeyValue(key="cache.hit", value=AnyValue(bool_value=random.random() < 0.5)),
        KeyValue(key="cart.total", value=AnyValue(double_value=random.randrange(99_999) / 100)),
        text("user.city", random.choice(("München", "Kraków", "Oslo", "東京"))),
        KeyValue(key="user.tags", value=tags),
    ]


def _fill_span(span: Span, random: Random, number: int) -> None:
    span.trace_id = _trace_id_mark(number // 5)
    span.span_id = _mark(_SPAN_ID, number)
    if number % 5:
        span.parent_span_id = _mark(_SPAN_ID, number - 1)
    span.name = random.choice(_OPERATIONS)
    span.kind = random.choice((Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT))
    span.start_time_unix_nano = _time_mark(2 * number)
    span.end_time_unix_nano = _time_mark(2 * number + 1)
    span.attributes.extend(_span_attributes(random))
    if random.random() < 0.2:
        event = span.events.add(name="exception", time_unix_nano=_time_mark(2 * number + 1))
        event.attributes.append(text("exception.type", "TimeoutError"))
        event.attributes.append(
            text("exception.message", f"no answer in {random.randrange(5_000)} ms")
        )
    if random.random() < 0.05:
        link = span.links.add(trace_id=_trace_id_mark(number // 5), span_id=_mark(_SPAN_ID, number))
        link.attributes.append(text("link.reason", "batch"))
    if random.random() < 0.03:
        span.status.code = Status.STATUS_CODE_ERROR
        span.status.message = "deadline exceeded"


def _traces(random: Random, items: int) -> bytes:
    request = ExportTraceServiceRequest()
    for part in _shares(items, 2):
        resource_spans = request.resource_spans.add(
            resource=_resource(random),
            schema_url="https://opentelemetry.io/schemas/1.37.0",
        )
        for library, numbers in zip(("http", "sql"), _shares(len(part), 2), strict=False):
            scope_spans = resource_spans.scope_spans.add()
            scope_spans.scope.name = f"opentelemetry.instrumentation.{library}"
            scope_spans.scope.version = "0.66b1"
            for number in numbers:
                _fill_span(scope_spans.spans.add(), random, part[number])
    return request.SerializeToString()


def _fill_log(record: LogRecord, random: Random, number: int) -> None:
    level, severity = random.choice(_SEVERITIES)
    record.time_unix_nano = _time_mark(2 * number)
    record.observed_time_unix_nano = _time_mark(2 * number + 1)
    record.severity_text = level
    record.severity_number = severity
    record.body.string_value = (
        f"order {random.randrange(1_000_000)} of user-{random.randrange(50_000)} took "
        f"{random.randrange(2_000)} ms: {random.choice(_OPERATIONS)} → {level.lower()}"
    )
    record.attributes.extend(
        (
            text("code.function.name", "shop.orders.place_order"),
            _number("code.line.number", random.randrange(500)),
            text("thread.name", f"worker-{random.randrange(16)}"),
            text("enduser.id", f"user-{random.randrange(50_000)}"),
            text("logger.name", "shop.orders"),
            text("deployment.cell", f"eu-central-1{random.choice('abc')}"),
        )
    )
    if number % 2:
        record.trace_id = _trace_id_mark(number // 8)
        record.span_id = _mark(_SPAN_ID, number)
        record.flags = 1


def _logs(random: Random, items: int) -> bytes:
    request = ExportLogsServiceRequest()
    for part in _shares(items, 2):
        resource_logs = request.resource_logs.add(resource=_resource(random))
        scope_logs = resource_logs.scope_logs.add()
        scope_logs.scope.name = "shop.orders"
        for number in part:
            _fill_log(scope_logs.log_records.add(), random, number)
    return request.SerializeToString()


def _point_attributes(random: Random) -> list[KeyValue]:
    return [
        text("http.request.method", random.choice(_METHODS)),
        text("http.route", random.choice(_ROUTES)),
        _number("http.response.status_code", random.choice((200, 404, 500))),
        text("tenant.shard", f"shard-{random.randrange(500)}"),
    ]


def _fill_exemplar(exemplar: Exemplar, number: int) -> None:
    exemplar.time_unix_nano = _time_mark(2 * number + 1)
    exemplar.as_double = _double_mark(number)
    exemplar.trace_id = _trace_id_mark(number)
    exemplar.span_id = _mark(_SPAN_ID, number)


def _fill_number(point: NumberDataPoint, number: int) -> None:
    if number % 2:
        point.as_double = _double_mark(number)
    else:
        point.as_int = _int_mark(number)


def _fill_histogram(point: HistogramDataPoint, random: Random, number: int) -> None:
    counts = [random.randrange(1_000) for _ in range(len(_BOUNDS) + 1)]
    point.count = sum(counts)
    point.sum = _double_mark(number)
    point.min = 0.001
    point.max = 7.5
    point.bucket_counts.extend(counts)
    point.explicit_bounds.extend(_BOUNDS)
    if number % 10 == 0:
        _fill_exemplar(point.exemplars.add(), number)


def _fill_exponential(point: ExponentialHistogramDataPoint, random: Random, number: int) -> None:
    counts = [random.randrange(1_000) for _ in range(16)]
    point.count = sum(counts) + 3
    point.sum = _double_mark(number)
    point.scale = 3
    point.zero_count = 3
    point.positive.offset = random.randrange(-20, 20)
    point.positive.bucket_counts.extend(counts)


def _fill_summary(point: SummaryDataPoint, random: Random, number: int) -> None:
    point.count = random.randrange(100_000)
    point.sum = _double_mark(number)
    for quantile in (0.5, 0.9, 0.99):
        point.quantile_values.add(quantile=quantile, value=random.random() * quantile)


def _fill_metric(metric: Metric, random: Random, numbers: list[int], kind: int) -> None:
    for number in numbers:
        point: (
            NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint | SummaryDataPoint
        )
        if kind == 0:
            point = metric.gauge.data_points.add()
            _fill_number(point, number)
        elif kind == 1:
            metric.sum.aggregation_temporality = _CUMULATIVE
            metric.sum.is_monotonic = True
            point = metric.sum.data_points.add()
            _fill_number(point, number)
        elif kind == 2:
            metric.histogram.aggregation_temporality = _CUMULATIVE
            point = metric.histogram.data_points.add()
            _fill_histogram(point, random, number)
        elif kind == 3:
            metric.exponential_histogram.aggregation_temporality = _DELTA
            point = metric.exponential_histogram.data_points.add()
            _fill_exponential(point, random, number)
        else:
            point = metric.summary.data_points.add()
            _fill_summary(point, random, number)
        point.start_time_unix_nano = _time_mark(2 * number)
        point.time_unix_nano = _time_mark(2 * number + 1)
        point.attributes.extend(_point_attributes(random))


def _metrics(random: Random, items: int) -> bytes:
    request = ExportMetricsServiceRequest()
    names = ("queue.size", "http.requests", "http.duration", "rpc.duration", "gc.pause")
    for part in _shares(items, 2):
        resource_metrics = request.resource_metrics.add(resource=_resource(random))
        scope_metrics = resource_metrics.scope_metrics.add()
        scope_metrics.scope.name = "opentelemetry.instrumentation.http"
        points = 10 if len(part) >= 100 else 2  # of one metric; small requests hold all kinds too
        for first in range(0, len(part), points):
            # Seven in ten points are gauges or sums, one is of each of the other kinds.
            kind = (0, 1, 0, 1, 0, 1, 1, 2, 3, 4)[first // points % 10]
            metric = scope_metrics.metrics.add(
                name=f"shop.{names[kind]}.{first // 100}", unit="ms", description="How it goes"
            )
            _fill_metric(metric, random, part[first : first + points], kind)
    return request.SerializeToString()


_BUILDERS: Final[dict[str, Callable[[Random, int], bytes]]] = {
    "traces": _traces,
    "logs": _logs,
    "metrics": _metrics,
}


def _shares(items: int, parts: int) -> list[list[int]]:
    """The numbers of *items* in at most *parts* runs of about equal length, none empty."""
    edges = [items * part // parts for part in range(parts + 1)]
    return [list(range(a, b)) for a, b in pairwise(edges) if b > a]


@lru_cache(maxsize=64)
def _template(signal: str, items: int, variant: int) -> _Template:
    random = Random(f"{SEED}/{signal}/{items}/{variant}")
    body = _BUILDERS[signal](random, items)
    patches = []
    for match in _MARK_PATTERN.finditer(body):
        kind = match[1][0]
        end = match.start() + (16 if kind == _TRACE_ID else 8)
        number = int.from_bytes(match[2], "little")
        patches.append(_Patch(match.start(), end, kind, number))
    return _Template(body, tuple(patches))


def _content(kind: int, number: int, random: Random, now_ns: int) -> bytes:
    if kind == _TIME:
        # Items begin one after the other within the last five seconds and last up to 64 ms.
        start = now_ns - 5_000_000_000 + (number // 2) * 1_009
        return struct.pack("<Q", start + (random.getrandbits(26) if number % 2 else 0))
    if kind == _DOUBLE:
        return struct.pack("<d", random.random() * 1_000)
    if kind == _INT:
        return struct.pack("<q", random.getrandbits(20))
    return random.randbytes(16 if kind == _TRACE_ID else 8)


def _distinct(template: _Template, random: Random, now_ns: int) -> bytes:
    body = bytearray(template.body)
    ids: dict[tuple[int, int], bytes] = {}  # a parent is a span of the same request
    for patch in template.patches:
        key = (patch.kind, patch.number)
        content = ids.get(key)
        if content is None:
            content = ids[key] = _content(patch.kind, patch.number, random, now_ns)
        body[patch.start : patch.end] = content
    return bytes(body)


def requests(signal: str, *, items: int, count: int, now_ns: int = NOW_NS) -> list[bytes]:
    """*count* distinct export requests of *items* items each, as protobuf.

    The same arguments give the same bytes. All times lie within the five seconds before *now_ns*.
    """
    if not 0 < items <= _ITEMS_MAX:
        raise ValueError(f"{items} items a request: choose 1 to {_ITEMS_MAX}")
    random = Random(f"{SEED}/{signal}/{items}")
    variants = min(count, _TEMPLATES_MAX)
    return [
        _distinct(_template(signal, items, number % variants), random, now_ns)
        for number in range(count)
    ]


@dataclass(frozen=True, slots=True)
class Patchable:
    """A request, and where in it 8 bytes of an id, or a time, may be overwritten."""

    body: bytes
    ids: tuple[int, ...]
    times: tuple[int, ...]


def patchable(signal: str, *, items: int, count: int, now_ns: int = NOW_NS) -> list[Patchable]:
    """The same as `requests`, with the places of their ids and times."""
    bodies = requests(signal, items=items, count=count, now_ns=now_ns)
    variants = min(count, _TEMPLATES_MAX)
    found = []
    for number, body in enumerate(bodies):
        patches = _template(signal, items, number % variants).patches
        ids = [
            start
            for patch in patches
            if patch.kind in {_TRACE_ID, _SPAN_ID}
            for start in range(patch.start, patch.end, 8)
        ]
        times = tuple(patch.start for patch in patches if patch.kind == _TIME)
        found.append(Patchable(body, tuple(ids), times))
    return found
