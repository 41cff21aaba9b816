"""Metrics of the request path as plain numbers, which are put together when somebody asks.

A counter of prometheus_client takes a lock and a histogram three, which cost a small request a
twentieth of all that it costs. Here only the event loop counts, so there is nothing to lock.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


class PlainCounter(Collector):
    """A counter for each of *values* of one *label*: add to `counts`."""

    def __init__(self, name: str, documentation: str, label: str, values: Sequence[str]) -> None:
        self._family = name, documentation, None, [label]
        self.counts = dict.fromkeys(values, 0)
        REGISTRY.register(self)

    def collect(self) -> Iterator[Metric]:
        """What Prometheus is shown."""
        family = CounterMetricFamily(*self._family)
        for value, count in self.counts.items():
            family.add_metric([value], count)
        yield family


class PlainHistogram(Collector):
    """A histogram with upper *bounds* for each of *values* of one *label*."""

    def __init__(
        self,
        name: str,
        documentation: str,
        label: str,
        values: Sequence[str],
        *,
        bounds: Sequence[float],
    ) -> None:
        self._family = name, documentation, None, None, [label]
        self._bounds = bounds
        self._buckets = {value: [0] * (len(bounds) + 1) for value in values}
        self._sums = dict.fromkeys(values, 0.0)
        REGISTRY.register(self)

    def observe(self, value: str, amount: float) -> None:
        """Count *amount* under that value of the label."""
        self._buckets[value][bisect_left(self._bounds, amount)] += 1
        self._sums[value] += amount

    def collect(self) -> Iterator[Metric]:
        """What Prometheus is shown: each bucket with those below it."""
        family = HistogramMetricFamily(*self._family)
        bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for value, buckets in self._buckets.items():
            below = list(zip(bounds, accumulate(buckets), strict=True))
            family.add_metric([value], below, self._sums[value])
        yield family
