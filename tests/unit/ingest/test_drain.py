"""Moving a log: everything once, also when the move is interrupted."""

import pytest

from ingest.dead_letters import dead_letters
from ingest.drain import drain
from ingest.signals import DEAD_LETTER_TOPIC
from tests.fakes import Crash, MemoryLog, block
from tests.unit.ingest.test_writer import TOPIC, Rig


async def no_plan(topic: str, partition: int) -> None:
    raise AssertionError(f"{topic}/{partition} has no plan")


async def test_what_is_not_stored_is_copied_and_the_rest_is_not() -> None:
    rig = Rig()
    rig.put(b"stored")
    await rig.settle()
    rig.put(b"a", b"b")
    rig.log.put(DEAD_LETTER_TOPIC, 0, b"dead", block())
    target = MemoryLog(identity="kafka")
    assert await drain(rig.log, target, no_plan) == 3
    assert [one.value for one in target.records[TOPIC, 0]] == [b"a", b"b"]
    assert [letter.value async for letter in dead_letters(target)] == [b"dead"]
    assert await drain(rig.log, target, no_plan) == 0
    # Nothing is left for a writer of the old log.
    await rig.restarted().step()
    assert rig.inserts.values() == [b"stored"]


async def test_an_unfinished_plan_is_carried_out_and_not_copied() -> None:
    rig = Rig()
    rig.put(b"a", b"b")
    rig.inserts.faults.planned.append(("after", Crash()))
    with pytest.raises(Crash):
        await rig.settle()
    rig.put(b"c")
    target = MemoryLog(identity="kafka")

    async def finish(topic: str, partition: int) -> None:
        await rig.restarted().step()

    assert await drain(rig.log, target, finish) == 1
    assert rig.inserts.values() == [b"a", b"b"]
    assert [one.value for one in target.records[TOPIC, 0]] == [b"c"]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("calls", range(1, 7))
async def test_an_interrupted_move_goes_on_where_it_was(calls: int, moment: str) -> None:
    rig = Rig()
    rig.put(*(b"%d" % number for number in range(5)))
    target = MemoryLog(identity="kafka")
    target.put(TOPIC, 0, b"another's", block())
    target.faults.planned.extend([None] * (calls + 1))
    target.faults.planned.append((moment, Crash()))
    with pytest.raises(Crash):
        await drain(rig.log, target, no_plan)
    target.faults.planned.clear()
    target.put(TOPIC, 0, b"another's too", block())
    await drain(rig.log, target, no_plan)
    values = [one.value for one in target.records[TOPIC, 0] if b"another" not in one.value]
    assert values == [b"0", b"1", b"2", b"3", b"4"]
