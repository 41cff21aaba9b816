"""Export requests of checks: every request has a service name of its own, to be found again by."""

import time
import uuid
from typing import Any, Final

from google.protobuf.message import Message
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from ingest.signals import Signal
from tests.unit.ingest.codec.otlp_json import REQUEST_OF_SIGNAL

DAY_NS: Final = 86_400 * 10**9
TRACE_ID: Final = bytes.fromhex("5b8efff798038103d269b633813fc60c")
SPAN_ID: Final = bytes.fromhex("eee19b7ec3c1b174")
# The names of what stands around the items of a request.
ENVELOPES: Final = {
    Signal.TRACES: ("resource_spans", "scope_spans", "spans"),
    Signal.METRICS: ("resource_metrics", "scope_metrics", "metrics"),
    Signal.LOGS: ("resource_logs", "scope_logs", "log_records"),
}


def new_service() -> str:
    """A service name that no other request has."""
    return f"check-{uuid.uuid4().hex}"


def request_of(signal: Signal, service: str, *names: str) -> Any:
    """A request with one good item for each of *names*."""
    request, items = envelope_of(signal, service)
    for name in names:
        add_item(signal, items, name)
    return request


def envelope_of(signal: Signal, service: str) -> tuple[Any, Any]:
    """A request without items, and the field that takes them."""
    resources, scopes, items = ENVELOPES[signal]
    request = REQUEST_OF_SIGNAL[signal]()
    resource = getattr(request, resources).add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    return request, getattr(getattr(resource, scopes).add(), items)


def add_item(signal: Signal, items: Any, name: str) -> Any:
    """A good item with an attribute; the span, log record or data point itself."""
    now_ns = time.time_ns()
    item: Any
    if signal is Signal.TRACES:
        item = items.add(name=name, trace_id=TRACE_ID, span_id=SPAN_ID, kind=2)
        item.start_time_unix_nano, item.end_time_unix_nano = now_ns, now_ns + 1_000
    elif signal is Signal.LOGS:
        item = items.add(time_unix_nano=now_ns, observed_time_unix_nano=now_ns, severity_number=9)
        item.body.string_value = name
    else:
        item = items.add(name=name).gauge.data_points.add(time_unix_nano=now_ns, as_double=1.5)
    item.attributes.add(key="check.kept").value.string_value = "yes"
    return item


def add_bad_item(signal: Signal, items: Any, name: str) -> None:
    """An item that can be decoded and not be stored."""
    item = add_item(signal, items, name)
    if signal is Signal.TRACES:
        item.trace_id = TRACE_ID[:15]
    elif signal is Signal.LOGS:
        item.time_unix_nano = time.time_ns() - 4_000 * DAY_NS
    else:
        metric: Metric = items[-1]
        point = metric.histogram.data_points.add(time_unix_nano=time.time_ns(), count=3)
        point.bucket_counts.extend([1, 1, 1])
        point.explicit_bounds.append(1.0)


def padded(message: Message, size_bytes: int) -> bytes:
    """*message* in exactly that many bytes: the rest is a field that no reader knows."""
    body = message.SerializeToString()
    for length_bytes in range(1, 5):
        # Field 1000 of wire type 2, its length as a varint of *length_bytes*.
        rest = size_bytes - len(body) - 2 - length_bytes
        if rest >= 0 and rest < 1 << 7 * length_bytes:
            length = bytearray(
                (rest >> 7 * place & 0x7F) | 0x80 * (place < length_bytes - 1)
                for place in range(length_bytes)
            )
            return body + b"\xc2\x3e" + bytes(length) + bytes(rest)
    raise AssertionError(f"{size_bytes} bytes are too few or too many")
