"""Topics that tests do not share."""

import uuid
from collections.abc import Mapping

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code


async def create_topic(
    bootstrap: str,
    *,
    partitions: int = 1,
    replicas: int = 1,
    config: Mapping[str, str] | None = None,
) -> str:
    """A new topic with a name of its own; returns the name. Raises KafkaError when refused."""
    name = f"test-{uuid.uuid4()}"
    topic = NewTopic(name, partitions, replicas, topic_configs=dict(config or {}))
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        answer = await admin.create_topics([topic])
    finally:
        await admin.close()
    # The client does not raise these itself.
    for _topic, code, message in answer.topic_errors:
        if code:
            raise for_code(code)(message)
    return name
