"""OTLP over gRPC on both engines, driven by a real grpcio client."""

import asyncio
import itertools
import ssl
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
import pytest
from google.rpc.error_details_pb2 import BadRequest, RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from ingest.exports import Answer, Encoding
from ingest.receivers.grpc import GrpcReceiver
from ingest.receivers.limits import Limits
from ingest.receivers.tls import ServerTls
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
from tests.contract.raw_grpc import ENGINES, EXPORT, METHODS, Server, framed, grpc_server
from tests.contract.raw_http import until
from tests.streams import cut

both = pytest.mark.parametrize("engine", list(ENGINES))
AUTHORIZATION = (("authorization", BEARER),)
BAD_AUTHORIZATION = (("authorization", BEARER.replace("tfk_0", "tfk_1")),)
CODES = grpc.StatusCode
SECONDS = 10


def channel_to(server: Server) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(server.target, options=[("grpc.use_local_subchannel_pool", 1)])


async def failed(call: grpc.aio.UnaryUnaryCall) -> tuple[grpc.StatusCode, str, Status]:
    """Code, message and grpc-status-details-bin of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    trailers = dict(caught.value.trailing_metadata() or ())
    details = trailers.get("grpc-status-details-bin", b"")
    return caught.value.code(), caught.value.details(), Status.FromString(details)


@both
@pytest.mark.parametrize("signal", list(Signal))
async def test_C003_every_signal_has_its_service(engine: str, signal: Signal) -> None:
    async with grpc_server(engine) as server, channel_to(server) as channel:
        call = channel.unary_unary(METHODS[signal])
        # C031: full success is an empty message.
        assert await call(b"body", metadata=AUTHORIZATION, timeout=SECONDS) == b""
        (export,) = server.gateway.exports
        assert (export.signal, export.encoding, export.body) == (
            signal,
            Encoding.PROTOBUF,
            b"body",
        )
        assert export.credentials.key_id == KEY_ID


@both
@pytest.mark.parametrize("size", [0, 1, 20_000, 3_000_000])
async def test_C013_messages_of_all_sizes_arrive_plain_and_compressed(
    engine: str, size: int
) -> None:
    body = (b"telemetry" * (size // 9 + 1))[:size]
    async with grpc_server(engine) as server, channel_to(server) as channel:
        call = channel.unary_unary(EXPORT)
        await call(body, timeout=SECONDS)
        await call(body, timeout=SECONDS, compression=grpc.Compression.Gzip)
        assert [export.body for export in server.gateway.exports] == [body, body]


async def test_C006_C101_more_calls_than_streams_are_all_answered() -> None:
    gateway = FakeGateway()
    limits = Limits(streams_max=16)
    async with grpc_server(gateway=gateway, limits=limits) as server, channel_to(server) as channel:
        call = channel.unary_unary(EXPORT)
        # The first answer brings the limit to the client.
        await call(b"first", timeout=SECONDS)
        gateway.gate = asyncio.Event()
        calls = asyncio.gather(*(call(b"%d" % n, timeout=SECONDS) for n in range(64)))
        await until(lambda: gateway.waiting == 16)
        gateway.gate.set()
        assert await calls == [b""] * 64
        assert gateway.waiting_max == 16
        assert len({export.body for export in gateway.exports}) == 65


@both
async def test_C025_a_message_beyond_the_limit_is_not_retryable(engine: str) -> None:
    limits = Limits(body_bytes_max=100_000)
    async with grpc_server(engine, limits=limits) as server, channel_to(server) as channel:
        call = channel.unary_unary(EXPORT)
        assert await call(bytes(100_000), timeout=SECONDS) == b""
        gzip = grpc.Compression.Gzip
        assert await call(bytes(100_000), timeout=SECONDS, compression=gzip) == b""
        for compression in (None, gzip):
            for size in (100_001, 5_000_000):
                code, _, status = await failed(
                    call(bytes(size), timeout=SECONDS, compression=compression)
                )
                assert code is CODES.RESOURCE_EXHAUSTED
                assert not any(detail.Is(RetryInfo.DESCRIPTOR) for detail in status.details)
        assert len(server.gateway.exports) == 2


async def test_C027_L01_a_full_budget_is_told_before_the_message_is_read() -> None:
    gateway = FakeGateway(budget_bytes=1_000_000)
    gateway.gate = asyncio.Event()
    async with grpc_server(gateway=gateway) as server, channel_to(server) as channel:
        call = channel.unary_unary(EXPORT)
        first = asyncio.ensure_future(call(bytes(800_000), timeout=SECONDS))
        await until(lambda: gateway.waiting == 1)
        code, _, status = await failed(call(bytes(800_000), timeout=SECONDS))
        assert code is CODES.UNAVAILABLE
        assert status.details[0].Is(RetryInfo.DESCRIPTOR)
        code, _, _ = await failed(
            call(bytes(5_000_000), timeout=SECONDS, compression=grpc.Compression.Gzip)
        )
        assert code is CODES.UNAVAILABLE
        gateway.gate.set()
        assert await first == b""


@both
async def test_C034_partial_success_and_C037_warnings_are_told(engine: str) -> None:
    gateway = FakeGateway()
    async with grpc_server(engine, gateway) as server, channel_to(server) as channel:
        call = channel.unary_unary(
            EXPORT, response_deserializer=ExportTraceServiceResponse.FromString
        )
        for answer in (Answer(2, "2 of 3 refused"), Answer(0, "clocks differ"), Answer(1 << 40)):
            gateway.answer = answer
            partial = (await call(b"x", timeout=SECONDS)).partial_success
            assert (partial.rejected_spans, partial.error_message) == (
                answer.rejected,
                answer.message,
            )


ERRORS = [
    (Invalid("bad", field="resource_spans[0]"), CODES.INVALID_ARGUMENT, BadRequest),
    (Unauthenticated("who"), CODES.UNAUTHENTICATED, None),
    (Forbidden("not you: 100 % ünsure\n"), CODES.PERMISSION_DENIED, None),
    (TooLarge("much"), CODES.RESOURCE_EXHAUSTED, None),
    (RateLimited("slow down", retry_after_seconds=5), CODES.RESOURCE_EXHAUSTED, RetryInfo),
    (Unavailable("full", retry_after_seconds=900), CODES.UNAVAILABLE, RetryInfo),
    (RuntimeError("/etc/secret at 10.0.0.1"), CODES.UNAVAILABLE, RetryInfo),
]


@both
@pytest.mark.parametrize(("error", "code", "detail"), ERRORS)
async def test_C041_C042_C050_C051_C054_every_error_has_its_code_and_details(
    engine: str,
    error: Exception,
    code: grpc.StatusCode,
    detail: type[BadRequest | RetryInfo] | None,
) -> None:
    gateway = FakeGateway()
    gateway.answer = error
    async with grpc_server(engine, gateway) as server, channel_to(server) as channel:
        call = channel.unary_unary(EXPORT)
        got, message, status = await failed(call(b"x", timeout=SECONDS))
        assert got is code
        assert (status.code, status.message) == (code.value[0], message)
        if isinstance(error, RuntimeError):
            assert "secret" not in message
        else:
            assert message == str(error)
        if detail is None:
            assert not status.details
            return
        unpacked = detail()
        assert status.details[0].Unpack(unpacked)
        if isinstance(unpacked, RetryInfo):
            assert 0 < unpacked.retry_delay.ToMilliseconds() <= 30_000
        else:
            assert unpacked.field_violations[0].field == "resource_spans[0]"


@both
async def test_C054_a_defect_before_the_message_is_told_as_retryable(engine: str) -> None:
    gateway = FakeGateway()
    gateway.broken = RuntimeError("/etc/secret at 10.0.0.1")
    async with grpc_server(engine, gateway) as server, channel_to(server) as channel:
        code, message, _ = await failed(channel.unary_unary(EXPORT)(b"x", timeout=SECONDS))
        assert code is CODES.UNAVAILABLE
        assert "secret" not in message


@both
async def test_C058_bad_credentials_are_refused(engine: str) -> None:
    async with grpc_server(engine) as server, channel_to(server) as channel:
        call = channel.unary_unary(EXPORT)
        for metadata in (
            BAD_AUTHORIZATION,
            (("authorization", "Bearer nonsense"),),
            AUTHORIZATION * 2,
            (*AUTHORIZATION, ("x-api-key", f"{KEY_ID[:-1]}0:{SECRET}")),
        ):
            code, message, _ = await failed(
                call(bytes(300_000), metadata=metadata, timeout=SECONDS)
            )
            assert code is CODES.UNAUTHENTICATED
            assert SECRET not in message
        assert server.gateway.exports == []


@both
async def test_C058_a_bad_key_is_refused_before_the_message_is_read(engine: str) -> None:
    async with grpc_server(engine) as server, server.raw() as raw:
        stream_id = raw.open({"authorization": BAD_AUTHORIZATION[0][1]})
        # The prefix of a large message, of which nothing else ever comes.
        raw.session.send_data(stream_id, framed(b"x" * 100, length=60 << 20))
        assert (await raw.fields(stream_id))["grpc-status"] == "16"
        assert server.gateway.budget.bytes_held == 0


@both
async def test_C105_all_kinds_of_metadata_name_the_key(engine: str) -> None:
    async with grpc_server(engine) as server, channel_to(server) as channel:
        call = channel.unary_unary(EXPORT)
        for metadata in (
            AUTHORIZATION,
            (("x-api-key", f"{KEY_ID}:{SECRET}"),),
            (("x-api-key-id", KEY_ID), ("x-api-key-secret", SECRET)),
            (("x-telemetryflow-key-id", KEY_ID), ("x-telemetryflow-key-secret", SECRET)),
        ):
            await call(b"x", metadata=(*metadata, ("x-tenant-id", "acme")), timeout=SECONDS)
        for export in server.gateway.exports:
            assert (export.credentials.key_id, export.credentials.secret) == (KEY_ID, SECRET)
            assert export.credentials.tenant_id == "acme"


@both
async def test_C002_unknown_methods_are_unimplemented(engine: str) -> None:
    async with grpc_server(engine) as server, channel_to(server) as channel:
        for method in ("/x.Y/Z", EXPORT + "s", "/grpc.reflection.v1.ServerReflection/Info"):
            code, _, _ = await failed(channel.unary_unary(method)(b"x", timeout=SECONDS))
            assert code is CODES.UNIMPLEMENTED


@both
async def test_C055_a_deadline_cancels_the_waiting_and_the_call_is_answered(engine: str) -> None:
    gateway = FakeGateway()
    gateway.gate = asyncio.Event()
    limits = Limits(tick_seconds=0.02)
    async with grpc_server(engine, gateway, limits=limits) as server, channel_to(server) as channel:
        call = channel.unary_unary(EXPORT)
        code, _, _ = await failed(call(b"x", timeout=0.1))
        assert code is CODES.DEADLINE_EXCEEDED
        await until(lambda: gateway.cancelled == 1)
        assert gateway.waiting == 0


@both
async def test_an_export_that_takes_too_long_is_given_up_as_retryable(engine: str) -> None:
    gateway = FakeGateway()
    gateway.gate = asyncio.Event()
    limits = Limits(handler_seconds=0.05, tick_seconds=0.02)
    async with grpc_server(engine, gateway, limits=limits) as server, channel_to(server) as channel:
        code, _, status = await failed(channel.unary_unary(EXPORT)(b"x", timeout=SECONDS))
        assert code is CODES.UNAVAILABLE
        assert status.details[0].Is(RetryInfo.DESCRIPTOR)


@both
async def test_C055_a_call_that_the_client_cancels_is_cancelled(engine: str) -> None:
    gateway = FakeGateway()
    gateway.gate = asyncio.Event()
    async with grpc_server(engine, gateway) as server, channel_to(server) as channel:
        call = channel.unary_unary(EXPORT)(b"x", timeout=SECONDS)
        await until(lambda: gateway.waiting == 1)
        call.cancel()
        await until(lambda: gateway.cancelled == 1)
        await until(lambda: gateway.budget.bytes_held == 0)
        gateway.gate = None
        assert await channel.unary_unary(EXPORT)(b"x", timeout=SECONDS) == b""


@both
async def test_C104_health_is_told_and_watched(engine: str) -> None:
    limits = Limits(tick_seconds=0.02)
    async with grpc_server(engine, limits=limits) as server, channel_to(server) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            HealthCheckRequest.SerializeToString,
            HealthCheckResponse.FromString,
        )
        watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            HealthCheckRequest.SerializeToString,
            HealthCheckResponse.FromString,
        )
        serving, not_serving = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
        for service in ("", EXPORT.split("/")[1]):
            request = HealthCheckRequest(service=service)
            assert (await check(request, timeout=SECONDS)).status == serving
        unknown = HealthCheckRequest(service="x.Y")
        code, _, _ = await failed(check(unknown, timeout=SECONDS))
        assert code is CODES.NOT_FOUND
        watching = watch(unknown, timeout=SECONDS)
        assert (await watching.read()).status == HealthCheckResponse.SERVICE_UNKNOWN
        watching.cancel()
        watching = watch(HealthCheckRequest(), timeout=SECONDS)
        assert (await watching.read()).status == serving
        server.gateway.reason = "the log is full"
        assert (await watching.read()).status == not_serving
        server.gateway.reason = None
        assert (await watching.read()).status == serving
        watching.cancel()


@both
async def test_L11_calls_in_flight_are_answered_when_the_receiver_drains(engine: str) -> None:
    gateway = FakeGateway()
    gateway.gate = asyncio.Event()
    async with grpc_server(engine, gateway) as server, channel_to(server) as channel:
        calls = [channel.unary_unary(EXPORT)(b"x", timeout=SECONDS) for _ in range(8)]
        await until(lambda: gateway.waiting == 8)
        server.receiver.stop_accepting()
        draining = asyncio.create_task(server.receiver.drain(10))
        await asyncio.sleep(0)
        gateway.gate.set()
        assert [await call for call in calls] == [b""] * 8
        await draining


async def test_C102_an_old_connection_is_replaced_without_a_failed_call() -> None:
    limits = Limits(connection_age_seconds=0.1, tick_seconds=0.01)
    async with grpc_server(limits=limits) as server, channel_to(server) as channel:
        call = channel.unary_unary(EXPORT)
        receiver = server.receiver
        assert isinstance(receiver, GrpcReceiver)
        seen = set()
        for number in itertools.count():
            assert await call(b"%d" % number, timeout=SECONDS) == b""
            seen |= set(receiver.connections)
            if len(seen) >= 4:
                break
        assert len(server.gateway.exports) == number + 1


async def test_C107_grpc_is_served_over_tls(
    grpc_tls: ServerTls, certificate: tuple[Path, Path]
) -> None:
    gateway = FakeGateway()
    receiver = GrpcReceiver(gateway, "127.0.0.1", 0, limits=Limits(), tls=grpc_tls)
    await receiver.start()
    credentials = grpc.ssl_channel_credentials(certificate[0].read_bytes())
    target = f"localhost:{receiver.port}"
    async with grpc.aio.secure_channel(target, credentials) as channel:
        for size in (3, 2_000_000):
            assert await channel.unary_unary(EXPORT)(bytes(size), timeout=SECONDS) == b""
    async with grpc.aio.insecure_channel(target) as channel:
        code, _, _ = await failed(channel.unary_unary(EXPORT)(b"x", timeout=SECONDS))
        assert code is CODES.UNAVAILABLE
    # A client that did not agree to HTTP/2 is not served.
    client = ssl.create_default_context(cafile=certificate[0])
    reader, writer = await asyncio.open_connection("localhost", receiver.port, ssl=client)
    async with asyncio.timeout(SECONDS):
        assert await reader.read() == b""
    await cut(writer)
    await receiver.drain(1)
    assert [len(export.body) for export in gateway.exports] == [3, 2_000_000]
