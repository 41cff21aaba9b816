"""Appends to a real broker that dies, hangs, refuses, or whose answers are lost."""

import asyncio
import time
from dataclasses import replace

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from ingest.kafka_log import KafkaAccess, KafkaLog
from shared.errors import TooLarge, Unavailable
from tests.kafka.broker import Broker, Cluster
from tests.kafka.fixtures import StartBroker
from tests.kafka.logs import RULES, TOPIC, opened, own_topics, read_all, until
from tests.kafka.proxy import LossyProxy
from tests.ports import free_ports

# F23: whoever waits hears of a cluster that is down within so long.
REFUSED_SECONDS_MAX = 5.0


async def acknowledged(log: KafkaLog, value: bytes, seconds_max: float = 60) -> None:
    """Append as a client would who repeats until it is told of success."""
    deadline = time.monotonic() + seconds_max
    while True:
        try:
            async with asyncio.timeout(REFUSED_SECONDS_MAX):
                await log.append(TOPIC, 0, value, ())
        except (Unavailable, TimeoutError):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        else:
            return


async def test_records_are_in_the_order_of_the_appends_even_when_many_wait(kafka: Broker) -> None:
    async with opened(kafka.bootstrap) as log:
        values = [b"%d" % number * 500 for number in range(500)]
        appends = [asyncio.create_task(log.append(TOPIC, 0, value, ())) for value in values]
        assert await asyncio.gather(*appends) == list(range(500))
        assert [record.value for record in await read_all(log)] == values


async def test_sizes_are_checked_before_anything_is_sent(kafka: Broker) -> None:
    async with opened(kafka.bootstrap) as log:
        largest = RULES.message_bytes_min
        with pytest.raises(TooLarge):
            await log.append(TOPIC, 0, b"x" * largest, ())
        value = b"x" * int(largest * 0.97)
        assert await log.append(TOPIC, 0, value, (("h", b"y" * 100),)) == 0
        # Together too large for a batch: one by one, in order.
        assert await log.append_many(TOPIC, 0, [(value, ()), (value, ())]) == [1, 2]
        assert [len(record.value) for record in await read_all(log)] == [len(value)] * 3


async def test_F26_F27_a_refused_batch_does_not_poison_those_that_follow(kafka: Broker) -> None:
    rules = own_topics()
    async with opened(kafka.bootstrap, rules) as log:
        await log.append(TOPIC, 0, b"before", ())
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        await admin.start()
        try:
            # Behind the product's back; this call wipes all other settings of the topic too.
            smaller = rules.configs() | {"max.message.bytes": "100000"}
            name = rules.prefix + TOPIC
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, smaller)])
        finally:
            await admin.close()
        with pytest.raises(TooLarge):
            await log.append(TOPIC, 0, b"x" * 500_000, ())
        async with asyncio.timeout(20):
            for number in range(20):
                await log.append(TOPIC, 0, b"%d" % number, ())
        values = [record.value for record in await read_all(log)]
        assert values == [b"before", *(b"%d" % number for number in range(20))]


async def test_F60_lost_answers_do_not_double_records(own_broker: StartBroker) -> None:
    (port,) = free_ports(1)
    broker = own_broker(advertised_port=port)
    async with LossyProxy(port, broker.port) as proxy, opened(broker.bootstrap) as log:
        for number in range(40):
            proxy.losing = number % 4 == 3
            append = asyncio.create_task(log.append(TOPIC, 0, b"%d" % number, ()))
            if proxy.losing:
                seen = proxy.lost
                await until("a lost answer", lambda seen=seen: proxy.lost > seen)  # type: ignore[misc]
                proxy.losing = False
            assert await append == number
        assert [int(record.value) for record in await read_all(log)] == list(range(40))


async def test_F23_a_killed_broker_loses_and_doubles_nothing(own_broker: StartBroker) -> None:
    broker = own_broker()
    async with opened(broker.bootstrap) as log:
        sent: list[bytes] = []

        async def send() -> None:
            for number in range(300):
                sent.append(b"%d" % number)
                await acknowledged(log, sent[-1])

        sending = asyncio.create_task(send())
        for kill in range(2):
            await until("progress", lambda at=50 * (kill + 1): len(sent) > at)  # type: ignore[misc]
            broker.kill()
            await asyncio.to_thread(broker.start)
        await sending
        values = [record.value for record in await read_all(log)]
        # What is repeated after an unknown outcome may stand twice: the writer recognises it.
        assert list(dict.fromkeys(values)) == sent


async def test_F23_a_broker_that_hangs_is_heard_of_in_time_and_takes_records_again(
    own_broker: StartBroker,
) -> None:
    broker = own_broker()
    async with opened(broker.bootstrap) as log:
        await log.append(TOPIC, 0, b"a", ())
        broker.pause()
        stuck = asyncio.create_task(log.append(TOPIC, 0, b"b", ()))
        await until("trouble", lambda: stuck.done() or log._producers != {})
        await asyncio.sleep(2.5)
        for _ in range(50):
            started = time.monotonic()
            with pytest.raises(Unavailable):
                await log.append(TOPIC, 0, b"refused", ())
            assert time.monotonic() - started < 1
        assert log.trouble() is not None
        calls = (
            log.commit("writer", TOPIC, 0, 1),
            log.committed("writer", TOPIC, 0),
            log.bounds(TOPIC, 0),
            log.read(TOPIC, 0, 0, records_max=1, bytes_max=1, wait_seconds=0),
        )
        waits = (asyncio.wait_for(call, 30) for call in calls)
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unavailable] * 4
        broker.resume()
        assert await asyncio.wait_for(stuck, 30) == 1
        await acknowledged(log, b"c")
        assert log.trouble() is None
        assert [record.value for record in await read_all(log)] == [b"a", b"b", b"c"]


async def test_closing_does_not_wait_for_a_broker_that_hangs(own_broker: StartBroker) -> None:
    broker = own_broker()
    log = await KafkaLog.open(KafkaAccess(broker.bootstrap), own_topics(), session_timeout_ms=2_000)
    broker.pause()
    stuck = asyncio.create_task(log.append(TOPIC, 0, b"b", ()))
    await asyncio.sleep(0.1)
    started = time.monotonic()
    await log.close()
    assert time.monotonic() - started < 15
    with pytest.raises(Unavailable):
        await stuck


async def test_F21_F22_F25_one_of_three_may_die_and_two_make_it_refuse(
    kafka_cluster: Cluster,
) -> None:
    rules = own_topics(replace(RULES, replication_factor=3, min_insync_replicas=2))
    async with opened(kafka_cluster.bootstrap, replace(rules, production=True)) as log:
        await acknowledged(log, b"all three")
        ((leader, _places),) = log._cluster.leaders([(rules.prefix + TOPIC, 0)]).items()
        others = [node for number, node in kafka_cluster.nodes.items() if number != leader]
        kafka_cluster.nodes[leader].kill()
        await acknowledged(log, b"two")
        others[0].kill()
        started = time.monotonic()
        with pytest.raises((Unavailable, TimeoutError)):
            async with asyncio.timeout(REFUSED_SECONDS_MAX):
                await log.append(TOPIC, 0, b"one", ())
        assert time.monotonic() - started <= REFUSED_SECONDS_MAX + 1
        kafka_cluster.nodes[leader].spawn()
        others[0].spawn()
        await acknowledged(log, b"again", 90)
        values = [record.value for record in await read_all(log)]
        # "one" was never acknowledged, and may have been appended all the same.
        assert [value for value in values if value != b"one"] == [b"all three", b"two", b"again"]
