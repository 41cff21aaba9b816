"""The writer on a log and a ClickHouse in memory."""

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Final

import orjson
import pytest

from ingest import metrics, ranges
from ingest.conservation import balance
from ingest.dead_letters import DeadLetterLimits, dead_letter, dead_letters
from ingest.partition_writer import WRITER_GROUP, PartitionWriter
from ingest.plans import TOKEN_CHARACTERS, from_metadata
from ingest.ranges import BatchLimits
from ingest.signals import DEAD_LETTER_TOPIC
from shared.clickhouse.exception_codes import SchemaMismatch
from shared.errors import Unavailable
from tests.fakes import Crash, MemoryInserts, MemoryLog, block, unavailable

TOPIC: Final = "otlp.logs.v1"
NOW_LIMITS: Final = BatchLimits(rows_max=100_000, bytes_max=32 << 20, wait_ms=0)


class Rig:
    """A writer with all that it touches; waits take no time and are noted."""

    def __init__(self, limits: BatchLimits = NOW_LIMITS) -> None:
        self.log = MemoryLog()
        self.inserts = MemoryInserts()
        self.limits = limits
        self.waits: list[float] = []
        self.tenants: list[str] = []
        self.dead_letter_limits = DeadLetterLimits()
        self.writer = self.restarted()

    def restarted(self) -> PartitionWriter:
        """A writer as a new process would have it, with all planned faults behind it."""
        self.log.faults.planned.clear()
        self.writer = PartitionWriter(
            self.log,
            TOPIC,
            0,
            self.inserts,
            limits=self.limits,
            ensure_tenants=self.ensure,
            insert_slots=asyncio.Semaphore(4),
            dead_letter_limits=self.dead_letter_limits,
            sleep=self.sleep,
        )
        return self.writer

    async def ensure(self, tenants: Sequence[str]) -> None:
        self.tenants += tenants

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        assert len(self.waits) < 1_000, "the writer waits for ever"

    def put(self, *values: bytes, table: str = "tf_logs", retention_days: int = 30) -> None:
        for value in values:
            self.log.put(TOPIC, 0, value, block(table=table, retention_days=retention_days))

    async def settle(self) -> None:
        """Write until nothing is left."""
        while await self.writer.step():
            pass

    async def dead(self) -> list[bytes]:
        return [letter.value async for letter in dead_letters(self.log)]

    async def assert_conserved(self) -> None:
        self.log.faults.planned.clear()
        found = await balance(self.log, TOPIC)
        assert found is not None
        assert found.difference == 0
        assert found.in_flight == 0


async def test_I04_the_plan_is_committed_before_the_insert_and_the_end_after_it() -> None:
    rig = Rig()
    rig.put(b"a", b"b")
    during: list[str] = []
    rig.inserts.on_insert = lambda: during.append(rig.log.commits[WRITER_GROUP, TOPIC, 0].metadata)
    await rig.settle()
    plan = orjson.loads(during[0])
    assert (plan["v"], plan["end"], len(plan["token"])) == (1, 1, TOKEN_CHARACTERS)
    done = rig.log.commits[WRITER_GROUP, TOPIC, 0]
    assert done.offset == 2
    progress = orjson.loads(done.metadata)
    last = rig.log.records[TOPIC, 0][-1]
    assert progress.pop("last") == [1, last.timestamp_ms, 0]
    assert progress == {"v": 1, "stored": 20, "dead": 0, "repeated": 0}


async def test_blocks_of_one_table_and_class_share_an_insert_in_offset_order() -> None:
    rig = Rig()
    rig.put(b"a")
    rig.put(b"b", table="tf_traces")
    rig.put(b"c", retention_days=7)
    rig.put(b"d")
    await rig.settle()
    assert [(one.key, one.values) for one in rig.inserts.stored] == [
        (("tf_logs", 7, "zstd"), (b"c",)),
        (("tf_logs", 30, "zstd"), (b"a", b"d")),
        (("tf_traces", 30, "zstd"), (b"b",)),
    ]
    assert len({one.token for one in rig.inserts.stored}) == 3


async def test_I05_tokens_differ_between_incarnations_of_the_log() -> None:
    rigs = [Rig(), Rig()]
    rigs[1].log.identity = "log-2"
    for rig in rigs:
        rig.log.put(TOPIC, 0, b"a", block(), timestamp_ms=1)
        await rig.settle()
    assert rigs[0].inserts.stored[0].token != rigs[1].inserts.stored[0].token


async def test_I05_equal_offsets_of_other_records_have_other_tokens() -> None:
    rigs = [Rig(), Rig()]
    for number, rig in enumerate(rigs):
        rig.log.put(TOPIC, 0, b"a", block(), timestamp_ms=number)
        await rig.settle()
    assert rigs[0].inserts.stored[0].token != rigs[1].inserts.stored[0].token


async def test_F20_offsets_that_start_again_are_not_taken_for_repeats() -> None:
    rig = Rig()
    rig.put(b"old")
    await rig.settle()
    rig.log = MemoryLog(identity="log-2")
    rig.restarted()
    rig.put(b"new")
    await rig.settle()
    assert rig.inserts.values() == [b"old", b"new"]


@pytest.mark.parametrize("calls", range(1, 9))
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_F10_F14_a_crash_at_any_call_stores_everything_once(calls: int, moment: str) -> None:
    rig = Rig()
    rig.put(b"a", b"b")
    rig.put(b"c", table="tf_traces")
    # One sequence of faults for both ports, in the order in which they are called.
    rig.inserts.faults = rig.log.faults
    rig.log.faults.planned.extend([None] * (calls - 1))
    rig.log.faults.planned.append((moment, Crash()))
    with pytest.raises(Crash):
        await rig.settle()
    rig.put(b"d")
    rig.restarted()
    await rig.settle()
    assert sorted(rig.inserts.values()) == [b"a", b"b", b"c", b"d"]
    await rig.assert_conserved()


async def test_F11_a_successor_repeats_the_plan_and_not_what_came_since() -> None:
    rig = Rig()
    rig.put(b"a", b"b")
    rig.inserts.faults.planned.append(("after", Crash()))
    with pytest.raises(Crash):
        await rig.settle()
    rig.put(b"c")
    rig.restarted()
    await rig.settle()
    assert [one.values for one in rig.inserts.asked] == [(b"a", b"b"), (b"a", b"b"), (b"c",)]
    assert rig.inserts.asked[0].token == rig.inserts.asked[1].token


async def test_F33_a_lost_answer_is_asked_again_under_the_same_token() -> None:
    rig = Rig()
    rig.put(b"a")
    rig.inserts.faults.planned.extend(unavailable(3, "after"))
    await rig.settle()
    assert rig.inserts.values() == [b"a"]
    assert len({one.token for one in rig.inserts.asked}) == 1
    assert len(rig.inserts.asked) == 4


async def test_F34_F35_a_busy_server_is_asked_the_same_again_and_never_in_parts() -> None:
    rig = Rig()
    rig.put(b"a", b"b", b"c")
    rig.inserts.faults.planned.extend(unavailable(5))
    await rig.settle()
    assert {one.values for one in rig.inserts.asked} == {(b"a", b"b", b"c")}
    assert len(rig.waits) == 5


async def test_L17_waits_grow_to_a_cap_of_30_seconds() -> None:
    rig = Rig()
    rig.put(b"a")
    rig.inserts.faults.planned.extend(unavailable(100))
    random.seed(17)  # one course of the waits: each is random between bounds
    await rig.settle()
    assert len(rig.waits) == 100
    assert max(rig.waits) <= 30
    assert sum(rig.waits) > 600, "an outage of ten minutes takes no more than a hundred calls"


async def test_F36_schema_drift_pauses_and_is_no_dead_letter() -> None:
    rig = Rig()
    rig.put(b"a")
    paused = metrics.PARTITIONS_PAUSED.labels("schema")
    seen: list[float] = []

    async def sleep(seconds: float) -> None:
        rig.waits.append(seconds)
        seen.append(paused._value.get())

    rig.sleep = sleep  # type: ignore[method-assign] # a spy in place of the rig's own
    rig.restarted()
    rig.inserts.faults.planned.extend([("before", SchemaMismatch("Code: 60"))] * 4)
    await rig.settle()
    assert seen == [1.0] * 4
    assert paused._value.get() == 0
    assert rig.inserts.values() == [b"a"]
    assert await rig.dead() == []


async def test_F54_the_one_bad_record_becomes_a_dead_letter_and_the_rest_is_stored_once() -> None:
    rig = Rig()
    values = [bytes([number]) for number in range(64)]
    rig.put(*values)
    original = rig.log.records[TOPIC, 0][37].headers
    rig.inserts.refused = {values[37]}
    await rig.settle()
    assert sorted(rig.inserts.values()) == [one for one in values if one != values[37]]
    assert await rig.dead() == [values[37]]
    letter = await dead_letter(rig.log, 0)
    assert "INCORRECT_DATA" in letter.reason
    assert (letter.origin.topic, letter.origin.partition, letter.origin.offset) == (TOPIC, 0, 37)
    assert (letter.table, letter.headers) == ("tf_logs", original)
    assert orjson.loads(rig.log.commits[WRITER_GROUP, TOPIC, 0].metadata)["dead"] == 10
    await rig.assert_conserved()


async def test_a_plan_full_of_bad_records_still_fits_into_the_metadata() -> None:
    rig = Rig()
    values = [b"%d" % number for number in range(9_000)]
    rig.put(*values)
    rig.dead_letter_limits = DeadLetterLimits(in_a_row_max=10_000, ratio_max=1.0)
    rig.limits = BatchLimits(rows_max=1_000_000, bytes_max=32 << 20, wait_ms=0)
    rig.inserts.refused = set(values[::9])
    rig.restarted()
    await rig.settle()
    assert len(await rig.dead()) == 1_000
    assert sorted(rig.inserts.values()) == sorted(set(values) - rig.inserts.refused)
    await rig.assert_conserved()


@pytest.mark.parametrize("calls", range(1, 40, 2))
async def test_F54_a_crash_while_a_plan_is_cut_stores_nothing_twice(calls: int) -> None:
    rig = Rig()
    values = [bytes([number]) for number in range(8)]
    rig.put(*values)
    rig.inserts.refused = {values[2], values[5]}
    rig.inserts.faults = rig.log.faults
    rig.log.faults.planned.extend([None] * (calls - 1))
    rig.log.faults.planned.append(("after", Crash()))
    with contextlib.suppress(Crash):  # not raised when the whole work took fewer calls
        await rig.settle()
    rig.restarted()
    await rig.settle()
    assert sorted(rig.inserts.values()) == [values[n] for n in (0, 1, 3, 4, 6, 7)]
    assert set(await rig.dead()) == rig.inserts.refused
    await rig.assert_conserved()


async def test_a_refusal_that_was_a_passing_fault_stores_nothing_twice() -> None:
    """A body damaged on its way is refused whole, and accepted in halves; then the writer dies."""
    rig = Rig()
    values = [b"a", b"b", b"c", b"d"]
    rig.put(*values)
    rig.inserts.refused = {b"c"}

    def heal() -> None:
        if len(rig.inserts.asked) > 1:
            rig.inserts.refused.clear()

    rig.inserts.on_insert = heal
    rig.inserts.faults.planned.extend([None, None, ("after", Crash())])
    with pytest.raises(Crash):
        await rig.settle()
    rig.restarted()
    await rig.settle()
    assert sorted(rig.inserts.values()) == values


async def test_F53_unreadable_headers_become_a_dead_letter_at_once() -> None:
    rig = Rig()
    rig.put(b"a")
    rig.log.put(TOPIC, 0, b"junk", (("x", b"y"),))
    rig.log.put(TOPIC, 0, b"other", block(table="no_such_table"))
    rig.put(b"b")
    await rig.settle()
    assert rig.inserts.values() == [b"a", b"b"]
    assert await rig.dead() == [b"junk", b"other"]
    assert len(rig.inserts.asked) == 1
    await rig.assert_conserved()


async def test_F55_while_the_dead_letter_topic_is_down_nothing_is_passed() -> None:
    rig = Rig()
    rig.put(b"bad", b"good")
    rig.inserts.refused = {b"bad"}
    append = rig.log.append
    failures = iter(range(3))

    async def failing(topic: str, partition: int, value: bytes, headers: object) -> int:
        if topic == DEAD_LETTER_TOPIC and next(failures, None) is not None:
            assert rig.log.commits[WRITER_GROUP, TOPIC, 0].offset == 0
            raise Unavailable("the dead-letter topic is down")
        return await append(topic, partition, value, headers)  # type: ignore[arg-type] # as given

    rig.log.append = failing  # type: ignore[method-assign] # a fault of one topic
    await rig.settle()
    assert len(rig.waits) == 3
    assert await rig.dead() == [b"bad"]
    assert rig.inserts.values() == [b"good"]


async def test_B5_too_many_bad_records_in_a_row_pause_the_partition() -> None:
    rig = Rig()
    values = [bytes([number]) for number in range(10)]
    rig.put(*values)
    rig.dead_letter_limits = DeadLetterLimits(in_a_row_max=3)
    rig.inserts.refused = set(values)
    reason = metrics.PARTITIONS_PAUSED.labels("dead_letters")

    async def sleep(seconds: float) -> None:
        assert reason._value.get() == 1
        rig.waits.append(seconds)
        rig.inserts.refused = set()  # the operator mends what was wrong

    rig.sleep = sleep  # type: ignore[method-assign] # a spy in place of the rig's own
    rig.restarted()
    await rig.settle()
    assert await rig.dead() == values[:3]
    assert sorted(rig.inserts.values()) == values[3:]
    await rig.assert_conserved()


def test_B5_one_percent_of_the_records_may_be_bad_and_always_a_floor() -> None:
    limits = DeadLetterLimits(ratio_records=1_000, ratio_floor=5)
    for _ in range(10):
        assert limits.allows_another()
        limits.buried()
        limits.stored(50)
    assert not limits.allows_another()
    limits.stored(1_000)
    assert limits.allows_another()


async def test_F59_a_record_of_a_newer_release_pauses_and_is_never_dropped() -> None:
    rig = Rig()
    rig.put(b"a")
    newer = (("v", b"\x02"), *block()[1:])
    rig.log.put(TOPIC, 0, b"newer", newer)
    rig.put(b"b")

    class UpdatedError(Exception):
        pass

    async def sleep(_seconds: float) -> None:
        assert metrics.PARTITIONS_PAUSED.labels("version")._value.get() == 1
        raise UpdatedError

    rig.sleep = sleep  # type: ignore[method-assign, assignment] # ends the pause
    rig.restarted()
    with pytest.raises(UpdatedError):
        await rig.settle()
    assert rig.inserts.values() == [b"a"]
    assert rig.log.commits[WRITER_GROUP, TOPIC, 0].offset == 1
    assert await rig.dead() == []


async def test_metadata_of_a_newer_release_pauses() -> None:
    rig = Rig()
    rig.put(b"a")
    await rig.log.commit(WRITER_GROUP, TOPIC, 0, 0, '{"v":2}')

    class UpdatedError(Exception):
        pass

    async def sleep(_seconds: float) -> None:
        raise UpdatedError

    rig.sleep = sleep  # type: ignore[method-assign, assignment] # ends the pause
    rig.restarted()
    with pytest.raises(UpdatedError):
        await rig.settle()
    assert rig.inserts.asked == []


async def test_I12_totals_survive_restarts() -> None:
    rig = Rig()
    for value in (b"a", b"b", b"c"):
        rig.put(value)
        await rig.settle()
        rig.restarted()
    progress, plan, _last, _log = from_metadata(3, rig.log.commits[WRITER_GROUP, TOPIC, 0].metadata)
    assert (progress.stored, progress.dead, plan) == (30, 0, None)
    await rig.assert_conserved()


async def test_I12_a_record_that_vanishes_shows_as_a_difference() -> None:
    rig = Rig()
    rig.put(b"a", b"b", b"c")
    rig.log.lose(TOPIC, 0, 1)
    await rig.settle()
    found = await balance(rig.log, TOPIC)
    assert found is not None
    assert found.difference == 10
    assert rig.inserts.values() == [b"a", b"c"]


async def test_a_plan_whose_records_vanished_is_passed() -> None:
    rig = Rig()
    rig.put(b"a", b"b")
    rig.inserts.faults.planned.append(("before", Crash()))
    with pytest.raises(Crash):
        await rig.settle()
    for offset in (0, 1):
        rig.log.lose(TOPIC, 0, offset)
    rig.put(b"c")
    rig.restarted()
    await rig.settle()
    assert rig.inserts.values() == [b"c"]


async def test_a_plan_closes_at_its_rows_and_takes_a_larger_record_alone() -> None:
    rig = Rig(BatchLimits(rows_max=25, bytes_max=1 << 20, wait_ms=0))
    rig.put(b"a", b"b", b"c")
    rig.log.put(TOPIC, 0, b"large", block(rows=99))
    rig.put(b"d")
    await rig.settle()
    assert [one.values for one in rig.inserts.stored] == [
        (b"a", b"b"),
        (b"c",),
        (b"large",),
        (b"d",),
    ]


async def test_a_plan_closes_at_its_bytes() -> None:
    rig = Rig(BatchLimits(rows_max=1_000, bytes_max=10, wait_ms=0))
    rig.put(b"aaaa", b"bbbb", b"cccc")
    await rig.settle()
    assert [len(one.values) for one in rig.inserts.stored] == [2, 1]


async def test_a_record_waits_for_company_no_longer_than_the_limit_says() -> None:
    rig = Rig(BatchLimits(rows_max=1_000, bytes_max=1 << 20, wait_ms=1_000))
    rig.log.put(TOPIC, 0, b"old", block(), timestamp_ms=1)
    await rig.settle()
    assert rig.waits == []
    assert rig.inserts.values() == [b"old"]


async def test_F51_a_clock_that_was_days_ahead_does_not_hold_a_plan_back_for_days(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig(BatchLimits(rows_max=1_000, bytes_max=1 << 20, wait_ms=20))
    monkeypatch.setattr(rig, "sleep", asyncio.sleep)
    rig.restarted()
    future = time.time() + 3 * 24 * 3_600
    rig.log.put(TOPIC, 0, b"a", block(), timestamp_ms=int(future * 1_000))
    moments = chain([future], repeat(time.time()))
    monkeypatch.setattr(ranges, "time", lambda: next(moments))
    async with asyncio.timeout(10):
        await rig.settle()
    assert rig.inserts.values() == [b"a"]


async def test_tenants_are_ensured_before_their_first_insert() -> None:
    rig = Rig()
    rig.put(b"a")
    seen: list[list[str]] = []
    rig.inserts.on_insert = lambda: seen.append(list(rig.tenants))
    await rig.settle()
    assert seen == [["acme"]]
