"""The same requests up to ClickHouse: what the log holds is what the engine answers with."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pytest

from ingest.inserts import ClickHouseInserts
from ingest.partition_writer import PartitionWriter
from ingest.ranges import BatchLimits
from ingest.signals import TOPIC_OF_SIGNAL, Signal
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.clickhouse.migrate import Migrator
from tests.contract.otlp.endpoint import ClickHouseArrivals, Endpoint
from tests.contract.otlp.own_product import OwnProduct
from tests.contract.otlp.payloads import add_bad_item, add_item, envelope_of, new_service
from tests.contract.otlp.senders import REJECTED_OF, Sender
from tests.integration.shared.embedded_server import EmbeddedServer

DATABASE: Final = "telemetry"
_LIMITS: Final = BatchLimits(rows_max=100_000, bytes_max=32 << 20, wait_ms=0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    async def migrate(started: EmbeddedServer) -> None:
        async with ClickHouse(ClickHouseAddress("127.0.0.1", started.port)) as clickhouse:
            await Migrator(clickhouse.command, clickhouse.query, database=DATABASE).migrate()

    with EmbeddedServer(tmp_path_factory.mktemp("stored") / "data") as started:
        asyncio.run(migrate(started))
        yield started


async def write_all(product: OwnProduct, server: EmbeddedServer) -> None:
    """Everything that the log holds goes into ClickHouse."""

    async def no_tenants(_tenants: Sequence[str]) -> None:
        return None

    async with ClickHouse(ClickHouseAddress("127.0.0.1", server.port)) as clickhouse:
        inserts = ClickHouseInserts(clickhouse, database=DATABASE)
        for topic in TOPIC_OF_SIGNAL.values():
            writer = PartitionWriter(
                product.log,
                topic,
                0,
                inserts,
                limits=_LIMITS,
                ensure_tenants=no_tenants,
                insert_slots=asyncio.Semaphore(1),
            )
            while await writer.step():
                pass


def test_C034_C096_C112_what_was_accepted_is_in_clickhouse_the_same_from_every_way(
    senders: dict[str, Sender],
    endpoint: Endpoint,
    product: OwnProduct,
    server: EmbeddedServer,
) -> None:
    sent: dict[tuple[str, Signal], str] = {}
    for name, sender in senders.items():
        for signal in Signal:
            service = sent[name, signal] = new_service()
            request, items = envelope_of(signal, service)
            add_bad_item(signal, items, "bad")
            for item in ("one", "two"):
                add_item(signal, items, item)
            response = sender.response(signal, sender.send(signal, request))
            assert getattr(response.partial_success, REJECTED_OF[signal]) == 1
    product.run(write_all(product, server))
    arrivals = ClickHouseArrivals(f"http://127.0.0.1:{server.port}", DATABASE)
    for (_, signal), service in sent.items():
        found = arrivals.items(signal, service, 2)
        assert sorted(row["name"] for row in found) == ["one", "two"]
        for row in found:
            assert row["attributes"] == {"check.kept": "yes"}
            assert row["resource"] == {"service.name": service}
    tenants: list[Any] = server.rows("SELECT DISTINCT TenantId FROM telemetry.tf_traces")
    assert tenants == [{"TenantId": "acme"}]
