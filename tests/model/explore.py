"""Breadth-first search through everything that can happen within bounds."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tests.model import gateways, writers
from tests.model.invariants import is_quiet, violations
from tests.model.state import Bounds, State, first_state

STATES_MAX = 400_000


@dataclass(frozen=True)
class Found:
    """How many states were seen; what was broken if anything, and the shortest way there."""

    states: int
    violation: str | None = None
    trace: tuple[str, ...] = ()


class TooManyStates(Exception):
    """The bounds are too wide to be explored."""


@cache
def explore(bounds: Bounds) -> Found:
    """Every state within *bounds*, or the first that breaks an invariant.

    Without a broken invariant, each state must lead to a quiet one when no more faults come (I13).
    """
    start = first_state(bounds)
    origin: dict[State, tuple[State, str] | None] = {start: None}
    before: dict[State, list[State]] = {}
    quiet: list[State] = []
    queue = deque([start])
    while queue:
        state = queue.popleft()
        broken = violations(state, bounds)
        if broken:
            return Found(len(origin), broken[0], _trace(origin, state))
        if is_quiet(state):
            quiet.append(state)
        for label, fault, after in successors(state, bounds):
            if fault is None:
                before.setdefault(after, []).append(state)
            if after not in origin:
                origin[after] = (state, label)
                queue.append(after)
        if len(origin) > STATES_MAX:
            raise TooManyStates(f"more than {STATES_MAX:,} states")
    finishing = _leading_to(quiet, before)
    for state in origin:  # in the order of the search: the first is the nearest
        if state not in finishing:
            return Found(len(origin), "I13: the work never ends", _trace(origin, state))
    return Found(len(origin))


def successors(state: State, bounds: Bounds) -> Iterator[tuple[str, str | None, State]]:
    """What can happen next: faults only while there are some left."""
    for steps in (gateways.steps, writers.steps):
        for label, fault, after in steps(state, bounds):
            if fault is None:
                yield label, fault, after
            elif fault in bounds.faults and state.faults_left:
                yield label, fault, after._replace(faults_left=state.faults_left - 1)


def _leading_to(goals: list[State], before: dict[State, list[State]]) -> set[State]:
    reached, todo = set(goals), list(goals)
    while todo:
        for state in before.get(todo.pop(), ()):
            if state not in reached:
                reached.add(state)
                todo.append(state)
    return reached


def _trace(origin: dict[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    labels = []
    step = origin[state]
    while step is not None:
        state, label = step
        labels.append(label)
        step = origin[state]
    return tuple(reversed(labels))
