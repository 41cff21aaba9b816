"""`telemetryflow drain`: moves what the embedded log holds into Kafka."""

import asyncio
from argparse import Namespace

from ingest.app import LOG_FILE, open_embedded_log, open_kafka_log
from ingest.drain import drain as drain_log
from ingest.inserts import ClickHouseInserts
from ingest.partition_writer import PartitionWriter
from ingest.ranges import BatchLimits
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.errors import Conflict
from shared.settings import Settings


def drain(settings: Settings, _options: Namespace) -> int:
    """Copy all that is not yet stored; safe to repeat when it was interrupted."""
    copied = asyncio.run(_drain(settings))
    print(f"{copied} records moved into Kafka; the embedded log holds nothing more to store")
    return 0


async def _drain(settings: Settings) -> int:
    if not settings.kafka_brokers:
        raise Conflict("KAFKA_BROKERS is not set: there is nothing to move the log into")
    if not (settings.data_dir / LOG_FILE).exists():
        raise Conflict(f"there is no embedded log in {settings.data_dir}")
    source = await open_embedded_log(settings)
    try:
        target = await open_kafka_log(settings)
        try:
            async with await ClickHouse.connect(ClickHouseAddress.of(settings)) as clickhouse:
                inserts = ClickHouseInserts(clickhouse, database=settings.clickhouse_database)

                async def ensure_nothing(_tenants: object) -> None:
                    """The views of tenants are the writer's to make."""

                async def finish_plan(topic: str, partition: int) -> None:
                    writer = PartitionWriter(
                        source,
                        topic,
                        partition,
                        inserts,
                        limits=BatchLimits(1, 1, 0),
                        ensure_tenants=ensure_nothing,
                        insert_slots=asyncio.Semaphore(1),
                    )
                    await writer.step()

                return await drain_log(source, target, finish_plan)
        finally:
            await target.close()
    finally:
        await source.close()
