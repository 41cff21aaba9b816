"""What every adapter of the log port must do: the embedded log, and Kafka on a real broker."""

import asyncio
import json
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import pytest

from ingest.embedded_log import EmbeddedLog, Limits
from ingest.kafka_log import KafkaAccess, KafkaLog, TopicRules
from ingest.log import Committed, Record, TelemetryLog, Totals
from shared.errors import Invalid, TooLarge, Unavailable
from tests.kafka.broker import Broker

TOPIC = "otlp.traces.v1"
PARTITIONS = 3


class Adapter(Protocol):
    """One place where a log lives: `open` gives further handles on the same log."""

    async def open(self) -> TelemetryLog: ...

    def open_elsewhere(self) -> str:
        """Source of an expression that opens the same log in another process."""
        ...


class EmbeddedAdapter:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.db"

    async def open(self) -> TelemetryLog:
        limits = Limits(bytes_free_min=0)
        return await EmbeddedLog.open(self.path, partitions={TOPIC: PARTITIONS}, limits=limits)

    def open_elsewhere(self) -> str:
        return (
            f"__import__('ingest.embedded_log').embedded_log.EmbeddedLog.open({str(self.path)!r})"
        )


class KafkaAdapter:
    """Topics of its own on a broker that other tests use too."""

    def __init__(self, bootstrap: str) -> None:
        self.access = KafkaAccess(bootstrap)
        self.rules = TopicRules(
            partitions={TOPIC: PARTITIONS},
            replication_factor=1,
            min_insync_replicas=1,
            retention_hours=72,
            block_bytes_max=8_000_000,
            production=False,
            prefix=f"{uuid.uuid4()}.",
        )

    async def open(self) -> TelemetryLog:
        return await KafkaLog.open(self.access, self.rules)

    def open_elsewhere(self) -> str:
        kafka_log = "__import__('ingest.kafka_log').kafka_log"
        access = f"{kafka_log}.{self.access!r}"
        return f"{kafka_log}.KafkaLog.open({access}, {kafka_log}.{self.rules!r})"


@pytest.fixture(params=["embedded", "kafka"])
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Adapter:
    if request.param == "embedded":
        return EmbeddedAdapter(tmp_path)
    broker: Broker = request.getfixturevalue("kafka")
    return KafkaAdapter(broker.bootstrap)


@pytest.fixture
async def log(adapter: Adapter) -> AsyncIterator[TelemetryLog]:
    async with AsyncExitStack() as stack:
        opened = await adapter.open()
        stack.push_async_callback(opened.close)
        yield opened


async def read_all(log: TelemetryLog, partition: int = 0, from_offset: int = 0) -> list[Record]:
    records: list[Record] = []
    _, end = await log.bounds(TOPIC, partition)
    while from_offset < end:
        batch = await log.read(
            TOPIC, partition, from_offset, records_max=100, bytes_max=10**6, wait_seconds=0
        )
        if not batch:
            break
        records += batch
        from_offset = batch[-1].offset + 1
    return records


async def test_a_record_comes_back_exactly_as_it_was_appended(log: TelemetryLog) -> None:
    headers = (("t", b"otel_traces"), ("empty", b""), ("t", b"again"), ("ключ", bytes(range(256))))
    before_ms = time.time_ns() // 1_000_000
    offset = await log.append(TOPIC, 1, b"\x00value\xff", headers)
    (record,) = await read_all(log, partition=1)
    after_ms = time.time_ns() // 1_000_000
    assert before_ms <= record.timestamp_ms <= after_ms
    assert record == Record(TOPIC, 1, offset, record.timestamp_ms, b"\x00value\xff", headers)


async def test_an_empty_value_is_a_record(log: TelemetryLog) -> None:
    await log.append(TOPIC, 0, b"", ())
    assert [(record.value, record.headers) for record in await read_all(log)] == [(b"", ())]


async def test_offsets_of_a_partition_are_contiguous_and_ordered(log: TelemetryLog) -> None:
    offsets = [await log.append(TOPIC, 0, b"%d" % number, ()) for number in range(20)]
    assert offsets == list(range(offsets[0], offsets[0] + 20))
    assert [record.value for record in await read_all(log)] == [b"%d" % n for n in range(20)]


async def test_partitions_do_not_share_offsets_or_records(log: TelemetryLog) -> None:
    for partition in range(PARTITIONS):
        for number in range(partition + 1):
            await log.append(TOPIC, partition, b"%d/%d" % (partition, number), ())
    for partition in range(PARTITIONS):
        values = [record.value for record in await read_all(log, partition)]
        assert values == [b"%d/%d" % (partition, number) for number in range(partition + 1)]


async def test_the_number_of_partitions_is_fixed_and_others_are_invalid(log: TelemetryLog) -> None:
    assert await log.partitions(TOPIC) == PARTITIONS
    for partition in (-1, PARTITIONS):
        with pytest.raises(Invalid):
            await log.append(TOPIC, partition, b"", ())
        with pytest.raises(Invalid):
            await log.bounds(TOPIC, partition)
    assert await log.append(TOPIC, PARTITIONS - 1, b"the log goes on", ()) == 0


async def test_append_many_gives_contiguous_offsets_in_order(log: TelemetryLog) -> None:
    await log.append(TOPIC, 0, b"first", ())
    offsets = await log.append_many(TOPIC, 0, [(b"%d" % number, ()) for number in range(5)])
    assert offsets == [1, 2, 3, 4, 5]
    assert [record.value for record in await read_all(log)][1:] == [b"0", b"1", b"2", b"3", b"4"]
    assert await log.append_many(TOPIC, 0, []) == []


async def test_I2_append_many_appends_all_or_none(log: TelemetryLog) -> None:
    huge = b"x" * (65 * 2**20)
    with pytest.raises((TooLarge, Unavailable)):
        await log.append_many(TOPIC, 0, [(b"small", ()), (huge, ())])
    assert await log.bounds(TOPIC, 0) == (0, 0)
    assert await log.append(TOPIC, 0, b"after", ()) == 0


async def test_bounds_tell_the_first_and_the_next_offset(log: TelemetryLog) -> None:
    assert await log.bounds(TOPIC, 0) == (0, 0)
    await log.append_many(TOPIC, 0, [(b"", ())] * 3)
    assert await log.bounds(TOPIC, 0) == (0, 3)
    assert await log.bounds(TOPIC, 1) == (0, 0)


async def test_a_read_stays_within_its_limits_but_gives_at_least_one(log: TelemetryLog) -> None:
    await log.append_many(TOPIC, 0, [(b"x" * 1_000, ())] * 10)

    async def count(records_max: int, bytes_max: int) -> int:
        records = await log.read(
            TOPIC, 0, 0, records_max=records_max, bytes_max=bytes_max, wait_seconds=0
        )
        return len(records)

    assert await count(4, 10**6) == 4
    assert await count(100, 3_000) == 3
    assert await count(100, 3_999) == 3
    assert await count(100, 1) == 1
    assert await count(100, 10**6) == 10


async def test_a_read_behind_the_end_is_empty_and_in_the_middle_begins_there(
    log: TelemetryLog,
) -> None:
    await log.append_many(TOPIC, 0, [(b"%d" % number, ()) for number in range(5)])
    assert [record.offset for record in await read_all(log, from_offset=3)] == [3, 4]
    assert await log.read(TOPIC, 0, 5, records_max=1, bytes_max=1, wait_seconds=0) == []
    assert await log.read(TOPIC, 0, 10**9, records_max=1, bytes_max=1, wait_seconds=0) == []


async def test_a_waiting_read_wakes_up_for_the_next_record(log: TelemetryLog) -> None:
    waiting = asyncio.create_task(
        log.read(TOPIC, 0, 0, records_max=1, bytes_max=100, wait_seconds=20)
    )
    elsewhere = asyncio.create_task(
        log.read(TOPIC, 2, 0, records_max=1, bytes_max=100, wait_seconds=20)
    )
    await log.append(TOPIC, 1, b"neither", ())
    await log.append(TOPIC, 0, b"this", ())
    async with asyncio.timeout(10):
        assert [record.value for record in await waiting] == [b"this"]
    assert not elsewhere.done()
    await log.append(TOPIC, 2, b"that", ())
    async with asyncio.timeout(10):
        assert [record.value for record in await elsewhere] == [b"that"]


async def test_a_waiting_read_gives_up_when_its_time_is_over(log: TelemetryLog) -> None:
    started = time.monotonic()
    assert await log.read(TOPIC, 0, 0, records_max=1, bytes_max=1, wait_seconds=0.2) == []
    assert 0.15 <= time.monotonic() - started < 10


async def test_a_read_wakes_up_for_what_another_handle_appends(
    adapter: Adapter, log: TelemetryLog
) -> None:
    other = await adapter.open()
    try:
        waiting = asyncio.create_task(
            log.read(TOPIC, 0, 0, records_max=1, bytes_max=100, wait_seconds=20)
        )
        await log.bounds(TOPIC, 0)  # by now the read above has found nothing
        await other.append(TOPIC, 0, b"from elsewhere", ())
        async with asyncio.timeout(10):
            assert [record.value for record in await waiting] == [b"from elsewhere"]
    finally:
        await other.close()


async def test_commits_are_kept_per_group_and_partition_and_the_last_one_wins(
    log: TelemetryLog,
) -> None:
    assert await log.committed("writer", TOPIC, 0) is None
    await log.commit("writer", TOPIC, 0, 5, '{"v":1,"end":9}')
    await log.commit("writer", TOPIC, 1, 7)
    await log.commit("other", TOPIC, 0, 1)
    assert await log.committed("writer", TOPIC, 0) == Committed(5, '{"v":1,"end":9}')
    await log.commit("writer", TOPIC, 0, 3, "back")
    assert await log.committed("writer", TOPIC, 0) == Committed(3, "back")
    assert await log.committed("writer", TOPIC, 1) == Committed(7, "")
    assert await log.committed("other", TOPIC, 0) == Committed(1, "")


async def test_concurrent_appends_all_get_their_own_offset(log: TelemetryLog) -> None:
    offsets = await asyncio.gather(
        *(log.append(TOPIC, 0, b"%d" % number, ()) for number in range(300))
    )
    assert sorted(offsets) == list(range(300))
    records = await read_all(log)
    assert {record.offset: int(record.value) for record in records} == {
        offset: number for number, offset in enumerate(offsets)
    }


async def test_everything_is_there_after_closing_and_opening(adapter: Adapter) -> None:
    log = await adapter.open()
    identity = log.identity
    await log.append_many(TOPIC, 2, [(b"%d" % number, (("k", b"v"),)) for number in range(10)])
    await log.commit("writer", TOPIC, 2, 4, "note")
    before = await read_all(log, 2)
    await log.close()
    log = await adapter.open()
    try:
        assert log.identity == identity
        assert await read_all(log, 2) == before
        assert await log.committed("writer", TOPIC, 2) == Committed(4, "note")
        assert await log.append(TOPIC, 2, b"next", ()) == 10
    finally:
        await log.close()


async def test_a_closed_log_answers_unavailable_and_may_be_closed_again(adapter: Adapter) -> None:
    log = await adapter.open()
    pending = [asyncio.create_task(log.append(TOPIC, 0, b"x", ())) for _ in range(20)]
    await asyncio.sleep(0)
    await log.close()
    await log.close()
    assert sorted(await asyncio.gather(*pending)) == list(range(20))
    with pytest.raises(Unavailable):
        await log.append(TOPIC, 0, b"", ())
    with pytest.raises(Unavailable):
        await log.commit("writer", TOPIC, 0, 0)
    with pytest.raises(Unavailable):
        await log.read(TOPIC, 0, 0, records_max=1, bytes_max=1, wait_seconds=0)


APPENDER = """
import asyncio, json, sys
async def main():
    log = await {open_log}
    offsets = await asyncio.gather(
        *(log.append({topic!r}, 0, b"{name}-%d" % number, ()) for number in range(60)))
    for number in range(60, 80):
        offsets.append(await log.append({topic!r}, 0, b"{name}-%d" % number, ()))
    await log.close()
    json.dump(offsets, sys.stdout)
asyncio.run(main())
"""


async def test_several_processes_append_to_one_partition_without_gaps_or_doubles(
    adapter: Adapter, log: TelemetryLog
) -> None:
    names = ("left", "right")
    sources = [
        APPENDER.format(open_log=adapter.open_elsewhere(), topic=TOPIC, name=name) for name in names
    ]
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", source, stdout=asyncio.subprocess.PIPE
        )
        for source in sources
    ]
    seen: list[Record] = []
    async with asyncio.timeout(40):
        while len(seen) < 160:
            seen += await log.read(
                TOPIC, 0, len(seen), records_max=50, bytes_max=10**6, wait_seconds=1
            )
        outputs = [(await process.communicate())[0] for process in started]
    assert [record.offset for record in seen] == list(range(160))
    values = [record.value.decode() for record in seen]
    for name, output in zip(names, outputs, strict=True):
        offsets = json.loads(output)
        assert [values[offset] for offset in offsets] == [f"{name}-{n}" for n in range(80)]


async def test_I12_totals_and_backlog_count_what_is_in_flight(tmp_path: Path) -> None:
    log = await EmbeddedAdapter(tmp_path).open()
    assert isinstance(log, EmbeddedLog)

    def rows(count: int) -> tuple[tuple[str, bytes], ...]:
        return (("n", count.to_bytes(4, "little")),)

    assert await log.totals(TOPIC, 0) == Totals(0, 0, 0)
    await log.append_many(TOPIC, 0, [(b"x" * 10, rows(5)), (b"y" * 20, rows(7))])
    await log.append(TOPIC, 1, b"z" * 30, rows(9))
    await log.append(TOPIC, 1, b"no rows", ())
    assert await log.totals(TOPIC, 0) == Totals(2, 12, 30)
    assert await log.totals(TOPIC, 1) == Totals(2, 9, 37)
    await log.commit("writer", TOPIC, 0, 1)
    backlog = await log.backlog("writer", TOPIC)
    assert (backlog.records, backlog.rows, backlog.bytes) == (3, 16, 57)
    assert 0 <= backlog.age_seconds < 30
    await log.commit("writer", TOPIC, 0, 2)
    await log.commit("writer", TOPIC, 1, 2)
    done = await log.backlog("writer", TOPIC)
    assert (done.records, done.rows, done.bytes, done.age_seconds) == (0, 0, 0, 0.0)
    await log.close()


async def test_the_backlog_is_what_a_group_has_not_committed(log: TelemetryLog) -> None:
    assert (await log.backlog("writer", TOPIC)).records == 0
    await log.append_many(TOPIC, 0, [(b"x", ())] * 3)
    await log.append(TOPIC, 1, b"y", ())
    assert (await log.backlog("writer", TOPIC)).records == 4
    await log.commit("writer", TOPIC, 0, 2)
    backlog = await log.backlog("writer", TOPIC)
    assert backlog.records == 2
    assert 0 <= backlog.age_seconds < 30
    await log.commit("writer", TOPIC, 0, 3)
    await log.commit("writer", TOPIC, 1, 1)
    done = await log.backlog("writer", TOPIC)
    assert (done.records, done.age_seconds) == (0, 0.0)


async def test_a_topic_keeps_its_incarnation_and_records_their_epoch(
    adapter: Adapter, log: TelemetryLog
) -> None:
    await log.append(TOPIC, 0, b"x", ())
    (record,) = await read_all(log)
    assert await log.epoch_end(TOPIC, 0, record.epoch) == 1
    other = await adapter.open()
    try:
        assert await other.incarnation(TOPIC) == await log.incarnation(TOPIC)
    finally:
        await other.close()


async def test_who_joins_alone_is_assigned_everything_and_may_commit(log: TelemetryLog) -> None:
    assignment = await log.join("writer", [TOPIC])
    everything = {(TOPIC, number) for number in range(PARTITIONS)}
    try:
        async with asyncio.timeout(20):
            while assignment.assigned() != everything:
                await assignment.changed()
        assert all(assignment.lease(*place).held() for place in everything)
        await log.commit("writer", TOPIC, 0, 1, "note")
        assert await log.committed("writer", TOPIC, 0) == Committed(1, "note")
    finally:
        await assignment.close()


async def test_a_log_that_takes_records_is_in_no_trouble(log: TelemetryLog) -> None:
    await log.append(TOPIC, 0, b"x", ())
    assert log.trouble() is None
