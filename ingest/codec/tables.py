"""The columns that a block of each table carries, in block order.

Names and types are those of the ClickHouse tables (`shared/clickhouse/migrations`), because a
transport type that differs from the column's type costs a conversion at every insert. The value
conventions are those of the OpenTelemetry ClickHouse exporter; columns that the exporter lacks
keep what arrives and would otherwise be lost.
"""

from typing import Final

Columns = tuple[tuple[str, str], ...]

LC: Final = "LowCardinality(String)"
LC_MAP: Final = f"Map({LC}, {LC})"
TEXT_MAP: Final = f"Map({LC}, String)"
TIME: Final = "DateTime64(9)"

_TENANT: Final[Columns] = (("TenantId", LC), ("RetentionDays", "UInt16"))

# What every item repeats of its resource and its instrumentation scope.
_ORIGIN: Final[Columns] = (
    ("ServiceName", LC),
    ("ResourceSchemaUrl", LC),
    ("ResourceAttributes", LC_MAP),
    ("ResourceDroppedAttrCount", "UInt32"),
    ("ResourceEntityRefs", LC),  # JSON array of the resource's entity_refs, '' when there are none
    ("ScopeSchemaUrl", LC),
    ("ScopeName", LC),
    ("ScopeVersion", LC),
    ("ScopeAttributes", LC_MAP),
    ("ScopeDroppedAttrCount", "UInt32"),
)

_TRACES: Final[Columns] = (
    *_TENANT,
    ("Timestamp", TIME),
    ("TraceId", "FixedString(16)"),
    ("SpanId", "FixedString(8)"),
    ("ParentSpanId", "FixedString(8)"),
    ("TraceState", LC),
    ("Flags", "UInt32"),
    ("SpanName", LC),
    ("SpanKind", LC),
    *_ORIGIN,
    ("SpanAttributes", TEXT_MAP),
    ("DroppedAttributesCount", "UInt32"),
    ("Duration", "UInt64"),
    ("StatusCode", LC),
    ("StatusMessage", LC),
    ("Events.Timestamp", f"Array({TIME})"),
    ("Events.Name", f"Array({LC})"),
    ("Events.Attributes", f"Array({TEXT_MAP})"),
    ("Events.DroppedAttributesCount", "Array(UInt32)"),
    ("DroppedEventsCount", "UInt32"),
    ("Links.TraceId", "Array(String)"),
    ("Links.SpanId", "Array(String)"),
    ("Links.TraceState", "Array(String)"),
    ("Links.Attributes", f"Array({TEXT_MAP})"),
    ("Links.DroppedAttributesCount", "Array(UInt32)"),
    ("Links.Flags", "Array(UInt32)"),
    ("DroppedLinksCount", "UInt32"),
)

_LOGS: Final[Columns] = (
    *_TENANT,
    ("Timestamp", TIME),
    ("ObservedTimestamp", TIME),
    ("TraceId", "FixedString(16)"),
    ("SpanId", "FixedString(8)"),
    ("Flags", "UInt32"),
    ("SeverityText", LC),
    ("SeverityNumber", "UInt8"),
    ("Body", "String"),
    *_ORIGIN,
    ("LogAttributes", LC_MAP),
    ("DroppedAttributesCount", "UInt32"),
    ("EventName", LC),
)

_POINT: Final[Columns] = (
    *_TENANT,
    *_ORIGIN,
    ("MetricName", LC),
    ("MetricDescription", LC),
    ("MetricUnit", LC),
    ("MetricMetadata", LC_MAP),
    ("Attributes", LC_MAP),
    ("SeriesHash", "UInt64"),
    ("StartTimeUnix", TIME),
    ("TimeUnix", TIME),
    ("Flags", "UInt32"),
)

# A value as Float64 for every tool, and exactly as it was sent: ValueType 0 none, 1 double, 2 int.
_VALUE: Final[Columns] = (("Value", "Float64"), ("ValueInt", "Int64"), ("ValueType", "UInt8"))

_EXEMPLARS: Final[Columns] = (
    ("Exemplars.FilteredAttributes", f"Array({TEXT_MAP})"),
    ("Exemplars.TimeUnix", f"Array({TIME})"),
    ("Exemplars.Value", "Array(Float64)"),
    ("Exemplars.ValueInt", "Array(Int64)"),
    ("Exemplars.ValueType", "Array(UInt8)"),
    ("Exemplars.SpanId", "Array(String)"),
    ("Exemplars.TraceId", "Array(String)"),
)

# Optional fields of a histogram point: the value is 0 where Has… is false.
_EXTREMES: Final[Columns] = (
    ("Count", "UInt64"),
    ("Sum", "Float64"),
    ("HasSum", "Bool"),
    ("Min", "Float64"),
    ("HasMin", "Bool"),
    ("Max", "Float64"),
    ("HasMax", "Bool"),
)

TABLES: Final[dict[str, Columns]] = {
    "tf_traces": _TRACES,
    "tf_logs": _LOGS,
    "tf_metrics_gauge": (*_POINT, *_VALUE, *_EXEMPLARS),
    "tf_metrics_sum": (
        *_POINT,
        *_VALUE,
        ("AggregationTemporality", "Int32"),
        ("IsMonotonic", "Bool"),
        *_EXEMPLARS,
    ),
    "tf_metrics_histogram": (
        *_POINT,
        *_EXTREMES,
        ("BucketCounts", "Array(UInt64)"),
        ("ExplicitBounds", "Array(Float64)"),
        ("AggregationTemporality", "Int32"),
        *_EXEMPLARS,
    ),
    "tf_metrics_exponential_histogram": (
        *_POINT,
        *_EXTREMES,
        ("Scale", "Int32"),
        ("ZeroCount", "UInt64"),
        ("ZeroThreshold", "Float64"),
        ("PositiveOffset", "Int32"),
        ("PositiveBucketCounts", "Array(UInt64)"),
        ("NegativeOffset", "Int32"),
        ("NegativeBucketCounts", "Array(UInt64)"),
        ("AggregationTemporality", "Int32"),
        *_EXEMPLARS,
    ),
    "tf_metrics_summary": (
        *_POINT,
        ("Count", "UInt64"),
        ("Sum", "Float64"),
        ("ValueAtQuantiles.Quantile", "Array(Float64)"),
        ("ValueAtQuantiles.Value", "Array(Float64)"),
    ),
}

TABLES_OF_SIGNAL: Final[dict[str, tuple[str, ...]]] = {
    "traces": ("tf_traces",),
    "logs": ("tf_logs",),
    "metrics": (
        "tf_metrics_gauge",
        "tf_metrics_sum",
        "tf_metrics_histogram",
        "tf_metrics_exponential_histogram",
        "tf_metrics_summary",
    ),
}
