"""The endpoint under test, ours or one that the command line names, and the ways to send to it."""

from collections.abc import Iterator

import pytest

from ingest.signals import Signal
from tests.contract.otlp.endpoint import FOREIGN_PLUGIN, HTTP, Endpoint
from tests.contract.otlp.own_product import OwnProduct
from tests.contract.otlp.senders import GrpcSender, HttpSender, Sender
from tests.contract.raw_http import JSON, PROTOBUF

OWN_GRPC = ("grpc-ngh2", "grpc-grpcio")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test runs for each signal, and for each way to send that it asks for."""
    foreign = metafunc.config.pluginmanager.get_plugin(FOREIGN_PLUGIN)
    grpc = OWN_GRPC if foreign is None else tuple(foreign.endpoint.grpc)
    ways = {"sender": (*grpc, *HTTP), "http": HTTP, "grpc": grpc, "protobuf": (*grpc, HTTP[0])}
    for name, values in ways.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values, indirect=True, scope="session")
    if "signal" in metafunc.fixturenames:
        metafunc.parametrize("signal", list(Signal), ids=str)


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnProduct]:
    """Our own product, for what only it promises."""
    with OwnProduct(tmp_path_factory.mktemp("otlp")) as started:
        yield started


@pytest.fixture(scope="session")
def endpoint(request: pytest.FixtureRequest) -> Endpoint:
    """The endpoint under test."""
    foreign = request.config.pluginmanager.get_plugin(FOREIGN_PLUGIN)
    if foreign is not None:
        named: Endpoint = foreign.endpoint
        return named
    own: OwnProduct = request.getfixturevalue("product")
    return own.endpoint()


@pytest.fixture(scope="session")
def senders(endpoint: Endpoint) -> Iterator[dict[str, Sender]]:
    """All ways to send, by name."""
    grpc = {
        name: GrpcSender(name, address, endpoint.credentials, strict=endpoint.is_ours)
        for name, address in endpoint.grpc.items()
    }
    yield {
        **grpc,
        **{
            name: HttpSender(
                endpoint.http, content_type, endpoint.credentials, strict=endpoint.is_ours
            )
            for name, content_type in zip(HTTP, (PROTOBUF, JSON), strict=True)
        },
    }
    for one in grpc.values():
        one.close()


@pytest.fixture(scope="session")
def sender(request: pytest.FixtureRequest, senders: dict[str, Sender]) -> Sender:
    """Any way to send."""
    return senders[request.param]


@pytest.fixture(scope="session")
def protobuf(request: pytest.FixtureRequest, senders: dict[str, Sender]) -> Sender:
    """A way to send that takes bytes of protobuf."""
    return senders[request.param]


@pytest.fixture(scope="session")
def http(request: pytest.FixtureRequest, senders: dict[str, Sender]) -> Sender:
    """An encoding of HTTP."""
    return senders[request.param]


@pytest.fixture(scope="session")
def grpc(request: pytest.FixtureRequest, senders: dict[str, Sender]) -> Sender:
    """An engine of gRPC."""
    return senders[request.param]
