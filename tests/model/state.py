"""What the model knows: one partition of the log, and everyone who touches it, as plain values.

A record is known by its place (incarnation of the topic, offset). Time is left out: where the code
waits or measures, the model lets either outcome happen.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Place = tuple[int, int]
# Incarnation (stands for the times in a real token), start and end of the plan, group, both bounds.
Token = tuple[int, int, int, int, int, int]
CutWaits = Literal["for nothing", "for its own inserts", "for all inserts"]


class Record(NamedTuple):
    """A block of one request for one table; `part` is the table, too."""

    request: int
    part: int


class Client(NamedTuple):
    """Who sends one request until it is acknowledged, or `tries` are used up."""

    acked: bool
    tries: int


class Pending(NamedTuple):
    """A request at a gateway: how many of its parts are appended, and whether anyone waits."""

    request: int
    appended: int
    awaited: bool


class Gateway(NamedTuple):
    """One gateway process: what it has under way, and what it remembers as durable."""

    pending: tuple[Pending, ...] = ()
    recent: frozenset[int] = frozenset()


class Plan(NamedTuple):
    """Offsets start..end; `cut` is (group, bounds) as in `ingest.plans`."""

    incarnation: int
    start: int
    end: int
    cut: tuple[int, tuple[int, ...]] | None = None
    buried: frozenset[int] = frozenset()


class Committed(NamedTuple):
    """The commit: offset, plan, incarnation of the record passed last, and of the topic then."""

    offset: int
    plan: Plan | None
    last: int | None
    incarnation: int


class Writer(NamedTuple):
    """One writer process.

    `rows` are the records of its plan, as it holds them in memory; `doubt` says that an earlier
    insert of the plan may still take effect; `incarnation` is that of the topic when it started.
    """

    phase: Literal["start", "poll", "insert", "finish"] = "start"
    offset: int = 0
    plan: Plan | None = None
    last: int | None = None
    rows: tuple[Place, ...] = ()
    doubt: bool = False
    incarnation: int = 0


class Insert(NamedTuple):
    """An INSERT that is under way and that nobody waits for any more."""

    token: Token
    rows: tuple[Place, ...]


class State(NamedTuple):
    """Everything. `stored` is a sorted multiset; `reported` and `swallowed` are for the checks.

    `misjudged` says that ClickHouse has refused good data as if it were bad.
    """

    clients: tuple[Client, ...]
    gateways: tuple[Gateway, ...]
    logs: tuple[tuple[Record, ...], ...]
    first: int
    committed: Committed
    owner: Writer | None
    zombie: Writer | None
    flights: tuple[Insert, ...]
    tokens: frozenset[Token]
    stored: tuple[Place, ...]
    dead: frozenset[Place]
    reported: frozenset[Place]
    swallowed: bool
    misjudged: bool
    counted: int
    faults_left: int

    @property
    def incarnation(self) -> int:
        """Which incarnation of the topic this is."""
        return len(self.logs) - 1


@dataclass(frozen=True)
class Rules:
    """The rules of exactly-once. A mutant is the model with one of them switched off."""

    ack_when_durable: bool = True
    ack_when_whole: bool = True
    plan_first: bool = True
    commit_after_insert: bool = True
    token_names_incarnation: bool = True
    drop_repeats: bool = True
    identity_names_tenant: bool = True
    fenced_commits: bool = True
    cut_committed_first: bool = True
    cut_refused: bool = True
    bury_before_passing: bool = True
    cut_waits: CutWaits = "for all inserts"
    count_with_commit: bool = True
    report_deleted: bool = True
    notice_new_topic: bool = True
    # Rules that the writer does not keep yet.
    start_anew_on_return: bool = True
    report_deleted_of_plan: bool = True
    plan_names_incarnation: bool = True


@dataclass(frozen=True)
class Bounds:
    """How large a world is explored: `faults` may happen, `faults_max` of them in one history."""

    faults: frozenset[str]
    faults_max: int
    requests: int = 1
    parts: int = 1
    tries: int = 1
    gateways: int = 1
    batch_max: int = 2
    window: int = 9
    poison: frozenset[int] = frozenset()
    # What is in the log at the beginning, durable and acknowledged.
    appended: tuple[Record, ...] = ()
    rules: Rules = field(default_factory=Rules)


def first_state(bounds: Bounds) -> State:
    """Nothing happened yet, but for what *bounds* puts into the log."""
    acked = {record.request for record in bounds.appended}
    return State(
        clients=tuple(Client(one in acked, bounds.tries) for one in range(bounds.requests)),
        gateways=(Gateway(),) * bounds.gateways,
        logs=(bounds.appended,),
        first=0,
        committed=Committed(0, None, None, 0),
        owner=None,
        zombie=None,
        flights=(),
        tokens=frozenset(),
        stored=(),
        dead=frozenset(),
        reported=frozenset(),
        swallowed=False,
        misjudged=False,
        counted=0,
        faults_left=bounds.faults_max,
    )


def is_repeat(state: State, place: Place, window: int, *, by_tenant: bool = True) -> bool:
    """Whether the record repeats one of the last *window* before it: a function of the log alone.

    Each request is of another tenant, but the bodies are equal.
    """
    incarnation, offset = place
    log = state.logs[incarnation]
    record = log[offset]
    before = log[max(0, offset - window) : offset]
    if by_tenant:
        return record in before
    return any(one.part == record.part for one in before)
