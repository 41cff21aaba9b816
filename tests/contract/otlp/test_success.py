"""Success, in full and in part (OTLP: Full Success, Partial Success)."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from ingest.signals import Signal
from tests.contract.otlp.endpoint import Endpoint
from tests.contract.otlp.payloads import (
    ENVELOPES,
    SPAN_ID,
    TRACE_ID,
    add_bad_item,
    add_item,
    envelope_of,
    new_service,
    request_of,
)
from tests.contract.otlp.senders import REJECTED_OF, GrpcSender, HttpSender, Sender, in_full
from tests.contract.raw_http import JSON
from tests.unit.ingest.codec.otlp_json import REQUEST_OF_SIGNAL

UNSET = {"http-protobuf": b"", "http-json": b"{}"}


@pytest.mark.otlp("MUST")
def test_C002_C003_C031_full_success_leaves_partial_success_unset(
    sender: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    service = new_service()
    reply = sender.send(signal, request_of(signal, service, "a", "b"))
    response = sender.response(signal, reply)
    # Not even an empty message: that would be set.
    assert not response.HasField("partial_success"), reply
    if endpoint.is_ours:
        assert reply.body == UNSET.get(sender.name, b"")
    kept = {"attributes": {"check.kept": "yes"}, "resource": {"service.name": service}}
    endpoint.check_arrived(signal, service, {"name": "a", **kept}, {"name": "b", **kept})


@pytest.mark.otlp("SHOULD")
def test_C032_an_empty_request_succeeds(sender: Sender, signal: Signal, endpoint: Endpoint) -> None:
    reply = sender.send(signal, REQUEST_OF_SIGNAL[signal]())
    assert in_full(sender.response(signal, reply))


@pytest.mark.otlp("SHOULD")
def test_C033_envelopes_without_items_succeed(
    sender: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    service = new_service()
    request, _ = envelope_of(signal, service)
    # A resource without scopes beside a scope without items.
    getattr(request, ENVELOPES[signal][0]).add()
    response = sender.response(signal, sender.send(signal, request))
    assert in_full(response)
    endpoint.check_arrived(signal, service)


def test_C034_C036_C038_C040_of_bad_items_the_exact_number_is_told_and_the_rest_is_kept(
    sender: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    for bad, good in ((1, 0), (3, 0), (2, 3)):
        service = new_service()
        request, items = envelope_of(signal, service)
        for number in range(bad):
            add_bad_item(signal, items, f"bad {number}")
        names = [f"good {number}" for number in range(good)]
        for name in names:
            add_item(signal, items, name)
        response = sender.response(signal, sender.send(signal, request))
        assert getattr(response.partial_success, REJECTED_OF[signal]) == bad
        assert f"{bad} of {bad + good}" in response.partial_success.error_message
        # What is wrong, in words, and short.
        assert 30 < len(response.partial_success.error_message) < 1_000
        # Answered means durable: what the log holds by now is all that it will hold.
        endpoint.check_arrived(signal, service, *names)


def test_C035_of_metrics_data_points_are_counted(sender: Sender, endpoint: Endpoint) -> None:
    service = new_service()
    request, metrics = envelope_of(Signal.METRICS, service)
    points = metrics.add(name="five").histogram.data_points
    for number in range(5):
        point = points.add(time_unix_nano=add_time(), count=2)
        point.bucket_counts.extend([1, 1] if number > 1 else [1, 1, 1])
        point.explicit_bounds.append(1.0)
    response = sender.response(Signal.METRICS, sender.send(Signal.METRICS, request))
    assert response.partial_success.rejected_data_points == 2
    endpoint.check_arrived(Signal.METRICS, service, *["five"] * 3)


def add_time() -> int:
    """A time that a point may have."""
    _, items = envelope_of(Signal.METRICS, "")
    time_ns: int = add_item(Signal.METRICS, items, "").time_unix_nano
    return time_ns


def test_C037_a_warning_has_a_message_and_nothing_rejected(
    sender: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    service = new_service()
    request, items = envelope_of(signal, service)
    item = add_item(signal, items, "early")
    # Long before anybody sent telemetry: kept under the time of its receipt.
    if signal is Signal.TRACES:
        item.start_time_unix_nano = item.end_time_unix_nano = 1_000
    else:
        item.time_unix_nano = 1_000
    response = sender.response(signal, sender.send(signal, request))
    assert response.HasField("partial_success")
    assert getattr(response.partial_success, REJECTED_OF[signal]) == 0
    assert "before 2000" in response.partial_success.error_message
    endpoint.check_arrived(signal, service, "early")


def test_C037_the_same_request_again_is_a_warning_and_stored_once(
    sender: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    service = new_service()
    request = request_of(signal, service, "once")
    assert not sender.response(signal, sender.send(signal, request)).HasField("partial_success")
    again = sender.response(signal, sender.send(signal, request)).partial_success
    assert getattr(again, REJECTED_OF[signal]) == 0
    assert "stored once" in again.error_message
    endpoint.check_arrived(signal, service, "once")


def test_C028_a_message_fits_whatever_was_sent(
    sender: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    service = new_service()
    request, items = envelope_of(signal, service)
    for number in range(3_000):
        add_bad_item(signal, items, f"bad {number} " + "x" * 50)
    reply = sender.send(signal, request)
    response = sender.response(signal, reply)
    assert getattr(response.partial_success, REJECTED_OF[signal]) == 3_000
    assert len(reply.body) < 2_000
    endpoint.check_arrived(signal, service)


def test_C039_C095_a_json_answer_is_json_as_otlp_writes_it(
    senders: dict[str, Sender], signal: Signal
) -> None:
    request, items = envelope_of(signal, new_service())
    add_bad_item(signal, items, "bad")
    reply = senders["http-json"].send(signal, request)
    assert reply.headers["content-type"] == JSON
    partial = json.loads(reply.body)["partialSuccess"]
    name = REJECTED_OF[signal].title().replace("_", "")
    assert partial.keys() == {name[0].lower() + name[1:], "errorMessage"}
    assert partial[name[0].lower() + name[1:]] == "1"


@pytest.mark.otlp("SHOULD")
def test_C004_both_encodings_alternate_on_one_port_and_path(
    senders: dict[str, Sender], signal: Signal, endpoint: Endpoint
) -> None:
    service = new_service()
    for number in range(6):
        one = senders[("http-protobuf", "http-json")[number % 2]]
        reply = one.send(signal, request_of(signal, service, f"n{number}"))
        one.response(signal, reply)
    endpoint.check_arrived(signal, service, *(f"n{number}" for number in range(6)))


def test_C096_C112_every_way_gives_the_same_tenant_and_the_same_rows(
    senders: dict[str, Sender], signal: Signal, endpoint: Endpoint, product: Any
) -> None:
    request, items = envelope_of(signal, "service")
    item = add_item(signal, items, "same")
    item.attributes.add(key="n").value.int_value = 2**53 + 1
    item.attributes.add(key="b").value.bytes_value = b"\x00\xff"
    item.attributes.add(key="d").value.double_value = 0.1
    item.attributes.add(key="l").value.array_value.values.add().bool_value = True
    seen = []
    for name, one in senders.items():
        resource = getattr(request, ENVELOPES[signal][0])[0].resource
        resource.attributes[0].value.string_value = f"{name}-{new_service()}"
        service = resource.attributes[0].value.string_value
        one.response(signal, one.send(signal, request))
        rows = [row for row in product.rows(signal) if row["ServiceName"] == service]
        seen += [[without(row, "ServiceName", "ResourceAttributes") for row in rows]]
    assert len(seen) == 4
    assert len(seen[0]) == 1
    assert seen[0][0]["TenantId"] == "acme"
    assert seen[1:] == seen[:1] * 3


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    """*row* less those columns, and less the hash that is made of one of them."""
    return {key: one for key, one in row.items() if key not in {*names, "SeriesHash"}}


@pytest.mark.otlp("MUST")
def test_C111_fields_of_older_and_newer_clients_are_passed_over(
    protobuf: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    service = new_service()
    body = request_of(signal, service, "old").SerializeToString()
    # Field 1000 of the request, and in a resource of its own the deprecated
    # instrumentation_library_… (field 1000), as clients before 0.16 sent it.
    library = b"\xc2\x3e\x0b" + b"\x0a\x09\x0a\x07library"
    body += b"\x0a" + bytes([len(library)]) + library + b"\xc2\x3e\x03new"
    response = protobuf.response(signal, protobuf.send(signal, body))
    assert in_full(response)
    endpoint.check_arrived(signal, service, "old")


def test_C105_metadata_of_every_kind_names_the_key(
    sender: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    key_id, secret = endpoint.credentials["Authorization"].removeprefix("Bearer ").split(":")
    service = new_service()
    kinds = (
        {"x-api-key": f"{key_id}:{secret}"},
        {"x-api-key-id": key_id, "x-api-key-secret": secret},
        {"x-telemetryflow-key-id": key_id, "x-telemetryflow-key-secret": secret},
    )
    for number, headers in enumerate(kinds):
        none = {"authorization": "", "Authorization": ""}
        reply = sender.send(
            signal, request_of(signal, service, f"n{number}"), headers=none | headers
        )
        sender.response(signal, reply)
    endpoint.check_arrived(signal, service, "n0", "n1", "n2")


@pytest.mark.otlp("MUST")
def test_C005_C006_many_requests_at_once_are_all_answered(
    sender: Sender, endpoint: Endpoint
) -> None:
    service = new_service()
    requests = [request_of(Signal.LOGS, service, f"n{number}") for number in range(64)]
    with ThreadPoolExecutor(16) as threads:
        replies = list(threads.map(lambda one: sender.send(Signal.LOGS, one), requests))
    for reply in replies:
        sender.response(Signal.LOGS, reply)
    endpoint.check_arrived(Signal.LOGS, service, *(f"n{number}" for number in range(64)))


@pytest.mark.otlp("MUST")
def test_C067_text_that_is_not_utf8_does_not_end_the_service(
    protobuf: Sender, endpoint: Endpoint
) -> None:
    service = new_service()
    body = request_of(Signal.LOGS, service, "abc").SerializeToString()
    reply = protobuf.send(Signal.LOGS, body.replace(b"abc", b"a\xffc"))
    if reply.status not in {0, 200}:
        protobuf.check_refusal(reply, http_status=400, grpc_code=3)
    if endpoint.is_ours:
        message = protobuf.response(Signal.LOGS, reply).partial_success.error_message
        assert "U+FFFD" in message
        endpoint.check_arrived(Signal.LOGS, service, "a\ufffdc")


def test_C071_of_bad_ids_a_span_is_refused_and_a_log_record_kept(
    sender: Sender, endpoint: Endpoint
) -> None:
    for trace_id, span_id in (
        (bytes(16), SPAN_ID),
        (TRACE_ID, bytes(8)),
        (TRACE_ID[:8], SPAN_ID),
        (TRACE_ID + b"\1", SPAN_ID),
        (TRACE_ID, SPAN_ID * 2),
    ):
        for signal, arrived in ((Signal.TRACES, ()), (Signal.LOGS, ("x",))):
            service = new_service()
            request, items = envelope_of(signal, service)
            item = add_item(signal, items, "x")
            item.trace_id, item.span_id = trace_id, span_id
            response = sender.response(signal, sender.send(signal, request))
            rejected = getattr(response.partial_success, REJECTED_OF[signal])
            assert rejected == (signal is Signal.TRACES)
            endpoint.check_arrived(signal, service, *arrived)


@pytest.mark.otlp("MUST")
def test_C073_every_kind_of_value_is_taken_everywhere(
    sender: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    service = new_service()
    request, items = envelope_of(signal, service)
    attributes = add_item(signal, items, "values").attributes
    attributes.add(key="empty").value.SetInParent()
    attributes.add(key="bytes").value.bytes_value = b"\x00\xfe"
    attributes.add(key="int").value.int_value = -(2**63)
    attributes.add(key="list").value.array_value.values.add().string_value = "in"
    pairs = attributes.add(key="pairs").value.kvlist_value
    pairs.values.add(key="k").value.double_value = 1.5
    response = sender.response(signal, sender.send(signal, request))
    assert in_full(response)
    if endpoint.is_ours:
        expected = {"bytes": "AP4=", "int": str(-(2**63)), "list": '["in"]', "pairs": '{"k":1.5}'}
        expected |= {"empty": "", "check.kept": "yes"}
        endpoint.check_arrived(signal, service, {"name": "values", "attributes": expected})


def test_C074_of_equal_keys_the_last_counts(
    sender: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    service = new_service()
    request, items = envelope_of(signal, service)
    item = add_item(signal, items, "twice")
    for text in ("first", "last"):
        item.attributes.add(key="k").value.string_value = text
    sender.response(signal, sender.send(signal, request))
    kept = {"check.kept": "yes", "k": "last"}
    endpoint.check_arrived(signal, service, {"name": "twice", "attributes": kept})


@pytest.mark.otlp("MUST")
def test_C002_the_profiles_signal_is_refused_as_unknown(
    senders: dict[str, Sender], endpoint: Endpoint
) -> None:
    for one in senders.values():
        if isinstance(one, HttpSender):
            reply = one.ask(
                "POST",
                "/v1development/profiles",
                one.encode(ExportMetricsServiceRequest()),
                {"Content-Type": one.content_type, **endpoint.credentials},
            )
            # A receiver may know profiles; one that does not must say so with a Status.
            if reply.status != 200:
                one.check_refusal(reply, http_status=404, grpc_code=5)
        elif isinstance(one, GrpcSender):
            method = "opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export"
            reply = one.call(f"/{method}", b"")
            if reply.status != 0:
                one.check_refusal(reply, http_status=404, grpc_code=12)
