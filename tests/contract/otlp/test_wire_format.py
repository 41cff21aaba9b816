"""Protobuf as it may come over the wire (proto3 encoding, which OTLP uses).

What each field becomes is checked against a second decoder in tests/unit/ingest/codec; here the
same rules are seen from outside.
"""

import pytest

from ingest.signals import Signal
from tests.contract.otlp.endpoint import Endpoint
from tests.contract.otlp.payloads import new_service, request_of
from tests.contract.otlp.senders import Sender, in_full
from tests.unit.ingest.codec.wire_format import fixed32, fixed64, group, message, number, tag

UNKNOWN = {
    "varint": number(1_000, 300),
    "fixed64": fixed64(1_000, 7),
    "bytes": message(1_000, b"future"),
    "fixed32": fixed32(1_000, 7),
}
NOT_PROTOBUF = {
    "field 0": number(0, 1),
    "wire type 6": tag(1, 6),
    "wire type 7": tag(1, 7),
    "varint of 11 bytes": tag(1_000, 0) + b"\x80" * 10 + b"\x01",
    "length beyond the end": tag(1, 2) + b"\x7f",
    "length of 2 GiB": tag(1_000, 2) + b"\x80\x80\x80\x80\x08",
    "group without an end": tag(1_000, 3),
    "end without a group": tag(1_000, 4),
}


@pytest.mark.otlp("MUST")
@pytest.mark.parametrize("kind", list(UNKNOWN))
def test_C062_C072_unknown_fields_are_passed_over(
    protobuf: Sender, endpoint: Endpoint, kind: str
) -> None:
    for signal in Signal:
        service = new_service()
        body = request_of(signal, service, "a").SerializeToString()
        reply = protobuf.send(signal, UNKNOWN[kind] + body + UNKNOWN[kind])
        assert in_full(protobuf.response(signal, reply))
        endpoint.check_arrived(signal, service, "a")


@pytest.mark.otlp("MUST")
@pytest.mark.parametrize("kind", list(NOT_PROTOBUF))
def test_C063_what_is_not_protobuf_is_bad_data_and_nothing_of_it_arrives(
    protobuf: Sender, endpoint: Endpoint, kind: str
) -> None:
    for signal in Signal:
        service = new_service()
        body = request_of(signal, service, "a").SerializeToString()
        reply = protobuf.send(signal, body + NOT_PROTOBUF[kind])
        protobuf.check_refusal(reply, http_status=400, grpc_code=3)
        endpoint.check_arrived(signal, service)


def test_C062_an_unknown_group_is_passed_over(protobuf: Sender, endpoint: Endpoint) -> None:
    unknown = group(1_000, number(1, 5), message(2, b"x"))
    for signal in Signal:
        service = new_service()
        body = request_of(signal, service, "a").SerializeToString()
        assert in_full(protobuf.response(signal, protobuf.send(signal, unknown + body)))
        endpoint.check_arrived(signal, service, "a")


def test_C064_values_nest_32_levels_deep_and_no_deeper(
    protobuf: Sender, endpoint: Endpoint
) -> None:
    for levels, taken in ((31, True), (60, False)):
        service = new_service()
        request = request_of(Signal.LOGS, service, "a")
        value = request.resource_logs[0].scope_logs[0].log_records[0].attributes.add(key="d").value
        for _ in range(levels):
            value = value.array_value.values.add()
        value.int_value = 1
        # upb itself writes what it would not read.
        reply = protobuf.send(Signal.LOGS, request)
        if taken:
            protobuf.response(Signal.LOGS, reply)
            endpoint.check_arrived(Signal.LOGS, service, "a")
        else:
            protobuf.check_refusal(reply, http_status=400, grpc_code=3)
            endpoint.check_arrived(Signal.LOGS, service)


def test_C065_a_known_field_of_another_wire_type_is_unknown(
    protobuf: Sender, endpoint: Endpoint
) -> None:
    for signal in Signal:
        service = new_service()
        body = request_of(signal, service, "a").SerializeToString()
        reply = protobuf.send(signal, body + number(1, 5))
        assert in_full(protobuf.response(signal, reply))
        endpoint.check_arrived(signal, service, "a")


@pytest.mark.otlp("MUST")
def test_C066_a_request_in_two_pieces_is_one(protobuf: Sender, endpoint: Endpoint) -> None:
    for signal in Signal:
        service = new_service()
        pieces = [request_of(signal, service, name).SerializeToString() for name in ("a", "b")]
        reply = protobuf.send(signal, b"".join(pieces))
        assert in_full(protobuf.response(signal, reply))
        endpoint.check_arrived(signal, service, "a", "b")
