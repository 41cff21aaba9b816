"""Rejected items as they are told: what they were, and no values of theirs."""

from typing import Any

from ingest.codec.reference.items import Row
from ingest.codec.reference.metrics import Point
from ingest.codec.results import (
    REJECTED_KEYS_MAX,
    REJECTED_TEXT_CHARACTERS_MAX,
    RejectedItem,
)


def rejected_item(
    reason: str, *, origin: Row, span: Any = None, record: Any = None, one: Point | None = None
) -> RejectedItem:
    """The description of a span, a log record or a data point."""
    trace_id = span_id = b""
    if one is not None:
        item, name, sent_ns = one.point, one.metric.name, one.point.time_unix_nano
    elif span is not None:
        item, name, sent_ns = span, span.name, span.start_time_unix_nano
    else:
        item, name = record, record.event_name
        sent_ns = record.time_unix_nano or record.observed_time_unix_nano
    if one is None:
        trace_id, span_id = item.trace_id, item.span_id
    keys = (attribute.key for attribute in item.attributes[:REJECTED_KEYS_MAX])
    service, name, trace, own = map(
        _cut, (origin["ServiceName"], name, trace_id.hex(), span_id.hex())
    )
    return RejectedItem(reason, service, name, trace, own, sent_ns, tuple(map(_cut, keys)))


def _cut(text: str) -> str:
    return text[:REJECTED_TEXT_CHARACTERS_MAX]
