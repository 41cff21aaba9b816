"""What Prometheus would scrape, as OTLP metrics: one set of numbers, told both ways.

Counters become monotonic cumulative sums, histograms keep their buckets, everything else is a
gauge (OpenTelemetry: Compatibility, Prometheus and OpenMetrics).
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Sample

_SCOPE: Final = InstrumentationScope("telemetryflow.prometheus")


class WithPrometheus(MetricExporter):
    """Exports the registry of this process beside what OpenTelemetry's own instruments measured."""

    def __init__(self, exporter: MetricExporter, resource: Resource) -> None:
        super().__init__()
        self._exporter = exporter
        self._resource = resource
        self._begun_at = time.time_ns()

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        """Send both in one request."""
        metrics = list(metrics_of(REGISTRY.collect(), since=self._begun_at, now=time.time_ns()))
        # One resource in all: the exporter takes the last of several that are equal.
        scopes = [one for found in metrics_data.resource_metrics for one in found.scope_metrics]
        scopes.append(ScopeMetrics(_SCOPE, metrics, schema_url=""))
        both = MetricsData([ResourceMetrics(self._resource, scopes, schema_url="")])
        return self._exporter.export(both, timeout_millis=timeout_millis, **kwargs)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing waits here."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """End the exporter behind it."""
        self._exporter.shutdown(timeout_millis=timeout_millis, **kwargs)


def metrics_of(families: Iterable[Family], *, since: int, now: int) -> Iterator[Metric]:
    """OTLP metrics of Prometheus families; *since* and *now* in nanoseconds of Unix time."""
    for family in families:
        if family.type == "histogram":
            points = list(_histogram_points(family.samples, since, now))
            cumulative = AggregationTemporality.CUMULATIVE
            data: Sum | Gauge | Histogram = Histogram(points, cumulative)
        elif family.type == "counter":
            data = Sum(
                _points(family.samples, f"{family.name}_total", since, now),
                AggregationTemporality.CUMULATIVE,
                is_monotonic=True,
            )
        else:
            data = Gauge(_points(family.samples, family.name, since, now))
        if data.data_points:
            yield Metric(family.name, family.documentation, family.unit, data)


def _points(
    samples: Sequence[Sample], name: str, since: int, now: int
) -> Sequence[NumberDataPoint]:
    return [
        NumberDataPoint(sample.labels, since, now, sample.value)
        for sample in samples
        if sample.name == name
    ]


def _histogram_points(
    samples: Sequence[Sample], since: int, now: int
) -> Iterator[HistogramDataPoint]:
    """One for each set of labels; Prometheus counts what is below a bound, OTLP what is between."""
    buckets: dict[tuple[tuple[str, str], ...], list[tuple[float, int]]] = defaultdict(list)
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in samples:
        labels = tuple((name, text) for name, text in sample.labels.items() if name != "le")
        if sample.name.endswith("_bucket"):
            buckets[labels].append((float(sample.labels["le"]), int(sample.value)))
        elif sample.name.endswith("_sum"):
            sums[labels] = sample.value
    for labels, below in buckets.items():
        below.sort()
        counts = [count for _, count in below]
        yield HistogramDataPoint(
            attributes=dict(labels),
            start_time_unix_nano=since,
            time_unix_nano=now,
            count=counts[-1],
            sum=sums.get(labels, 0.0),
            bucket_counts=[
                count - before for count, before in zip(counts, [0, *counts], strict=False)
            ],
            explicit_bounds=[bound for bound, _ in below[:-1]],
            # Unknown to Prometheus, and optional in OTLP.
            min=None,  # type: ignore[arg-type]
            max=None,  # type: ignore[arg-type]
        )
