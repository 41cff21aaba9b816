"""Quantiles of histograms, explicit and exponential. No I/O.

Counts of several histograms are added first. Those with different bounds are brought to the bounds
that all of them have, exponential ones to the coarsest scale: no count is ever guessed, only the
place within a bucket is, between its bounds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


def merged(
    histograms: Sequence[tuple[Sequence[float], Sequence[float]]],
) -> tuple[list[float], list[float]]:
    """Bounds and counts of several (bounds, counts); counts are one more than bounds."""
    common = set(histograms[0][0]).intersection(*(set(bounds) for bounds, _ in histograms))
    bounds = sorted(common)
    counts = [0.0] * (len(bounds) + 1)
    for own_bounds, own_counts in histograms:
        at = 0
        for number, count in enumerate(own_counts):
            while at < len(bounds) and (
                number >= len(own_bounds) or own_bounds[number] > bounds[at]
            ):
                at += 1
            counts[at] += count
    return bounds, counts


def explicit_quantile(
    quantile: float, bounds: Sequence[float], counts: Sequence[float]
) -> float | None:
    """Linear within the bucket; the last one has no end, so its beginning is given.

    The first bucket begins at 0 when its bound is positive, else at its bound, as in Prometheus.
    """
    total = sum(counts)
    if total <= 0 or not bounds:
        return None
    rank = quantile * total
    seen = 0.0
    for number, count in enumerate(counts):
        if seen + count >= rank and count > 0:
            if number == len(bounds):
                return bounds[-1]
            upper = bounds[number]
            lower = bounds[number - 1] if number else min(0.0, upper)
            return lower + (upper - lower) * max(rank - seen, 0.0) / count
        seen += count
    return bounds[-1]


@dataclass
class Exponential:
    """Counts by bucket index: an index i holds what lies in (base^i, base^(i+1)]."""

    scale: int
    zero: float = 0.0
    zero_threshold: float = 0.0
    positive: dict[int, float] = field(default_factory=dict)
    negative: dict[int, float] = field(default_factory=dict)

    def coarser(self, scale: int) -> "Exponential":
        """At a scale that is not larger: neighbours become one."""
        shift = self.scale - scale
        found = Exponential(scale, self.zero, self.zero_threshold)
        for own, other in ((self.positive, found.positive), (self.negative, found.negative)):
            for index, count in own.items():
                other[index >> shift] = other.get(index >> shift, 0.0) + count
        return found

    @classmethod
    def sum_of(cls, many: Sequence["Exponential"]) -> "Exponential":
        """All of them at the coarsest scale; counts may be negative on the way."""
        scale = min(one.scale for one in many)
        found = cls(scale)
        for one in (other.coarser(scale) for other in many):
            found.zero += one.zero
            found.zero_threshold = max(found.zero_threshold, one.zero_threshold)
            _add(found.positive, one.positive)
            _add(found.negative, one.negative)
        return found

    def quantile(self, quantile: float) -> float | None:
        """Logarithmic within a bucket, linear in the one around zero."""
        base = 2.0 ** (2.0**-self.scale)
        buckets = [
            *((-index, -1, self.negative[index]) for index in sorted(self.negative, reverse=True)),
            (0, 0, self.zero),
            *((index, 1, self.positive[index]) for index in sorted(self.positive)),
        ]
        total = sum(count for _index, _sign, count in buckets if count > 0)
        if total <= 0:
            return None
        rank, seen = quantile * total, 0.0
        for index, sign, count in buckets:
            if count > 0 and seen + count >= rank:
                share = max(rank - seen, 0.0) / count
                if sign == 0:
                    low = -self.zero_threshold if self.negative else 0.0
                    return low + (self.zero_threshold - low) * share
                if sign > 0:
                    return _power(base, index + share)
                return -_power(base, -index + 1 - share)
            seen += max(count, 0.0)
        return None


def _add(target: dict[int, float], other: Mapping[int, float]) -> None:
    for index, count in other.items():
        target[index] = target.get(index, 0.0) + count


def _power(base: float, exponent: float) -> float:
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf
