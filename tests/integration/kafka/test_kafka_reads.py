"""Reads, offsets and topics on a real broker: damage, restarts, settings that are not ours."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from ingest import metrics
from ingest.kafka_log import KafkaAccess
from ingest.log import Committed
from shared.errors import Conflict, Invalid, Unavailable
from tests.kafka.broker import Broker
from tests.kafka.fixtures import StartBroker
from tests.kafka.logs import RULES, TOPIC, opened, own_topics, read_all
from tests.kafka.security import PASSWORD, SCRAM_MECHANISMS, USERNAME, Security


async def make_topic(broker: Broker, name: str, **config: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(name, 3, 1, topic_configs=config)])
        assert [error[1] for error in answer.topic_errors] == [0]
    finally:
        await admin.close()


def segment(data: Path, topic: str, partition: int) -> Path:
    (found,) = (data / "log" / f"{topic}-{partition}").glob("*.log")
    return found


async def test_F29_a_damaged_batch_costs_itself_and_not_its_partition(
    own_broker: StartBroker,
) -> None:
    broker = own_broker()
    rules = own_topics()
    async with opened(broker.bootstrap, rules) as log:
        for number in range(6):
            await log.append(TOPIC, 0, b"record %d" % number * 100, ())
    broker.stop()
    path = segment(broker.data, rules.prefix + TOPIC, 0)
    damaged = path.read_bytes().replace(b"record 2record 2", b"record 2record X", 1)
    path.write_bytes(damaged)
    broker.start()
    before = metrics.LOG_DAMAGED_RECORDS._value.get()
    async with opened(broker.bootstrap, rules) as log:
        async with asyncio.timeout(20):
            records = await read_all(log)
        assert [record.offset for record in records] == [0, 1, 3, 4, 5]
        assert metrics.LOG_DAMAGED_RECORDS._value.get() == before + 1
        assert await log.append(TOPIC, 0, b"goes on", ()) == 6


async def test_a_read_in_the_middle_of_a_batch_begins_there(kafka: Broker) -> None:
    async with opened(kafka.bootstrap) as log:
        await log.append_many(TOPIC, 0, [(b"%d" % number, ()) for number in range(10)])
        records = await log.read(TOPIC, 0, 7, records_max=2, bytes_max=100, wait_seconds=0)
        assert [record.offset for record in records] == [7, 8]


async def test_F18_committed_offsets_never_read_as_none_while_the_coordinator_loads(
    own_broker: StartBroker,
) -> None:
    broker = own_broker()
    rules = own_topics()
    async with opened(broker.bootstrap, rules) as log:
        # Enough for the coordinator to be busy with, once it is started again.
        for block in range(8):
            notes = (log.commit("writer", TOPIC, 0, block, "x" * 4_000) for _ in range(500))
            await asyncio.gather(*notes)
        await log.commit("writer", TOPIC, 0, 50, "note")
        broker.kill()
        starting = asyncio.create_task(asyncio.to_thread(broker.start))
        answers = 0
        async with asyncio.timeout(90):
            while answers < 30:
                try:
                    assert await log.committed("writer", TOPIC, 0) == Committed(50, "note")
                    answers += 1
                except Unavailable:
                    await asyncio.sleep(0.01)
        await starting


async def test_a_note_that_is_too_long_is_refused_before_the_broker_does(kafka: Broker) -> None:
    async with opened(kafka.bootstrap) as log:
        await log.commit("writer", TOPIC, 0, 1, "x" * 4_096)
        with pytest.raises(Invalid):
            await log.commit("writer", TOPIC, 0, 1, "x" * 4_097)


async def test_D10_settings_of_a_topic_that_exists_are_verified_and_never_changed(
    kafka: Broker,
) -> None:
    rules = own_topics()
    name = rules.prefix + TOPIC
    config: dict[str, Any] = rules.configs() | {"retention.ms": "123456789"}
    await make_topic(kafka, name, **config)
    async with opened(kafka.bootstrap, rules) as log:
        await log.append(TOPIC, 0, b"x", ())
        ((_code, _text, _kind, _name, entries),) = (await _described(log, name)).resources
        assert {name: value for name, value, *_ in entries}["retention.ms"] == "123456789"
    with pytest.raises(Conflict, match=r"3 replicas and min\.insync\.replicas=2"):
        async with opened(kafka.bootstrap, replace(rules, production=True)):
            pass


async def _described(log: Any, topic: str) -> Any:
    from aiokafka.protocol.admin import DescribeConfigsRequest

    return await log._cluster.to_any(DescribeConfigsRequest([(2, topic, None)], False))


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("max.message.bytes", "500000", "INGEST_BLOCK_BYTES_MAX"),
        ("message.timestamp.type", "CreateTime", "LogAppendTime"),
        ("compression.type", "zstd", "set producer"),
        ("cleanup.policy", "compact", "set delete"),
    ],
)
async def test_D10_a_topic_that_cannot_work_is_refused_with_what_to_do(
    kafka: Broker, name: str, value: str, says: str
) -> None:
    rules = own_topics()
    await make_topic(kafka, rules.prefix + TOPIC, **(rules.configs() | {name: value}))
    with pytest.raises(Conflict, match=says):
        async with opened(kafka.bootstrap, rules):
            pass


async def test_a_topic_that_cannot_be_made_says_why(kafka: Broker) -> None:
    with pytest.raises(Unavailable, match="InvalidReplicationFactor"):
        async with opened(kafka.bootstrap, own_topics(replace(RULES, replication_factor=3))):
            pass


async def test_topics_are_not_made_by_asking_for_them(own_broker: StartBroker) -> None:
    broker = own_broker(auto_create_topics_enable="true")
    rules = own_topics()
    async with opened(broker.bootstrap, rules) as log:
        ((_code, _text, _kind, _name, entries),) = (
            await _described(log, rules.prefix + TOPIC)
        ).resources
        assert {name: value for name, value, *_ in entries}["retention.bytes"] == "-1"


async def test_F21_metadata_that_lacks_a_topic_for_a_moment_is_not_its_end(
    kafka: Broker,
) -> None:
    rules = own_topics()
    async with opened(kafka.bootstrap, rules) as log:
        known = log._cluster._client.cluster
        count = await log.partitions(TOPIC)
        known._partitions.pop(rules.prefix + TOPIC)

        assert await log.partitions(TOPIC) == count

        with pytest.raises(Unavailable, match="no-such-topic does not exist"):
            await log.partitions("no-such-topic")


async def test_F30_what_retention_deletes_shows_in_the_bounds(own_broker: StartBroker) -> None:
    broker = own_broker(log_segment_bytes=1_048_576)
    rules = own_topics()
    config = rules.configs() | {
        "retention.bytes": "1500000",
        "segment.bytes": "1048576",
        "file.delete.delay.ms": "100",
    }
    await make_topic(broker, rules.prefix + TOPIC, **config)
    async with opened(broker.bootstrap, rules) as log:
        for _ in range(40):
            await log.append(TOPIC, 0, b"x" * 200_000, ())
        async with asyncio.timeout(30):
            while (await log.bounds(TOPIC, 0))[0] == 0:
                await asyncio.sleep(0.2)
        first, end = await log.bounds(TOPIC, 0)
        assert end == 40
        records = await log.read(TOPIC, 0, 0, records_max=1, bytes_max=1, wait_seconds=0)
        assert records[0].offset >= first


@pytest.mark.parametrize("mechanism", ["PLAIN", *SCRAM_MECHANISMS])
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
async def test_F28_passwords_and_certificates(
    secure_broker: tuple[Broker, Security], protocol: str, mechanism: str
) -> None:
    broker, security = secure_broker
    access = KafkaAccess(
        broker.secure_bootstrap(protocol),
        security_protocol=protocol,
        sasl_mechanism=mechanism,
        sasl_username=USERNAME,
        sasl_password=PASSWORD,
        ssl_ca_file=str(security.ca_file),
    )
    async with opened(access) as log:
        assert await log.append(TOPIC, 0, b"x", ()) == 0
    with pytest.raises(Unavailable, match=r"(?i)authentication failed|invalid credentials"):
        async with opened(replace(access, sasl_password="another")):
            pass
    assert PASSWORD not in repr(access)


async def test_F70_a_client_certificate_and_a_wrong_authority(
    secure_broker: tuple[Broker, Security], tmp_path: Path
) -> None:
    broker, security = secure_broker
    access = KafkaAccess(
        broker.secure_bootstrap("SSL"),
        security_protocol="SSL",
        ssl_ca_file=str(security.ca_file),
        ssl_cert_file=str(security.client_cert_file),
        ssl_key_file=str(security.client_key_file),
    )
    async with opened(access) as log:
        assert await log.append(TOPIC, 0, b"x", ()) == 0
    stranger = Security.create(tmp_path)
    with pytest.raises(Unavailable, match=r"(?i)certificate verify failed"):
        async with opened(replace(access, ssl_ca_file=str(stranger.ca_file))):
            pass
    with pytest.raises(Invalid, match="KAFKA_SSL"):
        async with opened(replace(access, ssl_ca_file=str(tmp_path / "none.pem"))):
            pass


async def test_an_address_where_nothing_listens_is_named(kafka: Broker) -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 "):
        async with opened(KafkaAccess("127.0.0.1:1")):
            pass
