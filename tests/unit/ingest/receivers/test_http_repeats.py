"""Heads that are said again are recognised, and nothing else is taken for one."""

import asyncio
from dataclasses import replace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.instructions import Sink, deliver
from ingest.directory import Principal
from ingest.exports import FULL_SUCCESS, Answer, Encoding
from ingest.receivers.http import HttpReceiver
from ingest.receivers.http_connection import HttpConnection
from ingest.receivers.http_repeats import BODY_BYTES_MAX, known_head
from ingest.receivers.http_requests import Export
from ingest.receivers.limits import Limits
from ingest.signals import Signal
from shared.errors import Forbidden
from shared.security.credentials import Credentials
from tests.contract.fake_gateway import BEARER, Exported, FakeGateway

EXPORT = Export(Signal.TRACES, Encoding.PROTOBUF, Credentials(), "", 3)
LINES = (
    b"POST /v1/traces HTTP/1.1",
    b"Host: localhost",
    b"Content-Type: application/x-protobuf",
    b"Content-Length: 3",
    b"User-Agent: OTel-OTLP-Exporter-Python/1.42",
)
HEAD = b"\r\n".join(LINES) + b"\r\n\r\n"


def test_a_head_is_known_again_with_another_length() -> None:
    known = known_head(HEAD + b"abc", len(LINES) - 1, EXPORT)
    assert known is not None
    again = HEAD.replace(b"Length: 3", b"Length: 12") + b"x" * 12 + b"rest"
    read = bytearray(b"before" + again)
    body = known.body_in(read, 6, len(read))
    assert body is not None
    assert read[slice(*body)] == b"x" * 12


@pytest.mark.parametrize(
    "other",
    [
        HEAD.replace(b"v1/traces", b"v1/logs"),
        HEAD.replace(b"Length: 3", b"Length: -3"),
        HEAD.replace(b"Length: 3", b"Length: +3"),
        HEAD.replace(b"Length: 3", b"Length: 0x3"),
        HEAD.replace(b"Length: 3", b"Length: 3 "),
        HEAD.replace(b"Length: 3", b"Length: \xb2"),
        HEAD.replace(b"Length: 3", b"Length: "),
        HEAD.replace(b"Length: 3", b"Length: 3, 3"),
        HEAD.replace(b"Length: 3\r\n", b"Length: 3\n"),
        HEAD.replace(b"Length: 3\r\n", b"Length: 3\r\nContent-Length: 2\r\n"),
        HEAD.replace(b"\r\n\r\n", b"\r\nX-Api-Key: k\r\n\r\n"),
        HEAD.replace(b"Length: 3", b"Length: 4"),
        HEAD.replace(b"Length: 3", b"Length: %d" % 10 * BODY_BYTES_MAX),
    ],
)
def test_what_differs_in_more_than_the_length_or_is_not_whole_is_not_known(other: bytes) -> None:
    known = known_head(HEAD + b"abc", len(LINES) - 1, EXPORT)
    assert known is not None
    read = bytearray(other + b"abc")
    assert known.body_in(read, 0, len(read)) is None


@pytest.mark.parametrize(
    ("head", "headers"),
    [
        (HEAD.replace(b"\r\nHost", b"\nHost"), 4),
        (HEAD.replace(b": localhost", b": local\r\n host"), 4),
        (b"\r\n" + HEAD, 4),
        (HEAD.replace(b"Length: 3", b"Length:3"), 4),
        (HEAD.replace(b"Length: 3", b"Length:  3"), 4),
        (HEAD.replace(b"User-Agent", b"Content-Length"), 4),
        (HEAD[:-2], 4),
    ],
)
def test_a_head_whose_bytes_do_not_show_what_it_means_is_not_remembered(
    head: bytes, headers: int
) -> None:
    assert known_head(head, headers, EXPORT) is None


class Wire(Sink):
    """A connection of which nothing is left once it is closed."""

    closed = False

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class MoodyGateway(FakeGateway):
    """Refuses each fifth request before its body is read."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def authenticate(self, credentials: Credentials, signal: Signal) -> Principal:
        self.asked += 1
        if self.asked % 5 == 0:
            raise Forbidden("not now")
        return super().authenticate(credentials, signal)

    async def export(
        self, signal: Signal, credentials: Credentials, encoding: Encoding, body: bytes
    ) -> Answer:
        self.exports.append(Exported(signal, credentials, encoding, body))
        return FULL_SUCCESS


def requests() -> st.SearchStrategy[bytes]:
    """One request, most of them alike; some end the connection or are no requests at all."""
    lines = st.sampled_from(
        [
            b"",
            b"",
            b"",
            b"Authorization: " + BEARER.encode() + b"\r\n",
            b"Authorization: Bearer tfk_no:tfs_no\r\n",
            b"Connection: close\r\n",
            b"Expect: 100-continue\r\n",
            b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
            b"X-Note: Content-Length: 9\r\n",
            b"Content-Length: 9\r\n",
            b"Content-Encoding: br\r\n",
            b"Broken Line\r\n",
        ]
    )
    paths = st.sampled_from([b"/v1/traces", b"/v1/traces", b"/v1/traces", b"/v1/logs", b"/no"])
    bodies = st.binary(max_size=40) | st.sampled_from([b"\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n"])

    def made(path: bytes, line: bytes, body: bytes) -> bytes:
        head = b"POST %b HTTP/1.1\r\nContent-Type: application/x-protobuf\r\n" % path
        return head + b"Content-Length: %d\r\n%b\r\n%b" % (len(body), line, body)

    return st.builds(made, paths, lines, bodies)


async def outcome(reads: list[bytes]) -> tuple[bytes, list[Exported]]:
    """What a connection answers to that, read by read, and what reaches the gateway."""
    gateway = MoodyGateway()
    receiver = HttpReceiver(gateway, "127.0.0.1", 0, limits=replace(Limits(), headers_max=20))
    connection = cast("HttpConnection", receiver.new_connection())
    wire = Wire()
    connection.connection_made(wire)
    for read in reads:
        if wire.closed:
            break
        deliver(connection, read)
        while connection._queue and connection._queue[-1].task is not None:
            await asyncio.sleep(0)
    return bytes(wire.written), gateway.exports


@given(st.lists(requests(), min_size=1, max_size=6))
@settings(max_examples=300, deadline=None)
def test_answers_do_not_depend_on_whether_a_request_comes_in_one_read(
    sent: list[bytes],
) -> None:
    async def both() -> None:
        # In two reads a request is always parsed.
        halves = [part for one in sent for part in (one[:40], one[40:])]
        whole, parsed = await outcome(sent), await outcome(halves)
        assert whole == parsed

    asyncio.run(both())
