"""The ledger of loss, in the real engine: exact sums, crashes, repeats, and the alarm."""

import asyncio
import contextlib
import random
from argparse import Namespace
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from time import time
from typing import Any

import orjson
import pytest

from control.cli.ledger import ledger as ledger_command
from ingest.ledger import writer as ledger_writer
from ingest.ledger.counts import At, GatewayCounts
from ingest.ledger.writer import LedgerWriter
from ingest.log import Backlog
from ingest.signals import INGESTED_TOPIC, LEDGER_TOPIC
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.errors import Unavailable
from shared.settings import Settings
from tests.fakes import Crash, MemoryLog
from tests.integration.ingest.test_writer_clickhouse import migrated
from tests.integration.shared.embedded_server import EmbeddedServer

THREE_DAYS_SECONDS = 3 * 24 * 3_600
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
        await connected.command("TRUNCATE TABLE telemetry.tf_usage")
        yield connected


class AgingLog(MemoryLog):
    """Tells how old the backlog is, as real logs do."""

    async def backlog(self, group: str, topic: str) -> Backlog:
        found = await super().backlog(group, topic)
        committed = self.commits.get((group, topic, 0))
        stamps = [
            one.timestamp_ms
            for one in self.records.get((topic, 0), [])
            if committed is None or one.offset >= committed.offset
        ]
        return replace(found, age_seconds=time() - min(stamps) / 1000 if stamps else 0.0)


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
        "log": "one",
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


async def usage(clickhouse: ClickHouse) -> dict[tuple[str, str, str, int], tuple[int, int]]:
    """Items and bytes by tenant, key, signal and hour (since the epoch)."""
    rows = await clickhouse.query(
        "SELECT TenantId, KeyId, Signal, intDiv(toUnixTimestamp(Hour), 3600), Items, Bytes "
        "FROM telemetry.usage"
    )
    return {
        (tenant, key, signal, int(hour)): (int(items), int(size))
        for tenant, key, signal, hour, items, size in rows
    }


async def test_F77_usage_is_what_was_stored_by_key_and_hour(clickhouse: ClickHouse) -> None:
    log = MemoryLog()
    minute, key = int(time()) // 3_600 * 60, f"tfk_{1:032x}"
    place: dict[str, Any] = {"tenant": "acme", "minute": minute}
    tell(log, 1, **place, key=key, event="stored", rows=5, bytes=500)
    tell(log, 2, **place, key=key, event="repeated", rows=3, bytes=300)
    tell(log, 3, **place, key=key, event="dead", rows=2, bytes=200)
    tell(log, 3, **place, key=key, event="stored", rows=99, bytes=99)  # told again
    tell(log, 4, **place, event="stored", rows=7)
    tell(log, 5, **place | {"minute": minute + 59}, key=key, event="replayed", rows=2, bytes=200)
    await settle(ledger_of(log, clickhouse))
    # An hour later, and late: of the hour before.
    tell(log, 6, **place | {"minute": minute + 60}, key=key, event="stored", rows=1, bytes=1)
    tell(log, 7, **place, key=key, event="stored", rows=10, bytes=1)
    await settle(ledger_of(log, clickhouse))
    hour = minute // 60
    expected = {
        ("acme", key, "logs", hour): (17, 701),
        ("acme", "", "logs", hour): (7, 0),
        ("acme", key, "logs", hour + 1): (1, 1),
    }
    assert await usage(clickhouse) == expected
    await clickhouse.command("OPTIMIZE TABLE telemetry.tf_usage FINAL")
    ((last,),) = await clickhouse.query(
        "SELECT toUnixTimestamp(max(LastMinute)) FROM telemetry.tf_usage "
        f"WHERE Hour = toDateTime({hour * 3_600}) AND KeyId != ''"
    )
    assert int(last) == (minute + 59) * 60
    assert await usage(clickhouse) == expected


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
    assert await usage(clickhouse) == {("acme", "", "logs", minute // 60): (21, 0)}


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
    # The first look only notes how far the writers are.
    assert await ledger.missing() == {"traces": 0, "metrics": 0, "logs": 0}
    assert await ledger.missing() == {"traces": 0, "metrics": 0, "logs": 3}
    # A client that was not told is no loss.
    tell(log, 3, tenant="bolt", minute=old, event="repeated", rows=13)
    await settle(ledger)
    assert await ledger.missing() == {"traces": 0, "metrics": 0, "logs": 0}


async def test_I12_rows_that_the_writer_has_just_caught_up_on_raise_no_alarm(
    clickhouse: ClickHouse,
) -> None:
    log = AgingLog()
    old = int(time()) // 60 - 10
    log.put("otlp.logs.v1", 0, b"", (), timestamp_ms=old * 60_000)
    counts = GatewayCounts(log)
    counts.add(At(old, "acme", "logs"), "acked", 10)
    await counts.flush()
    ledger = ledger_of(log, clickhouse)
    await settle(ledger)
    found = [await ledger.missing() for _ in range(2)]
    # The writer stores the old rows and tells it; the ledger has not taken that in yet.
    await log.commit("writer", "otlp.logs.v1", 0, 1)
    tell(log, 1, tenant="acme", minute=old, event="stored", rows=7)
    found += [await ledger.missing() for _ in range(3)]
    assert [one["logs"] for one in found] == [0] * 5
    await settle(ledger)
    found = [await ledger.missing() for _ in range(2)]
    assert found[-1]["logs"] == 3


async def test_F51_a_clock_that_was_days_ahead_neither_raises_nor_silences_the_alarm(
    clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MemoryLog()
    counts = GatewayCounts(log)
    counts.add(At(int(time()) // 60 - 10, "acme", "logs"), "acked", 3)
    # Not yet over: what is missing there is in flight.
    counts.add(At(int(time()) // 60, "acme", "logs"), "acked", 99)
    await counts.flush()
    ledger = ledger_of(log, clickhouse)
    await settle(ledger)
    with monkeypatch.context() as ahead:
        ahead.setattr(ledger_writer, "time", lambda: time() + THREE_DAYS_SECONDS)
        await ledger.missing()
    assert (await ledger.missing())["logs"] == 3


async def test_F51_a_document_from_the_future_is_not_waited_for(clickhouse: ClickHouse) -> None:
    log = MemoryLog()
    row = [int(time()) // 60, "acme", "logs", "acked", "", 5]
    document = {"gateway": "g", "seq": 1, "counts": [row]}
    future_ms = int((time() + THREE_DAYS_SECONDS) * 1_000)
    log.put(LEDGER_TOPIC, 0, orjson.dumps(document), (), timestamp_ms=future_ms)
    assert await ledger_of(log, clickhouse).step((LEDGER_TOPIC, 0))
    assert await sums(clickhouse) == {("acme", "acked", ""): 5}


async def test_items_of_a_tenant_that_is_not_named_raise_no_alarm(clickhouse: ClickHouse) -> None:
    log = MemoryLog()
    counts = GatewayCounts(log)
    counts.add(At(int(time()) // 60 - 10, "", "logs"), "acked", 10)
    await counts.flush()
    ledger = ledger_of(log, clickhouse)
    await settle(ledger)
    found = [await ledger.missing() for _ in range(2)]
    assert found[-1]["logs"] == 0


@pytest.mark.parametrize(
    "value",
    [
        b"no JSON",
        b"[1]",
        b'{"gateway":"g","seq":1,"counts":[["soon"]]}',
        # As releases before the ledger told it: without a minute.
        orjson.dumps(
            {"id": "t-0", "signal": "logs", "topic": "otlp.logs.v1", "partition": 0, "end": 1}
            | {"counts": [{"table": "tf_logs", "tenant": "acme", "rows": 5}]}
        ),
    ],
)
async def test_a_document_that_cannot_be_read_holds_nothing_up(
    clickhouse: ClickHouse, value: bytes
) -> None:
    log = MemoryLog()
    log.put(INGESTED_TOPIC, 0, value, ())
    tell(log, 2, tenant="acme", minute=int(time()) // 60, event="stored", rows=7)
    await settle(ledger_of(log, clickhouse))
    assert await sums(clickhouse) == {("acme", "stored", ""): 7}


async def test_a_plan_waits_until_the_log_shows_all_its_documents(clickhouse: ClickHouse) -> None:
    log = MemoryLog()
    minute = int(time()) // 60
    for end in (1, 2):
        tell(log, end, tenant="acme", minute=minute, event="stored", rows=5)
    # Dies between the plan and its INSERT.
    ledger = ledger_of(log, clickhouse)

    async def dying(sql: str, settings: dict[str, str]) -> None:
        raise Crash

    ledger._command = dying
    with pytest.raises(Crash):
        await settle(ledger)
    # A new leader of a partition may show its last records late.
    shown = log._ends[INGESTED_TOPIC, 0]
    late = log.records[INGESTED_TOPIC, 0].pop()
    log._ends[INGESTED_TOPIC, 0] = late.offset
    with pytest.raises(Unavailable):
        await settle(ledger_of(log, clickhouse))
    log.records[INGESTED_TOPIC, 0].append(late)
    log._ends[INGESTED_TOPIC, 0] = shown
    await settle(ledger_of(log, clickhouse))
    assert await sums(clickhouse) == {("acme", "stored", ""): 10}


async def test_documents_after_a_loss_in_the_log_are_counted(clickhouse: ClickHouse) -> None:
    log = MemoryLog()
    minute = int(time()) // 60
    for end in (1, 2):
        tell(log, end, tenant="acme", minute=minute, event="stored", rows=5)
    ledger = ledger_of(log, clickhouse)
    await settle(ledger)
    log.records[INGESTED_TOPIC, 0].pop()
    log._ends[INGESTED_TOPIC, 0] -= 1
    await settle(ledger)
    tell(log, 3, tenant="acme", minute=minute, event="stored", rows=5)
    await settle(ledger)
    assert await sums(clickhouse) == {("acme", "stored", ""): 15}


async def test_the_command_takes_what_is_in_the_log_for_in_flight(
    clickhouse: ClickHouse,
    server: EmbeddedServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = Settings(
        telemetryflow_data_dir=str(tmp_path),
        clickhouse_host="127.0.0.1",
        clickhouse_port=server.port,
    )
    counts = GatewayCounts(memory := MemoryLog())
    counts.add(At(int(time()) // 60 - 10, "acme", "logs"), "acked", 10)
    await counts.flush()
    await settle(ledger_of(memory, clickhouse))
    options = Namespace(tenant="acme", minutes=60, reasons=False)

    async def found() -> tuple[int, list[str]]:
        code = await asyncio.to_thread(ledger_command, settings, options)
        return code, capsys.readouterr().out.splitlines()[1].split()[-2:]

    assert await found() == (1, ["0", "10"])
    # The writers are behind by an hour.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("control.cli.ledger._age_seconds", _an_hour)
        assert await found() == (0, ["10", "0"])


async def test_the_command_tells_why_what_was_not_taken(
    clickhouse: ClickHouse,
    server: EmbeddedServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = Settings(
        telemetryflow_data_dir=str(tmp_path),
        clickhouse_host="127.0.0.1",
        clickhouse_port=server.port,
    )
    counts = GatewayCounts(memory := MemoryLog())
    at = At(int(time()) // 60, "acme", "logs")
    counts.answered(at, accepted=4, rejected={"tenant_contradiction": 3})
    counts.add(at, "refused", 2, "tenant_contradiction")
    counts.add(at._replace(tenant="bolt"), "refused", 9, "unavailable")
    await counts.flush()
    await settle(ledger_of(memory, clickhouse))

    options = Namespace(tenant="acme", minutes=60, reasons=True)
    assert await asyncio.to_thread(ledger_command, settings, options) == 0

    told = [line.split()[2:] for line in capsys.readouterr().out.splitlines()[1:]]
    assert told == [
        ["acme", "logs", "refused", "tenant_contradiction", "2"],
        ["acme", "logs", "rejected", "tenant_contradiction", "3"],
    ]


async def _an_hour(_log: object) -> float:
    return 3600.0


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
