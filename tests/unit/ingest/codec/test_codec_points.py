"""Data points: the five kinds of metrics as rows."""

import math
from collections.abc import Iterable
from typing import Any

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Exemplar,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    SummaryDataPoint,
)

from ingest.codec.tables import TABLES
from tests.unit.ingest.codec.twins import NOW_NS, TRACE_ID, stored

CUMULATIVE = 2


def metrics(*several: Metric, resource: Iterable[KeyValue] = ()) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    resource_metrics = request.resource_metrics.add()
    resource_metrics.resource.attributes.extend(resource)
    resource_metrics.scope_metrics.add().metrics.extend(several)
    return request


def gauge(*points: NumberDataPoint) -> Metric:
    metric = Metric(name="load")
    metric.gauge.data_points.extend(points)
    return metric


def histogram(**fields: Any) -> Metric:
    metric = Metric(name="latency")
    metric.histogram.data_points.add(time_unix_nano=NOW_NS, **fields)
    return metric


def texts(**values: str) -> list[KeyValue]:
    return [KeyValue(key=key, value=AnyValue(string_value=one)) for key, one in values.items()]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (0.0, 0, 0)),
        ({"as_double": 0.0}, (0.0, 0, 1)),
        ({"as_double": -0.0}, (-0.0, 0, 1)),
        ({"as_double": math.inf}, (math.inf, 0, 1)),
        ({"as_double": 5e-324}, (5e-324, 0, 1)),
        ({"as_int": 0}, (0.0, 0, 2)),
        ({"as_int": 2**53 + 1}, (float(2**53), 2**53 + 1, 2)),
        ({"as_int": -(2**63)}, (-(2.0**63), -(2**63), 2)),
        ({"as_int": 2**63 - 1}, (2.0**63, 2**63 - 1, 2)),
    ],
)
def test_C070_numbers_are_kept_exactly(
    fields: dict[str, Any], expected: tuple[float, int, int]
) -> None:
    point = NumberDataPoint(time_unix_nano=NOW_NS, exemplars=[Exemplar(**fields)], **fields)
    row = stored("metrics", metrics(gauge(point))).row

    found = row["Value"], row["ValueInt"], row["ValueType"]
    assert (found, math.copysign(1, found[0])) == (expected, math.copysign(1, expected[0]))
    assert [*row["Exemplars.Value"], *row["Exemplars.ValueInt"]] == [found[0], found[1]]
    assert row["Exemplars.ValueType"] == [found[2]]


def test_C069_not_a_number_is_kept() -> None:
    row = stored("metrics", metrics(gauge(NumberDataPoint(as_double=math.nan)))).row

    assert math.isnan(row["Value"])


@pytest.mark.parametrize(
    ("counts", "bounds", "fits"),
    [
        (0, 0, True),
        (1, 0, True),
        (2, 1, True),
        (11, 10, True),
        (0, 1, False),
        (1, 1, False),
        (2, 0, False),
        (3, 1, False),
    ],
)
def test_C074_a_histogram_whose_counts_do_not_fit_its_bounds_is_rejected(
    counts: int, bounds: int, fits: bool
) -> None:
    metric = histogram(bucket_counts=range(counts), explicit_bounds=range(bounds))
    appended = stored("metrics", metrics(metric)).appended

    assert appended.accepted == fits
    assert appended.rejected == ({} if fits else {"bucket_counts_mismatch": 1})


def test_C060_what_a_histogram_does_not_have_is_told_from_zero() -> None:
    without = stored("metrics", metrics(histogram(count=1))).row
    zero = stored("metrics", metrics(histogram(count=1, sum=0, min=0, max=0))).row

    for name in ("Sum", "Min", "Max"):
        assert (without[name], without[f"Has{name}"]) == (0.0, False)
        assert (zero[name], zero[f"Has{name}"]) == (0.0, True)


@pytest.mark.parametrize("name", ["Sum", "Min", "Max"])
def test_C060_each_of_them_is_told_by_itself(name: str) -> None:
    row = stored("metrics", metrics(histogram(**{name.lower(): 2.0}))).row

    assert {one: row[f"Has{one}"] for one in ("Sum", "Min", "Max")} == {
        one: one == name for one in ("Sum", "Min", "Max")
    }
    assert row[name] == 2.0


@pytest.mark.parametrize(("number", "kept"), [(0, 0), (1, 1), (2, 2), (3, 0), (-1, 0)])
def test_C084_an_unknown_temporality_is_unspecified(number: Any, kept: int) -> None:
    metric = Metric(name="requests")
    metric.sum.aggregation_temporality = number
    metric.sum.data_points.add()

    assert stored("metrics", metrics(metric)).row["AggregationTemporality"] == kept


EXEMPLAR = Exemplar(
    filtered_attributes=texts(user="u"),
    time_unix_nano=8,
    as_int=3,
    span_id=b"spanspan",
    trace_id=TRACE_ID,
)
POINT: dict[str, Any] = {
    "attributes": texts(host="a"),
    "start_time_unix_nano": NOW_NS - 5,
    "time_unix_nano": NOW_NS,
    "flags": 1,
}
EXTREMES: dict[str, Any] = {"count": 3, "sum": 1.5, "min": 0.5, "max": 1.0}
COMMON = {
    "TenantId": "acme",
    "RetentionDays": 30,
    "MetricName": "name",
    "MetricDescription": "description",
    "MetricUnit": "ms",
    "MetricMetadata": {"m": "1"},
    "Attributes": {"host": "a"},
    "StartTimeUnix": NOW_NS - 5,
    "TimeUnix": NOW_NS,
    "Flags": 1,
}
EXEMPLAR_COLUMNS = {
    "Exemplars.FilteredAttributes": [{"user": "u"}],
    "Exemplars.TimeUnix": [8],
    "Exemplars.Value": [3.0],
    "Exemplars.ValueInt": [3],
    "Exemplars.ValueType": [2],
    "Exemplars.SpanId": [b"spanspan".hex()],
    "Exemplars.TraceId": [TRACE_ID.hex()],
}
EXTREME_COLUMNS = {
    "Count": 3,
    "Sum": 1.5,
    "HasSum": True,
    "Min": 0.5,
    "HasMin": True,
    "Max": 1.0,
    "HasMax": True,
}


def gauge_of_all_fields(metric: Metric) -> dict[str, Any]:
    metric.gauge.data_points.add(as_double=2.5, exemplars=[EXEMPLAR], **POINT)
    return {"Value": 2.5, "ValueType": 1, **EXEMPLAR_COLUMNS}


def sum_of_all_fields(metric: Metric) -> dict[str, Any]:
    metric.sum.data_points.add(as_int=-2, exemplars=[EXEMPLAR], **POINT)
    metric.sum.is_monotonic = True
    metric.sum.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    return {
        "Value": -2.0,
        "ValueInt": -2,
        "ValueType": 2,
        "AggregationTemporality": CUMULATIVE,
        "IsMonotonic": True,
        **EXEMPLAR_COLUMNS,
    }


def histogram_of_all_fields(metric: Metric) -> dict[str, Any]:
    point = HistogramDataPoint(
        bucket_counts=[1, 2], explicit_bounds=[0.75], exemplars=[EXEMPLAR], **POINT, **EXTREMES
    )
    metric.histogram.data_points.append(point)
    metric.histogram.aggregation_temporality = (
        AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    )
    return {
        **EXTREME_COLUMNS,
        "BucketCounts": [1, 2],
        "ExplicitBounds": [0.75],
        "AggregationTemporality": CUMULATIVE,
        **EXEMPLAR_COLUMNS,
    }


def exponential_histogram_of_all_fields(metric: Metric) -> dict[str, Any]:
    point = ExponentialHistogramDataPoint(
        scale=-3, zero_count=4, zero_threshold=0.25, exemplars=[EXEMPLAR], **POINT, **EXTREMES
    )
    point.positive.offset, point.negative.offset = -7, 2**31 - 1
    point.positive.bucket_counts.extend([1, 2**64 - 1])
    point.negative.bucket_counts.append(300)
    metric.exponential_histogram.data_points.append(point)
    metric.exponential_histogram.aggregation_temporality = (
        AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    )
    return {
        **EXTREME_COLUMNS,
        "Scale": -3,
        "ZeroCount": 4,
        "ZeroThreshold": 0.25,
        "PositiveOffset": -7,
        "PositiveBucketCounts": [1, 2**64 - 1],
        "NegativeOffset": 2**31 - 1,
        "NegativeBucketCounts": [300],
        "AggregationTemporality": CUMULATIVE,
        **EXEMPLAR_COLUMNS,
    }


def summary_of_all_fields(metric: Metric) -> dict[str, Any]:
    point = SummaryDataPoint(count=3, sum=1.5, **POINT)
    point.quantile_values.add(quantile=0.5, value=0.4)
    point.quantile_values.add(quantile=1.0, value=1.1)
    metric.summary.data_points.append(point)
    return {
        "Count": 3,
        "Sum": 1.5,
        "ValueAtQuantiles.Quantile": [0.5, 1.0],
        "ValueAtQuantiles.Value": [0.4, 1.1],
    }


@pytest.mark.parametrize(
    "fill",
    [
        gauge_of_all_fields,
        sum_of_all_fields,
        histogram_of_all_fields,
        exponential_histogram_of_all_fields,
        summary_of_all_fields,
    ],
)
def test_C060_every_field_of_a_point_is_kept(fill: Any) -> None:
    metric = Metric(name="name", description="description", unit="ms", metadata=texts(m="1"))
    own = fill(metric)

    found = stored("metrics", metrics(metric))

    [(table, [row])] = found.tables.items()
    hashed = row.pop("SeriesHash")
    assert table == f"tf_metrics_{metric.WhichOneof('data')}"
    assert {name: value for name, value in row.items() if value} == COMMON | own
    assert {*row, "SeriesHash"} == {name for name, _type in TABLES[table]}
    assert hashed == xxhash.xxh64_intdigest(b"\x00\x04host\x01a")


def prefixed(values: dict[str, str]) -> bytes:
    out = b""
    for text in (part for key in sorted(values) for part in (key, values[key])):
        size = len(text.encode())
        out += bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
        out += text.encode()
    return out


KEYS = st.text(st.characters(codec="ascii"), max_size=6)
VALUES = st.text(max_size=50) | st.text(st.characters(codec="ascii"), min_size=120, max_size=300)


@given(st.dictionaries(KEYS, VALUES, max_size=5), st.dictionaries(KEYS, VALUES, max_size=5))
def test_the_hash_of_a_series_is_that_of_its_sorted_attributes(
    resource: dict[str, str], point: dict[str, str]
) -> None:
    metric = gauge(NumberDataPoint(attributes=texts(**point)))
    row = stored("metrics", metrics(metric, resource=texts(**resource))).row

    assert row["SeriesHash"] == xxhash.xxh64_intdigest(prefixed(resource) + b"\0" + prefixed(point))


def test_the_hash_of_a_series_knows_neither_its_time_nor_the_order_of_attributes() -> None:
    points = [
        NumberDataPoint(attributes=texts(a="1", b="2"), time_unix_nano=NOW_NS),
        NumberDataPoint(attributes=texts(b="2", a="1"), time_unix_nano=1),  # a broken clock
        NumberDataPoint(attributes=[*texts(a="0"), *texts(b="2", a="1")]),
    ]
    rows = stored("metrics", metrics(gauge(*points))).rows

    assert len({row["SeriesHash"] for row in rows}) == 1
    assert "telemetryflow.original_time_unix_nano" in rows[1]["Attributes"]


def test_the_hash_of_a_series_tells_resource_from_point() -> None:
    point = NumberDataPoint(attributes=texts(a="1"))
    in_point = stored("metrics", metrics(gauge(point))).row
    in_resource = stored("metrics", metrics(gauge(NumberDataPoint()), resource=texts(a="1"))).row

    assert in_point["SeriesHash"] != in_resource["SeriesHash"]
