"""A writer on a log that is not what it was, and one that lost its partition."""

import logging
from dataclasses import replace

import pytest

from ingest import metrics
from ingest.inserts import INSERT_SECONDS_MAX
from ingest.log import LostPartition, Record
from ingest.partition_writer import WRITER_GROUP, PartitionWriter
from ingest.plans import RetryWindow
from ingest.signals import INGESTED_TOPIC
from shared.errors import Invalid, Unavailable
from tests.fakes import Crash, block
from tests.unit.ingest.test_writer import TOPIC, Rig

FIRST = b"1" * 16


def anomalies(reason: str) -> float:
    return float(metrics.LOG_ANOMALIES.labels(reason)._value.get())


def records_lost(reason: str) -> float:
    return float(metrics.RECORDS_LOST.labels(reason)._value.get())


def truncate(rig: Rig, offset: int, *values: bytes) -> None:
    """A new leader that had got only the records before *offset* takes *values*."""
    place = (TOPIC, 0)
    kept = [one for one in rig.log.records[place] if one.offset < offset]
    epoch = 1 + max(one.epoch for one in rig.log.records[place])
    for number, value in enumerate(values, start=offset):
        kept.append(Record(TOPIC, 0, number, 10**12 + number, value, block(), epoch))
    rig.log.records[place] = kept
    rig.log._ends[place] = kept[-1].offset + 1


async def test_F25_another_leader_alone_is_no_loss() -> None:
    rig = Rig()
    rig.put(b"a", b"b")
    await rig.settle()
    truncate(rig, 2, b"c")
    before = anomalies("truncated")
    await rig.settle()
    assert rig.inserts.values() == [b"a", b"b", b"c"]
    assert anomalies("truncated") == before


@pytest.mark.parametrize("restarted", [False, True])
async def test_D10_a_log_that_lost_its_end_is_reported_and_nothing_new_is_skipped(
    restarted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig()
    rig.put(b"a", b"b", b"c")
    await rig.settle()
    # Records 1 and 2 are gone; others took their offsets, and one more.
    truncate(rig, 1, b"x", b"y", b"z")
    before = records_lost("truncated")
    if restarted:
        rig.restarted()
    with caplog.at_level(logging.ERROR):
        await rig.settle()
        await rig.settle()
    assert rig.inserts.values() == [b"a", b"b", b"c", b"x", b"y", b"z"]
    assert records_lost("truncated") == before + 2
    assert "lost its acknowledged records from offset 1" in caplog.text


async def test_F20_a_log_made_anew_whose_offsets_were_kept_is_read_from_its_beginning() -> None:
    rig = Rig()
    rig.log.incarnations[TOPIC] = "first"
    rig.put(b"a", b"b", b"c")
    await rig.settle()
    place = (TOPIC, 0)
    rig.log.records[place] = [
        Record(TOPIC, 0, number, 10**12 + number, b"new%d" % number, block()) for number in range(2)
    ]
    rig.log._ends[place] = 2
    rig.log.incarnations[TOPIC] = "made anew"
    rig.restarted()
    before = anomalies("recreated")
    await rig.settle()
    assert rig.inserts.values() == [b"a", b"b", b"c", b"new0", b"new1"]
    assert anomalies("recreated") == before + 1


async def test_F19_offsets_that_are_gone_are_reported_and_nothing_is_stored_twice() -> None:
    rig = Rig()
    rig.put(b"a", b"b")
    await rig.settle()
    rig.put(b"c")
    del rig.log.commits[WRITER_GROUP, TOPIC, 0]
    rig.restarted()
    before = anomalies("offsets")
    await rig.settle()
    assert rig.inserts.values() == [b"a", b"b", b"c"]
    assert anomalies("offsets") == before + 1


async def test_F19_F20_a_log_made_anew_with_its_offsets_gone_is_read_from_its_beginning() -> None:
    rig = Rig()
    rig.put(b"a", b"b")
    await rig.settle()
    del rig.log.commits[WRITER_GROUP, TOPIC, 0]
    told = rig.log.records[INGESTED_TOPIC, 0][-1].timestamp_ms
    place = (TOPIC, 0)
    rig.log.records[place] = [
        Record(TOPIC, 0, number, told + 1 + number, b"new%d" % number, block())
        for number in range(4)
    ]
    rig.log._ends[place] = 4
    rig.restarted()
    await rig.settle()
    assert rig.inserts.values() == [b"a", b"b", b"new0", b"new1", b"new2", b"new3"]


async def test_F30_unread_records_that_retention_deletes_are_counted() -> None:
    rig = Rig()
    rig.put(b"a")
    await rig.settle()
    rig.put(b"b", b"c", b"d")
    rig.log.lose(TOPIC, 0, 0)
    rig.log.lose(TOPIC, 0, 1)
    rig.log.lose(TOPIC, 0, 2)
    before = records_lost("retention")
    await rig.settle()
    assert rig.inserts.values() == [b"a", b"d"]
    assert records_lost("retention") == before + 2


class Tenure:
    """A lease that the test decides."""

    def __init__(self) -> None:
        self.lost = False
        self.heard = True

    def held(self) -> bool:
        return self.heard and not self.lost


async def test_I10_nothing_is_inserted_while_the_partition_is_not_held() -> None:
    rig = Rig()
    rig.put(b"a")
    lease = Tenure()
    lease.heard = False

    async def sleep(seconds: float) -> None:
        assert rig.inserts.values() == []
        lease.heard = len(rig.waits) > 5
        rig.waits.append(seconds)

    rig.writer._lease = lease
    rig.writer._sleep = sleep
    await rig.settle()
    assert rig.inserts.values() == [b"a"]
    assert len(rig.waits) > 5


async def test_I10_who_lost_the_partition_does_not_go_on_when_it_comes_back() -> None:
    rig = Rig()
    rig.put(b"a")
    lease = Tenure()
    lease.heard = False
    old = rig.writer
    old._lease = lease

    async def lost_and_written_by_another(_seconds: float) -> None:
        lease.lost = lease.heard = True
        rig.put(b"b")
        rig.restarted()
        await rig.settle()

    old._sleep = lost_and_written_by_another
    with pytest.raises(LostPartition):
        await old.step()
    with pytest.raises(LostPartition):
        await old.step()
    assert rig.log.commits[WRITER_GROUP, TOPIC, 0].offset == 2
    assert rig.inserts.values() == [b"a", b"b"]


async def test_F30_what_retention_deletes_of_a_plan_is_counted_too() -> None:
    rig = Rig()
    rig.put(b"a", b"b")
    rig.inserts.faults.planned.append(("before", Crash()))
    with pytest.raises(Crash):
        await rig.settle()
    rig.log.lose(TOPIC, 0, 0)
    rig.restarted()
    before = records_lost("retention")
    await rig.settle()
    assert rig.inserts.values() == [b"b"]
    assert records_lost("retention") == before + 1


async def test_F20_a_log_made_anew_during_its_first_plan_is_noticed() -> None:
    rig = Rig()
    rig.log.incarnations[TOPIC] = "one"
    rig.put(b"a")
    rig.inserts.faults.planned.append(("after", Crash()))
    with pytest.raises(Crash):
        await rig.settle()
    rig.log.records.clear()
    rig.log._ends.clear()
    rig.log.incarnations[TOPIC] = "two"
    rig.put(b"new")
    rig.restarted()
    before = anomalies("recreated")
    await rig.settle()
    await rig.settle()
    assert rig.inserts.values() == [b"a", b"new"]
    assert anomalies("recreated") == before + 1


@pytest.mark.parametrize("window", [RetryWindow(0, 100), RetryWindow(300_000, 0)])
async def test_a_window_of_nothing_switches_the_recognition_of_repeats_off(
    window: RetryWindow,
) -> None:
    rig = Rig()
    rig.writer._window = window
    rig.log.put(TOPIC, 0, b"a", block(request_id=FIRST))
    rig.log.put(TOPIC, 0, b"again", block(request_id=FIRST))
    await rig.settle()
    assert rig.inserts.values() == [b"a", b"again"]
    assert rig.writer.retry_window_seconds == 0.0


async def test_I05_a_plan_is_repeated_with_the_window_that_it_was_made_with() -> None:
    rig = Rig()
    rig.log.put(TOPIC, 0, b"a", block(request_id=FIRST))
    await rig.settle()
    rig.log.put(TOPIC, 0, b"again", block(request_id=FIRST))
    rig.put(b"b")
    rig.inserts.faults.planned.append(("after", Crash()))
    with pytest.raises(Crash):
        await rig.settle()
    off = rig.restarted()
    off._window = RetryWindow(0, 0)
    await rig.settle()
    assert rig.inserts.values() == [b"a", b"b"]
    # Another window would have made other data of the same token.
    asked: dict[str, tuple[bytes, ...]] = {}
    for one in rig.inserts.asked:
        assert asked.setdefault(one.token, one.values) == one.values
    rig.log.put(TOPIC, 0, b"third", block(request_id=FIRST))
    await rig.settle()
    assert rig.inserts.values() == [b"a", b"b", b"third"]


async def test_the_retry_window_tells_how_far_back_it_reaches() -> None:
    rig = Rig()
    rig.writer._window = RetryWindow(60_000, 3)
    assert isinstance(rig.writer, PartitionWriter)
    for number in range(2):
        rig.log.put(TOPIC, 0, b"", block(request_id=bytes([number]) * 16), timestamp_ms=number)
    await rig.settle()
    assert rig.writer.retry_window_seconds == 60.0
    for number in range(2, 9):
        ident = bytes([number]) * 16
        rig.log.put(TOPIC, 0, b"", block(request_id=ident), timestamp_ms=number * 1_000)
    await rig.settle()
    assert rig.writer.retry_window_seconds == 2.0


async def test_I04_an_insert_that_takes_effect_late_is_not_stored_again_in_halves() -> None:
    rig = Rig()
    rig.put(b"a", b"b")
    refusal = Invalid("refused, by a server that changes its mind")
    rig.inserts.faults.planned.extend([("before", Unavailable("lost")), ("before", refusal)])

    async def sleep(seconds: float) -> None:
        rig.waits.append(seconds)
        if seconds > INSERT_SECONDS_MAX / 2:
            # By now the first try, which nobody heard of again, has come through.
            rig.inserts.apply(rig.inserts.asked[0])

    rig.writer._sleep = sleep
    await rig.settle()
    assert rig.inserts.values() == [b"a", b"b"]
    assert max(rig.waits) > INSERT_SECONDS_MAX / 2
    await rig.assert_conserved()


async def test_what_is_refused_without_any_doubt_is_cut_at_once() -> None:
    rig = Rig()
    rig.put(b"a", b"bad")
    rig.inserts.refused.add(b"bad")
    await rig.settle()
    assert rig.inserts.values() == [b"a"]
    assert await rig.dead() == [b"bad"]
    assert rig.waits == []


@pytest.mark.parametrize("shown_end", range(4))
async def test_F23_a_leader_that_does_not_show_all_records_yet_is_waited_for(
    shown_end: int,
) -> None:
    rig = Rig()
    rig.log.put(TOPIC, 0, b"a", block(request_id=FIRST))
    await rig.settle()
    rig.put(b"b", b"c")
    rig.log.put(TOPIC, 0, b"again", block(request_id=FIRST))
    rig.inserts.faults.planned.append(("before", Crash()))
    with pytest.raises(Crash):
        await rig.settle()
    rig.log.shown_end = shown_end
    before = anomalies("truncated")
    rig.restarted()

    async def sleep(seconds: float) -> None:
        assert rig.inserts.values() == [b"a"]
        rig.waits.append(seconds)
        if len(rig.waits) > 5:
            rig.log.shown_end = 1 << 62

    rig.writer._sleep = sleep
    await rig.settle()
    assert rig.inserts.values() == [b"a", b"b", b"c"]
    assert len(rig.waits) > 5
    assert anomalies("truncated") == before
    await rig.assert_conserved()


async def test_D10_a_plan_of_which_the_log_lost_the_end_is_made_anew() -> None:
    rig = Rig()
    rig.put(b"a", b"b")
    rig.inserts.faults.planned.append(("before", Crash()))
    with pytest.raises(Crash):
        await rig.settle()
    place = (TOPIC, 0)
    rig.log.records[place] = rig.log.records[place][:1]
    rig.log._ends[place] = 1
    rig.restarted()
    before = records_lost("truncated")
    await rig.settle()
    assert rig.inserts.values() == [] or rig.inserts.values() == [b"a"]
    rig.put(b"c")
    await rig.settle()
    await rig.settle()
    assert rig.inserts.values() == [b"a", b"c"]
    assert records_lost("truncated") == before + 1


async def test_F40_a_window_that_is_too_small_stores_twice_which_is_why_the_start_refuses_it() -> (
    None
):
    rig = Rig()
    rig.inserts.window = 1
    rig.put(b"a")
    rig.inserts.faults.planned.append(("after", Crash()))
    with pytest.raises(Crash):
        await rig.settle()
    (mine,) = rig.inserts.asked
    rig.inserts.apply(replace(mine, token="of another writer", values=(b"other",)))
    rig.restarted()
    await rig.settle()
    assert rig.inserts.values() == [b"a", b"other", b"a"]
