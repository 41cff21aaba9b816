"""What an OTLP/JSON request may hold: for each message its JSON names, field numbers and kinds.

Source of the format: the .proto files of OpenTelemetry with the JSON mapping that the OTLP
specification lays down: lowerCamelCase names only, ids as hex instead of base64, enums as numbers.
"""

from typing import Final, NamedTuple


class Field(NamedTuple):
    """One field: its JSON name, its protobuf number and how its value is written.

    *kind* is a protobuf scalar type or one of `message`, `id` (bytes written as hex) and `base64`
    (bytes written as base64); *message* names the type of a `message` field.
    """

    name: str
    number: int
    kind: str
    message: str = ""
    repeated: bool = False


def _each(name: str, number: int, kind: str) -> Field:
    return Field(name, number, kind, repeated=True)


def _one(name: str, number: int, message: str) -> Field:
    return Field(name, number, "message", message)


def _many(name: str, number: int, message: str) -> Field:
    return Field(name, number, "message", message, repeated=True)


ROOT_OF_SIGNAL: Final[dict[str, str]] = {
    "traces": "ExportTraceServiceRequest",
    "logs": "ExportLogsServiceRequest",
    "metrics": "ExportMetricsServiceRequest",
}

_COMMON: Final[dict[str, tuple[Field, ...]]] = {
    "Resource": (
        _many("attributes", 1, "KeyValue"),
        Field("droppedAttributesCount", 2, "uint32"),
        _many("entityRefs", 3, "EntityRef"),
    ),
    "EntityRef": (
        Field("schemaUrl", 1, "string"),
        Field("type", 2, "string"),
        _each("idKeys", 3, "string"),
        _each("descriptionKeys", 4, "string"),
    ),
    "InstrumentationScope": (
        Field("name", 1, "string"),
        Field("version", 2, "string"),
        _many("attributes", 3, "KeyValue"),
        Field("droppedAttributesCount", 4, "uint32"),
    ),
    "KeyValue": (
        Field("key", 1, "string"),
        _one("value", 2, "AnyValue"),
        Field("keyStrindex", 3, "int32"),
    ),
    "AnyValue": (
        Field("stringValue", 1, "string"),
        Field("boolValue", 2, "bool"),
        Field("intValue", 3, "int64"),
        Field("doubleValue", 4, "double"),
        _one("arrayValue", 5, "ArrayValue"),
        _one("kvlistValue", 6, "KeyValueList"),
        Field("bytesValue", 7, "base64"),
        Field("stringValueStrindex", 8, "int32"),
    ),
    "ArrayValue": (_many("values", 1, "AnyValue"),),
    "KeyValueList": (_many("values", 1, "KeyValue"),),
}

_TRACES: Final[dict[str, tuple[Field, ...]]] = {
    "ExportTraceServiceRequest": (_many("resourceSpans", 1, "ResourceSpans"),),
    "ResourceSpans": (
        _one("resource", 1, "Resource"),
        _many("scopeSpans", 2, "ScopeSpans"),
        Field("schemaUrl", 3, "string"),
    ),
    "ScopeSpans": (
        _one("scope", 1, "InstrumentationScope"),
        _many("spans", 2, "Span"),
        Field("schemaUrl", 3, "string"),
    ),
    "Span": (
        Field("traceId", 1, "id"),
        Field("spanId", 2, "id"),
        Field("traceState", 3, "string"),
        Field("parentSpanId", 4, "id"),
        Field("flags", 16, "fixed32"),
        Field("name", 5, "string"),
        Field("kind", 6, "enum"),
        Field("startTimeUnixNano", 7, "fixed64"),
        Field("endTimeUnixNano", 8, "fixed64"),
        _many("attributes", 9, "KeyValue"),
        Field("droppedAttributesCount", 10, "uint32"),
        _many("events", 11, "Event"),
        Field("droppedEventsCount", 12, "uint32"),
        _many("links", 13, "Link"),
        Field("droppedLinksCount", 14, "uint32"),
        _one("status", 15, "Status"),
    ),
    "Event": (
        Field("timeUnixNano", 1, "fixed64"),
        Field("name", 2, "string"),
        _many("attributes", 3, "KeyValue"),
        Field("droppedAttributesCount", 4, "uint32"),
    ),
    "Link": (
        Field("traceId", 1, "id"),
        Field("spanId", 2, "id"),
        Field("traceState", 3, "string"),
        _many("attributes", 4, "KeyValue"),
        Field("droppedAttributesCount", 5, "uint32"),
        Field("flags", 6, "fixed32"),
    ),
    "Status": (Field("message", 2, "string"), Field("code", 3, "enum")),
}

_LOGS: Final[dict[str, tuple[Field, ...]]] = {
    "ExportLogsServiceRequest": (_many("resourceLogs", 1, "ResourceLogs"),),
    "ResourceLogs": (
        _one("resource", 1, "Resource"),
        _many("scopeLogs", 2, "ScopeLogs"),
        Field("schemaUrl", 3, "string"),
    ),
    "ScopeLogs": (
        _one("scope", 1, "InstrumentationScope"),
        _many("logRecords", 2, "LogRecord"),
        Field("schemaUrl", 3, "string"),
    ),
    "LogRecord": (
        Field("timeUnixNano", 1, "fixed64"),
        Field("observedTimeUnixNano", 11, "fixed64"),
        Field("severityNumber", 2, "enum"),
        Field("severityText", 3, "string"),
        _one("body", 5, "AnyValue"),
        _many("attributes", 6, "KeyValue"),
        Field("droppedAttributesCount", 7, "uint32"),
        Field("flags", 8, "fixed32"),
        Field("traceId", 9, "id"),
        Field("spanId", 10, "id"),
        Field("eventName", 12, "string"),
    ),
}

_POINT_TIMES: Final = (
    Field("startTimeUnixNano", 2, "fixed64"),
    Field("timeUnixNano", 3, "fixed64"),
)

_METRICS: Final[dict[str, tuple[Field, ...]]] = {
    "ExportMetricsServiceRequest": (_many("resourceMetrics", 1, "ResourceMetrics"),),
    "ResourceMetrics": (
        _one("resource", 1, "Resource"),
        _many("scopeMetrics", 2, "ScopeMetrics"),
        Field("schemaUrl", 3, "string"),
    ),
    "ScopeMetrics": (
        _one("scope", 1, "InstrumentationScope"),
        _many("metrics", 2, "Metric"),
        Field("schemaUrl", 3, "string"),
    ),
    "Metric": (
        Field("name", 1, "string"),
        Field("description", 2, "string"),
        Field("unit", 3, "string"),
        _one("gauge", 5, "Gauge"),
        _one("sum", 7, "Sum"),
        _one("histogram", 9, "Histogram"),
        _one("exponentialHistogram", 10, "ExponentialHistogram"),
        _one("summary", 11, "Summary"),
        _many("metadata", 12, "KeyValue"),
    ),
    "Gauge": (_many("dataPoints", 1, "NumberDataPoint"),),
    "Sum": (
        _many("dataPoints", 1, "NumberDataPoint"),
        Field("aggregationTemporality", 2, "enum"),
        Field("isMonotonic", 3, "bool"),
    ),
    "Histogram": (
        _many("dataPoints", 1, "HistogramDataPoint"),
        Field("aggregationTemporality", 2, "enum"),
    ),
    "ExponentialHistogram": (
        _many("dataPoints", 1, "ExponentialHistogramDataPoint"),
        Field("aggregationTemporality", 2, "enum"),
    ),
    "Summary": (_many("dataPoints", 1, "SummaryDataPoint"),),
    "NumberDataPoint": (
        _many("attributes", 7, "KeyValue"),
        *_POINT_TIMES,
        Field("asDouble", 4, "double"),
        Field("asInt", 6, "sfixed64"),
        _many("exemplars", 5, "Exemplar"),
        Field("flags", 8, "uint32"),
    ),
    "HistogramDataPoint": (
        _many("attributes", 9, "KeyValue"),
        *_POINT_TIMES,
        Field("count", 4, "fixed64"),
        Field("sum", 5, "double"),
        _each("bucketCounts", 6, "fixed64"),
        _each("explicitBounds", 7, "double"),
        _many("exemplars", 8, "Exemplar"),
        Field("flags", 10, "uint32"),
        Field("min", 11, "double"),
        Field("max", 12, "double"),
    ),
    "ExponentialHistogramDataPoint": (
        _many("attributes", 1, "KeyValue"),
        *_POINT_TIMES,
        Field("count", 4, "fixed64"),
        Field("sum", 5, "double"),
        Field("scale", 6, "sint32"),
        Field("zeroCount", 7, "fixed64"),
        _one("positive", 8, "Buckets"),
        _one("negative", 9, "Buckets"),
        Field("flags", 10, "uint32"),
        _many("exemplars", 11, "Exemplar"),
        Field("min", 12, "double"),
        Field("max", 13, "double"),
        Field("zeroThreshold", 14, "double"),
    ),
    "Buckets": (
        Field("offset", 1, "sint32"),
        _each("bucketCounts", 2, "uint64"),
    ),
    "SummaryDataPoint": (
        _many("attributes", 7, "KeyValue"),
        *_POINT_TIMES,
        Field("count", 4, "fixed64"),
        Field("sum", 5, "double"),
        _many("quantileValues", 6, "ValueAtQuantile"),
        Field("flags", 8, "uint32"),
    ),
    "ValueAtQuantile": (Field("quantile", 1, "double"), Field("value", 2, "double")),
    "Exemplar": (
        _many("filteredAttributes", 7, "KeyValue"),
        Field("timeUnixNano", 2, "fixed64"),
        Field("asDouble", 3, "double"),
        Field("asInt", 6, "sfixed64"),
        Field("spanId", 4, "id"),
        Field("traceId", 5, "id"),
    ),
}

MESSAGES: Final[dict[str, tuple[Field, ...]]] = {**_COMMON, **_TRACES, **_LOGS, **_METRICS}
