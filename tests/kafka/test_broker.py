"""The brokers that other tests trust: what is killed is dead, what was acknowledged is there."""

import asyncio
import errno
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, UnknownTopicOrPartitionError

from tests.integration.shared.embedded_server import wait_until
from tests.kafka import jars
from tests.kafka.broker import Broker, Cluster
from tests.kafka.fixtures import StartBroker
from tests.kafka.security import PASSWORD, SCRAM_MECHANISMS, USERNAME, Security
from tests.kafka.topics import create_topic

ROOT: Final = Path(__file__).parents[2]
RECORDS: Final = [b"record %d" % number for number in range(100)]


@asynccontextmanager
async def producing(bootstrap: str, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", **options)
    try:
        await producer.start()
        yield producer
    finally:
        await producer.stop()


async def produce(producer: AIOKafkaProducer, topic: str, records: Iterable[bytes]) -> None:
    for record in records:
        await asyncio.wait_for(producer.send_and_wait(topic, record), 20)


async def read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        return [(await asyncio.wait_for(consumer.getone(), 20)).value or b"" for _ in range(count)]
    finally:
        await consumer.stop()


def refuses(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


async def test_what_a_killed_broker_acknowledged_is_there_after_its_restart(
    own_broker: StartBroker,
) -> None:
    broker = own_broker()
    topic = await create_topic(broker.bootstrap)
    async with producing(broker.bootstrap) as producer:
        await produce(producer, topic, RECORDS)

    broker.kill()
    assert refuses(broker.port)
    broker.start()

    assert await read(broker.bootstrap, topic, len(RECORDS)) == RECORDS


async def test_a_paused_broker_holds_connections_and_goes_on_when_resumed(
    own_broker: StartBroker,
) -> None:
    broker = own_broker()
    topic = await create_topic(broker.bootstrap)
    async with producing(broker.bootstrap) as producer:
        await produce(producer, topic, RECORDS[:1])

        broker.pause()
        waiting = await producer.send(topic, RECORDS[1])
        done, _ = await asyncio.wait([waiting], timeout=1)
        assert not done
        broker.resume()

        await asyncio.wait_for(waiting, 20)
    assert await read(broker.bootstrap, topic, 2) == RECORDS[:2]


async def test_topics_of_one_shared_broker_do_not_meet(kafka: Broker) -> None:
    first, second = [await create_topic(kafka.bootstrap) for _ in range(2)]
    async with producing(kafka.bootstrap) as producer:
        await produce(producer, first, RECORDS[:2])
        await produce(producer, second, RECORDS[2:4])

    assert await read(kafka.bootstrap, first, 2) == RECORDS[:2]
    assert await read(kafka.bootstrap, second, 2) == RECORDS[2:4]


async def test_nobody_makes_a_topic_by_asking_for_it(kafka: Broker) -> None:
    async with producing(kafka.bootstrap, request_timeout_ms=1_000) as producer:
        with pytest.raises(UnknownTopicOrPartitionError):
            await producer.send("nobody-made-this", b"")


async def test_clients_are_sent_to_the_advertised_port(own_broker: StartBroker) -> None:
    broker = own_broker(advertised_port=1)
    async with producing(f"127.0.0.1:{broker.port}", request_timeout_ms=1_000) as producer:
        [address] = producer.client.cluster.brokers()

    assert (address.host, address.port) == ("127.0.0.1", 1)
    assert broker.bootstrap == "127.0.0.1:1"


async def test_every_way_to_log_in_works_and_a_wrong_password_does_not(
    own_broker: StartBroker, kafka_security: Security
) -> None:
    broker = own_broker(security=kafka_security)
    topic = await create_topic(broker.bootstrap)
    tls = ssl.create_default_context(cafile=kafka_security.ca_file)
    ways = [
        (protocol, mechanism)
        for protocol in ("SASL_PLAINTEXT", "SASL_SSL")
        for mechanism in ("PLAIN", *SCRAM_MECHANISMS)
    ]
    for protocol, mechanism in ways:
        login = {
            "security_protocol": protocol,
            "ssl_context": tls if protocol == "SASL_SSL" else None,
            "sasl_mechanism": mechanism,
            "sasl_plain_username": USERNAME,
        }
        bootstrap = broker.secure_bootstrap(protocol)
        async with producing(bootstrap, sasl_plain_password=PASSWORD, **login) as producer:
            await produce(producer, topic, RECORDS[:1])
        with pytest.raises(KafkaConnectionError):
            async with producing(bootstrap, sasl_plain_password="wrong", **login):
                pass

    assert await read(broker.bootstrap, topic, len(ways)) == RECORDS[:1] * len(ways)


async def test_mutual_tls_wants_the_certificate_of_the_client(
    own_broker: StartBroker, kafka_security: Security
) -> None:
    broker = own_broker(security=kafka_security)
    topic = await create_topic(broker.bootstrap)
    known = ssl.create_default_context(cafile=kafka_security.ca_file)
    known.load_cert_chain(kafka_security.client_cert_file, kafka_security.client_key_file)
    unknown = ssl.create_default_context(cafile=kafka_security.ca_file)
    bootstrap = broker.secure_bootstrap("SSL")

    async with producing(bootstrap, security_protocol="SSL", ssl_context=known) as producer:
        await produce(producer, topic, RECORDS[:1])
    with pytest.raises(KafkaConnectionError):
        async with producing(bootstrap, security_protocol="SSL", ssl_context=unknown):
            pass


async def test_three_nodes_go_on_when_the_leader_is_killed(kafka_cluster: Cluster) -> None:
    topic = await create_topic(kafka_cluster.bootstrap, replicas=3)
    async with producing(kafka_cluster.bootstrap, enable_idempotence=True) as producer:
        await produce(producer, topic, RECORDS[:50])
        [partition] = producer.client.cluster.partitions_for_topic(topic)
        leader = producer.client.cluster._partitions[topic][partition].leader

        kafka_cluster.nodes[leader].kill()

        await produce(producer, topic, RECORDS[50:])
    assert await read(kafka_cluster.bootstrap, topic, len(RECORDS)) == RECORDS


def test_a_killed_test_process_takes_its_broker_along(
    kafka_installed: None, tmp_path: Path
) -> None:
    script = (
        "import pathlib, sys, time; from tests.kafka.broker import Broker;"
        "broker = Broker(pathlib.Path(sys.argv[1])); broker.start();"
        "print(broker.port, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "data")], cwd=ROOT, stdout=subprocess.PIPE
    ) as tests:
        assert tests.stdout is not None
        port = int(tests.stdout.readline())
        tests.kill()

    wait_until("the broker ends", lambda: refuses(port))


def test_without_java_the_skip_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(jars.ToolsMissing, match="apt-get install openjdk-17-jre-headless maven"):
        jars.jars()
