"""Topics: made with the settings that durability needs, or verified to have them.

Settings of a topic that exists are never changed from here: they are the operator's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from aiokafka.errors import (
    InvalidReplicationFactorError,
    KafkaError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from aiokafka.protocol.admin import CreateTopicsRequest, DescribeConfigsRequest

from ingest.kafka_log.cluster import REQUEST_SECONDS_MAX, Cluster, explained, raise_for
from shared.errors import Conflict, Unavailable

# Room in a batch for what goes with a block: the headers of its requests (26 bytes each).
HEADER_BYTES_MAX: Final = 2 * 1024 * 1024
_TOPIC_RESOURCE: Final = 2


@dataclass(frozen=True, slots=True)
class TopicRules:
    """What topics are made with, and what existing ones must have.

    `production` refuses what could lose acknowledged records when one broker dies. `prefix` goes
    before the names of topics and groups, where several products share a cluster.
    """

    partitions: Mapping[str, int]
    replication_factor: int
    min_insync_replicas: int
    retention_hours: int
    block_bytes_max: int
    production: bool
    prefix: str = ""

    def wire_partitions(self) -> dict[str, int]:
        """Partitions of the topics by their names in Kafka."""
        return {self.prefix + topic: count for topic, count in self.partitions.items()}

    @property
    def message_bytes_min(self) -> int:
        """The largest batch that must fit."""
        return self.block_bytes_max + HEADER_BYTES_MAX

    def configs(self) -> dict[str, str]:
        """Settings of a new topic."""
        return {
            "min.insync.replicas": str(self.min_insync_replicas),
            "retention.ms": str(self.retention_hours * 3_600_000),
            "retention.bytes": "-1",
            "max.message.bytes": str(self.message_bytes_min),
            # Blocks are compressed once, by the gateway.
            "compression.type": "producer",
            # The windows in which repeats are recognised are measured by these times: the leader's
            # clock, not those of many gateways.
            "message.timestamp.type": "LogAppendTime",
            "unclean.leader.election.enable": "false",
            "cleanup.policy": "delete",
        }


async def ensure_topics(cluster: Cluster, rules: TopicRules) -> list[str]:
    """Make the topics that are missing, and verify all; what is not safe for production.

    Raises Conflict when a topic is unsafe in production or cannot work at all, Unavailable when
    the cluster refuses to make one.
    """
    await cluster.refresh()
    topics = rules.wire_partitions()
    missing = [topic for topic in topics if not cluster.partitions(topic)]
    if missing:
        await cluster.patiently(lambda: _create(cluster, rules, missing))
        await cluster.patiently(lambda: _wait_for(cluster, missing))
    problems: list[str] = []
    unsafe: dict[str, list[str]] = {}
    for topic in topics:
        config = await cluster.patiently(partial(_config, cluster, topic))
        replicas = await cluster.patiently(partial(_replicas, cluster, topic))
        problems += _broken(topic, config, rules)
        for why in _unsafe(config, replicas, rules):
            unsafe.setdefault(why, []).append(topic)
    warnings = [f"topics {', '.join(names)}: {why}" for why, names in unsafe.items()]
    if rules.production:
        problems += warnings
    if problems:
        raise Conflict("; ".join(problems))
    return warnings


def _broken(topic: str, config: Mapping[str, str], rules: TopicRules) -> list[str]:
    """Why the topic cannot be used at all."""
    problems = []
    size = int(config.get("max.message.bytes", "0"))
    if size < rules.message_bytes_min:
        problems.append(
            f"topic {topic}: max.message.bytes={size} is too small for blocks of "
            f"INGEST_BLOCK_BYTES_MAX={rules.block_bytes_max}: set it to {rules.message_bytes_min} "
            "or more, or lower INGEST_BLOCK_BYTES_MAX"
        )
    if (kind := config.get("message.timestamp.type")) != "LogAppendTime":
        problems.append(f"topic {topic}: message.timestamp.type={kind}: set LogAppendTime")
    if (compression := config.get("compression.type")) not in ("producer", "uncompressed"):
        problems.append(
            f"topic {topic}: compression.type={compression}: blocks are compressed already, "
            "set producer"
        )
    if "compact" in config.get("cleanup.policy", ""):
        problems.append(f"topic {topic}: cleanup.policy=compact would delete records: set delete")
    return problems


def _unsafe(config: Mapping[str, str], replicas: int, rules: TopicRules) -> list[str]:
    """How a topic could lose what was acknowledged."""
    problems = []
    retention_ms = int(config.get("retention.ms", "-1"))
    if 0 <= retention_ms < rules.retention_hours * 3_600_000:
        problems.append(
            f"retention.ms={retention_ms} is less than KAFKA_RETENTION_HOURS="
            f"{rules.retention_hours}: what is not stored by then is lost; raise it, or lower the "
            "setting"
        )
    if int(config.get("retention.bytes", "-1")) >= 0:
        problems.append(
            "retention.bytes deletes records that are not stored yet when much comes; set -1"
        )
    in_sync = int(config.get("min.insync.replicas", "1"))
    if replicas < 3 or in_sync < 2:
        problems.append(
            f"with replicas={replicas} and min.insync.replicas={in_sync}, one broker that dies "
            "can lose acknowledged data; have 3 replicas and min.insync.replicas=2"
        )
    if config.get("unclean.leader.election.enable") == "true":
        problems.append(
            "unclean.leader.election.enable=true drops acknowledged data when a replica that lags "
            "is elected; set false"
        )
    return problems


async def _create(cluster: Cluster, rules: TopicRules, topics: list[str]) -> None:
    configs = list(rules.configs().items())
    partitions = rules.wire_partitions()
    wanted: list[Any] = [
        (topic, partitions[topic], rules.replication_factor, [], configs) for topic in topics
    ]
    request = CreateTopicsRequest(wanted, int(REQUEST_SECONDS_MAX * 1000), False)
    answer = await cluster.to_controller(request)
    for topic, code, *text in answer.topic_errors:
        if code == TopicAlreadyExistsError.errno:
            continue
        try:
            raise_for(code, (text[0] if text else "") or "")
        except KafkaError as error:
            if error.retriable:
                raise
            hint = ""
            if isinstance(error, InvalidReplicationFactorError):
                hint = (
                    f"; with fewer than {rules.replication_factor} brokers, for trials, set "
                    "KAFKA_REPLICATION_FACTOR=1 and KAFKA_MIN_INSYNC_REPLICAS=1"
                )
            raise Unavailable(f"topic {topic} cannot be made: {explained(error)}{hint}") from error


async def _wait_for(cluster: Cluster, topics: list[str]) -> None:
    await cluster.refresh()
    for topic in topics:
        places = [(topic, number) for number in range(cluster.partitions(topic))]
        led = sum(len(of_node) for of_node in cluster.leaders(places).values())
        if not places or led < len(places):
            raise_for(5, f"{topic} has no leaders yet")


async def _config(cluster: Cluster, topic: str) -> dict[str, str]:
    request = DescribeConfigsRequest([(_TOPIC_RESOURCE, topic, None)], False)
    answer = await cluster.to_any(request)
    ((code, text, _kind, _name, entries),) = answer.resources
    raise_for(code, text or topic)
    return {name: value for name, value, *_rest in entries}


async def _replicas(cluster: Cluster, topic: str) -> int:
    """The smallest number of replicas of a partition of *topic*."""
    answer = await cluster.describe([topic])
    counts = []
    for code, _name, _id, _internal, partitions, *_rest in answer.topics:
        raise_for(code, topic)
        counts += [len(replicas) for _code, _number, _leader, _epoch, replicas, *_ in partitions]
    return min(counts, default=0)


async def partition_count(cluster: Cluster, topic: str) -> int:
    """How many partitions *topic* has. Raises Unavailable when it does not exist for seconds.

    The metadata of a broker that has just come up may lack a topic for a moment.
    """

    async def count() -> int:
        found = cluster.partitions(topic)
        if not found:
            raise_for(UnknownTopicOrPartitionError.errno, f"topic {topic} does not exist")
        return found

    return await cluster.patiently(count)


async def topic_id(cluster: Cluster, topic: str) -> str:
    """The id that *topic* was given when it was made. Raises KafkaError."""
    answer = await cluster.describe([topic])
    ((code, _name, found, *_rest),) = answer.topics
    raise_for(code, topic)
    return bytes(found).hex()
