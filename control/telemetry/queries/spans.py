"""Spans as rows, and as answers show them."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import Field

from control.telemetry.queries.catalogue import TRACES, field_of
from control.telemetry.queries.sql import Part
from control.telemetry.queries.time_range import iso
from shared.http.models import View

_PARENT: Final = field_of(TRACES, "parentSpanId").expression
# What a waterfall needs.
SPAN: Final[Mapping[str, Part]] = {
    "start_ns": "toUnixTimestamp64Nano(Timestamp)",
    "trace": "lower(hex(TraceId))",
    "span": "lower(hex(SpanId))",
    "parent": _PARENT,
    "service": "ServiceName",
    "operation": "SpanName",
    "kind": "SpanKind",
    "status": "StatusCode",
    "status_message": "StatusMessage",
    "duration_ns": "Duration",
}
ATTRIBUTES: Final[Mapping[str, Part]] = {
    "attributes": "SpanAttributes",
    "resource": "ResourceAttributes",
    "scope_name": "ScopeName",
    "scope_version": "ScopeVersion",
    "event_times": "arrayMap(x -> toUnixTimestamp64Nano(x), `Events.Timestamp`)",
    "event_names": "`Events.Name`",
    "event_attributes": "`Events.Attributes`",
    "link_traces": "`Links.TraceId`",
    "link_spans": "`Links.SpanId`",
    "link_states": "`Links.TraceState`",
    "link_attributes": "`Links.Attributes`",
}
# What OTLP has besides.
REST: Final[Mapping[str, Part]] = {
    "trace_state": "TraceState",
    "flags": "Flags",
    "resource_schema_url": "ResourceSchemaUrl",
    "resource_dropped": "ResourceDroppedAttrCount",
    "resource_entities": "ResourceEntityRefs",
    "scope_schema_url": "ScopeSchemaUrl",
    "scope_attributes": "ScopeAttributes",
    "scope_dropped": "ScopeDroppedAttrCount",
    "dropped_attributes": "DroppedAttributesCount",
    "dropped_events": "DroppedEventsCount",
    "dropped_links": "DroppedLinksCount",
    "event_dropped": "`Events.DroppedAttributesCount`",
    "link_dropped": "`Links.DroppedAttributesCount`",
    "link_flags": "`Links.Flags`",
}


class EventView(View):
    """Something that happened during a span."""

    time: str
    name: str
    attributes: dict[str, str]


class LinkView(View):
    """A span of this or another trace that has to do with it."""

    trace_id: str
    span_id: str
    attributes: dict[str, str]


class SpanView(View):
    """A span; attributes, events and links are empty where they were not asked for."""

    trace_id: str
    span_id: str
    parent_span_id: str = Field(description="empty for a root")
    service: str
    operation: str
    kind: str
    status: str = Field(examples=["Error"])
    status_message: str
    start_time: str
    duration_ns: int
    attributes: dict[str, str] = Field(default_factory=dict)
    resource_attributes: dict[str, str] = Field(default_factory=dict)
    events: list[EventView] = Field(default_factory=list)
    links: list[LinkView] = Field(default_factory=list)


def span_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `SpanView`, or of what is made of one."""
    found = {
        "trace_id": row["trace"],
        "span_id": row["span"],
        "parent_span_id": row["parent"],
        "service": row["service"],
        "operation": row["operation"],
        "kind": row["kind"],
        "status": row["status"],
        "status_message": row["status_message"],
        "start_time": iso(row["start_ns"]),
        "duration_ns": row["duration_ns"],
    }
    if "attributes" not in row:
        return found
    events = zip(row["event_times"], row["event_names"], row["event_attributes"], strict=True)
    links = zip(row["link_traces"], row["link_spans"], row["link_attributes"], strict=True)
    return found | {
        "attributes": row["attributes"],
        "resource_attributes": row["resource"],
        "events": [
            EventView(time=iso(time_ns), name=name, attributes=attributes)
            for time_ns, name, attributes in events
        ],
        "links": [
            LinkView(trace_id=trace, span_id=span, attributes=attributes)
            for trace, span, attributes in links
        ],
    }
