"""The worlds that are explored, and the mutants that must be caught in them."""

from dataclasses import dataclass, replace
from typing import Final

from tests.model.explore import Found, explore
from tests.model.state import Bounds, Record, Rules

_WRITER: Final = frozenset(
    {"writer crash", "insert answer lost", "insert delayed", "commit answer lost"}
)
_MOVES: Final = frozenset({"rebalance", "slip", "return"})
_THREE: Final = (Record(0, 0), Record(1, 0), Record(2, 0))

WORLDS: Final = {
    "answers": Bounds(
        faults=frozenset(
            {
                "gateway crash",
                "append refused",
                "append answer lost",
                "client timeout",
                "writer crash",
            }
        ),
        faults_max=3,
        parts=2,
        tries=2,
        gateways=2,
    ),
    "retries": Bounds(
        faults=frozenset({"gateway crash", "append answer lost", "client timeout", "writer crash"}),
        faults_max=2,
        requests=2,
        tries=2,
        gateways=2,
    ),
    # A repeat that comes later than the window reaches may be stored twice; nothing else may be.
    "window": Bounds(
        faults=frozenset({"append answer lost", "writer crash", "insert delayed"}),
        faults_max=3,
        requests=2,
        tries=3,
        window=1,
    ),
    "writers": Bounds(
        faults=_WRITER | _MOVES, faults_max=4, requests=3, appended=_THREE, batch_max=2
    ),
    "tables": Bounds(
        faults=_WRITER | _MOVES,
        faults_max=3,
        requests=2,
        parts=2,
        appended=(Record(0, 0), Record(0, 1), Record(1, 0), Record(1, 1)),
        batch_max=4,
    ),
    "poison": Bounds(
        faults=_WRITER | _MOVES | {"dead letter answer lost"},
        faults_max=4,
        requests=3,
        poison=frozenset({1}),
        appended=_THREE,
        batch_max=3,
    ),
    "log": Bounds(
        faults=_WRITER | _MOVES | {"retention", "re-creation"},
        faults_max=4,
        requests=2,
        appended=(Record(0, 0),),
    ),
    # ClickHouse refuses good data once, as if the data were at fault.
    "misjudged": Bounds(
        faults=_WRITER | _MOVES | {"misjudged refusal"},
        faults_max=4,
        requests=2,
        appended=_THREE[:2],
    ),
}
# Here no rule of the writer helps: good data is refused before the wait and after it.
BEYOND: Final = {
    "misjudged, twice": replace(
        WORLDS["misjudged"], faults=WORLDS["misjudged"].faults | {"another misjudged refusal"}
    ),
}


@dataclass(frozen=True)
class Mutant:
    """A rule that is switched off, the invariant that it serves, and the world that shows it."""

    invariant: str
    name: str
    world: str
    rules: Rules

    def explored(self) -> Found:
        """The search for a history in which the missing rule is missed."""
        return explore(replace((WORLDS | BEYOND)[self.world], rules=self.rules))


MUTANTS: Final = (
    Mutant("I1", "acknowledge before it is durable", "answers", Rules(ack_when_durable=False)),
    Mutant("I2", "acknowledge after the first part", "answers", Rules(ack_when_whole=False)),
    Mutant("I3", "commit before the insert", "writers", Rules(commit_after_insert=False)),
    Mutant("I4", "insert without a committed plan", "writers", Rules(plan_first=False)),
    Mutant(
        "I4", "cut without committing the halves", "misjudged", Rules(cut_committed_first=False)
    ),
    Mutant("I4", "cut at once", "misjudged", Rules(cut_waits="for nothing")),
    Mutant(
        "I4",
        "cut after one's own inserts are over",
        "misjudged",
        Rules(cut_waits="for its own inserts"),
    ),
    Mutant("I5", "a token of offsets alone", "log", Rules(token_names_incarnation=False)),
    Mutant("I9", "repeats are not dropped", "retries", Rules(drop_repeats=False)),
    Mutant("I10", "a lost writer's commits count", "writers", Rules(fenced_commits=False)),
    Mutant("I11", "pass what cannot be buried", "poison", Rules(bury_before_passing=False)),
    Mutant("I12", "counts apart from the offset", "writers", Rules(count_with_commit=False)),
    Mutant("I12", "deleted records are not reported", "log", Rules(report_deleted=False)),
    Mutant("I12", "another topic is not noticed", "log", Rules(notice_new_topic=False)),
    Mutant("I13", "refused data is repeated for ever", "poison", Rules(cut_refused=False)),
    Mutant(
        "I14", "a request's id without the tenant", "retries", Rules(identity_names_tenant=False)
    ),
    Mutant(
        "I10",
        "a partition that comes back is written on where it was left",
        "writers",
        Rules(start_anew_on_return=False),
    ),
    Mutant(
        "I12",
        "records of a plan that retention deletes are not reported",
        "log",
        Rules(report_deleted_of_plan=False),
    ),
    Mutant(
        "I5",
        "a first plan does not say of which topic it is",
        "log",
        Rules(plan_names_incarnation=False),
    ),
)

# What no rule of the writer covers.
LIMITS: Final = (
    Mutant("I4", "good data is refused again after the wait", "misjudged, twice", Rules()),
)
