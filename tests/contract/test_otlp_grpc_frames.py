"""OTLP/gRPC frame by frame: what no client library would send, and what it costs."""

import asyncio
import gzip
from collections.abc import Callable

import pytest
from backports import zstd
from ngh2 import GoAwayReceived, PingAcknowledged, StreamReset

from ingest.receivers.limits import Limits
from tests.contract.fake_gateway import BUDGET_BYTES, FakeGateway
from tests.contract.raw_grpc import ENGINES, EXPORT, RawGrpc, framed, grpc_server
from tests.contract.raw_http import SECONDS_MAX, until
from tests.streams import cut

both = pytest.mark.parametrize("engine", list(ENGINES))
OK, INVALID, EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = "0", "3", "8", "12", "13", "14"
COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress}
HEALTH = "/grpc.health.v1.Health/Check"
# grpcio hands on the first message, lets a cut one behind it be, and looks at one bit of the flag.
TAKEN_BY_GRPCIO = (framed(b"123", length=2), framed(b"123") + b"\0", framed(b"123", flag=2))


async def status_of(raw: RawGrpc, data: bytes, headers: dict[str, str] | None = None) -> str:
    return (await raw.call(data, headers))["grpc-status"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", INTERNAL),
        (b"\0\0", INTERNAL),
        (framed(b"123", length=4), INTERNAL),
        (framed(b"123", length=2), INTERNAL),
        (framed(b"123") + framed(b"456"), INTERNAL),
        (framed(b"123") + b"\0", INTERNAL),
        (framed(b"123", flag=2), INTERNAL),
        (framed(b"123", flag=1), INTERNAL),
        (framed(b"", length=0xFFFFFFFF), EXHAUSTED),
    ],
)
@both
async def test_C106_a_call_is_one_whole_message(engine: str, data: bytes, status: str) -> None:
    async with grpc_server(engine) as server, server.raw() as raw:
        taken = engine == "grpcio" and data in TAKEN_BY_GRPCIO
        assert await status_of(raw, data) == (OK if taken else status)
        assert len(server.gateway.exports) == taken
        if engine == "ngh2":
            packed = framed(gzip.compress(b"123"), flag=2)
            assert await status_of(raw, packed, {"grpc-encoding": "gzip"}) == INTERNAL
        assert await status_of(raw, framed(b"123")) == OK


async def test_a_message_may_come_in_any_pieces() -> None:
    async with grpc_server() as server, server.raw() as raw:
        data = framed(b"hello")
        for at in range(1, len(data)):
            stream_id = raw.open()
            raw.session.send_data(stream_id, data[:at])
            raw.flush()
            raw.session.send_data(stream_id, data[at:])
            raw.flush()
            raw.session.end_stream(stream_id)
            assert (await raw.fields(stream_id))["grpc-status"] == OK
        assert {export.body for export in server.gateway.exports} == {b"hello"}
        assert len(server.gateway.exports) == len(data) - 1


@pytest.mark.parametrize("name", ["gzip", "zstd", "identity"])
async def test_C013_compressed_messages_and_plain_ones_in_such_calls(name: str) -> None:
    compress = COMPRESS.get(name)
    async with grpc_server() as server, server.raw() as raw:
        headers = {"grpc-encoding": name}
        assert await status_of(raw, framed(b"plain"), headers) == OK
        if compress is not None:
            data = framed(compress(b"packed"), flag=1)
            assert await status_of(raw, data, headers) == OK
            cut = framed(compress(b"packed")[:-1], flag=1)
            assert await status_of(raw, cut, headers) == INVALID
        bodies = [export.body for export in server.gateway.exports]
        assert bodies == [b"plain", b"packed"][: len(bodies)]


@both
async def test_C021_an_unknown_message_encoding_is_unimplemented(engine: str) -> None:
    async with grpc_server(engine) as server, server.raw() as raw:
        answer = await raw.call(framed(b"x", flag=1), {"grpc-encoding": "snappy"})
        # INTERNAL is what grpcio says of an encoding that it has never heard of.
        assert answer["grpc-status"] == (UNIMPLEMENTED if engine == "ngh2" else INTERNAL)
        assert server.gateway.exports == []
        if engine == "ngh2":
            assert answer["grpc-accept-encoding"] == "identity,gzip,zstd"
        assert await status_of(raw, framed(b"x")) == OK


async def test_C024_S01_a_compression_bomb_is_exhausted_or_unavailable() -> None:
    bomb = framed(gzip.compress(bytes(3 * BUDGET_BYTES)), flag=1)
    for limits, status in (
        (Limits(body_bytes_max=1_000_000), EXHAUSTED),
        (Limits(), UNAVAILABLE),
    ):
        async with grpc_server(limits=limits) as server, server.raw() as raw:
            assert await status_of(raw, bomb, {"grpc-encoding": "gzip"}) == status
            assert server.gateway.budget.bytes_held == 0


@pytest.mark.parametrize(
    ("headers", "http_status"),
    [
        ({"content-type": "application/grpc-web"}, "415"),
        ({"content-type": "application/grpc+json"}, "415"),
        ({"content-type": "application/json"}, "415"),
        ({"content-type": ""}, "415"),
        ({":method": "PUT"}, "405"),
    ],
)
async def test_C108_what_is_not_grpc_is_refused_by_http_status(
    headers: dict[str, str], http_status: str
) -> None:
    async with grpc_server() as server, server.raw() as raw:
        assert (await raw.call(framed(b"x"), headers))[":status"] == http_status
        good = {"content-type": "application/grpc+proto"}
        assert await status_of(raw, framed(b"x"), good) == OK


@pytest.mark.parametrize("timeout", ["", "1", "S", "x1S", "123456789S", "-1S", "1.5S"])
async def test_a_malformed_timeout_is_invalid(timeout: str) -> None:
    async with grpc_server() as server, server.raw() as raw:
        expected = INVALID if timeout else OK
        assert await status_of(raw, framed(b"x"), {"grpc-timeout": timeout}) == expected
        for good in ("1H", "1M", "9S", "9000m", "9000000u", "99999999n"):
            assert await status_of(raw, framed(b"x"), {"grpc-timeout": good}) == OK


@both
async def test_C103_metadata_beyond_the_limit_costs_the_call_only(engine: str) -> None:
    async with grpc_server(engine) as server, server.raw() as raw:
        large = {f"x-{number}": "v" * 1_000 for number in range(17)}
        assert await status_of(raw, framed(b"x"), large) == EXHAUSTED
        many = {f"x-{number}": "v" for number in range(120)}
        assert await status_of(raw, framed(b"x"), many) == EXHAUSTED
        binary = {"x-bin": "this is not base64!", "grpc-trace-bin": "%%%"}
        # Ours does not decode what nobody reads; grpcio refuses the call.
        assert await status_of(raw, framed(b"x"), binary) == (OK if engine == "ngh2" else INTERNAL)
        assert await status_of(raw, framed(b"x")) == OK


async def test_S02_header_blocks_without_end_cost_the_connection() -> None:
    async with grpc_server() as server, server.raw() as raw:
        raw.open({f"x-{number}": "v" * 8_000 for number in range(7)})
        raw.open({f"x-{number}": "v" * 16_000 for number in range(7)})
        assert await raw.closed()
        async with server.raw() as other:
            assert await status_of(other, framed(b"x")) == OK


async def test_C100_a_client_may_ping_but_not_without_end() -> None:
    async with grpc_server(limits=Limits(pings_max=20)) as server:
        async with server.raw() as raw:
            for _ in range(20):
                raw.session.ping()
            assert await status_of(raw, framed(b"x")) == OK
            assert sum(isinstance(event, PingAcknowledged) for event in raw.seen) == 20
        async with server.raw() as raw:
            for _ in range(21):
                raw.session.ping()
            assert await raw.closed()
            (goaway,) = [event for event in raw.seen if isinstance(event, GoAwayReceived)]
            assert (goaway.error_code, goaway.debug_data) == (11, b"too_many_pings")


async def test_S02_rapid_resets_leave_no_calls_behind() -> None:
    gateway = FakeGateway()
    gateway.gate = asyncio.Event()
    async with grpc_server(gateway=gateway) as server:
        async with server.raw() as raw:
            for _ in range(3_000):
                stream_id = raw.open()
                raw.session.send_data(stream_id, framed(b"x"), end_stream=True)
                raw.flush()
                raw.session.reset_stream(stream_id)
                raw.flush()
            assert await raw.closed()
        await until(lambda: gateway.waiting == 0 and gateway.budget.bytes_held == 0)
        assert gateway.waiting_max <= 128
        gateway.gate = None
        async with server.raw() as other:
            assert await status_of(other, framed(b"x")) == OK


async def test_not_http2_is_answered_with_goaway_and_closed() -> None:
    async with grpc_server() as server, server.raw() as raw:
        raw.session.data_to_send()
        raw.writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(SECONDS_MAX):
            data = await raw.reader.read()
        assert data.endswith(b"\x00\x00\x08\x07" + bytes(5) + bytes(4) + b"\x00\x00\x00\x01")


async def test_S06_silence_and_dripping_messages_are_given_up() -> None:
    limits = Limits(
        header_seconds=0.1, body_grace_seconds=0.1, grpc_idle_seconds=0.3, tick_seconds=0.02
    )
    async with grpc_server(limits=limits) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.receiver.port)
        async with asyncio.timeout(SECONDS_MAX):
            await reader.read()
        await cut(writer)
        async with server.raw() as raw:
            stream_id = raw.open()
            raw.session.send_data(stream_id, framed(b"", length=1_000))
            assert (await raw.fields(stream_id))["grpc-status"] == "4"
            assert server.gateway.budget.bytes_held == 0
            assert await raw.closed()


async def test_a_refused_call_is_told_to_send_no_more() -> None:
    async with grpc_server() as server, server.raw() as raw:
        stream_id = raw.open({"authorization": "Bearer x"})
        assert (await raw.fields(stream_id))["grpc-status"] == "16"
        async with asyncio.timeout(SECONDS_MAX):
            while not any(isinstance(event, StreamReset) for event in raw.seen):
                assert await raw.read()
        resets = [event for event in raw.seen if isinstance(event, StreamReset)]
        assert [(event.stream_id, event.error_code) for event in resets] == [(stream_id, 0)]
        assert await status_of(raw, framed(b"x")) == OK


async def test_a_client_that_does_not_let_answers_through_is_cut_off() -> None:
    limits = Limits(write_stalled_seconds=0.1, tick_seconds=0.02)
    async with grpc_server(limits=limits) as server, server.raw() as raw:
        raw.session.update_settings({4: 0})
        raw.session.send_data(raw.open(), framed(b"x"), end_stream=True)
        assert await raw.closed()
        assert len(server.gateway.exports) == 1


async def test_C104_health_needs_no_key_and_refuses_nonsense() -> None:
    async with grpc_server() as server, server.raw() as raw:
        none = {"authorization": ""}
        assert (await raw.call(framed(b""), none, path=HEALTH))["grpc-status"] == OK
        answer = await raw.call(framed(b"\xff\xff"), none, path=HEALTH)
        assert answer["grpc-status"] == INVALID


@pytest.mark.parametrize(
    ("headers", "path"),
    [
        ({"authorization": "Bearer x"}, EXPORT),
        ({"content-type": "text/plain"}, EXPORT),
        ({}, "/x.Y/Z"),
        ({}, EXPORT),
        ({}, HEALTH),
        ({}, HEALTH.replace("Check", "Watch")),
    ],
)
async def test_a_call_reset_in_the_bytes_that_opened_it_costs_nothing_else(
    headers: dict[str, str], path: str
) -> None:
    async with grpc_server() as server, server.raw() as raw:
        assert await status_of(raw, framed(b"x")) == OK
        for with_data in (False, True):
            stream_id = raw.open(headers, path=path)
            if with_data:
                raw.session.send_data(stream_id, framed(b""), end_stream=True)
            data = raw.session.data_to_send()
            raw.session.reset_stream(stream_id)
            raw.writer.write(data + raw.session.data_to_send())
        assert await status_of(raw, framed(b"x")) == OK
