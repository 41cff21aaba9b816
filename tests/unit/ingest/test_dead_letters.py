"""Dead letters: replayed once, given up for good, and never too many by accident."""

import pytest

from ingest.dead_letters import (
    OPEN_LETTERS_MAX,
    DeadLetterLimits,
    dead_letters,
    purge,
    replay,
    settled,
)
from shared.errors import Conflict, Unavailable
from tests.fakes import Crash, unavailable
from tests.unit.ingest.test_writer import Rig


async def with_letters(*values: bytes) -> Rig:
    """A rig whose records are all dead letters."""
    rig = Rig()
    rig.put(*values)
    rig.inserts.refused = set(values)
    await rig.settle()
    assert await rig.dead() == list(values)
    rig.inserts.asked.clear()
    return rig


async def test_F56_what_is_replayed_is_stored_once_however_often() -> None:
    rig = await with_letters(b"a", b"b", b"c")
    rig.inserts.refused = set()
    assert (await replay(rig.log, rig.inserts)).stored == [0, 1, 2]
    assert (await replay(rig.log, rig.inserts)).stored == []
    assert sorted(rig.inserts.values()) == [b"a", b"b", b"c"]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("calls", range(14))
async def test_F56_a_crash_in_a_replay_stores_nothing_twice(calls: int, moment: str) -> None:
    rig = await with_letters(b"a", b"b")
    rig.inserts.refused = set()
    rig.inserts.faults = rig.log.faults
    rig.log.faults.planned.extend([None] * calls)
    rig.log.faults.planned.append((moment, Crash()))
    try:
        await replay(rig.log, rig.inserts)
    except Crash:
        rig.log.faults.planned.clear()
        await replay(rig.log, rig.inserts)
    assert sorted(rig.inserts.values()) == [b"a", b"b"]


async def test_a_letter_that_is_still_refused_stays_open_and_holds_up_nobody() -> None:
    rig = await with_letters(b"a", b"bad", b"c")
    rig.inserts.refused = {b"bad"}
    outcome = await replay(rig.log, rig.inserts)
    assert outcome.stored == [0, 2]
    assert [one.number for one in outcome.refused] == [1]
    rig.inserts.refused = set()
    assert (await replay(rig.log, rig.inserts)).stored == [1]


async def test_single_letters_are_replayed_and_the_others_stay_open() -> None:
    rig = await with_letters(b"a", b"b", b"c", b"d")
    rig.inserts.refused = set()
    assert (await replay(rig.log, rig.inserts, {2})).stored == [2]
    state = await settled(rig.log)
    assert [state.has(number) for number in range(4)] == [False, False, True, False]
    assert (await replay(rig.log, rig.inserts)).stored == [0, 1, 3]


async def test_what_is_given_up_is_not_replayed() -> None:
    rig = await with_letters(b"a", b"b", b"c")
    rig.inserts.refused = set()
    assert await purge(rig.log, {1}) == 1
    assert await purge(rig.log, {1}) == 0
    assert (await replay(rig.log, rig.inserts)).stored == [0, 2]
    assert await purge(rig.log) == 0
    assert len([letter async for letter in dead_letters(rig.log)]) == 3


async def test_an_outage_of_clickhouse_ends_a_replay_and_loses_nothing() -> None:
    rig = await with_letters(b"a", b"b")
    rig.inserts.refused = set()
    rig.inserts.faults.planned.extend(unavailable(1))
    with pytest.raises(Unavailable):
        await replay(rig.log, rig.inserts)
    assert (await replay(rig.log, rig.inserts)).stored == [0, 1]


async def test_no_more_letters_stay_open_than_can_be_noted() -> None:
    rig = Rig()
    rig.dead_letter_limits = DeadLetterLimits(in_a_row_max=10_000, ratio_floor=10_000)
    rig.restarted()
    values = [b"%d" % number for number in range(OPEN_LETTERS_MAX + 3)]
    rig.put(*values)
    rig.inserts.refused = set(values)
    await rig.settle()
    rig.inserts.refused = set()
    assert (await replay(rig.log, rig.inserts, {OPEN_LETTERS_MAX})).stored == [OPEN_LETTERS_MAX]
    with pytest.raises(Conflict, match="replay or purge"):
        await replay(rig.log, rig.inserts, {OPEN_LETTERS_MAX + 2})


async def test_B5_limits_of_dead_letters_in_a_row_and_by_ratio() -> None:
    limits = DeadLetterLimits(in_a_row_max=3, ratio_max=0.1, ratio_records=50, ratio_floor=1)
    for _ in range(3):
        assert limits.allows_another()
        limits.buried()
    assert not limits.allows_another()
    limits.stored(1)
    assert limits.allows_another()
    for _ in range(2):
        limits.buried()
        limits.stored(1)
    # Five of the last fifty: a tenth.
    assert not limits.allows_another()
    limits.stored(50)
    assert limits.allows_another()
