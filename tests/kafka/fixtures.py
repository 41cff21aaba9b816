"""Brokers for tests. Without Java or Maven the tests that ask for one are skipped."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.kafka.broker import Broker, Cluster
from tests.kafka.jars import ToolsMissing, jars
from tests.kafka.security import Security


class StartBroker(Protocol):
    """Starts a broker that ends with the test."""

    def __call__(
        self,
        *,
        port: int | None = None,
        advertised_port: int | None = None,
        security: Security | None = None,
        **config: str | int,
    ) -> Broker:
        """*config* names properties with `_` for `.`; for the rest see Broker."""


@pytest.fixture(scope="session")
def kafka_installed() -> None:
    """The jars are there, or the test is skipped."""
    try:
        jars()
    except ToolsMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def kafka(kafka_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for all tests of this process: each uses topics and groups of its own."""
    broker = Broker(tmp_path_factory.mktemp("kafka") / "data")
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@pytest.fixture
def own_broker(kafka_installed: None, tmp_path: Path) -> Iterator[StartBroker]:
    """Starts brokers of this test alone, which it may kill."""
    brokers: list[Broker] = []

    def start(
        *,
        port: int | None = None,
        advertised_port: int | None = None,
        security: Security | None = None,
        **config: str | int,
    ) -> Broker:
        broker = Broker(
            tmp_path / f"broker-{len(brokers)}",
            {name.replace("_", "."): value for name, value in config.items()},
            port=port,
            advertised_port=advertised_port,
            security=security,
        )
        brokers.append(broker)
        broker.start()
        return broker

    yield start
    for broker in brokers:
        broker.kill()


@pytest.fixture
def kafka_cluster(kafka_installed: None, tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes of this test alone, which it may kill."""
    cluster = Cluster(tmp_path / "cluster")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


@pytest.fixture(scope="session")
def kafka_security(tmp_path_factory: pytest.TempPathFactory) -> Security:
    """Certificates and passwords for `own_broker(security=…)`."""
    return Security.create(tmp_path_factory.mktemp("security"))


@pytest.fixture(scope="session")
def secure_broker(
    kafka_installed: None, kafka_security: Security, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Broker, Security]]:
    """A broker with listeners for passwords and certificates, and what its clients need."""
    broker = Broker(tmp_path_factory.mktemp("secure") / "data", security=kafka_security)
    try:
        broker.start()
        yield broker, kafka_security
    finally:
        broker.stop()
