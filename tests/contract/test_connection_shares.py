"""No tenant takes all connections of a receiver, however many clients it has."""

from base64 import b64decode
from contextlib import AsyncExitStack

from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from ingest.directory import Principal
from ingest.receivers.limits import Limits
from ingest.signals import Signal
from shared.security.credentials import Credentials
from tests.contract.fake_gateway import SECRET, FakeGateway
from tests.contract.raw_grpc import framed, grpc_server
from tests.contract.raw_http import http_server, post, until
from tests.contract.test_receiver_operation import growth_of

# Of five connections one tenant gets four: a fifth would leave no room for anybody.
LIMITS = Limits(connections_max=5, tick_seconds=0.05)
SHARE = 4
OTHER = f"Bearer tfk_{'f' * 32}:{SECRET}"


class TwoTenants(FakeGateway):
    """Each key is that of a tenant of its own."""

    def authenticate(self, credentials: Credentials, signal: Signal) -> Principal:
        return Principal(credentials.key_id or "", 30)


async def test_L08_a_tenant_with_its_share_of_http_connections_leaves_others_theirs() -> None:
    refused = growth_of(
        "connections_refused_total", transport="http", reason="connections_per_tenant"
    )
    async with AsyncExitStack() as held, http_server(TwoTenants(), limits=LIMITS) as server:
        for _ in range(SHARE):
            one = await held.enter_async_context(server.connection())
            assert (await one.exchange(post(b"x"))).status == 200
        async with server.connection() as another:
            answer = await another.exchange(post(b"x"))
            assert (answer.status, answer.headers["connection"]) == (503, "close")
            assert int(answer.headers["retry-after"]) >= 1
            assert await another.closed()
        assert refused() == 1
        await until(lambda: len(server.receiver.connections) == SHARE)
        assert (await server.once(post(b"x", authorization=OTHER))).status == 200
        # What the tenant has goes on, and when one of them ends there is room for another.
        assert (await one.exchange(post(b"x"))).status == 200
        one.writer.close()
        await until(lambda: len(server.receiver.connections) == SHARE - 1)
        assert (await server.once(post(b"x"))).status == 200


async def test_L08_a_tenant_with_its_share_of_grpc_connections_leaves_others_theirs() -> None:
    refused = growth_of(
        "connections_refused_total", transport="grpc", reason="connections_per_tenant"
    )
    async with (
        AsyncExitStack() as held,
        grpc_server("ngh2", TwoTenants(), limits=LIMITS) as server,
    ):
        for _ in range(SHARE):
            one = await held.enter_async_context(server.raw())
            assert (await one.call(framed(b"x")))["grpc-status"] == "0"
        async with server.raw() as another:
            answer = await another.call(framed(b"x"))
            assert answer["grpc-status"] == "14"
            details = Status.FromString(b64decode(answer["grpc-status-details-bin"] + "=="))
            assert details.details[0].Is(RetryInfo.DESCRIPTOR)
            assert await another.closed()
        assert refused() == 1
        async with server.raw() as other:
            assert (await other.call(framed(b"x"), {"authorization": OTHER}))["grpc-status"] == "0"
        assert (await one.call(framed(b"x")))["grpc-status"] == "0"
        one.writer.close()
        async with server.raw() as next_one:
            assert (await next_one.call(framed(b"x")))["grpc-status"] == "0"
