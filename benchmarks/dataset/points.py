"""Templates of data points: a tenant's series, each with one point a request.

Twenty series (five routes, two methods, two pods) are of one metric and service; such blocks are
dealt to 200 metrics and the tenant's services.
"""

from typing import Final

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric

from benchmarks.dataset.skew import METHODS, ROUTES, SERVICES
from benchmarks.dataset.spans import resource_of
from benchmarks.dataset.templates import Marks, Template
from benchmarks.resources import text

METRICS: Final = 200
SERIES_OF_BLOCK: Final = 20
BLOCKS_OF_REQUEST: Final = 100
_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_BUCKETS: Final = (2, 5, 11, 23, 31, 17, 8, 4, 2, 1, 1)
# Of ten metrics four are gauges, four counters; of twenty, two are histograms, one of each other.
_KINDS: Final = (
    *("gauge", "sum", "gauge", "sum", "gauge", "sum", "gauge", "sum", "gauge", "sum"),
    *("gauge", "sum", "gauge", "sum", "gauge", "sum", "histogram", "histogram"),
    *("exponential", "summary"),
)
_PREFIXES: Final = {
    "gauge": "process.pool.usage",
    "sum": "http.server.requests",
    "histogram": "http.server.duration",
    "exponential": "rpc.server.duration",
    "summary": "gc.pause",
}
_CUMULATIVE: Final = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
_DELTA: Final = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA


def metric_of(block: int) -> tuple[str, str]:
    """(name, kind)"""
    number = block % METRICS
    kind = _KINDS[number % len(_KINDS)]
    return f"shop.{_PREFIXES[kind]}.{number:03}", kind


def point_template(first_block: int, blocks: int, services: int) -> Template:
    """A request with a point of each series of the *blocks*."""
    marks = Marks()
    request = ExportMetricsServiceRequest()
    for block in range(first_block, first_block + blocks):
        service = SERVICES[(block * 7 + block // METRICS) % services]
        name, kind = metric_of(block)
        for pod in range(2):
            resource_metrics = request.resource_metrics.add(resource=resource_of(service, pod))
            scope = resource_metrics.scope_metrics.add()
            scope.scope.name = "opentelemetry.instrumentation.http"
            metric = scope.metrics.add(name=name, unit="s" if "duration" in name else "1")
            _fill_metric(metric, kind, block, marks)
    return Template(request, marks, items=blocks * SERIES_OF_BLOCK)


def _fill_metric(metric: Metric, kind: str, block: int, marks: Marks) -> None:
    for number in range(SERIES_OF_BLOCK // 2):
        unit = 1.0 + (block * 31 + number * 7) % 97
        point = _new_point(metric, kind, unit, marks)
        point.time_unix_nano = marks.time(0.0, block % 1_000 * 1_000_000.0)
        if kind != "gauge":
            point.start_time_unix_nano = marks.start()
        point.attributes.extend(
            (
                text("http.route", ROUTES[number % len(ROUTES)]),
                text("http.request.method", METHODS[number // len(ROUTES)]),
                text("server.shard", f"shard-{block % 7}"),
            )
        )


def _new_point(metric: Metric, kind: str, unit: float, marks: Marks):  # type: ignore[no-untyped-def] # noqa: ANN202 - one of five
    if kind == "gauge":
        return metric.gauge.data_points.add(as_double=marks.level(unit, gauge=True))
    if kind == "sum":
        metric.sum.aggregation_temporality = _CUMULATIVE
        metric.sum.is_monotonic = True
        return metric.sum.data_points.add(as_double=marks.level(unit * 60))
    if kind == "histogram":
        metric.histogram.aggregation_temporality = _CUMULATIVE
        point = metric.histogram.data_points.add(
            count=marks.count(sum(_BUCKETS)), sum=marks.level(unit * 10), explicit_bounds=_BOUNDS
        )
        point.bucket_counts.extend(marks.count(count) for count in _BUCKETS)
        return point
    if kind == "exponential":
        metric.exponential_histogram.aggregation_temporality = _DELTA
        exponential = metric.exponential_histogram.data_points.add(
            count=sum(_BUCKETS) + 3, sum=marks.level(unit, gauge=True), scale=3, zero_count=3
        )
        exponential.positive.offset = int(unit) % 40 - 20
        exponential.positive.bucket_counts.extend(_BUCKETS)
        return exponential
    summary = metric.summary.data_points.add(
        count=marks.count(sum(_BUCKETS)), sum=marks.level(unit * 10)
    )
    for quantile in (0.5, 0.9, 0.99):
        summary.quantile_values.add(
            quantile=quantile, value=marks.level(unit * quantile, gauge=True)
        )
    return summary
