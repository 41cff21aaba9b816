"""The product on a log in Kafka: what it has to be told."""

import uuid

from tests.kafka.broker import Broker, Cluster

SESSION_SECONDS = 3


def kafka_settings(brokers: Broker | Cluster, **more: str) -> dict[str, str]:
    """Settings for topics of its own on *brokers*."""
    replicas = len(brokers.nodes) if isinstance(brokers, Cluster) else 1
    return {
        "KAFKA_BROKERS": brokers.bootstrap,
        "KAFKA_TOPIC_PREFIX": f"{uuid.uuid4()}.",
        "KAFKA_PARTITIONS": "3",
        "KAFKA_REPLICATION_FACTOR": str(replicas),
        "KAFKA_MIN_INSYNC_REPLICAS": str(replicas // 2 + 1),
        "WRITER_SESSION_TIMEOUT_MS": str(SESSION_SECONDS * 1_000),
        **more,
    }
