"""Failures: which status, and what is told with it (OTLP: Failures, Bad Data)."""

import json

import pytest
from google.rpc.error_details_pb2 import BadRequest  # type: ignore[import-untyped]

from ingest.signals import Signal
from tests.contract.otlp.endpoint import Endpoint
from tests.contract.otlp.payloads import new_service, request_of
from tests.contract.otlp.senders import HttpSender, Sender, retry_seconds_of
from tests.contract.raw_http import JSON, PROTOBUF

WIRE_NONSENSE = b"\x0a\x05abc"
# What no answer may hold of the inside of a product.
INSIDE = ("Traceback", "site-packages", ".py", "/home", "SELECT", "clickhouse", "goroutine")


def http_of(sender: Sender) -> HttpSender:
    """The sender as one of HTTP."""
    assert isinstance(sender, HttpSender)
    return sender


@pytest.mark.otlp("MUST")
def test_C044_C045_C046_C110_bad_data_is_told_as_such(
    sender: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    body = b'{"a":' if sender.name == "http-json" else WIRE_NONSENSE
    reply = sender.send(signal, body)
    sender.check_refusal(reply, http_status=400, grpc_code=3)
    sender.check_told(reply)
    assert retry_seconds_of(reply.error) is None
    assert "retry-after" not in reply.headers
    assert not any(word in reply.error.message for word in INSIDE)
    if isinstance(sender, HttpSender):
        # So is every other failure.
        headers = {"Content-Type": sender.content_type, **endpoint.credentials}
        sender.check_told(sender.ask("POST", "/nowhere", b"", headers))
        sender.check_told(sender.ask("PUT", f"/v1/{signal.value}", b"", headers))


def test_C044_the_details_of_bad_data_name_the_field(
    sender: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    # The item is one level too deep in nonsense: a known field that ends early.
    root = {Signal.TRACES: "Spans", Signal.LOGS: "Logs", Signal.METRICS: "Metrics"}[signal]
    if sender.name == "http-json":
        reply = sender.send(signal, f'{{"resource{root}":[{{"resource":5}}]}}'.encode())
        (detail,) = json.loads(reply.body)["details"]
        assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
        (violation,) = detail["fieldViolations"]
        assert violation["field"] == f"resource{root}[0].resource"
        assert violation["description"] == reply.error.message
        return
    reply = sender.send(signal, WIRE_NONSENSE)
    details = BadRequest()
    assert reply.error.details[0].Unpack(details)
    (violation,) = details.field_violations
    assert violation.description == reply.error.message


@pytest.mark.otlp("MUST")
def test_C007_other_methods_are_refused_with_what_is_allowed(
    http: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    sender = http_of(http)
    for method in ("GET", "PUT", "DELETE"):
        headers = {"Content-Type": sender.content_type, **endpoint.credentials}
        reply = sender.ask(method, f"/v1/{signal.value}", b"", headers)
        assert reply.status in {404, 405}, reply
        assert reply.status == 404 or reply.headers.get("allow") == "POST", reply
        if endpoint.is_ours:
            sender.check_refusal(reply, http_status=405, grpc_code=12)


@pytest.mark.otlp("MUST")
def test_C008_an_unknown_path_is_told_in_the_encoding_of_the_request(
    http: Sender, endpoint: Endpoint
) -> None:
    sender = http_of(http)
    for path in ("/", "/v1/trace", "/v9/traces"):
        headers = {"Content-Type": sender.content_type, **endpoint.credentials}
        reply = sender.ask("POST", path, b"", headers)
        sender.check_refusal(reply, http_status=404, grpc_code=5)


def test_C008_C047_without_a_known_encoding_the_answer_is_json(
    senders: dict[str, Sender], signal: Signal, endpoint: Endpoint
) -> None:
    sender = http_of(senders["http-json"])
    reply = sender.ask("POST", "/nowhere", b"", endpoint.credentials)
    sender.check_refusal(reply, http_status=404, grpc_code=5)
    service = new_service()
    body = request_of(signal, service, "a").SerializeToString()
    for content_type in ("", "text/plain", "application/protobuf", "application/grpc-web+proto"):
        headers = {"Content-Type": content_type, **endpoint.credentials}
        reply = sender.ask("POST", f"/v1/{signal.value}", body, headers)
        sender.check_refusal(reply, http_status=415, grpc_code=12)
    endpoint.check_arrived(signal, service)


@pytest.mark.otlp("MUST")
def test_C045_C047_C110_other_content_types_are_refused(
    senders: dict[str, Sender], signal: Signal, endpoint: Endpoint
) -> None:
    sender = http_of(senders["http-json"])
    body = request_of(signal, new_service(), "a").SerializeToString()
    for content_type in ("text/plain", "application/xml"):
        headers = {"Content-Type": content_type, **endpoint.credentials}
        reply = sender.ask("POST", f"/v1/{signal.value}", body, headers)
        assert reply.status in {400, 415}, reply


@pytest.mark.otlp("SHOULD")
def test_C048_content_types_may_have_parameters_and_capitals(
    http: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    service = new_service()
    spelled = {PROTOBUF: "Application/X-Protobuf", JSON: "application/json; charset=utf-8"}
    headers = {"Content-Type": spelled[http_of(http).content_type]}
    reply = http.send(signal, request_of(signal, service, "a"), headers=headers)
    assert reply.status == 200, reply
    assert reply.headers["content-type"].split(";")[0] == http_of(http).content_type
    endpoint.check_arrived(signal, service, "a")


@pytest.mark.otlp("MUST")
def test_C049_the_type_of_an_answer_is_that_of_its_request(
    http: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    content_type = http_of(http).content_type
    good = http.send(signal, request_of(signal, new_service(), "a"))
    bad = http.send(signal, b"\xff{")
    assert good.status == 200, good
    assert bad.status >= 400, bad
    for reply in (good, bad):
        # An answer without a body has no type.
        assert reply.headers.get("content-type") == content_type or not reply.body, reply


def test_C058_bad_credentials_are_refused_before_anything_is_read(
    sender: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    service = new_service()
    good = endpoint.credentials["Authorization"]
    for bad in ("", good[:-1] + ("0" if good[-1] != "0" else "1"), "Bearer nonsense", good + ":x"):
        header = {"authorization": bad, "Authorization": bad}
        reply = sender.send(signal, request_of(signal, service, "a"), headers=header)
        sender.check_refusal(reply, http_status=401, grpc_code=16)
        assert good.removeprefix("Bearer ") not in reply.error.message
        if sender.name.startswith("http"):
            assert reply.headers["www-authenticate"].startswith("Bearer")
        # Neither inflated nor decoded: a bad key is all that is told.
        reply = sender.send(signal, b"nonsense", headers=header, compressed=True)
        sender.check_refusal(reply, http_status=401, grpc_code=16)
    endpoint.check_arrived(signal, service)


def test_C058_a_tenant_that_contradicts_the_key_is_forbidden(
    sender: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    service = new_service()
    request = request_of(signal, service, "a")
    reply = sender.send(signal, request, headers={"x-tenant-id": "globex"})
    sender.check_refusal(reply, http_status=403, grpc_code=7)
    sender.response(signal, sender.send(signal, request, headers={"x-tenant-id": "acme"}))
    endpoint.check_arrived(signal, service, "a")


def test_C105_two_keys_in_one_request_are_refused(
    sender: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    service = new_service()
    other = "tfk_" + "0" * 32 + ":tfs_" + "0" * 64
    reply = sender.send(signal, request_of(signal, service, "a"), headers={"x-api-key": other})
    sender.check_refusal(reply, http_status=401, grpc_code=16)
    endpoint.check_arrived(signal, service)


def test_C011_a_key_in_the_url_is_refused_and_not_told(
    http: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    sender = http_of(http)
    secret = endpoint.credentials["Authorization"].rpartition(":")[2]
    headers = {"Content-Type": sender.content_type, **endpoint.credentials}
    for name in ("api_key", "apikey", "X-API-Key", "token", "access_token"):
        reply = sender.ask("POST", f"/v1/{signal.value}?a=b&{name}={secret}", b"", headers)
        sender.check_refusal(reply, http_status=401, grpc_code=16)
        assert secret not in reply.error.message
    service = new_service()
    body = sender.encode(request_of(signal, service, "a"))
    reply = sender.ask("POST", f"/v1/{signal.value}?tag=1", body, headers)
    sender.response(signal, reply)
    endpoint.check_arrived(signal, service, "a")
