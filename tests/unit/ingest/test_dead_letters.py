"""Dead letters: replayed once, given up for good, and never too many by accident."""

from collections.abc import Awaitable, Callable, Sequence

import pytest

from ingest.dead_letters import (
    OPEN_LETTERS_MAX,
    DeadLetterLimits,
    dead_letters,
    purge,
    replay,
    settled,
)
from ingest.plans import GroupKey, PlannedRecord
from ingest.signals import DEAD_LETTER_TOPIC
from shared.errors import Conflict, Unavailable
from tests.fakes import Crash, MemoryInserts, unavailable
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


class Meanwhile:
    """`Inserts` during the first of which somebody else does something."""

    def __init__(self, inserts: MemoryInserts, other: Callable[[], Awaitable[object]]) -> None:
        self._inserts = inserts
        self._other: Callable[[], Awaitable[object]] | None = other

    async def insert(self, key: GroupKey, records: Sequence[PlannedRecord], token: str) -> None:
        other, self._other = self._other, None
        if other is not None:
            await other()
        await self._inserts.insert(key, records, token)


async def test_F56_what_is_replayed_is_stored_once_however_often() -> None:
    rig = await with_letters(b"a", b"b", b"c")
    rig.inserts.refused = set()
    assert (await replay(rig.log, rig.inserts)).stored == [0, 1, 2]
    assert (await replay(rig.log, rig.inserts)).stored == []
    assert sorted(rig.inserts.values()) == [b"a", b"b", b"c"]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("calls", range(24))
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


async def test_F56_two_people_who_replay_at_once_store_each_letter_once() -> None:
    rig = await with_letters(b"a", b"b", b"c")
    rig.inserts.refused = set()
    other = Meanwhile(rig.inserts, lambda: replay(rig.log, rig.inserts, {1, 2}))
    assert (await replay(rig.log, other)).stored == [0]
    assert sorted(rig.inserts.values()) == [b"a", b"b", b"c"]
    # They are settled for good: tokens are forgotten some day.
    assert (await replay(rig.log, rig.inserts)).stored == []


async def test_F56_what_somebody_gives_up_during_a_replay_stays_given_up() -> None:
    rig = await with_letters(b"a", b"b")
    rig.inserts.refused = set()
    other = Meanwhile(rig.inserts, lambda: purge(rig.log, {1}))
    assert (await replay(rig.log, other)).stored == [0]
    assert (await replay(rig.log, rig.inserts)).stored == []
    assert rig.inserts.values() == [b"a"]


async def test_F56_a_copy_that_a_crash_left_is_settled_with_the_letter() -> None:
    rig = await with_letters(b"a", b"b")
    rig.inserts.refused = set()
    twice = rig.log.records[DEAD_LETTER_TOPIC, 0][0]
    rig.log.put(DEAD_LETTER_TOPIC, 0, twice.value, twice.headers)
    assert (await replay(rig.log, rig.inserts, {2})).stored == [2]
    # So long after it that ClickHouse has forgotten the token.
    rig.inserts = MemoryInserts()
    assert (await replay(rig.log, rig.inserts)).stored == [1]
    assert rig.inserts.values() == [b"b"]


async def test_a_copy_can_be_given_up_without_the_letter() -> None:
    rig = await with_letters(b"a")
    rig.inserts.refused = set()
    twice = rig.log.records[DEAD_LETTER_TOPIC, 0][0]
    rig.log.put(DEAD_LETTER_TOPIC, 0, twice.value, twice.headers)
    assert await purge(rig.log, {0}) == 1
    assert (await replay(rig.log, rig.inserts)).stored == [1]


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


async def test_I12_a_single_letter_that_is_still_refused_settles_no_other() -> None:
    rig = await with_letters(b"a", b"b", b"bad")
    rig.inserts.refused = {b"bad"}
    assert (await replay(rig.log, rig.inserts, {2})).stored == []
    assert (await replay(rig.log, rig.inserts)).stored == [0, 1]


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


async def test_B5_a_hundred_in_a_row_may_be_buried_and_no_more() -> None:
    limits = DeadLetterLimits()
    for _ in range(100):
        assert limits.allows_another()
        limits.buried()
    assert not limits.allows_another()


async def test_B5_a_hundred_of_ten_thousand_may_be_buried_and_no_more() -> None:
    limits = DeadLetterLimits()
    for _ in range(100):
        assert limits.allows_another()
        limits.buried()
        limits.stored(1)
    assert not limits.allows_another()
    # 200 records were seen: the first dead one is the oldest of the last 10 000 until one more.
    limits.stored(9_800)
    assert not limits.allows_another()
    limits.stored(1)
    assert limits.allows_another()
    limits.buried()
    assert not limits.allows_another()
