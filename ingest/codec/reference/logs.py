"""Log records as rows of tf_logs."""

from typing import Any, Final

from ingest.codec.reference.items import Item, Row
from ingest.codec.reference.values import attributes, text

SEVERITY_NUMBER_MAX: Final = 24


def log_item(item: Item, origin: Row, record: Any) -> None:
    """Fills *item* from a LogRecord message, or raises Rejected."""
    sent = attributes(record.attributes)
    own = item.place_in_time(record.time_unix_nano or record.observed_time_unix_nano, sent)
    item.receipt.require_known(origin, sent)
    trace_id, span_id = correlation(item, record)
    severity = record.severity_number
    item.row = {
        **item.receipt.columns,
        **origin,
        "Timestamp": item.time_ns,
        "ObservedTimestamp": item.clamped(record.observed_time_unix_nano)
        or item.receipt.received_ns,
        "TraceId": trace_id,
        "SpanId": span_id,
        "Flags": record.flags,
        "SeverityText": record.severity_text,
        "SeverityNumber": severity if 0 <= severity <= SEVERITY_NUMBER_MAX else 0,
        "Body": text(record.body),
        "LogAttributes": own,
        "DroppedAttributesCount": record.dropped_attributes_count,
        "EventName": record.event_name,
    }


def correlation(item: Item, record: Any) -> tuple[bytes, bytes]:
    """Trace and span id, zero bytes for none; with an id that is none, the record stands alone."""
    trace_id = record.trace_id if any(record.trace_id) else bytes(16)
    span_id = record.span_id if any(record.span_id) else bytes(8)
    if len(trace_id) == 16 and len(span_id) == 8:
        return trace_id, span_id
    item.warnings["invalid_trace_id"] += 1
    return bytes(16), bytes(8)
