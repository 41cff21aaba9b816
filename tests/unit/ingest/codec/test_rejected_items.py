"""What both codecs tell about items that they reject: what those were, and no values of theirs."""

from typing import Any

import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingest.codec import Appended, Encoder
from ingest.codec.cardinality import Guard
from ingest.codec.reference import Encoder as ReferenceEncoder
from ingest.codec.reference.cardinality import Guard as ReferenceGuard
from ingest.codec.results import (
    REJECTED_ITEMS_MAX,
    REJECTED_KEYS_MAX,
    REJECTED_TEXT_CHARACTERS_MAX,
    RejectedItem,
)
from tests.unit.ingest.codec.twins import (
    DAY_NS,
    NOW_NS,
    RETENTION_DAYS,
    SPAN_ID,
    TENANT,
    TRACE_ID,
    stored,
)

SECRET = "hunter2 hunter2"
TOO_OLD_NS = NOW_NS - (RETENTION_DAYS + 1) * DAY_NS
BLOCK_BYTES = 100_000


def described(request: Message) -> tuple[RejectedItem, ...]:
    """What both codecs tell of it."""
    return stored("traces", request).appended.samples


def traces(*trace_ids: bytes, name: str = "GET /") -> ExportTraceServiceRequest:
    """A span of each trace."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "checkout"
    spans = resource.scope_spans.add().spans
    for trace_id in trace_ids:
        span = spans.add(name=name, trace_id=trace_id, span_id=SPAN_ID)
        span.start_time_unix_nano = NOW_NS
        span.attributes.add(key="password").value.string_value = SECRET
    return request


def test_a_rejected_span_is_told_without_its_values() -> None:
    assert described(traces(TRACE_ID, b"short")) == (
        RejectedItem(
            *("invalid_trace_id", "checkout", "GET /", b"short".hex(), SPAN_ID.hex()),
            *(NOW_NS, ("password",)),
        ),
    )


@pytest.mark.parametrize("observed", [False, True])
def test_a_rejected_log_record_is_told_with_the_time_that_it_has(observed: bool) -> None:
    request = ExportLogsServiceRequest()
    record = (
        request.resource_logs.add()
        .scope_logs.add()
        .log_records.add(event_name="login", trace_id=TRACE_ID, span_id=b"odd")
    )
    record.body.string_value = SECRET
    record.attributes.add(key="user")
    if observed:
        record.observed_time_unix_nano = TOO_OLD_NS
    else:
        record.time_unix_nano = TOO_OLD_NS
        record.observed_time_unix_nano = NOW_NS

    assert stored("logs", request).appended.samples == (
        RejectedItem(
            *("older_than_retention", "", "login", TRACE_ID.hex(), b"odd".hex()),
            *(TOO_OLD_NS, ("user",)),
        ),
    )


@pytest.mark.parametrize("kind", ["gauge", "sum", "histogram", "exponential_histogram", "summary"])
def test_a_rejected_point_is_told_by_its_metric(kind: str) -> None:
    request = ExportMetricsServiceRequest()
    metrics: Any = request.resource_metrics.add().scope_metrics.add().metrics
    for name in ("latency", "load"):
        point = getattr(metrics.add(name=name), kind).data_points.add(time_unix_nano=TOO_OLD_NS)
        point.attributes.add(key="host").value.string_value = SECRET

    assert stored("metrics", request).appended.samples == tuple(
        RejectedItem("older_than_retention", "", name, "", "", TOO_OLD_NS, ("host",))
        for name in ("latency", "load")
    )


def test_a_few_of_each_reason_are_told_in_the_order_in_which_they_came() -> None:
    request = traces(*[b"short"] * (REJECTED_ITEMS_MAX + 1), name="first")
    request.resource_spans[0].scope_spans[0].spans[2].trace_id = TRACE_ID
    request.resource_spans[0].scope_spans[0].spans[2].span_id = b""
    request.MergeFrom(traces(*[b"short"] * 3, name="behind"))

    told = [(one.reason, one.name) for one in described(request)]

    long, odd = ("invalid_trace_id", "first"), ("invalid_span_id", "first")
    assert told == [long, long, odd, long, long, long]


def test_texts_and_keys_are_cut_between_characters() -> None:
    for name in ("é" * 300, "a" + "\U0001f600" * 200, "x" * REJECTED_TEXT_CHARACTERS_MAX):
        request = traces(b"y" * 500, name=name)
        span = request.resource_spans[0].scope_spans[0].spans[0]
        for number in range(2 * REJECTED_KEYS_MAX):
            span.attributes.add(key=f"{number}{name}")
        (told,) = described(request)
        assert told.name == name[:REJECTED_TEXT_CHARACTERS_MAX]
        assert told.trace_id == (b"y" * 500).hex()[:REJECTED_TEXT_CHARACTERS_MAX]
        assert len(told.keys) == REJECTED_KEYS_MAX
        assert told.keys[1] == f"0{name}"[:REJECTED_TEXT_CHARACTERS_MAX]


def test_a_text_that_is_not_utf8_is_told_repaired() -> None:
    body = traces(b"short", name="name").SerializeToString().replace(b"name", b"n\xffme")
    assert [one.name for one in stored("traces", body).appended.samples] == ["n\ufffdme"]


def test_resources_of_another_tenant_are_told_item_by_item() -> None:
    request = traces(TRACE_ID)
    tenant = request.resource_spans[0].resource.attributes.add(key="telemetryflow.tenant.id")
    tenant.value.string_value = "umbrella"
    assert [one.reason for one in described(request)] == ["tenant_contradiction"]


def limited(body: bytes, signal: str = "traces", **limits: int) -> Appended:
    """What both codecs tell where blocks or guards are small."""
    twins: tuple[tuple[Any, Any], ...] = ((Encoder, Guard), (ReferenceEncoder, ReferenceGuard))
    told = []
    for encoder_class, guard_class in twins:
        encoder = encoder_class(signal, retention_days=RETENTION_DAYS, block_bytes_max=BLOCK_BYTES)
        guard = guard_class(**limits) if limits else None
        told.append(encoder.append(body, tenant=TENANT, received_ns=NOW_NS, guard=guard))
    one, other = told
    assert one.samples == other.samples
    appended: Appended = one
    return appended


def test_an_item_that_no_block_has_room_for_is_told_wherever_it_stands() -> None:
    request = traces(*[TRACE_ID] * 300)
    spans = request.resource_spans[0].scope_spans[0].spans
    for place in (0, 150, 299):
        spans[place].name = f"large {place}"
        spans[place].attributes.add(key="blob").value.string_value = "x" * BLOCK_BYTES
    body = request.SerializeToString()

    told = limited(body)

    assert told.rejected == {"item_too_large": 3}
    assert [one.name for one in told.samples] == ["large 0", "large 150", "large 299"]
    assert told.samples[0].keys == ("password", "blob")
    assert told.samples[0].service == "checkout"


def test_the_last_item_of_a_large_request_is_told_as_the_first_would_be() -> None:
    request = traces(*[TRACE_ID] * 20_000, b"short")
    body = request.SerializeToString()
    assert len(body) > 1 << 20
    told = Encoder("traces", retention_days=RETENTION_DAYS).append(
        body, tenant=TENANT, received_ns=NOW_NS
    )
    assert [one.trace_id for one in told.samples] == [b"short".hex()]


def test_L04_what_a_guard_rejects_is_told() -> None:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="exploding")
    for host in "abc":
        point = metric.gauge.data_points.add(time_unix_nano=NOW_NS)
        point.attributes.add(key="host").value.string_value = host
    told = limited(request.SerializeToString(), "metrics", series_max=1)
    assert told.rejected == {"too_many_new_series": 2}
    assert [(one.reason, one.name, one.keys) for one in told.samples] == [
        ("too_many_new_series", "exploding", ("host",))
    ] * 2
