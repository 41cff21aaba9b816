"""Spans as rows of tf_traces."""

from typing import Any, Final

from ingest.codec.reference.items import Item, Rejected, Row, hex_id
from ingest.codec.reference.values import attributes

SPAN_KINDS: Final = ("Unspecified", "Internal", "Server", "Client", "Producer", "Consumer")
STATUS_CODES: Final = ("Unset", "Ok", "Error")


def span_item(item: Item, origin: Row, span: Any) -> None:
    """Fills *item* from a Span message, or raises Rejected."""
    parent = checked_parent_id(span)
    sent = attributes(span.attributes)
    own = item.place_in_time(span.start_time_unix_nano, sent)
    item.receipt.require_known(origin, sent)
    item.row = {
        **item.receipt.columns,
        **origin,
        "Timestamp": item.time_ns,
        "TraceId": span.trace_id,
        "SpanId": span.span_id,
        "ParentSpanId": parent,
        "TraceState": span.trace_state,
        "Flags": span.flags,
        "SpanName": span.name,
        "SpanKind": name_of(span.kind, SPAN_KINDS),
        "SpanAttributes": own,
        "DroppedAttributesCount": span.dropped_attributes_count,
        "Duration": duration_ns(span.start_time_unix_nano, span.end_time_unix_nano),
        "StatusCode": name_of(span.status.code, STATUS_CODES),
        "StatusMessage": span.status.message,
        **event_columns(item, span),
        **link_columns(span),
    }


def checked_parent_id(span: Any) -> bytes:
    """The parent's id, eight zero bytes for a root. Raises Rejected for any id that is none."""
    if len(span.trace_id) != 16 or not any(span.trace_id):
        raise Rejected("invalid_trace_id")
    if len(span.span_id) != 8 or not any(span.span_id):
        raise Rejected("invalid_span_id")
    if not any(span.parent_span_id):
        return bytes(8)
    if len(span.parent_span_id) != 8:
        raise Rejected("invalid_parent_span_id")
    parent: bytes = span.parent_span_id
    return parent


def name_of(number: int, names: tuple[str, ...]) -> str:
    """The name of an enum's number; a number that is unknown counts as 0."""
    return names[number] if 0 <= number < len(names) else names[0]


def duration_ns(start: int, end: int) -> int:
    """0 when the span never ended, ended before it began, or has no beginning."""
    return end - start if start and end > start else 0


def event_columns(item: Item, span: Any) -> Row:
    """The nested columns of a span's events."""
    return {
        "Events.Timestamp": [item.clamped(event.time_unix_nano) for event in span.events],
        "Events.Name": [event.name for event in span.events],
        "Events.Attributes": [attributes(event.attributes) for event in span.events],
        "Events.DroppedAttributesCount": [event.dropped_attributes_count for event in span.events],
        "DroppedEventsCount": span.dropped_events_count,
    }


def link_columns(span: Any) -> Row:
    """The nested columns of a span's links."""
    return {
        "Links.TraceId": [hex_id(link.trace_id) for link in span.links],
        "Links.SpanId": [hex_id(link.span_id) for link in span.links],
        "Links.TraceState": [link.trace_state for link in span.links],
        "Links.Attributes": [attributes(link.attributes) for link in span.links],
        "Links.DroppedAttributesCount": [link.dropped_attributes_count for link in span.links],
        "Links.Flags": [link.flags for link in span.links],
        "DroppedLinksCount": span.dropped_links_count,
    }
