"""The memory of a process is bounded in entries, in bytes and in time."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shared.cache.memory import ENTRY_OVERHEAD_BYTES, MemoryCache

BYTES_MAX = 4 * (ENTRY_OVERHEAD_BYTES + 100)


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """The time, in seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> MemoryCache:
    """Room for three entries."""
    return MemoryCache(items_max=3, bytes_max=BYTES_MAX, clock=clock)


def test_an_entry_is_there_until_its_seconds_are_over(memory: MemoryCache, clock: Clock) -> None:
    memory.set("a", b"1", ttl_seconds=300)
    clock.now += 299.9
    assert memory.get("a") == b"1"

    clock.now += 0.1
    assert memory.get("a") is None
    assert len(memory) == memory.bytes_used == 0


def test_the_entry_that_was_used_longest_ago_gives_way(memory: MemoryCache) -> None:
    for key in "abc":
        memory.set(key, b"1", ttl_seconds=60)
    memory.get("a")
    memory.set("d", b"1", ttl_seconds=60)

    assert [key for key in "abcd" if memory.get(key)] == ["a", "c", "d"]


def test_bytes_are_bounded_too(memory: MemoryCache) -> None:
    memory.set("a", bytes(700), ttl_seconds=60)
    memory.set("b", bytes(700), ttl_seconds=60)

    assert memory.get("a") is None
    assert memory.get("b") is not None
    assert memory.bytes_used == 1 + 700 + ENTRY_OVERHEAD_BYTES


def test_what_has_no_room_even_alone_is_not_kept_and_evicts_nothing(memory: MemoryCache) -> None:
    memory.set("a", b"1", ttl_seconds=60)
    memory.set("b", b"old", ttl_seconds=60)
    memory.set("b", bytes(BYTES_MAX), ttl_seconds=60)

    assert memory.get("a") == b"1"
    assert memory.get("b") is None


def test_a_new_value_takes_the_place_and_the_time_of_the_old_one(
    memory: MemoryCache, clock: Clock
) -> None:
    memory.set("a", b"1", ttl_seconds=10)
    memory.set("a", b"22", ttl_seconds=60)
    clock.now += 30

    assert memory.get("a") == b"22"
    assert memory.bytes_used == 1 + 2 + ENTRY_OVERHEAD_BYTES


def test_deletions_count_what_was_there(memory: MemoryCache) -> None:
    for key in ("logs:t1:a", "logs:t1:b", "logs:t12:a"):
        memory.set(key, b"1", ttl_seconds=60)

    assert memory.delete("logs:t1:**") == 2
    assert memory.delete("logs:t12:a") == 1
    assert memory.delete("logs:t12:a") == 0
    assert memory.bytes_used == 0


def test_the_rate_of_hits_is_a_share(memory: MemoryCache) -> None:
    assert memory.hits.rate == 0
    memory.set("a", b"1", ttl_seconds=60)
    memory.get("a")
    memory.get("b")

    assert memory.hits.rate == 0.5


class AnyUse(RuleBasedStateMachine):
    """Whatever is done to it: it stays within its bounds, and never returns a wrong value."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.memory = MemoryCache(items_max=3, bytes_max=BYTES_MAX, clock=self.clock)
        self.model: dict[str, tuple[bytes, float]] = {}

    @rule(key=st.sampled_from("abcdef"), size=st.integers(0, BYTES_MAX), ttl=st.integers(1, 5))
    def set(self, key: str, size: int, ttl: int) -> None:
        """Keep a value."""
        self.memory.set(key, bytes(size), ttl_seconds=ttl)
        self.model[key] = (bytes(size), self.clock.now + ttl)

    @rule(key=st.sampled_from("abcdef"))
    def get(self, key: str) -> None:
        """Look one up."""
        found = self.memory.get(key)
        value, expires_at = self.model.get(key, (None, 0))
        assert found is None or (found == value and self.clock.now < expires_at)

    @rule(key=st.sampled_from("abcdef"))
    def delete(self, key: str) -> None:
        """Delete one."""
        self.memory.delete(key)
        assert self.memory.get(key) is None

    @rule(seconds=st.integers(0, 5))
    def wait(self, seconds: int) -> None:
        """Time goes by."""
        self.clock.now += seconds

    @invariant()
    def is_bounded(self) -> None:
        """The bounds."""
        assert len(self.memory) <= 3
        assert self.memory.bytes_used <= BYTES_MAX


TestAnyUse = AnyUse.TestCase
TestAnyUse.settings = settings(stateful_step_count=40)
