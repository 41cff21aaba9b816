"""What can be asked for: tables, the fields of each signal, and attributes.

Names of the API are looked up here, and only what stands here gets into SQL as an identifier; the
key of an attribute is a value.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from shared.clickhouse.columns import columns_of
from shared.clickhouse.migrate import migrations
from shared.errors import Invalid, NotFound

METRIC_TABLES: Final = {
    "gauge": "tf_metrics_gauge",
    "sum": "tf_metrics_sum",
    "histogram": "tf_metrics_histogram",
    "exponential_histogram": "tf_metrics_exponential_histogram",
    "summary": "tf_metrics_summary",
}
# When a trace was, by a hash of tenant and trace.
TRACE_TIMES: Final = "tf_trace_ts"
_READ: Final = frozenset(
    (
        TRACE_TIMES,
        *("tf_traces", "tf_logs", *METRIC_TABLES.values()),
        *("tf_red_1m", "tf_ops_5m", "tf_services", "tf_log_volume_1m"),
        *("tf_attr_keys", "tf_attr_values", "tf_metric_names", "tf_metric_series"),
    )
)
# Tables that are read here, with their columns.
TABLES: Final = {
    table: frozenset(columns)
    for migration in migrations()
    for table, columns in columns_of(migration.text).items()
    if table in _READ
}
KEY_CHARACTERS_MAX: Final = 200
_NO_ID: Final = {32: "0" * 32, 16: "0" * 16}
_HEX: Final = re.compile(r"[0-9a-fA-F]+")


# As OTLP numbers them, from 0.
KINDS: Final = ("Unspecified", "Internal", "Server", "Client", "Producer", "Consumer")
STATUSES: Final = ("Unset", "Ok", "Error")


@dataclass(frozen=True, slots=True)
class Field:
    """A column as the API names it; *kind* decides which comparisons it takes.

    *words*: all that it can be, where these are a few.
    """

    expression: str
    kind: str  # text, number, id
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attributes:
    """A map of attributes; *is_indexed*: a bloom filter over its values prunes."""

    column: str
    is_indexed: bool = False

    @property
    def values(self) -> str:
        """The values without their keys, as the column keeps them."""
        return f"`{self.column}.values`"


@dataclass(frozen=True, slots=True)
class Source:
    """A signal: where its items are, and what can be asked about them."""

    table: str
    time_column: str
    fields: dict[str, Field]
    attributes: dict[str, Attributes]


def _id(column: str, digits: int) -> str:
    # The expression of the index, letter for letter.
    return f"if(lower(hex({column})) = '{_NO_ID[digits]}', '', lower(hex({column})))"


_ORIGIN: Final = {
    "service": Field("ServiceName", "text"),
    "scopeName": Field("ScopeName", "text"),
    "scopeVersion": Field("ScopeVersion", "text"),
}
_ORIGIN_ATTRIBUTES: Final = {
    "resource": Attributes("ResourceAttributes"),
    "scope": Attributes("ScopeAttributes"),
}
TRACES: Final = Source(
    "tf_traces",
    "Timestamp",
    {
        **_ORIGIN,
        "operation": Field("SpanName", "text"),
        "kind": Field("SpanKind", "text", KINDS),
        "status": Field("StatusCode", "text", STATUSES),
        "statusMessage": Field("StatusMessage", "text"),
        "durationNs": Field("Duration", "number"),
        "traceId": Field("lower(hex(TraceId))", "id"),
        "spanId": Field("lower(hex(SpanId))", "id"),
        "parentSpanId": Field(_id("ParentSpanId", 16), "id"),
    },
    {**_ORIGIN_ATTRIBUTES, "attributes": Attributes("SpanAttributes", is_indexed=True)},
)
LOGS: Final = Source(
    "tf_logs",
    "Timestamp",
    {
        **_ORIGIN,
        "body": Field("Body", "text"),
        "severityText": Field("SeverityText", "text"),
        "severityNumber": Field("SeverityNumber", "number"),
        "eventName": Field("EventName", "text"),
        "traceId": Field(_id("TraceId", 32), "id"),
        "spanId": Field(_id("SpanId", 16), "id"),
    },
    {**_ORIGIN_ATTRIBUTES, "attributes": Attributes("LogAttributes", is_indexed=True)},
)
METRICS: Final = {
    kind: Source(
        table,
        "TimeUnix",
        {**_ORIGIN, "metricName": Field("MetricName", "text"), "unit": Field("MetricUnit", "text")},
        {**_ORIGIN_ATTRIBUTES, "attributes": Attributes("Attributes")},
    )
    for kind, table in METRIC_TABLES.items()
}


def of_given_type(metric: str, given: str | None, kinds: Collection[str]) -> None:
    """NotFound when no metric of that name, or none of the *given* type, is among *kinds*."""
    if not kinds:
        raise NotFound(f"no metric {metric!r}: see /telemetry/metrics/names")
    if given is not None and given not in kinds:
        raise NotFound(f"no metric {metric!r} of type {given}: it is {' and '.join(kinds)}")


def attribute_of(source: Source, name: str) -> tuple[Attributes, str] | None:
    """The map and the key that a name such as `attributes.http.route` means."""
    prefix, dot, key = name.partition(".")
    if not dot or prefix not in source.attributes:
        return None
    if not 0 < len(key) <= KEY_CHARACTERS_MAX:
        raise Invalid(f"the key of an attribute has 1 to {KEY_CHARACTERS_MAX} characters")
    return source.attributes[prefix], key


def field_of(source: Source, name: str) -> Field:
    """The column of that name; Invalid tells which there are."""
    if name not in source.fields:
        prefixes = ", ".join(f"{prefix}.<key>" for prefix in source.attributes)
        raise Invalid(f"no field {name!r}: use {', '.join(source.fields)}, {prefixes}")
    return source.fields[name]


def hex_id(text: str, digits: int) -> str:
    """A trace id (32 digits) or span id (16), in lower case; Invalid when it is none."""
    if len(text) != digits or not _HEX.fullmatch(text):
        raise Invalid(f"an id has {digits} hexadecimal digits")
    return text.lower()
