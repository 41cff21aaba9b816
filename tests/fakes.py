"""Hand-written fakes of the ports of the data plane: a log and a ClickHouse, in memory.

Both can be told to fail, and to die: `Crash` ends the code under test wherever it calls a port,
before or after the call took effect, as a power cut would.
"""

import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import time

from ingest.log import Backlog, Committed, Headers, Record, Totals, WholeLog
from ingest.plans import GroupKey, PlannedRecord
from ingest.records import RecordInfo, RequestRows, TenantRows, rows_of, to_headers
from shared.errors import Invalid, Unavailable


class Crash(BaseException):
    """The process is gone."""


@dataclass
class Faults:
    """What happens at the next calls of ports: None goes well; else (moment, error).

    The moment is `before` or `after` the call took effect.
    """

    planned: deque[tuple[str, BaseException] | None] = field(default_factory=deque)
    calls: int = 0

    def at_call(self) -> tuple[str, BaseException] | None:
        """What this call is in for."""
        self.calls += 1
        return self.planned.popleft() if self.planned else None


def strike(fault: tuple[str, BaseException] | None, moment: str) -> None:
    """Fail if *fault* is for this moment of the call."""
    if fault is not None and fault[0] == moment:
        raise fault[1]


class MemoryLog:
    """`CountingLog` in memory; partitions of every topic are *partition_count*."""

    def __init__(self, partition_count: int = 1, identity: str = "log-1") -> None:
        self.identity = identity
        self.faults = Faults()
        self.incarnations: dict[str, str] = {}
        # Just elected, a leader of Kafka may not show its last records: so many are shown.
        self.shown_end = 1 << 62
        self.records: dict[tuple[str, int], list[Record]] = {}
        self.commits: dict[tuple[str, str, int], Committed] = {}
        self.commit_history: list[tuple[str, str, int, Committed]] = []
        self._partition_count = partition_count
        self._ends: dict[tuple[str, int], int] = {}
        self._rows: dict[tuple[str, int], int] = {}

    async def append(self, topic: str, partition: int, value: bytes, headers: Headers) -> int:
        return (await self.append_many(topic, partition, [(value, headers)]))[0]

    async def append_many(
        self, topic: str, partition: int, records: Sequence[tuple[bytes, Headers]]
    ) -> list[int]:
        fault = self.faults.at_call()
        strike(fault, "before")
        offsets = [self.put(topic, partition, value, headers) for value, headers in records]
        strike(fault, "after")
        return offsets

    def put(
        self,
        topic: str,
        partition: int,
        value: bytes,
        headers: Headers,
        timestamp_ms: int | None = None,
    ) -> int:
        """Append without any fault."""
        place = (topic, partition)
        offset = self._ends.get(place, 0)
        stamp = int(time() * 1000) if timestamp_ms is None else timestamp_ms
        record = Record(topic, partition, offset, stamp, value, headers)
        self.records.setdefault(place, []).append(record)
        self._ends[place] = offset + 1
        self._rows[place] = self._rows.get(place, 0) + rows_of(headers)
        return offset

    def lose(self, topic: str, partition: int, offset: int) -> None:
        """Damage or retention takes a record; its offset stays used."""
        place = (topic, partition)
        self.records[place] = [one for one in self.records[place] if one.offset != offset]

    def _fail_to_read(self) -> None:
        """A call without effect: both moments are the same."""
        fault = self.faults.at_call()
        strike(fault, "before")
        strike(fault, "after")

    async def read(
        self,
        topic: str,
        partition: int,
        from_offset: int,
        *,
        records_max: int,
        bytes_max: int,
        wait_seconds: float,
    ) -> list[Record]:
        self._fail_to_read()
        found: list[Record] = []
        size = 0
        for record in self.records.get((topic, partition), []):
            if record.offset < from_offset or record.offset >= self.shown_end:
                continue
            size += len(record.value)
            if len(found) == records_max or (found and size > bytes_max):
                break
            found.append(record)
        return found

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        self._fail_to_read()
        place = (topic, partition)
        end = self._ends.get(place, 0)
        kept = self.records.get(place, [])
        return (kept[0].offset if kept else end), min(end, self.shown_end)

    async def partitions(self, topic: str) -> int:
        return self._partition_count

    async def commit(
        self, group: str, topic: str, partition: int, offset: int, metadata: str = ""
    ) -> None:
        fault = self.faults.at_call()
        strike(fault, "before")
        assert len(metadata) < 4096
        committed = Committed(offset, metadata)
        self.commits[group, topic, partition] = committed
        self.commit_history.append((group, topic, partition, committed))
        strike(fault, "after")

    async def committed(self, group: str, topic: str, partition: int) -> Committed | None:
        self._fail_to_read()
        return self.commits.get((group, topic, partition))

    async def totals(self, topic: str, partition: int) -> Totals:
        rows = self._rows.get((topic, partition), 0)
        return Totals(self._ends.get((topic, partition), 0), rows, 0)

    async def backlog(self, group: str, topic: str) -> Backlog:
        rows = records = 0
        for (name, partition), kept in self.records.items():
            committed = self.commits.get((group, topic, partition))
            if name == topic:
                left = [one for one in kept if committed is None or one.offset >= committed.offset]
                records += len(left)
                rows += sum(rows_of(one.headers) for one in left)
        return Backlog(records, rows, 0, 0.0)

    async def incarnation(self, topic: str) -> str:
        return self.incarnations.get(topic, "")

    async def epoch_end(self, topic: str, partition: int, epoch: int) -> int | None:
        later = [one for one in self.records.get((topic, partition), []) if one.epoch > epoch]
        return later[0].offset if later else self._ends.get((topic, partition), 0)

    async def join(self, group: str, topics: Sequence[str]) -> WholeLog:
        return WholeLog([(topic, n) for topic in topics for n in range(self._partition_count)])

    def trouble(self) -> str | None:
        return None

    def held_up(self, topic: str, partition: int) -> str | None:
        return None

    async def close(self) -> None:
        return None


@dataclass(frozen=True)
class Stored:
    """One INSERT that took effect."""

    key: GroupKey
    token: str
    values: tuple[bytes, ...]
    rows: int


class MemoryInserts:
    """`Inserts` into a ClickHouse that remembers the last *window* tokens of each table.

    A record whose value is in `refused` is refused, with the whole INSERT that it is part of.
    """

    def __init__(self, window: int = 10_000) -> None:
        self.faults = Faults()
        self.window = window
        self.stored: list[Stored] = []
        self.asked: list[Stored] = []
        self.refused: set[bytes] = set()
        self.on_insert: Callable[[], None] = lambda: None
        self._tokens: dict[str, deque[str]] = {}

    async def insert(self, key: GroupKey, records: Sequence[PlannedRecord], token: str) -> None:
        fault = self.faults.at_call()
        asked = Stored(
            key, token, tuple(one.record.value for one in records), sum(one.rows for one in records)
        )
        self.asked.append(asked)
        self.on_insert()
        strike(fault, "before")
        self.apply(asked)
        strike(fault, "after")

    def apply(self, asked: Stored) -> None:
        """Let an INSERT take effect now; a token that is remembered makes it do nothing."""
        if any(value in self.refused for value in asked.values):
            raise Invalid("Code: 117. DB::Exception: INCORRECT_DATA")
        tokens = self._tokens.setdefault(asked.key[0], deque(maxlen=self.window))
        if asked.token not in tokens:
            tokens.append(asked.token)
            self.stored.append(asked)

    def values(self) -> list[bytes]:
        """Everything that is stored, a value as often as it is stored."""
        return [value for one in self.stored for value in one.values]


def block(
    *,
    table: str = "tf_logs",
    rows: int = 10,
    retention_days: int = 30,
    encoding: str = "zstd",
    tenant: str = "acme",
    request_id: bytes | None = None,
) -> Headers:
    """Headers of a record with one block of one request, by default one never seen before."""
    info = RecordInfo(
        table=table,
        rows=rows,
        retention_days=retention_days,
        time_min_ns=1,
        time_max_ns=2,
        encoding=encoding,
        tenants=(TenantRows(tenant, rows),),
        requests=(RequestRows(request_id or secrets.token_bytes(16), tenant, 0, 0, rows),),
    )
    return to_headers(info)


def unavailable(times: int, moment: str = "before") -> list[tuple[str, BaseException] | None]:
    """That many failures that pass by themselves."""
    return [(moment, Unavailable("gone")) for _ in range(times)]
