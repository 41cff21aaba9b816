"""Dead letters: records that will never be accepted, set aside with the reason.

A dead letter is the original record, value and headers, in the topic `otlp.deadletter.v1`; further
headers `dead.…` say where it came from and why. Where it came from is its identity: a crash may
bury a record twice, and a replay may be repeated, and still it is stored once, because it is
inserted under a token made of that identity. The writer commits that it buries a record before it
does, and never inserts it after that, so no letter is stored already.

Which letters are settled (replayed, or given up by an operator) is committed with the offset of a
group of its own: all below the offset are, except those that its note lists as open. Several
people may replay and purge at once; if two commit in the same instant, one of the notes is lost,
and its letters are open again. Replayed again they store nothing while ClickHouse knows the token.
"""

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import lz4.frame
import orjson
from backports import zstd
from clickhouse_connect.driver.asyncclient import BytesSource
from clickhouse_connect.driver.buffer import ResponseBuffer
from clickhouse_connect.driver.exceptions import ClickHouseError
from clickhouse_connect.driver.query import QueryResult
from clickhouse_connect.driver.transform import NativeTransform

from ingest.ingested import append_ingested
from ingest.inserts import Inserts
from ingest.log import Headers, Record, TelemetryLog
from ingest.plans import PlannedRecord, dead_letter_token, read_headers
from ingest.signals import DEAD_LETTER_TOPIC
from shared.errors import Conflict, Invalid, NotFound
from shared.faults import crash_point

REPLAY_GROUP: Final = "dead-letter-replay"
REASON_CHARACTERS_MAX: Final = 1_000
# Their numbers must fit into the note of a commit, 4 KB.
OPEN_LETTERS_MAX: Final = 300
SHOWN_ROWS_MAX: Final = 100
SHOWN_BYTES_MAX: Final = 64 * 1024 * 1024
_READ_RECORDS_MAX: Final = 100
_READ_BYTES_MAX: Final = 32 * 1024 * 1024
# All dead letters are in one partition: they are few, and their order and numbers are for people.
_PARTITION: Final = 0
_PREFIX: Final = "dead."


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a dead letter came from: the log's incarnation, and the place in it."""

    log: str
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was set aside: its number, when and why, and the record as it was."""

    number: int
    buried_at_ms: int
    reason: str
    origin: Origin
    table: str
    value: bytes
    headers: Headers

    @property
    def record(self) -> Record:
        """The original record."""
        place = self.origin
        return Record(
            place.topic,
            place.partition,
            place.offset,
            self.buried_at_ms,
            self.value,
            self.headers,
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """A letter that is still refused, and why."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """The outcome of a replay: numbers of the letters that were stored, and what was refused."""

    stored: list[int]
    refused: list[Refused]


@dataclass(frozen=True, slots=True)
class Settled:
    """Which letters are settled: all below `end` but those in `open`."""

    end: int
    open: frozenset[int]

    def has(self, number: int) -> bool:
        """Whether that letter needs nothing any more."""
        return number < self.end and number not in self.open

    def with_settled(self, number: int) -> "Settled":
        """With that letter settled too; those that are passed over stay open."""
        passed_over = range(self.end, number)
        still_open = (self.open | frozenset(passed_over)) - {number}
        return Settled(max(self.end, number + 1), still_open)

    def with_open(self, number: int) -> "Settled":
        """With that letter looked at, and still open."""
        seen = self.with_settled(number)
        return replace(seen, open=seen.open | {number})


class DeadLetterLimits:
    """When dead letters are too many to be the data's fault: a bad release must not bury all.

    Counted since the start of the process, so that a restart is the operator's word to go on.
    """

    def __init__(
        self,
        *,
        in_a_row_max: int = 100,
        ratio_max: float = 0.01,
        ratio_records: int = 10_000,
        ratio_floor: int = 100,
    ) -> None:
        self._in_a_row_max = in_a_row_max
        # A ratio of few records says nothing: so many may always be buried.
        self._window_max = max(ratio_floor, int(ratio_max * ratio_records))
        self._ratio_records = ratio_records
        self._in_a_row = 0
        self._seen = 0
        self._buried_at: deque[int] = deque()

    def allows_another(self) -> bool:
        """Whether one more record may be buried."""
        while self._buried_at and self._buried_at[0] <= self._seen - self._ratio_records:
            self._buried_at.popleft()
        return self._in_a_row < self._in_a_row_max and len(self._buried_at) < self._window_max

    def stored(self, records: int) -> None:
        """Note that so many records were accepted."""
        self._seen += records
        self._in_a_row = 0

    def buried(self) -> None:
        """Note that a record was buried."""
        self._seen += 1
        self._in_a_row += 1
        self._buried_at.append(self._seen)


async def bury(log: TelemetryLog, record: Record, table: str, reason: str, source: str) -> None:
    """Set *record* of the log *source* aside; returns once that is durable."""
    own = {
        "reason": reason[:REASON_CHARACTERS_MAX],
        "log": source,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "table": table,
    }
    headers = tuple((f"{_PREFIX}{name}", str(value).encode()) for name, value in own.items())
    await log.append(DEAD_LETTER_TOPIC, _PARTITION, record.value, (*record.headers, *headers))


async def dead_letters(log: TelemetryLog, from_number: int = 0) -> AsyncIterator[DeadLetter]:
    """The dead letters that are retained, oldest first."""
    first, end = await log.bounds(DEAD_LETTER_TOPIC, _PARTITION)
    number = max(first, from_number)
    while number < end:
        records = await log.read(
            DEAD_LETTER_TOPIC,
            _PARTITION,
            number,
            records_max=_READ_RECORDS_MAX,
            bytes_max=_READ_BYTES_MAX,
            wait_seconds=0,
        )
        if not records:
            return
        for record in records:
            yield _letter(record)
        number = records[-1].offset + 1


async def dead_letter(log: TelemetryLog, number: int) -> DeadLetter:
    """The dead letter of that number; NotFound when there is none (any more)."""
    async for letter in dead_letters(log, number):
        if letter.number == number:
            return letter
        break
    raise NotFound(f"dead letter {number} does not exist: see 'telemetryflow dlq list'")


async def settled(log: TelemetryLog) -> Settled:
    """Which letters are settled now."""
    committed = await log.committed(REPLAY_GROUP, DEAD_LETTER_TOPIC, _PARTITION)
    if committed is None:
        first, _end = await log.bounds(DEAD_LETTER_TOPIC, _PARTITION)
        return Settled(first, frozenset())
    still_open = orjson.loads(committed.metadata)["open"] if committed.metadata else []
    return Settled(committed.offset, frozenset(still_open))


async def replay(
    log: TelemetryLog, inserts: Inserts, numbers: Collection[int] | None = None
) -> Replayed:
    """Insert the letters of *numbers*, or all that are not settled, in order.

    One that is still refused stays open and holds up nobody. What is settled is not inserted
    again; copies of a letter are settled with it. Raises Unavailable or SchemaMismatch when
    ClickHouse cannot take it now, Conflict when too many would be open.
    """
    copies: defaultdict[Origin, list[int]] = defaultdict(list)
    async for letter in dead_letters(log):
        copies[letter.origin].append(letter.number)
    outcome = Replayed([], [])
    state = await settled(log)
    async for letter in dead_letters(log, min(state.open, default=state.end)):
        if numbers is not None and letter.number not in numbers:
            continue
        # Of this moment: somebody else may replay or purge.
        if (await settled(log)).has(letter.number):
            continue
        try:
            await _replay_one(log, inserts, letter)
        except Invalid as error:
            outcome.refused.append(Refused(letter.number, str(error)))
            await _note(log, refused=[letter.number])
        else:
            crash_point("dead_letters.after_insert_before_commit")
            outcome.stored.append(letter.number)
            await _note(log, done={letter.number, *copies[letter.origin]})
    return outcome


async def purge(log: TelemetryLog, numbers: Collection[int] | None = None) -> int:
    """Give up the letters of *numbers*, or all: they are neither listed nor replayed any more.

    How many were given up. Their bytes stay until retention removes them.
    """
    state = await settled(log)
    given_up = [
        letter.number
        async for letter in dead_letters(log, min(state.open, default=state.end))
        if not state.has(letter.number) and (numbers is None or letter.number in numbers)
    ]
    if given_up:
        await _note(log, done=given_up)
    return len(given_up)


async def _note(
    log: TelemetryLog, *, done: Iterable[int] = (), refused: Iterable[int] = ()
) -> None:
    """Commit that *done* are settled too, and *refused* are not, beside what others noted."""
    first, _end = await log.bounds(DEAD_LETTER_TOPIC, _PARTITION)
    # Read last: a commit replaces whatever another process commits between these two calls.
    state = await settled(log)
    for number in done:
        state = state.with_settled(number)
    for number in refused:
        if not state.has(number):
            state = state.with_open(number)
    retained = sorted(number for number in state.open if number >= first)
    if len(retained) > OPEN_LETTERS_MAX:
        raise Conflict(
            f"more than {OPEN_LETTERS_MAX} dead letters would stay open: replay or purge those "
            f"before number {state.end} first"
        )
    metadata = orjson.dumps({"v": 1, "open": retained}).decode()
    await log.commit(REPLAY_GROUP, DEAD_LETTER_TOPIC, _PARTITION, state.end, metadata)


def rows_of_letter(letter: DeadLetter) -> list[dict[str, Any]]:
    """The first rows of the block, by column; Invalid when it cannot be decoded."""
    planned = read_headers(letter.record)
    if planned.info is None:
        raise planned.refusal or Invalid("the headers cannot be read")
    native = _decompressed(letter.value, planned.info.encoding)
    try:
        source = ResponseBuffer(BytesSource(native))  # type: ignore[no-untyped-call] # of the driver
        result = NativeTransform.parse_response(source)
        if not isinstance(result, QueryResult):
            raise Invalid("the block cannot be decoded into rows")
        rows = result.result_rows[:SHOWN_ROWS_MAX]
    except (ClickHouseError, IndexError, KeyError, ValueError, TypeError, OSError) as error:
        raise Invalid(f"the block cannot be decoded: {error}") from error
    return [dict(zip(result.column_names, row, strict=True)) for row in rows]


async def _replay_one(log: TelemetryLog, inserts: Inserts, letter: DeadLetter) -> None:
    planned: PlannedRecord = read_headers(letter.record)
    info, place = planned.info, letter.origin
    if info is None:
        raise planned.refusal or Invalid("the headers cannot be read")
    token = dead_letter_token(place.log, place.topic, place.partition, place.offset)
    await inserts.insert((info.table, info.retention_days, info.encoding), [planned], token)
    await append_ingested(
        log,
        {"replayed": [planned]},
        topic=place.topic,
        partition=place.partition,
        start=place.offset,
        end=place.offset,
        token=token,
    )


def _decompressed(value: bytes, encoding: str) -> bytes:
    """One frame, inflated up to a limit."""
    frame = zstd.ZstdDecompressor() if encoding == "zstd" else lz4.frame.LZ4FrameDecompressor()
    try:
        native = bytes(frame.decompress(value, SHOWN_BYTES_MAX))
    except (zstd.ZstdError, RuntimeError, ValueError) as error:
        raise Invalid(f"the value is no {encoding} frame: {error}") from error
    if not frame.eof:
        raise Invalid(f"the value ends early, or holds more than {SHOWN_BYTES_MAX} bytes")
    return native


def _letter(record: Record) -> DeadLetter:
    dead = {
        name.removeprefix(_PREFIX): value.decode(errors="replace")
        for name, value in record.headers
        if name.startswith(_PREFIX)
    }
    try:
        origin = Origin(dead["log"], dead["topic"], int(dead["partition"]), int(dead["offset"]))
    except (KeyError, ValueError):
        # Not written by `bury`: it can be shown, and its own place is as good an identity as any.
        origin = Origin("", record.topic, record.partition, record.offset)
    return DeadLetter(
        number=record.offset,
        buried_at_ms=record.timestamp_ms,
        reason=dead.get("reason", ""),
        origin=origin,
        table=dead.get("table", ""),
        value=record.value,
        headers=tuple(pair for pair in record.headers if not pair[0].startswith(_PREFIX)),
    )
