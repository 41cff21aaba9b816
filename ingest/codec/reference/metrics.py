"""Data points as rows of the five tf_metrics tables."""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import xxhash

from ingest.codec.reference.items import Item, Rejected, Row, hex_id
from ingest.codec.reference.values import attributes
from ingest.codec.reference.wire import uvarint

VALUE_TYPES: Final = {None: 0, "as_double": 1, "as_int": 2}
TEMPORALITY_MAX: Final = 2


class Point(NamedTuple):
    """A data point with the metric around it and the oneof member that holds both."""

    metric: Any
    data: Any
    point: Any
    own_columns: Callable[["Point", Item], Row]
    table: str


def points_of(metric: Any) -> Iterator[Point]:
    """The data points of a Metric message; none when it has no data, or data of an unknown kind."""
    member = metric.WhichOneof("data")
    if member is None:
        return
    data = getattr(metric, member)
    for point in data.data_points:
        yield Point(metric, data, point, _COLUMNS_OF[member], f"tf_metrics_{member}")


def point_item(item: Item, origin: Row, one: Point) -> None:
    """Fills *item* from a data point, or raises Rejected."""
    metric, point = one.metric, one.point
    if one.table == "tf_metrics_histogram":
        check_buckets(point)
    sent = attributes(point.attributes)
    stored = item.place_in_time(point.time_unix_nano, sent)
    series = series_hash(origin["ResourceAttributes"], sent)
    item.receipt.require_known(origin, sent, {(metric.name, series)})
    item.row = {
        **item.receipt.columns,
        **origin,
        "MetricName": metric.name,
        "MetricDescription": metric.description,
        "MetricUnit": metric.unit,
        "MetricMetadata": attributes(metric.metadata),
        "Attributes": stored,
        "SeriesHash": series,
        "StartTimeUnix": item.clamped(point.start_time_unix_nano),
        "TimeUnix": item.time_ns,
        "Flags": point.flags,
        **one.own_columns(one, item),
    }


def check_buckets(point: Any) -> None:
    """Raises Rejected when a histogram's counts do not fit its bounds."""
    counts, bounds = len(point.bucket_counts), len(point.explicit_bounds)
    if counts != bounds + 1 and (counts or bounds):
        raise Rejected("bucket_counts_mismatch")


def series_hash(resource: dict[str, str], point: dict[str, str]) -> int:
    """XXH64 of the attributes of the resource and the point as lengths and texts."""
    return xxhash.xxh64_intdigest(_prefixed(resource) + b"\x00" + _prefixed(point))


def _prefixed(texts: dict[str, str]) -> bytes:
    raw = [text.encode() for pair in texts.items() for text in pair]
    return b"".join(uvarint(len(one)) + one for one in raw)


def value_columns(member: str | None, message: Any) -> Row:
    """Value, ValueInt and ValueType of a point or an exemplar."""
    value = getattr(message, member) if member else 0
    return {
        "Value": float(value),
        "ValueInt": value if member == "as_int" else 0,
        "ValueType": VALUE_TYPES[member],
    }


def exemplar_columns(item: Item, point: Any) -> Row:
    """The nested columns of a point's exemplars."""
    values = [value_columns(one.WhichOneof("value"), one) for one in point.exemplars]
    return {
        "Exemplars.FilteredAttributes": [
            attributes(one.filtered_attributes) for one in point.exemplars
        ],
        "Exemplars.TimeUnix": [item.clamped(one.time_unix_nano) for one in point.exemplars],
        "Exemplars.Value": [one["Value"] for one in values],
        "Exemplars.ValueInt": [one["ValueInt"] for one in values],
        "Exemplars.ValueType": [one["ValueType"] for one in values],
        "Exemplars.SpanId": [hex_id(one.span_id) for one in point.exemplars],
        "Exemplars.TraceId": [hex_id(one.trace_id) for one in point.exemplars],
    }


def temporality(data: Any) -> int:
    """As the enum has it; 0 for a number that it does not have."""
    number: int = data.aggregation_temporality
    return number if 0 <= number <= TEMPORALITY_MAX else 0


def gauge_columns(one: Point, item: Item) -> Row:
    """What only gauges have."""
    values = value_columns(one.point.WhichOneof("value"), one.point)
    return values | exemplar_columns(item, one.point)


def sum_columns(one: Point, item: Item) -> Row:
    """What only sums have."""
    return gauge_columns(one, item) | {
        "AggregationTemporality": temporality(one.data),
        "IsMonotonic": one.data.is_monotonic,
    }


def extreme_columns(point: Any) -> Row:
    """Count, sum and extremes, which both kinds of histograms have."""
    return {
        "Count": point.count,
        "Sum": point.sum,
        "HasSum": point.HasField("sum"),
        "Min": point.min,
        "HasMin": point.HasField("min"),
        "Max": point.max,
        "HasMax": point.HasField("max"),
    }


def histogram_columns(one: Point, item: Item) -> Row:
    """What only histograms have."""
    return {
        **extreme_columns(one.point),
        "BucketCounts": list(one.point.bucket_counts),
        "ExplicitBounds": list(one.point.explicit_bounds),
        "AggregationTemporality": temporality(one.data),
        **exemplar_columns(item, one.point),
    }


def exponential_columns(one: Point, item: Item) -> Row:
    """What only exponential histograms have."""
    point = one.point
    return {
        **extreme_columns(point),
        "Scale": point.scale,
        "ZeroCount": point.zero_count,
        "ZeroThreshold": point.zero_threshold,
        "PositiveOffset": point.positive.offset,
        "PositiveBucketCounts": list(point.positive.bucket_counts),
        "NegativeOffset": point.negative.offset,
        "NegativeBucketCounts": list(point.negative.bucket_counts),
        "AggregationTemporality": temporality(one.data),
        **exemplar_columns(item, point),
    }


def summary_columns(one: Point, _item: Item) -> Row:
    """What only summaries have."""
    quantiles = one.point.quantile_values
    return {
        "Count": one.point.count,
        "Sum": one.point.sum,
        "ValueAtQuantiles.Quantile": [quantile.quantile for quantile in quantiles],
        "ValueAtQuantiles.Value": [quantile.value for quantile in quantiles],
    }


_COLUMNS_OF: Final[dict[str, Callable[[Point, Item], Row]]] = {
    "gauge": gauge_columns,
    "sum": sum_columns,
    "histogram": histogram_columns,
    "exponential_histogram": exponential_columns,
    "summary": summary_columns,
}
