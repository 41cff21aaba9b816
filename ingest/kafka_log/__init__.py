"""The log in Apache Kafka.

| module | holds |
|---|---|
| `adapter` | `KafkaLog`: the port on top of the rest |
| `cluster` | connections; leaders and coordinators; retries with an end in time |
| `producer` | idempotent appends, one batch of a partition at a time |
| `reader`, `batches` | reads by offset, and batches that are damaged |
| `offsets` | commits with notes |
| `membership`, `assignor` | who writes which partitions |
| `topics` | topics made or verified |
"""

from ingest.kafka_log.adapter import KafkaLog
from ingest.kafka_log.cluster import KafkaAccess
from ingest.kafka_log.topics import TopicRules

__all__ = ["KafkaAccess", "KafkaLog", "TopicRules"]
