"""Waiting out passing errors has an end, whatever becomes of the cancellation at that end."""

import asyncio

import pytest
from aiokafka.errors import RequestTimedOutError

from ingest.kafka_log.cluster import Cluster, KafkaAccess
from shared.errors import Unavailable

SECONDS = 0.2


async def test_a_cancellation_that_is_lost_does_not_make_it_wait_for_ever() -> None:
    """As asyncio.wait_for does before Python 3.12, when its own time-out comes at the same time."""
    cluster = Cluster(KafkaAccess("127.0.0.1:9"))
    attempts = 0

    async def lose_cancellations() -> None:
        nonlocal attempts
        attempts += 1
        try:
            await asyncio.sleep(3 * SECONDS)
        except asyncio.CancelledError:
            raise RequestTimedOutError from None

    try:
        async with asyncio.timeout(20 * SECONDS):
            with pytest.raises(Unavailable, match="does not answer"):
                await cluster.patiently(lose_cancellations, seconds=SECONDS)
    finally:
        await cluster.close()

    assert attempts == 1
