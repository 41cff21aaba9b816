"""The ledger of loss, in the real engine: exact sums, crashes, repeats, and the alarm."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from time import time
from typing import Any

import orjson
import pytest

from ingest.ledger.counts import At, GatewayCounts
from ingest.ledger.writer import LedgerWriter
from ingest.signals import INGESTED_TOPIC, LEDGER_TOPIC
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.errors import Unavailable
from tests.fakes import Crash, MemoryLog
from tests.integration.ingest.test_writer_clickhouse import migrated
from tests.integration.shared.embedded_server import EmbeddedServer

PLACES = ((INGESTED_TOPIC, 0), (LEDGER_TOPIC, 0))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("ledger") / "data") as started:
        asyncio.run(migrated(started))
        yield started


@pytest.fixture
async def clickhouse(server: EmbeddedServer) -> AsyncIterator[ClickHouse]:
    async with ClickHouse(ClickHouseAddress("127.0.0.1", server.port)) as connected:
        await connected.command("TRUNCATE TABLE telemetry.tf_ledger")
        yield connected


def ledger_of(log: MemoryLog, clickhouse: ClickHouse) -> LedgerWriter:
    return LedgerWriter(log, clickhouse.command, clickhouse.query, database="telemetry")


async def settle(ledger: LedgerWriter) -> None:
    for place in PLACES:
        while await ledger.step(place, gather_seconds=0):
            pass


def tell(log: MemoryLog, end: int, **counts: Any) -> None:
    """What a writer tells of its plan that ends at *end*."""
    document = {
        "v": 1,
        "id": f"token{end}-0",
        "signal": "logs",
        "topic": "otlp.logs.v1",
        "partition": 0,
        "start": end,
        "end": end,
        "counts": [{"table": "tf_logs"} | counts],
    }
    log.put(INGESTED_TOPIC, 0, orjson.dumps(document), ())


async def sums(clickhouse: ClickHouse) -> dict[tuple[str, str, str], int]:
    rows = await clickhouse.query(
        "SELECT TenantId, Event, Reason, sum(Items) FROM telemetry.tf_ledger GROUP BY ALL"
    )
    return {(tenant, event, reason): int(items) for tenant, event, reason, items in rows}


async def test_what_gateways_and_writers_tell_meets_in_one_row(clickhouse: ClickHouse) -> None:
    log = MemoryLog()
    minute = int(time()) // 60
    at = At(minute, "acme", "logs")
    counts = GatewayCounts(log)
    counts.answered(at, accepted=100, rejected={"invalid_trace_id": 2})
    counts.add(at, "refused", 1, "unavailable")
    counts.add(at, "suppressed", 1)
    await counts.flush()
    tell(log, 1, tenant="acme", minute=minute, event="stored", rows=90)
    tell(log, 2, tenant="acme", minute=minute, event="dead", rows=6)
    tell(log, 3, tenant="acme", minute=minute, event="repeated", rows=4)
    await settle(ledger_of(log, clickhouse))
    (row,) = await clickhouse.query(
        "SELECT Received, Rejected, RejectedReasons, RefusedRequests, SuppressedRequests, Acked, "
        "Stored, Dead, Repeated, Missing FROM telemetry.ledger WHERE TenantId = 'acme'"
    )
    assert list(row) == [102, 2, ["invalid_trace_id"], 1, 1, 100, 90, 6, 4, 0]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("calls", range(12))
async def test_a_crash_at_any_call_counts_everything_once(
    clickhouse: ClickHouse, calls: int, moment: str
) -> None:
    log = MemoryLog()
    minute = int(time()) // 60
    for end in range(20):
        tell(log, end, tenant="acme", minute=minute, event="stored", rows=1)
    log.faults.planned.extend([None] * calls)
    log.faults.planned.append((moment, Crash()))
    with contextlib.suppress(Crash):
        await settle(ledger_of(log, clickhouse))
    log.faults.planned.clear()
    tell(log, 20, tenant="acme", minute=minute, event="stored", rows=1)
    await settle(ledger_of(log, clickhouse))
    assert await sums(clickhouse) == {("acme", "stored", ""): 21}


async def test_a_lost_answer_of_clickhouse_counts_nothing_twice(clickhouse: ClickHouse) -> None:
    log = MemoryLog()
    tell(log, 1, tenant="acme", minute=int(time()) // 60, event="stored", rows=5)
    ledger = ledger_of(log, clickhouse)
    command = clickhouse.command

    async def losing(sql: str, settings: dict[str, str]) -> None:
        await command(sql, settings)
        raise Unavailable("the answer was lost")

    ledger._command = losing
    with pytest.raises(Unavailable):
        await settle(ledger)
    ledger._command = command
    await settle(ledger)
    assert await sums(clickhouse) == {("acme", "stored", ""): 5}


async def test_documents_that_are_told_again_are_counted_once(clickhouse: ClickHouse) -> None:
    log = MemoryLog()
    chance = random.Random(7)
    minute = int(time()) // 60
    expected = 0
    for end in range(60):
        rows = chance.randrange(1, 50)
        expected += rows
        for _time in range(chance.choice((1, 1, 2, 3))):
            tell(log, end, tenant="acme", minute=minute, event="stored", rows=rows)
        if chance.random() < 0.2:
            await settle(ledger_of(log, clickhouse))
    # A gateway that does not know whether its document arrived.
    counts = GatewayCounts(log)
    counts.add(At(minute, "acme", "logs"), "acked", expected)
    log.faults.planned.clear()
    log.faults.planned.append(("after", Unavailable("the answer was lost")))
    with pytest.raises(Unavailable):
        await counts.flush()
    counts.add(At(minute, "acme", "logs"), "acked", 1)
    await counts.flush()
    await counts.flush()
    await settle(ledger_of(log, clickhouse))
    assert await sums(clickhouse) == {
        ("acme", "stored", ""): expected,
        ("acme", "acked", ""): expected + 1,
    }


async def test_I12_items_that_are_nowhere_raise_the_alarm(clickhouse: ClickHouse) -> None:
    log = MemoryLog()
    old = int(time()) // 60 - 10
    counts = GatewayCounts(log)
    for tenant in ("acme", "bolt"):
        counts.add(At(old, tenant, "logs"), "acked", 10)
    # Not yet over: what is missing there is in flight.
    counts.add(At(int(time()) // 60, "acme", "logs"), "acked", 99)
    await counts.flush()
    tell(log, 1, tenant="acme", minute=old, event="stored", rows=10)
    tell(log, 2, tenant="bolt", minute=old, event="stored", rows=7)
    ledger = ledger_of(log, clickhouse)
    await settle(ledger)
    assert await ledger.missing() == {"traces": 0, "metrics": 0, "logs": 3}
    # A client that was not told is no loss.
    tell(log, 3, tenant="bolt", minute=old, event="repeated", rows=13)
    await settle(ledger)
    assert await ledger.missing() == {"traces": 0, "metrics": 0, "logs": 0}


async def test_counts_wait_for_a_log_that_takes_nothing_and_stay_bounded() -> None:
    log = MemoryLog()
    counts = GatewayCounts(log)
    at = At(1, "acme", "logs")
    for _ in range(5):
        counts.add(at, "acked", 1)
        log.faults.planned.append(("before", Unavailable("down")))
        with pytest.raises(Unavailable):
            await counts.flush()
    await counts.flush()
    await counts.flush()
    documents = [orjson.loads(one.value) for one in log.records[LEDGER_TOPIC, 0]]
    assert [one["seq"] for one in documents] == [1, 2]
    assert sum(count[5] for one in documents for count in one["counts"]) == 5
