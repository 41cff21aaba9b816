"""M1: clients, gateway, log, writer and ClickHouse in any order of events and failures.

The writer is the real one; the log and ClickHouse are those of `tests.fakes`, which fail and crash
where they are told to. After every step: nothing is stored twice, nothing is passed that is not
stored, and when all has settled, nothing is missing.
"""

import asyncio
import contextlib
from collections import Counter
from typing import Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ingest.conservation import balance
from ingest.dead_letters import DeadLetterLimits
from ingest.partition_writer import WRITER_GROUP, PartitionWriter
from ingest.ranges import BatchLimits
from ingest.signals import DEAD_LETTER_TOPIC
from shared.clickhouse.exception_codes import SchemaMismatch
from shared.errors import Invalid, Unavailable
from tests.fakes import Crash, MemoryInserts, MemoryLog, Stored, block

TOPIC: Final = "otlp.logs.v1"
WINDOW: Final = 200
# A late insert of a writer that was thought dead arrives at most so many inserts later (I7).
ZOMBIES_MAX: Final = 10

TROUBLES: Final = st.sampled_from(
    [
        None,
        None,
        ("before", Unavailable("gone")),
        ("after", Unavailable("gone")),
        ("before", SchemaMismatch("drifted")),
    ]
)
# So many calls of ports one step of the writer may take, with some cuts.
CALLS_MAX: Final = 20


class Pipeline(RuleBasedStateMachine):
    """Requests are numbered; a request's block holds its number."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.inserts = MemoryInserts(window=WINDOW)
        self.logs = 0
        self.requests = 0
        self.durable: set[bytes] = set()
        self.waiting: list[tuple[bytes, str]] = []
        self.new_log()

    def new_log(self) -> None:
        self.logs += 1
        self.log = MemoryLog(identity=f"log-{self.logs}")
        # One sequence of faults: the next call of either port meets the next fault.
        self.inserts.faults = self.log.faults
        self.new_writer()

    def new_writer(self) -> None:
        self.writer = PartitionWriter(
            self.log,
            TOPIC,
            0,
            self.inserts,
            limits=BatchLimits(rows_max=60, bytes_max=1 << 20, wait_ms=0),
            ensure_tenants=self.nothing,
            insert_slots=asyncio.Semaphore(1),
            dead_letter_limits=DeadLetterLimits(in_a_row_max=10**9, ratio_max=1.0),
            sleep=self.nothing,
        )

    async def nothing(self, _anything: object) -> None:
        return None

    def append(self, value: bytes, table: str) -> None:
        self.log.put(TOPIC, 0, value, block(table=table, request_id=value.rjust(16, b"0")))
        self.durable.add(value)

    @rule(
        table=st.sampled_from(["tf_logs", "tf_traces"]),
        poison=st.sampled_from([False] * 5 + [True]),
        fate=st.sampled_from(["acked", "acked", "answer_lost", "lost"]),
        copies=st.integers(1, 3),
    )
    def send(self, table: str, poison: bool, fate: str, copies: int) -> None:
        for _copy in range(copies):
            self.requests += 1
            value = b"%d" % self.requests
            if poison:
                self.inserts.refused.add(value)
            if fate != "lost":
                self.append(value, table)
            if fate != "acked":
                self.waiting.append((value, table))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), again=st.booleans())
    def retry(self, data: st.DataObject, again: bool) -> None:
        at = data.draw(st.integers(0, len(self.waiting) - 1))
        value, table = self.waiting[at]
        self.append(value, table)
        if not again:
            del self.waiting[at]

    @rule()
    def junk(self) -> None:
        self.requests += 1
        value = b"junk %d" % self.requests
        self.log.put(TOPIC, 0, value, (("n", b"\x03\0\0\0"),))
        self.durable.add(value)

    @rule(troubles=st.lists(TROUBLES, max_size=3))
    def write(self, troubles: list[tuple[str, BaseException] | None]) -> None:
        self.step_with(troubles)

    @rule(
        calls=st.integers(0, CALLS_MAX),
        moment=st.sampled_from(["before", "after"]),
        troubles=st.lists(TROUBLES, max_size=2),
    )
    def crash(
        self, calls: int, moment: str, troubles: list[tuple[str, BaseException] | None]
    ) -> None:
        quiet = [None] * max(0, calls - len(troubles))
        self.step_with([*quiet, *troubles, (moment, Crash())])

    def step_with(self, faults: list[tuple[str, BaseException] | None]) -> None:
        self.log.faults.planned.extend(faults)
        try:
            self.runner.run(self.writer.step())
        except Crash:
            self.new_writer()
        self.log.faults.planned.clear()

    @rule()
    def restart(self) -> None:
        self.new_writer()

    @precondition(lambda self: self.inserts.asked)
    @rule(data=st.data())
    def late_insert(self, data: st.DataObject) -> None:
        asked = self.inserts.asked[-ZOMBIES_MAX:]
        with contextlib.suppress(Invalid):
            self.inserts.apply(data.draw(st.sampled_from(asked)))

    @rule()
    def mend(self) -> None:
        """What was refused is accepted from now on; no insert of before is still on its way."""
        self.inserts.refused.clear()
        self.inserts.asked.clear()

    @rule(count=st.integers(1, 5))
    def other_inserts(self, count: int) -> None:
        for number in range(count):
            token = f"other {self.inserts.faults.calls} {self.requests} {number}"
            self.inserts.apply(Stored(("tf_logs", 30, "zstd"), token, (), 0))

    @rule()
    def settle(self) -> None:
        async def all_of_it() -> None:
            while await self.writer.step():
                pass
            found = await balance(self.log, TOPIC)
            assert found is not None
            assert (found.difference, found.in_flight) == (0, 0)

        self.runner.run(all_of_it())
        assert self.durable <= self.stored().keys() | self.dead()

    @rule()
    def recreate_topic(self) -> None:
        self.settle()
        # What clients repeat across a new log cannot be known: that is not promised.
        self.waiting.clear()
        self.kept_dead = self.dead()
        self.new_log()

    kept_dead: frozenset[bytes] | set[bytes] = frozenset()

    def dead(self) -> set[bytes]:
        records = self.log.records.get((DEAD_LETTER_TOPIC, 0), [])
        return {record.value for record in records} | self.kept_dead

    def stored(self) -> Counter[bytes]:
        return Counter(self.inserts.values())

    @invariant()
    def nothing_is_stored_twice_or_both_stored_and_dead(self) -> None:
        stored = self.stored()
        assert [value for value, copies in stored.items() if copies > 1] == []
        assert stored.keys() & self.dead() == set()
        assert stored.keys() <= self.durable

    @invariant()
    def nothing_is_passed_that_is_neither_stored_nor_dead(self) -> None:
        committed = self.log.commits.get((WRITER_GROUP, TOPIC, 0))
        if committed is None:
            return
        done = self.stored().keys() | self.dead()
        for record in self.log.records.get((TOPIC, 0), []):
            assert record.offset >= committed.offset or record.value in done

    def teardown(self) -> None:
        self.log.faults.planned.clear()
        self.settle()
        self.runner.close()


# M1; the invariants I3, I4, I5, I7, I9, I11 and I12.
TestPipeline = Pipeline.TestCase
TestPipeline.settings = settings(
    max_examples=100,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
