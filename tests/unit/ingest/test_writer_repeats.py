"""Requests that clients sent twice, on a log in memory."""

import contextlib

import pytest

from ingest.dead_letters import dead_letters
from ingest.plans import RetryWindow, read_headers
from ingest.repeats import SeenRequests
from tests.fakes import Crash, MemoryLog, block
from tests.integration.ingest.stored_blocks import logs_request, records_of_requests
from tests.unit.ingest.test_writer import TOPIC, Rig

FIRST, SECOND, THIRD = b"1" * 16, b"2" * 16, b"3" * 16
MINUTE_MS = 60_000


async def test_I09_a_request_that_became_durable_twice_is_stored_once() -> None:
    rig = Rig()
    rig.log.put(TOPIC, 0, b"a", block(request_id=FIRST))
    rig.log.put(TOPIC, 0, b"again", block(request_id=FIRST))
    rig.log.put(TOPIC, 0, b"b", block(request_id=SECOND))
    await rig.settle()
    assert rig.inserts.values() == [b"a", b"b"]
    await rig.assert_conserved()


async def test_I09_tables_tenants_and_parts_of_one_request_are_no_repeats() -> None:
    rig = Rig()
    rig.log.put(TOPIC, 0, b"a", block(request_id=FIRST, table="tf_metrics_sum"))
    rig.log.put(TOPIC, 0, b"b", block(request_id=FIRST, table="tf_metrics_gauge"))
    rig.log.put(TOPIC, 0, b"c", block(request_id=FIRST, table="tf_metrics_sum", tenant="bolt"))
    await rig.settle()
    assert sorted(rig.inserts.values()) == [b"a", b"b", b"c"]


async def test_I09_only_the_repeated_rows_of_a_shared_block_are_dropped() -> None:
    rig = Rig()
    requests = {
        FIRST: ("acme", FIRST, logs_request(["first"] * 2)),
        SECOND: ("bolt", SECOND, logs_request(["second"] * 3)),
        THIRD: ("acme", THIRD, logs_request(["third"] * 4)),
    }
    for ids in ((FIRST,), (SECOND, FIRST, THIRD)):
        ((value, headers),) = records_of_requests("logs", [requests[one] for one in ids])
        rig.log.put(TOPIC, 0, value, headers)
    await rig.settle()
    await rig.assert_conserved()
    assert [one.rows for one in rig.inserts.stored] == [9]


@pytest.mark.parametrize("calls", range(1, 12))
async def test_I09_a_crash_changes_nothing_about_what_is_a_repeat(calls: int) -> None:
    rig = Rig()
    rig.log.put(TOPIC, 0, b"a", block(request_id=FIRST))
    await rig.settle()
    rig.restarted()
    rig.inserts.faults = rig.log.faults
    rig.log.put(TOPIC, 0, b"again", block(request_id=FIRST))
    rig.log.put(TOPIC, 0, b"b", block(request_id=SECOND))
    rig.log.faults.planned.extend([None] * (calls - 1))
    rig.log.faults.planned.append(("after", Crash()))
    with contextlib.suppress(Crash):  # not raised when the whole work took fewer calls
        await rig.settle()
    rig.restarted()
    rig.log.put(TOPIC, 0, b"and again", block(request_id=SECOND))
    await rig.settle()
    assert rig.inserts.values() == [b"a", b"b"]
    await rig.assert_conserved()


async def test_I09_a_failure_within_one_process_does_not_make_a_plan_its_own_repeat() -> None:
    rig = Rig()
    rig.put(b"a")
    rig.inserts.faults.planned.append(("before", Crash()))
    with pytest.raises(Crash):
        await rig.writer.step()
    await rig.writer.step()
    assert rig.inserts.values() == [b"a"]


async def test_F68_a_repeat_beyond_the_window_is_stored_again() -> None:
    rig = Rig()
    for minute, value in ((0, b"a"), (4, b"within"), (8, b"within of that"), (14, b"beyond")):
        stamp = minute * MINUTE_MS
        rig.log.put(TOPIC, 0, value, block(request_id=FIRST), timestamp_ms=stamp)
    await rig.settle()
    assert rig.inserts.values() == [b"a", b"beyond"]


@pytest.mark.parametrize("offset", range(1, 60, 7))
async def test_I09_what_is_read_back_decides_as_what_was_seen(offset: int) -> None:
    log = MemoryLog()
    ids = [bytes([number % 11]) * 16 for number in range(60)]
    for number, request_id in enumerate(ids):
        stamp = number * number * 1_000
        log.put(TOPIC, 0, b"", block(request_id=request_id), timestamp_ms=stamp)
    lasting = SeenRequests(RetryWindow(1_000_000, 1_000_000))
    planned = [read_headers(record) for record in log.records[TOPIC, 0]]
    decisions = [lasting.without_repeats(one) is None for one in planned]
    successor = SeenRequests(RetryWindow(1_000_000, 1_000_000))
    await successor.read_back(log, TOPIC, 0, offset)
    assert [successor.without_repeats(one) is None for one in planned[offset:]] == decisions[
        offset:
    ]
    assert True in decisions
    assert False in decisions[11:]


async def test_a_damaged_block_with_repeats_is_a_dead_letter() -> None:
    rig = Rig()
    ((value, headers),) = records_of_requests("logs", [("acme", FIRST, logs_request(["x"]))])
    rig.log.put(TOPIC, 0, value, headers)
    requests = [("acme", FIRST, logs_request(["x"])), ("acme", SECOND, logs_request(["y"]))]
    ((value, headers),) = records_of_requests("logs", requests)
    rig.log.put(TOPIC, 0, value[:-9], headers)
    await rig.settle()
    assert [letter.value async for letter in dead_letters(rig.log)] == [value[:-9]]
    await rig.assert_conserved()
