"""OTLP over HTTP/1.1: what clients are promised, one id of the reliability list per test."""

import asyncio
import json

import pytest
from google.rpc.error_details_pb2 import BadRequest, RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from ingest.exports import Answer, Encoding
from ingest.receivers.limits import Limits
from ingest.signals import Signal
from shared.errors import (
    Forbidden,
    Invalid,
    RateLimited,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from tests.contract.fake_gateway import BEARER, KEY_ID, SECRET, FakeGateway
from tests.contract.raw_http import (
    JSON,
    PROTOBUF,
    Response,
    chunked,
    http_server,
    post,
    until,
)

BAD_BEARER = BEARER.replace("tfk_0", "tfk_1")


def status_in(response: Response) -> Status:
    """The google.rpc.Status that every refusal carries, in the encoding of its Content-Type."""
    if response.headers["content-type"] == PROTOBUF:
        return Status.FromString(response.body)
    assert response.headers["content-type"] == JSON
    fields = json.loads(response.body)
    return Status(code=fields["code"], message=fields["message"])


def refused(response: Response, http_status: int, grpc_code: int) -> Status:
    assert response.status == http_status, response
    status = status_in(response)
    assert status.code == grpc_code
    assert status.message
    assert SECRET not in status.message
    return status


@pytest.mark.parametrize("signal", list(Signal))
@pytest.mark.parametrize("path", ["/v1/{}", "/v2/{}", "/api/v2/otlp/{}", "/v1/{}?trace=1"])
async def test_C002_every_signal_is_taken_on_every_path(signal: Signal, path: str) -> None:
    async with http_server() as server:
        response = await server.once(post(b"body", path=path.format(signal.value)))
        (export,) = server.gateway.exports
        assert (response.status, response.body) == (200, b"")
        assert (export.signal, export.encoding, export.body) == (
            signal,
            Encoding.PROTOBUF,
            b"body",
        )
        assert export.credentials.key_id == KEY_ID


async def test_C005_a_connection_serves_a_thousand_requests() -> None:
    async with http_server() as server, server.connection() as connection:
        for _ in range(1_000):
            assert (await connection.exchange(post(b"x"))).status == 200


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    gateway = FakeGateway()
    gateway.gate = asyncio.Event()
    async with http_server(gateway) as server, server.connection() as connection:
        connection.send(
            post(b"1") + post(b"{}", content_type=JSON) + post(b"", path="/nowhere") + post(b"4")
        )
        await until(lambda: gateway.waiting == 3)
        gateway.gate.set()
        answers = [await connection.response() for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 404, 200]
        assert [answer.headers["content-type"] for answer in answers[:2]] == [PROTOBUF, JSON]


async def test_a_thousand_pipelined_requests_are_all_answered() -> None:
    async with http_server() as server, server.connection() as connection:
        connection.send(post(b"x") * 1_000)
        assert {(await connection.response()).status for _ in range(1_000)} == {200}


async def test_C006_many_connections_are_served_at_once() -> None:
    async with http_server() as server:
        large = b"x" * 100_000
        answers = await asyncio.gather(*(server.once(post(large)) for _ in range(64)))
        assert {answer.status for answer in answers} == {200}
        assert all(export.body == large for export in server.gateway.exports)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_C007_other_methods_are_refused_with_what_is_allowed(method: str) -> None:
    async with http_server() as server:
        response = await server.once(post(method=method))
        refused(response, 405, 12)
        assert response.headers["allow"] == "POST"
        assert not any(name.startswith("access-control") for name in response.headers)


@pytest.mark.parametrize(
    ("content_type", "answered"), [(PROTOBUF, PROTOBUF), (JSON, JSON), (None, JSON)]
)
async def test_C008_an_unknown_path_is_told_in_the_encoding_of_the_request(
    content_type: str | None, answered: str
) -> None:
    async with http_server() as server:
        for path in ("/", "/v1/traces/", "/v1development/profiles"):
            response = await server.once(post(path=path, content_type=content_type))
            refused(response, 404, 5)
            assert response.headers["content-type"] == answered


async def test_C009_an_upgrade_to_http2_is_not_taken_up() -> None:
    upgrade = {"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAM"}
    async with http_server() as server, server.connection() as connection:
        for body in (b"x", b"x" * 300_000, b""):
            request = post(body, headers=upgrade)
            connection.send(request[:-1])
            assert (await connection.exchange(request[-1:])).status == 200
            assert server.gateway.exports[-1].body == body
        get = b"GET /healthz HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
        connection.send(get + get)
        assert [(await connection.response()).status for _ in range(2)] == [200, 200]
        assert (await connection.exchange(post(b"y"))).status == 200
        smuggled = post(b"x", method="PUT", headers=upgrade) + get
        refused(await connection.exchange(smuggled), 400, 3)
        assert await connection.closed()


async def test_C010_only_configured_origins_may_read_answers() -> None:
    async with http_server(cors_origins=frozenset({"https://app.example"})) as server:
        known = {"Origin": "https://app.example"}
        response = await server.once(post(method="OPTIONS", headers=known, content_type=None))
        assert response.status == 204
        assert response.headers["access-control-allow-origin"] == "https://app.example"
        assert "access-control-allow-credentials" not in response.headers
        response = await server.once(post(b"x", headers=known))
        assert response.headers["access-control-allow-origin"] == "https://app.example"
        response = await server.once(post(b"x", headers={"Origin": "https://evil.example"}))
        assert "access-control-allow-origin" not in response.headers


async def test_C012_a_client_that_asks_is_told_to_continue() -> None:
    async with http_server(limits=Limits(body_bytes_max=1_000)) as server:
        expect = {"Expect": "100-continue"}
        async with server.connection() as connection:
            connection.send(post(b"", headers=expect, length=5))
            assert (await connection.response(body=False)).status == 100
            assert (await connection.exchange(b"12345")).status == 200
        async with server.connection() as connection:
            response = await connection.exchange(post(b"", headers=expect, length=1_001))
            refused(response, 413, 8)
            assert await connection.closed()


@pytest.mark.parametrize("size", [0, 1, 999, 20_000, 299_999])
async def test_bodies_of_all_sizes_arrive_whole_in_one_piece_and_in_chunks(size: int) -> None:
    body = bytes(index % 251 for index in range(size))
    async with http_server() as server, server.connection() as connection:
        await connection.exchange(post(body))
        pieces = [body[at : at + 7_777] for at in range(0, size, 7_777)]
        headers = {"Transfer-Encoding": "chunked"}
        await connection.exchange(post(chunked(pieces), headers=headers, length=None))
        connection.send(post(body) + post(body))
        assert [(await connection.response()).status for _ in range(2)] == [200, 200]
        assert [export.body for export in server.gateway.exports] == [body] * 4


async def test_a_body_may_come_byte_by_byte_and_split_anywhere() -> None:
    async with http_server() as server, server.connection() as connection:
        for at in range(1, len(post(b"hello")), 7):
            request = post(b"hello")
            connection.send(request[:at])
            await connection.writer.drain()
            await asyncio.sleep(0)
            assert (await connection.exchange(request[at:])).status == 200
        assert {export.body for export in server.gateway.exports} == {b"hello"}


async def test_C023_a_body_at_the_limit_is_taken_and_one_beyond_it_is_not() -> None:
    limits = Limits(body_bytes_max=50_000)
    async with http_server(limits=limits) as server:
        headers = {"Transfer-Encoding": "chunked"}
        assert (await server.once(post(b"x" * 50_000))).status == 200
        refused(await server.once(post(b"x" * 50_001)), 413, 8)
        at_limit = chunked([b"x" * 25_000] * 2)
        assert (await server.once(post(at_limit, headers=headers, length=None))).status == 200
        beyond = chunked([b"x" * 25_000] * 2 + [b"x"])
        response = await server.once(post(beyond, headers=headers, length=None))
        refused(response, 413, 8)
        assert "retry-after" not in response.headers
        assert len(server.gateway.exports) == 2


async def test_C027_L01_a_full_budget_is_told_before_the_body_is_read() -> None:
    gateway = FakeGateway(budget_bytes=100_000)
    gateway.gate = asyncio.Event()
    async with http_server(gateway) as server:
        first = asyncio.create_task(server.once(post(b"x" * 80_000)))
        await until(lambda: gateway.waiting == 1)
        assert gateway.budget.bytes_held == 80_000
        response = await server.once(post(b"", length=20_001))
        refused(response, 503, 14)
        assert int(response.headers["retry-after"]) >= 1
        gateway.gate.set()
        assert (await first).status == 200
        assert (await server.once(post(b"x" * 80_000))).status == 200


async def test_C029_bytes_beyond_content_length_are_another_request() -> None:
    async with http_server() as server, server.connection() as connection:
        connection.send(post(b"12345GARBAGE", length=5))
        assert (await connection.response()).status == 200
        refused(await connection.response(), 400, 3)
        assert await connection.closed()
        assert [export.body for export in server.gateway.exports] == [b"12345"]


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Host: a\0b\r\n",
        " folded: x\r\n",
    ],
)
async def test_C030_ambiguous_framing_is_refused_and_the_connection_closed(headers: str) -> None:
    async with http_server() as server, server.connection() as connection:
        head = (
            f"POST /v1/traces HTTP/1.1\r\nAuthorization: {BEARER}\r\nContent-Type: {PROTOBUF}\r\n"
        )
        refused(await connection.exchange(f"{head}{headers}\r\n12345".encode()), 400, 3)
        assert await connection.closed()
        assert server.gateway.exports == []


ERRORS = [
    (Invalid("bad", field="resource_spans[0]"), 400, 3),
    (Unauthenticated("who"), 401, 16),
    (Forbidden("not you"), 403, 7),
    (TooLarge("much"), 413, 8),
    (RateLimited("slow down", retry_after_seconds=5), 429, 8),
    (Unavailable("full", retry_after_seconds=0.01), 503, 14),
    (Unavailable("full", retry_after_seconds=900), 503, 14),
    (RuntimeError("/etc/secret at 10.0.0.1"), 503, 14),
]


@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
@pytest.mark.parametrize(("error", "http_status", "grpc_code"), ERRORS)
async def test_C041_C043_C045_C050_C053_every_error_has_its_status_and_a_status_body(
    error: Exception, http_status: int, grpc_code: int, content_type: str
) -> None:
    gateway = FakeGateway()
    gateway.answer = error
    async with http_server(gateway) as server, server.connection() as connection:
        response = await connection.exchange(post(b"x", content_type=content_type))
        status = refused(response, http_status, grpc_code)
        assert response.headers["content-type"] == content_type
        # C053: whole seconds, at least 1, only where a retry makes sense.
        retryable = http_status in {429, 503}
        assert ("retry-after" in response.headers) == retryable
        if retryable:
            assert 1 <= int(response.headers["retry-after"]) <= 30
        # C054: nothing of an error that nobody raised on purpose.
        assert "secret" not in status.message
        # C005: a refusal does not cost the connection.
        gateway.answer = Answer()
        assert (await connection.exchange(post(b"x"))).status == 200


async def test_C044_the_field_of_an_undecodable_request_is_named() -> None:
    gateway = FakeGateway()
    gateway.answer = Invalid("bad wire type", field="resource_spans[0]")
    async with http_server(gateway) as server:
        status = status_in(await server.once(post(b"x")))
        details = BadRequest()
        assert status.details[0].Unpack(details)
        (violation,) = details.field_violations
        assert (violation.field, violation.description) == ("resource_spans[0]", "bad wire type")
        response = await server.once(post(b"{}", content_type=JSON))
        (detail,) = json.loads(response.body)["details"]
        assert detail["fieldViolations"][0]["field"] == "resource_spans[0]"


async def test_C052_the_retry_delay_is_positive_and_jittered() -> None:
    gateway = FakeGateway()
    gateway.answer = Unavailable("full", retry_after_seconds=10)
    delays = set()
    async with http_server(gateway) as server:
        for _ in range(20):
            info = RetryInfo()
            assert status_in(await server.once(post(b"x"))).details[0].Unpack(info)
            delays.add(info.retry_delay.ToMilliseconds())
    assert 8_000 <= min(delays) < max(delays) <= 12_000


async def test_411_a_body_needs_a_length() -> None:
    async with http_server() as server:
        refused(await server.once(post(length=None)), 411, 3)


async def test_C055_an_export_that_takes_too_long_is_given_up_as_retryable() -> None:
    gateway = FakeGateway()
    gateway.gate = asyncio.Event()
    async with http_server(
        gateway, limits=Limits(handler_seconds=0.05, tick_seconds=0.02)
    ) as server:
        refused(await server.once(post(b"x")), 503, 14)
        assert gateway.cancelled == 1


async def test_C056_a_client_that_leaves_holds_nothing_back() -> None:
    gateway = FakeGateway()
    gateway.gate = asyncio.Event()
    async with http_server(gateway) as server:
        for request in (post(b"x" * 5, length=10), post(b"x" * 30_000, length=60_000)):
            async with server.connection() as connection:
                connection.send(request)
                await until(lambda: gateway.budget.bytes_held > 0)
            await until(lambda: gateway.budget.bytes_held == 0)
        assert gateway.exports == []
        assert gateway.waiting == 0


async def test_a_client_may_close_its_side_and_still_read_the_answer() -> None:
    gateway = FakeGateway()
    gateway.gate = asyncio.Event()
    async with http_server(gateway) as server, server.connection() as connection:
        connection.send(post(b"x"))
        connection.writer.write_eof()
        await until(lambda: gateway.waiting == 1)
        gateway.gate.set()
        assert (await connection.response()).status == 200
        assert await connection.closed()


async def test_C058_a_bad_key_is_refused_before_the_body_is_read() -> None:
    async with http_server() as server, server.connection() as connection:
        request = post(b"", length=60 << 20, authorization=BAD_BEARER)
        response = await connection.exchange(request)
        refused(response, 401, 16)
        assert response.headers["www-authenticate"].startswith("Bearer")
        assert response.headers["connection"] == "close"
        assert server.gateway.budget.bytes_held == 0
        connection.send(b"x" * 100_000)
        assert await connection.closed()


async def test_C058_a_short_request_with_a_bad_key_keeps_the_connection() -> None:
    async with http_server() as server, server.connection() as connection:
        for _ in range(3):
            request = post(b"x" * 100, authorization=BAD_BEARER, headers={"Content-Encoding": "?"})
            refused(await connection.exchange(request), 401, 16)
        assert (await connection.exchange(post(b"x"))).status == 200


async def test_L13_health_is_told_without_a_key() -> None:
    async with http_server() as server, server.connection() as connection:
        for path in ("/healthz", "/livez", "/readyz"):
            request = f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
            assert (await connection.exchange(request)).status == 200
        server.gateway.reason = "the log is full"
        response = await connection.exchange(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (response.status, json.loads(response.body)["reason"]) == (503, "the log is full")
        connection.send(b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await connection.response(body=False)).status == 200
        assert (await connection.exchange(post(b"x"))).status == 200


async def test_C054_a_defect_before_the_body_is_told_as_retryable_and_without_its_text() -> None:
    gateway = FakeGateway()
    gateway.broken = RuntimeError("/etc/secret at 10.0.0.1")
    async with http_server(gateway) as server, server.connection() as connection:
        status = refused(await connection.exchange(post(b"x")), 503, 14)
        assert "secret" not in status.message
        assert await connection.closed()
        gateway.broken = None
        assert (await server.once(post(b"x"))).status == 200
