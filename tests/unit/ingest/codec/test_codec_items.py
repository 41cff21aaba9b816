"""Spans and log records: which are taken, which are rejected, and what time they get."""

from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from ingest.codec.tables import TABLES
from tests.unit.ingest.codec.twins import (
    DAY_NS,
    NOW_NS,
    RETENTION_DAYS,
    SPAN_ID,
    TENANT,
    TRACE_ID,
    Stored,
    stored,
)

ORIGINAL_TIME = "telemetryflow.original_time_unix_nano"
YEAR_2000_NS = 946_684_800 * 10**9
OLDEST_NS = NOW_NS - RETENTION_DAYS * DAY_NS


def traces(*spans: Span) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.extend(spans)
    return request


def span(**fields: Any) -> Span:
    return Span(
        **{
            "trace_id": TRACE_ID,
            "span_id": SPAN_ID,
            "start_time_unix_nano": NOW_NS,
            "end_time_unix_nano": NOW_NS + 5,
            **fields,
        }
    )


def log(**fields: Any) -> Stored:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    record.MergeFrom(type(record)(**fields))
    return stored("logs", request)


def test_C033_envelopes_without_items_are_taken() -> None:
    request = ExportMetricsServiceRequest()
    request.resource_metrics.add()
    scope = request.resource_metrics.add().scope_metrics.add()
    scope.metrics.add(name="no data")
    scope.metrics.add(name="no points").gauge.SetInParent()

    found = stored("metrics", request)

    assert (found.appended.accepted, found.appended.rejected, found.rows) == (0, {}, [])


def test_C034_the_number_of_rejected_items_is_exact() -> None:
    found = stored(
        "traces",
        traces(
            span(),
            span(trace_id=b""),
            span(trace_id=b"short"),
            span(span_id=bytes(8)),
            span(parent_span_id=b"x"),
            span(start_time_unix_nano=OLDEST_NS - 1),
            span(name="last"),
        ),
    )

    assert found.appended.accepted == len(found.rows) == 2
    assert found.appended.rejected == {
        "invalid_trace_id": 2,
        "invalid_span_id": 1,
        "invalid_parent_span_id": 1,
        "older_than_retention": 1,
    }
    assert [(one.first_row, one.rows) for one in found.appended.spans] == [(0, 2)]


def test_C035_of_metrics_data_points_are_counted() -> None:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add()
    for sent in (NOW_NS, OLDEST_NS - 1, NOW_NS, OLDEST_NS - DAY_NS, 0):
        metric.gauge.data_points.add(time_unix_nano=sent)

    found = stored("metrics", request)

    assert (found.appended.accepted, found.appended.rejected) == (3, {"older_than_retention": 2})


def test_C036_a_request_of_bad_items_is_decoded_and_all_are_rejected() -> None:
    found = stored("traces", traces(span(trace_id=b""), span(trace_id=bytes(16))))

    assert (found.appended.accepted, found.appended.rejected) == (0, {"invalid_trace_id": 2})
    assert (found.rows, found.appended.spans) == ([], ())


def test_C037_what_was_put_right_is_counted_and_nothing_is_rejected() -> None:
    found = log(time_unix_nano=1)

    assert (found.appended.accepted, found.appended.rejected) == (1, {})
    assert found.appended.warnings == {"clock_out_of_range": 1}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"trace_id": b""}, "invalid_trace_id"),
        ({"trace_id": bytes(16)}, "invalid_trace_id"),
        ({"trace_id": TRACE_ID[:15]}, "invalid_trace_id"),
        ({"trace_id": TRACE_ID + b"\x01"}, "invalid_trace_id"),
        ({"span_id": b""}, "invalid_span_id"),
        ({"span_id": bytes(8)}, "invalid_span_id"),
        ({"span_id": SPAN_ID[:7]}, "invalid_span_id"),
        ({"span_id": SPAN_ID + b"\x01"}, "invalid_span_id"),
        ({"parent_span_id": b"\x01"}, "invalid_parent_span_id"),
        ({"parent_span_id": SPAN_ID + bytes(1)}, "invalid_parent_span_id"),
        ({"trace_id": b"", "span_id": b"", "parent_span_id": b"x"}, "invalid_trace_id"),
        ({"span_id": b"", "start_time_unix_nano": OLDEST_NS - 1}, "invalid_span_id"),
    ],
)
def test_C071_a_span_with_an_id_that_is_none_is_rejected(
    fields: dict[str, Any], reason: str
) -> None:
    assert stored("traces", traces(span(**fields))).appended.rejected == {reason: 1}


@pytest.mark.parametrize("parent", [b"", bytes(8), bytes(3)])
def test_C071_no_parent_is_zero_bytes(parent: bytes) -> None:
    assert stored("traces", traces(span(parent_span_id=parent))).row["ParentSpanId"] == bytes(8)


@pytest.mark.parametrize(
    ("fields", "ids"),
    [
        ({}, (bytes(16), bytes(8))),
        ({"trace_id": TRACE_ID}, (TRACE_ID, bytes(8))),
        ({"span_id": SPAN_ID}, (bytes(16), SPAN_ID)),
        ({"trace_id": TRACE_ID, "span_id": SPAN_ID}, (TRACE_ID, SPAN_ID)),
        ({"trace_id": bytes(3), "span_id": bytes(30)}, (bytes(16), bytes(8))),
    ],
)
def test_C071_a_log_record_keeps_its_ids(
    fields: dict[str, bytes], ids: tuple[bytes, bytes]
) -> None:
    found = log(**fields)

    assert (found.row["TraceId"], found.row["SpanId"]) == ids
    assert found.appended.warnings == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"trace_id": TRACE_ID[:15], "span_id": SPAN_ID},
        {"trace_id": TRACE_ID, "span_id": SPAN_ID[:7]},
        {"trace_id": b"x", "span_id": b"y"},
    ],
)
def test_C071_a_log_record_with_an_id_that_is_none_stands_alone(fields: dict[str, bytes]) -> None:
    found = log(**fields)

    assert (found.row["TraceId"], found.row["SpanId"]) == (bytes(16), bytes(8))
    assert (found.appended.accepted, found.appended.warnings) == (1, {"invalid_trace_id": 1})


@pytest.mark.parametrize("raw", [b"", bytes(16), b"\x00\xab", TRACE_ID, b"\xff" * 20])
def test_C071_ids_of_links_are_hex_of_what_came(raw: bytes) -> None:
    one = span(links=[Span.Link(trace_id=raw, span_id=raw[:8])])
    row = stored("traces", traces(one)).row

    assert row["Links.TraceId"] == [raw.hex() if any(raw) else ""]
    assert row["Links.SpanId"] == [raw[:8].hex() if any(raw[:8]) else ""]


@pytest.mark.parametrize(
    ("sent", "stored_ns"),
    [
        (0, NOW_NS),
        (NOW_NS, NOW_NS),
        (NOW_NS - 1, NOW_NS - 1),
        (NOW_NS + DAY_NS, NOW_NS + DAY_NS),
        (OLDEST_NS, OLDEST_NS),
    ],
)
def test_C070_a_time_in_range_is_kept(sent: int, stored_ns: int) -> None:
    found = stored("traces", traces(span(start_time_unix_nano=sent)))

    assert (found.row["Timestamp"], found.row["SpanAttributes"]) == (stored_ns, {})
    assert found.appended.warnings == {}


@pytest.mark.parametrize(
    "sent", [1, YEAR_2000_NS - 1, NOW_NS + DAY_NS + 1, 2**63 - 1, 2**63, 2**64 - 1]
)
def test_C070_a_time_out_of_range_is_kept_as_an_attribute(sent: int) -> None:
    one = span(start_time_unix_nano=sent)
    one.attributes.add(key=ORIGINAL_TIME).value.string_value = "forged"
    one.attributes.add(key="z").value.string_value = "last"
    found = stored("traces", traces(one))

    assert found.row["Timestamp"] == NOW_NS
    assert list(found.row["SpanAttributes"].items()) == [(ORIGINAL_TIME, str(sent)), ("z", "last")]
    assert found.appended.warnings == {"clock_out_of_range": 1}


def test_C070_the_time_that_was_sent_stands_in_order_among_the_attributes() -> None:
    one = span(start_time_unix_nano=1)
    for key in ("zz", "a"):
        one.attributes.add(key=key)

    assert list(stored("traces", traces(one)).row["SpanAttributes"]) == ["a", ORIGINAL_TIME, "zz"]


def test_C037_what_was_put_right_is_counted_over_all_items() -> None:
    found = stored("traces", traces(span(), *[span(start_time_unix_nano=1)] * 3))

    assert found.appended.warnings == {"clock_out_of_range": 3}


def test_C070_older_than_retention_begins_at_a_nanosecond() -> None:
    assert log(time_unix_nano=OLDEST_NS).appended.accepted == 1
    assert log(time_unix_nano=OLDEST_NS - 1).appended.rejected == {"older_than_retention": 1}
    assert log(time_unix_nano=YEAR_2000_NS).appended.rejected == {"older_than_retention": 1}
    assert log(time_unix_nano=YEAR_2000_NS - 1).appended.accepted == 1


def test_C070_a_log_record_without_a_time_has_that_of_its_observation() -> None:
    row = log(observed_time_unix_nano=NOW_NS - 7).row

    assert (row["Timestamp"], row["ObservedTimestamp"]) == (NOW_NS - 7, NOW_NS - 7)


def test_C070_a_log_record_without_any_time_has_that_of_its_receipt() -> None:
    row = log(severity_text="INFO").row

    assert (row["Timestamp"], row["ObservedTimestamp"]) == (NOW_NS, NOW_NS)


def test_C070_an_observation_too_old_to_keep_is_rejected_as_the_time_would_be() -> None:
    found = log(observed_time_unix_nano=OLDEST_NS - 1)

    assert found.appended.rejected == {"older_than_retention": 1}


def test_C070_a_time_that_the_column_cannot_hold_is_not_wrapped() -> None:
    events = [Span.Event(time_unix_nano=sent) for sent in (0, 5, 2**63 - 1, 2**63, 2**64 - 1)]
    found = stored("traces", traces(span(events=events)))

    assert found.row["Events.Timestamp"] == [0, 5, 2**63 - 1, 2**63 - 1, 2**63 - 1]
    assert found.appended.warnings == {"clock_out_of_range": 2}


def test_C070_an_observation_beyond_the_column_is_counted_on_its_own() -> None:
    found = log(time_unix_nano=NOW_NS, observed_time_unix_nano=2**64 - 1)

    assert (found.row["Timestamp"], found.row["ObservedTimestamp"]) == (NOW_NS, 2**63 - 1)
    assert found.appended.warnings == {"clock_out_of_range": 1}


@pytest.mark.parametrize(
    ("start", "end", "duration"),
    [
        (NOW_NS, NOW_NS + 5, 5),
        (NOW_NS, NOW_NS, 0),
        (NOW_NS, NOW_NS - 1, 0),
        (NOW_NS, 0, 0),
        (0, NOW_NS, 0),
        (1, 2**64 - 1, 2**64 - 2),
    ],
)
def test_C070_a_duration_is_of_the_times_as_sent(start: int, end: int, duration: int) -> None:
    one = span(start_time_unix_nano=start, end_time_unix_nano=end)

    assert stored("traces", traces(one)).row["Duration"] == duration


@pytest.mark.parametrize(("number", "kept"), [(0, 0), (1, 1), (24, 24), (25, 0), (-1, 0), (256, 0)])
def test_C084_a_severity_is_one_of_24(number: int, kept: int) -> None:
    assert log(severity_number=number).row["SeverityNumber"] == kept


@pytest.mark.parametrize(
    ("code", "name"), [(0, "Unset"), (1, "Ok"), (2, "Error"), (3, "Unset"), (-1, "Unset")]
)
def test_C084_an_unknown_status_is_unset(code: Any, name: str) -> None:
    assert stored("traces", traces(span(status=Status(code=code)))).row["StatusCode"] == name


def request_with_every_field() -> Any:
    request = traces(
        span(
            trace_state="a=b",
            parent_span_id=b"parentid",
            flags=0x301,
            name="GET /",
            kind=Span.SPAN_KIND_CLIENT,
            dropped_attributes_count=1,
            dropped_events_count=2,
            dropped_links_count=3,
            status=Status(code=Status.STATUS_CODE_ERROR, message="no"),
            events=[Span.Event(name="e", time_unix_nano=9, dropped_attributes_count=4)],
            links=[Span.Link(trace_state="c=d", dropped_attributes_count=5, flags=0x100)],
        )
    )
    resource_spans = request.resource_spans[0]
    resource_spans.schema_url = "https://resource"
    resource_spans.resource.dropped_attributes_count = 6
    resource_spans.resource.attributes.add(key="service.name").value.string_value = "shop"
    scope_spans = resource_spans.scope_spans[0]
    scope_spans.schema_url = "https://scope"
    scope_spans.scope.name, scope_spans.scope.version = "library", "1.2"
    scope_spans.scope.dropped_attributes_count = 7
    return request


def test_C060_every_field_of_a_span_is_kept() -> None:
    row = stored("traces", request_with_every_field()).row

    assert list(row) == [name for name, _type in TABLES["tf_traces"]]
    assert {name: value for name, value in row.items() if value} == {
        "TenantId": TENANT,
        "RetentionDays": RETENTION_DAYS,
        "Timestamp": NOW_NS,
        "TraceId": TRACE_ID,
        "SpanId": SPAN_ID,
        "ParentSpanId": b"parentid",
        "TraceState": "a=b",
        "Flags": 0x301,
        "SpanName": "GET /",
        "SpanKind": "Client",
        "ServiceName": "shop",
        "ResourceSchemaUrl": "https://resource",
        "ResourceAttributes": {"service.name": "shop"},
        "ResourceDroppedAttrCount": 6,
        "ScopeSchemaUrl": "https://scope",
        "ScopeName": "library",
        "ScopeVersion": "1.2",
        "ScopeDroppedAttrCount": 7,
        "DroppedAttributesCount": 1,
        "Duration": 5,
        "StatusCode": "Error",
        "StatusMessage": "no",
        "Events.Timestamp": [9],
        "Events.Name": ["e"],
        "Events.Attributes": [{}],
        "Events.DroppedAttributesCount": [4],
        "DroppedEventsCount": 2,
        "Links.TraceId": [""],
        "Links.SpanId": [""],
        "Links.TraceState": ["c=d"],
        "Links.Attributes": [{}],
        "Links.DroppedAttributesCount": [5],
        "Links.Flags": [0x100],
        "DroppedLinksCount": 3,
    }


def test_C060_a_resource_without_a_service_does_not_inherit_one() -> None:
    request = traces(span())
    named = request.resource_spans[0].resource.attributes.add(key="service.name")
    named.value.int_value = 7
    request.resource_spans.add().scope_spans.add().spans.append(span())

    assert [row["ServiceName"] for row in stored("traces", request).rows] == ["7", ""]
