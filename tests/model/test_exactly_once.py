"""Exactly once, explored: the rules hold in every history, and none of them can be left out."""

import pytest

from tests.model.__main__ import PAGE, page
from tests.model.explore import explore
from tests.model.mutants import LIMITS, MUTANTS, WORLDS, Mutant

# So many states at least, lest a world becomes empty by mistake.
STATES_MIN = {
    "answers": 5_000,
    "retries": 50_000,
    "window": 30_000,
    "writers": 10_000,
    "tables": 20_000,
    "poison": 15_000,
    "log": 30_000,
    "misjudged": 5_000,
}


@pytest.mark.parametrize("world", WORLDS)
def test_I1_to_I14_hold_in_every_history(world: str) -> None:
    found = explore(WORLDS[world])

    assert found.violation is None, "; ".join(found.trace)
    assert found.states >= STATES_MIN[world]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: f"{one.invariant}: {one.name}")
def test_each_rule_is_needed(mutant: Mutant) -> None:
    assert mutant.explored().violation is not None


@pytest.mark.parametrize("gap", LIMITS, ids=lambda one: f"{one.invariant}: {one.name}")
def test_what_the_rules_do_not_cover_is_known(gap: Mutant) -> None:
    assert gap.explored().violation is not None


def test_the_documentation_of_the_model_is_current() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.model"
