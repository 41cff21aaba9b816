"""Requests whose items each carry an id of their own, made by patching a few templates.

The id of an item is its number in the run, ten digits in the attribute `tf.test.id`; the run is the
service's name, and the resource says which tenant sent it.
"""

import time
from functools import lru_cache
from typing import Final, NamedTuple

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

SIGNALS: Final = ("traces", "logs", "metrics")
DIGITS: Final = 10
ID_ATTRIBUTE: Final = "tf.test.id"
TENANT_ATTRIBUTE: Final = "tf.test.tenant"
_MARK: Final = b"#" * DIGITS


class _Template(NamedTuple):
    content: bytes
    places: tuple[int, ...]


def body(signal: str, run: str, tenant: str, first: int, items: int) -> bytes:
    """An export request with the items of numbers *first* to *first* + *items* - 1."""
    template = _template(signal, run, tenant, items, int(time.time()) // 60)
    content = bytearray(template.content)
    for number, place in enumerate(template.places, first):
        content[place : place + DIGITS] = b"%0*d" % (DIGITS, number)
    return bytes(content)


@lru_cache(maxsize=200)
def _template(signal: str, run: str, tenant: str, items: int, minute: int) -> _Template:
    now_ns = minute * 60 * 10**9
    resource = Resource(attributes=[_text("service.name", run), _text(TENANT_ATTRIBUTE, tenant)])
    mark = [_text(ID_ATTRIBUTE, _MARK.decode()), _text("http.route", "/api/v1/products/{id}")]
    request: ExportTraceServiceRequest | ExportLogsServiceRequest | ExportMetricsServiceRequest
    if signal == "traces":
        request = ExportTraceServiceRequest()
        scope_spans = request.resource_spans.add(resource=resource).scope_spans.add()
        for number in range(1, items + 1):
            scope_spans.spans.add(
                trace_id=number.to_bytes(16, "big"),
                span_id=number.to_bytes(8, "big"),
                name="GET /api/v1/products/{id}",
                start_time_unix_nano=now_ns,
                end_time_unix_nano=now_ns + 1_000_000,
                attributes=mark,
            )
    elif signal == "logs":
        request = ExportLogsServiceRequest()
        scope_logs = request.resource_logs.add(resource=resource).scope_logs.add()
        for _number in range(items):
            scope_logs.log_records.add(
                time_unix_nano=now_ns, attributes=mark
            ).body.string_value = "cart 42 was checked out"
    else:
        request = ExportMetricsServiceRequest()
        metric = request.resource_metrics.add(resource=resource).scope_metrics.add().metrics.add()
        metric.name = "queue.length"
        for _number in range(items):
            metric.gauge.data_points.add(time_unix_nano=now_ns, as_int=1, attributes=mark)
    content = request.SerializeToString()
    places = []
    at = content.find(_MARK)
    while at >= 0:
        places.append(at)
        at = content.find(_MARK, at + DIGITS)
    assert len(places) == items
    return _Template(content, tuple(places))


def _text(key: str, value: str) -> KeyValue:
    pair = KeyValue(key=key)
    pair.value.string_value = value
    return pair
