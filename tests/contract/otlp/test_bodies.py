"""Compression and size of bodies (OTLP: transport compression; limits of a request)."""

import gzip
import re

import pytest
from backports import zstd

from ingest.signals import Signal
from tests.contract.otlp.endpoint import Endpoint
from tests.contract.otlp.payloads import new_service, padded, request_of
from tests.contract.otlp.senders import HttpSender, Reply, Sender, in_full, retry_seconds_of

BAD_DATA = {"http_status": 400, "grpc_code": 3}
# 80 MiB of nothing: beyond the limit of every endpoint.
BOMB = gzip.compress(bytes(1 << 20), compresslevel=9, mtime=0) * 80


def coded(sender: Sender, signal: Signal, body: bytes, encoding: str) -> Reply:
    """A request whose body is *body* as it is, said to be in that encoding."""
    return sender.send(signal, body, headers={"Content-Encoding": encoding})


def encoded(sender: Sender, signal: Signal, service: str) -> bytes:
    """A good request, named `a`, as that sender writes it."""
    assert isinstance(sender, HttpSender)
    return sender.encode(request_of(signal, service, "a"))


@pytest.mark.otlp("MUST")
def test_C013_C110_plain_and_gzip_are_taken(
    sender: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    service = new_service()
    for name, compressed in (("plain", False), ("gzip", True)):
        request = request_of(signal, service, name, "x" * 10_000)
        sender.response(signal, sender.send(signal, request, compressed=compressed))
    endpoint.check_arrived(signal, service, "plain", "gzip", "x" * 10_000, "x" * 10_000)


def test_C014_C018_every_spelling_and_form_of_a_compressed_body_is_taken(
    http: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    for name, compress in (
        ("", bytes),
        ("identity", bytes),
        ("GZIP", gzip.compress),
        ("x-gzip", gzip.compress),
        ("gzip", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:])),
        ("gzip", lambda body: gzip.compress(b"") * 1_023 + gzip.compress(body)),
        ("zstd", zstd.compress),
    ):
        service = new_service()
        body = compress(encoded(http, signal, service))
        http.response(signal, coded(http, signal, body, name))
        endpoint.check_arrived(signal, service, "a")


@pytest.mark.otlp("MUST")
def test_C015_C110_an_encoding_that_is_not_known_is_refused_and_never_taken_as_plain(
    http: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    for name in ("br", "foo", "gzip, gzip"):
        service = new_service()
        reply = coded(http, signal, encoded(http, signal, service), name)
        assert reply.status in {400, 415}, reply
        if endpoint.is_ours:
            http.check_refusal(reply, http_status=415, grpc_code=12)
        endpoint.check_arrived(signal, service)


@pytest.mark.otlp("MUST")
@pytest.mark.parametrize("broken", ["C016", "C017", "C019", "C020"])
def test_C016_C017_C019_C020_a_broken_gzip_stream_is_bad_data(
    http: Sender, signal: Signal, endpoint: Endpoint, broken: str
) -> None:
    service = new_service()
    whole = gzip.compress(encoded(http, signal, service), mtime=0)
    damaged = {
        "C016": b"this is not gzip",
        "C017": whole[:-8],
        "C019": whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:],
        "C020": b"",
    }[broken]
    http.check_refusal(coded(http, signal, damaged, "gzip"), http_status=400, grpc_code=3)
    endpoint.check_arrived(signal, service)


def test_C018_C019_garbage_many_members_and_a_wrong_length_are_bad_data(
    http: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    service = new_service()
    body = encoded(http, signal, service)
    whole = gzip.compress(body, mtime=0)
    for damaged in (
        whole + b"garbage",
        gzip.compress(b"") * 1_024 + whole,
        whole[:-1] + bytes([whole[-1] ^ 1]),
    ):
        http.check_refusal(coded(http, signal, damaged, "gzip"), http_status=400, grpc_code=3)
    http.check_refusal(coded(http, signal, zstd.compress(body)[:-1], "zstd"), **BAD_DATA)
    endpoint.check_arrived(signal, service)


def test_C020_an_empty_body_is_an_empty_request_in_protobuf_only(
    senders: dict[str, Sender], signal: Signal
) -> None:
    protobuf, json = senders["http-protobuf"], senders["http-json"]
    assert protobuf.response(signal, protobuf.send(signal, b"")) is not None
    json.check_refusal(json.send(signal, b""), **BAD_DATA)


@pytest.mark.otlp("MAY")
def test_C022_an_answer_is_plain_or_gzip_as_its_header_says(
    http: Sender, signal: Signal, endpoint: Endpoint
) -> None:
    reply = http.send(
        signal, request_of(signal, new_service(), "a"), headers={"Accept-Encoding": "gzip"}
    )
    assert reply.status == 200
    if reply.headers.get("content-encoding") == "gzip":
        assert "accept-encoding" in reply.headers.get("vary", "").lower()
        gzip.decompress(reply.body)
    else:
        http.response(signal, reply)
    if endpoint.is_ours:
        # An answer has at most some 4 KB, most often none: compression would cost more.
        assert "content-encoding" not in reply.headers


@pytest.mark.otlp("MUST")
@pytest.mark.parametrize("compressed", [False, True])
def test_C023_C024_C025_C026_the_limit_holds_to_the_byte_before_and_after_decompression(
    protobuf: Sender, signal: Signal, endpoint: Endpoint, compressed: bool
) -> None:
    limit_bytes = endpoint.limits_bytes.get(protobuf.name)
    if not limit_bytes:
        pytest.skip("the limit of this endpoint is not known: --limit BYTES tells it")
    service = new_service()
    at_limit = padded(request_of(signal, service, "at"), limit_bytes)
    assert len(at_limit) == limit_bytes
    reply = protobuf.send(signal, at_limit, compressed=compressed)
    assert in_full(protobuf.response(signal, reply))
    beyond = padded(request_of(signal, service, "beyond"), limit_bytes + 1)
    reply = protobuf.send(signal, beyond, compressed=compressed)
    protobuf.check_refusal(reply, http_status=413, grpc_code=8)
    assert reply.error is None or retry_seconds_of(reply.error) is None
    assert "retry-after" not in reply.headers
    if endpoint.is_ours:
        assert re.search(r"smaller batches|larger", reply.error.message)
    endpoint.check_arrived(signal, service, "at")


def test_C023_the_limit_holds_for_json_too(
    senders: dict[str, Sender], signal: Signal, endpoint: Endpoint
) -> None:
    sender = senders["http-json"]
    service = new_service()
    body = encoded(sender, signal, service)
    limit_bytes = endpoint.limits_bytes[sender.name]
    for size, taken in ((limit_bytes, True), (limit_bytes + 1, False)):
        reply = sender.send(signal, body.ljust(size))
        if taken:
            sender.response(signal, reply)
        else:
            sender.check_refusal(reply, http_status=413, grpc_code=8)
    endpoint.check_arrived(signal, service, "a")


@pytest.mark.otlp("MUST")
def test_C024_C027_a_bomb_is_refused_and_others_are_served(
    http: Sender, endpoint: Endpoint
) -> None:
    service = new_service()
    reply = coded(http, Signal.LOGS, BOMB, "gzip")
    assert reply.status in {413, 400}, reply
    if endpoint.is_ours:
        assert reply.status == 413
    http.response(Signal.LOGS, http.send(Signal.LOGS, request_of(Signal.LOGS, service, "a")))
    endpoint.check_arrived(Signal.LOGS, service, "a")
