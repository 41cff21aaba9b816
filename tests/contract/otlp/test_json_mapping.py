"""OTLP/JSON: the mapping of protobuf to JSON with OTLP's own deviations."""
# ruff: noqa: UP031 - JSON is full of braces, which other ways to format would have to double

import json
import time
from pathlib import Path
from typing import Final

import pytest

from ingest.signals import Signal
from tests.contract.otlp.endpoint import Endpoint, Item
from tests.contract.otlp.payloads import TRACE_ID, new_service
from tests.contract.otlp.senders import Sender, in_full

SPAN: Final = Signal.TRACES
ID: Final = TRACE_ID.hex()
EXAMPLES: Final = Path(__file__).parents[2] / "unit" / "ingest" / "codec" / "data"
_REQUEST: Final = (
    '{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":'
    '{"stringValue":"%s"}}]},"scopeSpans":[{"spans":[{%s}]}]}]}'
)


def span_with(service: str, *members: str, name: str = "a", trace_id: str = ID) -> bytes:
    """A request with one span: good, but for what *members* change."""
    now_ns = str(time.time_ns())
    good = f'"name":"{name}","spanId":"eee19b7ec3c1b174","kind":2'
    good += f',"startTimeUnixNano":"{now_ns}","endTimeUnixNano":"{now_ns}"'
    good += f',"traceId":"{trace_id}"'
    return (_REQUEST % (service, ",".join([good, *members]))).encode()


def value_of(text: str) -> str:
    """An attribute `k` with that AnyValue."""
    return '"attributes":[{"key":"k","value":%s}]' % text


@pytest.fixture
def json_sender(senders: dict[str, Sender]) -> Sender:
    """The only way to send JSON."""
    return senders["http-json"]


def taken(
    sender: Sender, endpoint: Endpoint, *members: str, arrives: str | Item = "a", **ids: str
) -> None:
    """That a span with *members* is stored in full."""
    service = new_service()
    reply = sender.send(SPAN, span_with(service, *members, **ids))
    assert in_full(sender.response(SPAN, reply)), reply
    endpoint.check_arrived(SPAN, service, arrives)


def refused(sender: Sender, endpoint: Endpoint, *members: str) -> str:
    """That a request with such a span is bad data; what is told of it."""
    service = new_service()
    reply = sender.send(SPAN, span_with(service, *members))
    sender.check_refusal(reply, http_status=400, grpc_code=3)
    endpoint.check_arrived(SPAN, service)
    return str(reply.error.message) if reply.error is not None else ""


@pytest.mark.otlp("MUST")
def test_C080_the_examples_of_the_protocol_are_taken(json_sender: Sender, signal: Signal) -> None:
    example = json.loads((EXAMPLES / f"{signal.value}.json").read_text())
    # Their times are years old: what a receiver keeps of them is its own affair.
    reply = json_sender.send(signal, json.dumps(example).encode())
    assert reply.status == 200, reply


@pytest.mark.otlp("MUST")
def test_C081_ids_are_hex_in_either_case(json_sender: Sender, endpoint: Endpoint) -> None:
    for trace_id in (ID.lower(), ID.upper()):
        arrives = {"name": "a", "traceId": ID, "spanId": "eee19b7ec3c1b174"}
        taken(json_sender, endpoint, arrives=arrives, trace_id=trace_id)


@pytest.mark.otlp("MUST")
def test_C081_an_id_in_base64_is_no_id(json_sender: Sender, endpoint: Endpoint) -> None:
    service = new_service()
    reply = json_sender.send(SPAN, span_with(service, trace_id="W47/95gDgQPSabYzgT/GDA=="))
    # Refused as a whole or as an item; never taken for some id.
    if reply.status == 200:
        assert json_sender.response(SPAN, reply).partial_success.rejected_spans == 1
    else:
        json_sender.check_refusal(reply, http_status=400, grpc_code=3)
    if endpoint.is_ours:
        assert reply.status == 200
    endpoint.check_arrived(SPAN, service)


def test_C081_an_id_of_a_wrong_length_costs_the_item(
    json_sender: Sender, endpoint: Endpoint
) -> None:
    for trace_id in (ID[:-2], ID + "00", ID[:-1] + "g", "", "0" * 32):
        service = new_service()
        reply = json_sender.send(SPAN, span_with(service, trace_id=trace_id))
        partial = json_sender.response(SPAN, reply).partial_success
        assert partial.rejected_spans == 1
        assert "trace_id must be 16 bytes" in partial.error_message
        endpoint.check_arrived(SPAN, service)


@pytest.mark.otlp("MUST")
def test_C082_names_in_snake_case_are_unknown(json_sender: Sender, endpoint: Endpoint) -> None:
    kind = "Server" if endpoint.is_ours else "SPAN_KIND_SERVER"
    arrives: str | Item = {"name": "a", "kind": kind} if endpoint.is_ours else "a"
    taken(json_sender, endpoint, '"trace_id":"00"', '"span_kind":5', arrives=arrives)
    service = new_service()
    body = span_with(service).replace(b"resourceSpans", b"resource_spans")
    json_sender.response(SPAN, json_sender.send(SPAN, body))
    endpoint.check_arrived(SPAN, service)


@pytest.mark.otlp("MUST")
def test_C083_unknown_members_are_ignored_at_every_level(
    json_sender: Sender, endpoint: Endpoint
) -> None:
    unknown = '"future":[{"deep":[1e5,null,{"a":"\\u0062"}]},[],{}]'
    taken(json_sender, endpoint, unknown, '"status":{"code":1,%s}' % unknown)
    service = new_service()
    body = span_with(service).replace(b'{"resource"', b'{%s,"resource"' % unknown.encode())
    assert in_full(json_sender.response(SPAN, json_sender.send(SPAN, body)))
    endpoint.check_arrived(SPAN, service, "a")


def test_C084_the_name_of_an_enum_value_is_bad_data(
    json_sender: Sender, endpoint: Endpoint
) -> None:
    refused(json_sender, endpoint, '"kind":"SPAN_KIND_SERVER"')


def test_C084_an_unknown_number_of_an_enum_is_unspecified(
    json_sender: Sender, endpoint: Endpoint
) -> None:
    taken(json_sender, endpoint, '"kind":77', arrives={"name": "a", "kind": "Unspecified"})


@pytest.mark.otlp("MUST")
@pytest.mark.parametrize("text", ['"9007199254740993"', "9007199254740993"])
def test_C085_whole_numbers_come_as_numbers_or_texts_and_keep_every_digit(
    json_sender: Sender, endpoint: Endpoint, text: str
) -> None:
    kept: Item = {"name": "a", "attributes": {"k": "9007199254740993"}}
    taken(json_sender, endpoint, value_of('{"intValue":%s}' % text), arrives=kept)


def test_C085_other_spellings_of_whole_numbers(json_sender: Sender, endpoint: Endpoint) -> None:
    for text, kept in (("1e3", "1000"), ("5.0", "5"), ("-9223372036854775808", str(-(2**63)))):
        arrives: Item = {"name": "a", "attributes": {"k": kept}}
        taken(json_sender, endpoint, value_of('{"intValue":%s}' % text), arrives=arrives)
    for bad in ('"0x10"', '"1.5"', "1.5", "9223372036854775808", '""', "true"):
        refused(json_sender, endpoint, value_of('{"intValue":%s}' % bad))


@pytest.mark.otlp("MUST")
def test_C086_doubles_that_json_lacks_come_as_texts(
    json_sender: Sender, endpoint: Endpoint
) -> None:
    for text in ("NaN", "Infinity", "-Infinity"):
        taken(json_sender, endpoint, value_of('{"doubleValue":"%s"}' % text))


@pytest.mark.otlp("MUST")
@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_C086_bare_words_are_not_json(json_sender: Sender, endpoint: Endpoint, text: str) -> None:
    refused(json_sender, endpoint, value_of('{"doubleValue":%s}' % text))


@pytest.mark.otlp("MUST")
@pytest.mark.parametrize("text", ["+/8=", "-_8=", "+/8", "-_8"])
def test_C087_bytes_are_base64_of_either_alphabet_with_or_without_padding(
    json_sender: Sender, endpoint: Endpoint, text: str
) -> None:
    kept: Item = {"name": "a", "attributes": {"k": "+/8="}}
    arrives = kept if endpoint.is_ours else "a"
    taken(json_sender, endpoint, value_of('{"bytesValue":"%s"}' % text), arrives=arrives)


@pytest.mark.otlp("MUST")
@pytest.mark.parametrize("text", ["A", "A*==", "AA==AA=="])
def test_C087_what_is_not_base64_is_bad_data(
    json_sender: Sender, endpoint: Endpoint, text: str
) -> None:
    refused(json_sender, endpoint, value_of('{"bytesValue":"%s"}' % text))


@pytest.mark.otlp("MUST")
def test_C087_null_is_an_absent_member_and_a_bool_no_text(
    json_sender: Sender, endpoint: Endpoint
) -> None:
    taken(json_sender, endpoint, '"status":null', '"links":null', '"traceState":null')
    refused(json_sender, endpoint, value_of('{"boolValue":"maybe"}'))


def test_C088_of_members_with_one_name_the_last_counts(
    json_sender: Sender, endpoint: Endpoint
) -> None:
    taken(json_sender, endpoint, '"name":"first"', '"name":"last"', arrives="last")


@pytest.mark.otlp("MUST")
@pytest.mark.parametrize(
    "body",
    [b"\xef\xbb\xbf{}", '{"resourceSpans":[]}'.encode("utf-16"), b'{"a":"\xff"}'],
    ids=["byte order mark", "UTF-16", "not UTF-8"],
)
def test_C089_only_utf8_is_json(json_sender: Sender, body: bytes) -> None:
    # RFC 8259 lets a reader ignore a byte order mark.
    reply = json_sender.send(SPAN, body)
    if not (body.startswith(b"\xef") and reply.status == 200):
        json_sender.check_refusal(reply, http_status=400, grpc_code=3)


@pytest.mark.otlp("MUST")
def test_C089_a_lone_surrogate_is_no_failure_of_the_server(
    json_sender: Sender, endpoint: Endpoint
) -> None:
    reply = json_sender.send(SPAN, span_with(new_service(), '"name":"\\ud800"'))
    assert reply.status in {200, 400}, reply
    if endpoint.is_ours:
        taken(json_sender, endpoint, '"name":"x\\ud800"', arrives="x\ufffd")


@pytest.mark.otlp("MUST")
def test_C090_deep_json_and_endless_numbers_are_no_failure_of_the_server(
    json_sender: Sender, endpoint: Endpoint
) -> None:
    for body in (b'{"a":' + b"[" * 100_000, b'{"a":' * 100_000):
        json_sender.check_refusal(json_sender.send(SPAN, body), http_status=400, grpc_code=3)
    refused(json_sender, endpoint, value_of('{"intValue":%s}' % ("9" * 5_000)))


def test_C090_json_nests_64_levels_deep_and_no_deeper(
    json_sender: Sender, endpoint: Endpoint
) -> None:
    for levels in (57, 58):
        member = '"future":' + "[" * levels + "]" * levels
        # The span itself is the seventh level of objects and arrays.
        if levels == 57:
            taken(json_sender, endpoint, member)
        else:
            refused(json_sender, endpoint, member)


@pytest.mark.otlp("MUST")
@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{}x", b"{", b"{} {}"])
def test_C092_anything_but_one_object_is_bad_data(
    json_sender: Sender, signal: Signal, body: bytes
) -> None:
    json_sender.check_refusal(json_sender.send(signal, body), http_status=400, grpc_code=3)


@pytest.mark.otlp("SHOULD")
def test_C092_an_empty_object_is_an_empty_request(json_sender: Sender, signal: Signal) -> None:
    reply = json_sender.send(signal, b" {} ")
    assert in_full(json_sender.response(signal, reply))


def test_C093_of_the_members_of_a_oneof_the_last_counts(
    json_sender: Sender, endpoint: Endpoint
) -> None:
    arrives: Item = {"name": "a", "attributes": {"k": "5"}}
    taken(json_sender, endpoint, value_of('{"stringValue":"x","intValue":5}'), arrives=arrives)


@pytest.mark.otlp("MUST")
@pytest.mark.parametrize(
    "member", ['"attributes":{}', '"attributes":"x"', '"name":5', '"status":[]', '"links":1']
)
def test_C094_a_value_of_another_type_is_bad_data(
    json_sender: Sender, endpoint: Endpoint, member: str
) -> None:
    refused(json_sender, endpoint, member)
