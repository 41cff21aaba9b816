"""Views in the shape of the OpenTelemetry ClickHouse exporter, for the tools that know it.

The same views exist for all tenants (with `TenantId`, in the product's database) and for each
tenant alone (database `tenant_<id>`). Columns that the exporter has come first, under its names and
conventions; ours follow. Id expressions are written exactly as the tables' indices are, or a
filter on the view would not use the index.
"""

from typing import Final

from shared.directory import TENANT_NAME
from shared.errors import Invalid

_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16
_LOG_TRACE_ID: Final = (
    f"if(lower(hex(TraceId)) = '{_NO_TRACE}', '', lower(hex(TraceId))) AS TraceId"
)


def _span_id(column: str) -> str:
    return f"if(lower(hex({column})) = '{_NO_SPAN}', '', lower(hex({column}))) AS {column}"


_ORIGIN_EXTRAS: Final = "ResourceDroppedAttrCount, ResourceEntityRefs"
_TRACES: Final = (
    f"Timestamp, lower(hex(TraceId)) AS TraceId, {_span_id('SpanId')}, "
    f"{_span_id('ParentSpanId')}, TraceState, SpanName, SpanKind, ServiceName, "
    "ResourceAttributes, ScopeName, ScopeVersion, SpanAttributes, Duration, StatusCode, "
    "StatusMessage, `Events.Timestamp`, `Events.Name`, `Events.Attributes`, `Links.TraceId`, "
    "`Links.SpanId`, `Links.TraceState`, `Links.Attributes`, Flags, ResourceSchemaUrl, "
    f"ScopeSchemaUrl, ScopeAttributes, ScopeDroppedAttrCount, {_ORIGIN_EXTRAS}, "
    "DroppedAttributesCount, `Events.DroppedAttributesCount`, DroppedEventsCount, "
    "`Links.DroppedAttributesCount`, `Links.Flags`, DroppedLinksCount"
)
_LOGS: Final = (
    f"Timestamp, toDateTime(Timestamp) AS TimestampTime, {_LOG_TRACE_ID}, {_span_id('SpanId')}, "
    "toUInt8(bitAnd(Flags, 255)) AS TraceFlags, SeverityText, SeverityNumber, ServiceName, Body, "
    "ResourceSchemaUrl, ResourceAttributes, ScopeSchemaUrl, ScopeName, ScopeVersion, "
    "ScopeAttributes, LogAttributes, EventName, ObservedTimestamp, Flags, ScopeDroppedAttrCount, "
    f"{_ORIGIN_EXTRAS}, DroppedAttributesCount"
)
_METRIC: Final = "* EXCEPT (TenantId, RetentionDays, SeriesHash)"
# The exporter and HyperDX call the table of exponential histograms by different names.
_METRIC_VIEWS: Final = {
    "otel_metrics_gauge": "tf_metrics_gauge",
    "otel_metrics_sum": "tf_metrics_sum",
    "otel_metrics_histogram": "tf_metrics_histogram",
    "otel_metrics_exp_histogram": "tf_metrics_exponential_histogram",
    "otel_metrics_exponential_histogram": "tf_metrics_exponential_histogram",
    "otel_metrics_summary": "tf_metrics_summary",
}
_VIEWS: Final = {
    "otel_traces": ("tf_traces", _TRACES),
    "otel_logs": ("tf_logs", _LOGS),
    **{view: (table, _METRIC) for view, table in _METRIC_VIEWS.items()},
    "rejected_items": ("tf_rejected", "* EXCEPT (TenantId)"),
}
# tf_trace_ts knows traces by their hash only, and tools ask by TraceId: the spans answer, through
# the index on the id.
_TRACE_TIMES: Final = (
    "lower(hex(TraceId)) AS TraceId, toDateTime(min(Timestamp)) AS Start, "
    "toDateTime(max(Timestamp)) AS End"
)


def tenant_database(tenant_id: str) -> str:
    """Name of the database of a tenant's views; Invalid for an id that no tenant can have."""
    if not TENANT_NAME.fullmatch(tenant_id):
        raise Invalid(f"{tenant_id!r} is not a tenant id")
    return f"tenant_{tenant_id}"


def views_of_all(database: str) -> list[str]:
    """Statements that make the views of all tenants, in the database of the tables."""
    return [
        *(
            _view(f"{database}.{view}", f"TenantId, {columns}", f"{database}.{table}")
            for view, (table, columns) in _VIEWS.items()
        ),
        _view(
            f"{database}.otel_traces_trace_id_ts",
            f"TenantId, {_TRACE_TIMES}",
            f"{database}.tf_traces GROUP BY TenantId, TraceId",
        ),
    ]


def views_of_tenant(database: str, tenant_id: str) -> list[str]:
    """Statements that make the database and the views of one tenant."""
    own = f"`{tenant_database(tenant_id)}`"
    only = f"WHERE TenantId = '{tenant_id}'"
    return [
        f"CREATE DATABASE IF NOT EXISTS {own} ENGINE = Atomic",
        *(
            _view(f"{own}.{view}", columns, f"{database}.{table} {only}")
            for view, (table, columns) in _VIEWS.items()
        ),
        _view(
            f"{own}.otel_traces_trace_id_ts",
            _TRACE_TIMES,
            f"{database}.tf_traces {only} GROUP BY TraceId",
        ),
    ]


def _view(name: str, columns: str, source: str) -> str:
    return f"CREATE OR REPLACE VIEW {name} AS SELECT {columns} FROM {source}"  # noqa: S608
