"""What operators see of receivers: metrics, shared ports."""

import asyncio
from collections.abc import Callable

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
import pytest
from prometheus_client import REGISTRY

from ingest.exports import Answer
from ingest.receivers.grpc import GrpcReceiver
from ingest.receivers.grpc_grpcio import GrpcioReceiver
from ingest.receivers.http import HttpReceiver
from ingest.receivers.limits import Limits
from ingest.receivers.listener import Receiver
from ingest.receivers.tls import GRPC_PROTOCOLS, ServerTls, TlsFiles
from shared.errors import Conflict, Invalid
from tests.contract.fake_gateway import FakeGateway
from tests.contract.raw_grpc import ENGINES, EXPORT, grpc_server
from tests.contract.raw_http import http_server, post, until

FAST = Limits(tick_seconds=0.01)
RECEIVERS = [HttpReceiver, GrpcReceiver, GrpcioReceiver]


def value_of(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"telemetryflow_ingest_{name}", labels) or 0.0


def growth_of(name: str, **labels: str) -> Callable[[], float]:
    """How much a metric has grown since now."""
    before = value_of(name, **labels)
    return lambda: value_of(name, **labels) - before


async def test_http_requests_bytes_and_connections_are_counted() -> None:
    labels = {"transport": "http", "signal": "traces"}
    good = growth_of("requests_total", outcome="ok", **labels)
    partial = growth_of("requests_total", outcome="partial", **labels)
    invalid = growth_of("requests_total", outcome="invalid", **labels)
    wire = growth_of("wire_bytes_total", transport="http")
    open_connections = growth_of("connections", transport="http")
    refused = growth_of("connections_refused_total", transport="http", reason="connections")
    limits = Limits(tick_seconds=0.01, connections_max=1)
    async with http_server(limits=limits) as server, server.connection() as connection:
        await connection.exchange(post(b"12345"))
        server.gateway.answer = Answer(1, "refused")
        await connection.exchange(post(b"123"))
        server.gateway.answer = Invalid("bad")
        await connection.exchange(post(b"12"))
        await until(lambda: (good(), partial(), invalid(), wire()) == (1, 1, 1, 10))
        assert open_connections() == 1
        async with server.connection() as other:
            assert await other.closed()
        assert refused() == 1
    await until(lambda: open_connections() == 0)


@pytest.mark.parametrize("engine", list(ENGINES))
async def test_grpc_calls_and_bytes_are_counted(engine: str) -> None:
    good = growth_of("requests_total", transport="grpc", signal="traces", outcome="ok")
    unavailable = growth_of("requests_total", transport="grpc", signal="traces", outcome="error")
    wire = growth_of("wire_bytes_total", transport="grpc")
    async with (
        grpc_server(engine, limits=FAST) as server,
        grpc.aio.insecure_channel(server.target) as channel,
    ):
        call = channel.unary_unary(EXPORT)
        await call(b"12345")
        server.gateway.answer = RuntimeError("defect")
        with pytest.raises(grpc.aio.AioRpcError):
            await call(b"123")
        await until(lambda: (good(), unavailable(), wire()) == (1, 1, 8))


@pytest.mark.parametrize("kind", RECEIVERS)
async def test_workers_share_a_port_only_when_told_to(
    kind: Callable[..., Receiver],
) -> None:
    first = kind(FakeGateway(), "127.0.0.1", 0, limits=FAST, reuse_port=True)
    await first.start()
    second = kind(FakeGateway(), "127.0.0.1", first.port, limits=FAST, reuse_port=True)
    await second.start()
    assert second.port == first.port
    alone = kind(FakeGateway(), "127.0.0.1", first.port, limits=FAST)
    with pytest.raises(Conflict, match="in use"):
        await alone.start()
    await asyncio.gather(first.drain(1), second.drain(1))


def test_C107_a_certificate_that_cannot_be_read_is_named(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    missing = tmp_path_factory.mktemp("tls") / "missing.pem"
    with pytest.raises(Invalid, match=r"missing\.pem"):
        ServerTls(TlsFiles(missing, missing), GRPC_PROTOCOLS)
