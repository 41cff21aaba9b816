"""`telemetryflow drain`: moves what the embedded log holds into Kafka."""

import asyncio
from argparse import Namespace

from ingest.app import LOG_FILE, open_embedded_log, open_kafka_log
from ingest.drain import drain as drain_log
from ingest.inserts import ClickHouseInserts
from ingest.ledger.writer import LedgerWriter
from ingest.log import TelemetryLog
from ingest.partition_writer import PartitionWriter
from ingest.ranges import BatchLimits
from ingest.signals import INGESTED_TOPIC, LEDGER_TOPIC
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

                copied = await drain_log(source, target, finish_plan)
                await _settle_ledger(source, clickhouse, settings.clickhouse_database)
                return copied
        finally:
            await target.close()
    finally:
        await source.close()


async def _settle_ledger(source: TelemetryLog, clickhouse: ClickHouse, database: str) -> None:
    """Counts need not be moved: they go where they belong."""
    ledger = LedgerWriter(source, clickhouse.command, clickhouse.query, database=database)
    for topic in (INGESTED_TOPIC, LEDGER_TOPIC):
        for partition in range(await source.partitions(topic)):
            while await ledger.step((topic, partition), gather_seconds=0):
                pass
