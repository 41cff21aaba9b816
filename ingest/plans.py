"""Plans: what makes an insert repeatable after a crash.

Before the writer inserts, it commits which offsets it is going to insert, and under which token. A
successor finds that plan in the metadata of the commit and repeats exactly it, so that ClickHouse
recognises what it has stored already. The metadata is one line of JSON of at most 4 KB:

    {"v":1,"stored":S,"dead":D,"repeated":R}   rows ever stored, dead-lettered, and dropped because
                                               a client had sent them before
    …,"log":L,"last":[offset,ms,epoch]         the incarnation of the topic, and the record passed
                                               last: a log that has another one there lost its end
    …,"end":E,"token":T,"window":[ms,ids]      and the plan: from the committed offset up to E, and
                                               the window in which repeats are looked for
    …,"epoch":P                                that of the record at E, if not 0
    …,"at":[table,days,encoding,b0,b1,…]       when data was refused: groups before this one are
                                               done, of this one remain the offsets from start+b0
                                               to start+b1, from there to start+b2, and so on
    …,"buried":B                               base64 bitmap of the offsets dead-lettered
"""

import hashlib
from base64 import b64decode, b64encode
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import orjson

from ingest.codec.tables import TABLES
from ingest.log import Record
from ingest.records import SCHEMA_VERSION, RecordInfo, from_headers, rows_of
from shared.errors import Invalid, TelemetryFlowError

METADATA_VERSION: Final = 1
# The bitmap of buried offsets must fit into the metadata: 1 bit each, 4 characters for 3 bytes.
OFFSETS_PER_PLAN_MAX: Final = 16_000
TOKEN_CHARACTERS: Final = 32

GroupKey = tuple[str, int, str]
# Sorts first: what cannot be inserted at all is set aside before anything else happens.
UNREADABLE: Final[GroupKey] = ("", 0, "")


class NewerRelease(TelemetryFlowError):
    """A newer release wrote this: it is good data, and this release must leave it alone."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Rows of one partition ever stored, dead-lettered, and dropped as repeats."""

    stored: int = 0
    dead: int = 0
    repeated: int = 0


class Passed(NamedTuple):
    """The record that was passed last, by what tells it from another at the same offset."""

    offset: int
    timestamp_ms: int
    epoch: int


class RetryWindow(NamedTuple):
    """How far back repeated requests are recognised, in the log's time and in requests; 0: off."""

    milliseconds: int
    requests_max: int


DEFAULT_WINDOW: Final = RetryWindow(milliseconds=300_000, requests_max=1_000_000)


@dataclass(frozen=True, slots=True)
class Cut:
    """How far a plan has come in which data was refused: `bounds` are offsets from its start."""

    group: GroupKey
    bounds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The offsets [start..end] of one partition, to be inserted under tokens made from `token`.

    Which rows are inserted depends on `window`, so a successor with other settings must use it too.
    `epoch` is that of the last record.
    """

    start: int
    end: int
    token: str
    window: RetryWindow = DEFAULT_WINDOW
    epoch: int = 0
    cut: Cut | None = None
    buried: frozenset[int] = frozenset()

    def bounds_of(self, group: GroupKey) -> tuple[int, ...] | None:
        """Offsets from the start between which *group* is inserted; None when it is done."""
        if self.cut is None or group > self.cut.group:
            return (0, self.end - self.start + 1)
        return self.cut.bounds if group == self.cut.group else None

    def cut_at(self, group: GroupKey, bounds: tuple[int, ...]) -> "Plan":
        """The plan with what remains of *group*."""
        return replace(self, cut=Cut(group, bounds))

    def with_buried(self, offset: int) -> "Plan":
        """The plan with the record at *offset* in the dead-letter topic."""
        return replace(self, buried=self.buried | {offset})


@dataclass(frozen=True, slots=True)
class PlannedRecord:
    """A record with what its headers say, or why they say nothing."""

    record: Record
    info: RecordInfo | None
    refusal: Invalid | None = None

    @property
    def rows(self) -> int:
        """Rows of the block, as the log counts them."""
        return self.info.rows if self.info else rows_of(self.record.headers)


@dataclass(frozen=True, slots=True)
class Group:
    """Records of a plan that go into one INSERT: one table, retention class and encoding.

    They are in the order of their offsets.
    """

    key: GroupKey
    records: tuple[PlannedRecord, ...]

    def between(self, first: int, end: int) -> tuple[PlannedRecord, ...]:
        """The records at offsets first <= offset < end."""
        start, stop = (
            bisect_left(self.records, offset, key=lambda one: one.record.offset)
            for offset in (first, end)
        )
        return self.records[start:stop]


def new_plan(
    log_identity: str, records: Sequence[Record], window: RetryWindow = DEFAULT_WINDOW
) -> Plan:
    """A plan for *records*: consecutive, of one partition, at least one.

    The token names the log's incarnation and both ends with their times, so that equal offsets of
    a log that was made anew never meet an old token, which would silently drop them.
    """
    first, last = records[0], records[-1]
    token = _token(
        log_identity,
        first.topic,
        first.partition,
        *(first.offset, first.timestamp_ms, last.offset, last.timestamp_ms),
    )
    return Plan(first.offset, last.offset, token, window, last.epoch)


def insert_token(plan: Plan, group: GroupKey, first: int, end: int) -> str:
    """The deduplication token of one INSERT: the same for the same plan, group and bounds."""
    return _token(plan.token, *group, first, end)


def dead_letter_token(log_identity: str, topic: str, partition: int, offset: int) -> str:
    """The deduplication token under which a dead letter is replayed, however often."""
    return _token("dead-letter", log_identity, topic, partition, offset)


def grouped(records: Iterable[PlannedRecord]) -> list[Group]:
    """The groups of *records*, in the order in which they are inserted."""
    groups: dict[GroupKey, list[PlannedRecord]] = {}
    for planned in records:
        info = planned.info
        key = (info.table, info.retention_days, info.encoding) if info else UNREADABLE
        groups.setdefault(key, []).append(planned)
    return [Group(key, tuple(groups[key])) for key in sorted(groups)]


def read_headers(record: Record) -> PlannedRecord:
    """What *record* says about itself; headers that say nothing are no error here.

    Raises NewerRelease when it is of a schema version that is yet unknown.
    """
    if is_newer(record):
        raise NewerRelease(
            f"record {record.offset} of {record.topic}/{record.partition} was written by a newer "
            f"release (this one knows versions up to {SCHEMA_VERSION}): update the writer"
        )
    try:
        info = from_headers(record.headers)
        if info.table not in TABLES:
            raise Invalid(f"no table {info.table[:64]!r}", field="t")
    except Invalid as refusal:
        return PlannedRecord(record, None, refusal)
    return PlannedRecord(record, info)


def is_newer(record: Record) -> bool:
    """Whether *record* is of a schema version that only newer releases know."""
    version = dict(record.headers).get("v", b"")
    return len(version) == 1 and version[0] > SCHEMA_VERSION


class Noted(NamedTuple):
    """What the metadata of a commit says."""

    progress: Progress
    plan: Plan | None = None
    last: Passed | None = None
    incarnation: str = ""


def to_metadata(noted: Noted) -> str:
    """What is committed with an offset."""
    progress, plan, last, incarnation = noted
    fields: dict[str, Any] = {
        "v": METADATA_VERSION,
        "stored": progress.stored,
        "dead": progress.dead,
        "repeated": progress.repeated,
    }
    if incarnation:
        fields["log"] = incarnation
    if last is not None:
        fields["last"] = list(last)
    if plan is not None:
        fields |= {"end": plan.end, "token": plan.token, "window": list(plan.window)}
        if plan.epoch:
            fields["epoch"] = plan.epoch
        if plan.cut is not None:
            fields["at"] = [*plan.cut.group, *plan.cut.bounds]
        if plan.buried:
            fields["buried"] = _to_bitmap(plan.buried, plan.start)
    return orjson.dumps(fields).decode()


def from_metadata(offset: int, metadata: str) -> Noted:
    """Progress, the unfinished plan and the record passed last, if any, of a commit at *offset*.

    Raises NewerRelease or, when it is damaged, Invalid: guessing would store twice.
    """
    if not metadata:
        return Noted(Progress())
    try:
        fields = orjson.loads(metadata)
        if fields["v"] != METADATA_VERSION:
            raise NewerRelease(f"the offset was committed by a release of version {fields['v']}")
        progress = Progress(int(fields["stored"]), int(fields["dead"]), int(fields["repeated"]))
        plan = _plan_of(offset, fields) if "end" in fields else None
        last = Passed(*fields["last"]) if "last" in fields else None
        return Noted(progress, plan, last, str(fields.get("log", "")))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise Invalid(f"committed metadata cannot be read: {metadata[:200]!r}") from error


def _plan_of(start: int, fields: dict[str, Any]) -> Plan:
    cut = None
    if "at" in fields:
        table, days, encoding, *bounds = fields["at"]
        cut = Cut((table, days, encoding), tuple(int(bound) for bound in bounds))
    buried = _from_bitmap(fields["buried"], start) if "buried" in fields else frozenset()
    window = RetryWindow(*map(int, fields["window"])) if "window" in fields else DEFAULT_WINDOW
    epoch = int(fields.get("epoch", 0))
    return Plan(start, int(fields["end"]), str(fields["token"]), window, epoch, cut, buried)


def _to_bitmap(offsets: Iterable[int], start: int) -> str:
    bits = 0
    for offset in offsets:
        bits |= 1 << (offset - start)
    return b64encode(bits.to_bytes((bits.bit_length() + 7) // 8, "little")).decode()


def _from_bitmap(text: str, start: int) -> frozenset[int]:
    bits = int.from_bytes(b64decode(text, validate=True), "little")
    return frozenset(start + at for at in range(bits.bit_length()) if bits >> at & 1)


def _token(*parts: str | int) -> str:
    text = "|".join(str(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:TOKEN_CHARACTERS]
