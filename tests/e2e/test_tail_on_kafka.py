"""A live tail of the whole way on Kafka: gateway, broker, writer, ClickHouse, API."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from control.telemetry import arrivals as arrivals_module
from control.telemetry.arrivals import Tell
from ingest.app import follow_log
from shared.postgres.address import PostgresAddress
from tests.chaos.kafka_products import kafka_settings
from tests.chaos.load import request_of
from tests.control.client import Client
from tests.control.product import running, settings_for
from tests.control.tails import WAIT_SECONDS_MAX, tail_of
from tests.e2e.processes import Product
from tests.kafka.broker import Broker


@pytest.fixture
def pipeline(kafka: Broker, tmp_path: Path) -> Iterator[Product]:
    with Product(tmp_path / "pipeline", kafka_settings(kafka)) as product:
        yield product


async def send(pipeline: Product, *bodies: str) -> None:
    """A request for each of the log records."""
    url = f"http://127.0.0.1:{pipeline.http_port}/v1/logs"
    headers = {"Content-Type": "application/x-protobuf"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for body in bodies:
            request = request_of([body], time.time_ns())
            async with session.post(url, data=request) as answer:
                assert answer.status == 200, await answer.text()


class Reader(NamedTuple):
    """Who reads; *is_told* is set once the API follows the log."""

    client: Client
    is_told: asyncio.Event


@asynccontextmanager
async def reader_of(
    pipeline: Product, address: PostgresAddress, folder: Path
) -> AsyncIterator[Reader]:
    """The API on the pipeline's ClickHouse; it follows the pipeline's Kafka as `api` does."""
    of_pipeline = {
        name.lower(): int(text) if text.isdigit() else text
        for name, text in pipeline.settings.items()
        if name.startswith(("CLICKHOUSE_", "KAFKA_"))
    }
    settings = settings_for(address, folder, clickhouse_host="127.0.0.1", **of_pipeline)
    is_told, stopping = asyncio.Event(), asyncio.Event()

    async def follow(tell: Tell) -> None:
        def noted(document: Any) -> None:
            tell(document)
            is_told.set()

        await follow_log(settings, noted)

    async with running(settings, folder) as api:
        following = asyncio.create_task(api.control.arrivals.run(follow, stopping))
        yield Reader(await api.as_admin(), is_told)
        stopping.set()
        await following


@pytest.mark.timeout(180)
async def test_S47_on_Kafka_a_tail_is_woken_by_the_writer_and_resumes_without_loss_or_repeats(
    pipeline: Product,
    database_address: PostgresAddress,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nobody looks by the clock: what is shown was told in `telemetry.ingested.v1`.
    monkeypatch.setattr(arrivals_module, "LOOK_SECONDS", 3_600.0)
    monkeypatch.setattr(arrivals_module, "LOOK_SECONDS_TOLD", 3_600.0)
    async with reader_of(pipeline, database_address, tmp_path) as reader:
        async with tail_of(reader.client) as tail:
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                await reader.is_told.wait()
            await send(pipeline, "1", "2", "3")
            before = await tail.first(3)
        await send(pipeline, "4", "5")
        sql = "SELECT Body FROM tf_logs"
        await asyncio.to_thread(pipeline.wait_for_rows, 5, sql)
        async with tail_of(reader.client, **{"Last-Event-ID": tail.last_id}) as resumed:
            meanwhile = await resumed.first(2)
            await send(pipeline, "6")
            after = await resumed.first(1)
        url = f"{reader.client.url}/api/v2/telemetry/logs/tail?seconds=60&cursor={resumed.last_id}"
        headers = {"Authorization": f"Bearer {reader.client.token}"}
        async with (
            asyncio.timeout(WAIT_SECONDS_MAX),
            aiohttp.ClientSession() as session,
            session.ws_connect(url, headers=headers) as socket,
        ):
            begun = await socket.receive_json()
            await send(pipeline, "7")
            last = await socket.receive_json()

    # Requests that go to different partitions are stored in any order.
    assert list(map(sorted, (before, meanwhile, after))) == [["1", "2", "3"], ["4", "5"], ["6"]]
    assert begun["items"] == []
    assert [one["body"] for one in last["items"]] == ["7"]
