"""The contract suite notices what breaks the contract; all mutants: make contract-mutants."""

from collections import Counter
from pathlib import Path

import pytest

from tests.mutants.breaking import ROOT, TESTS_FAILED, Mutant, copy_of_source, outcome_of_mutant
from tests.mutants.contract import CONTRACT_MUTANTS

# One of each kind: an answer, a status, a body, a rule of JSON.
TRIED = ("C031 an empty partial_success in JSON", "C019 the CRC of gzip is ignored")


@pytest.mark.parametrize("mutant", CONTRACT_MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_source(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text().count(mutant.text) == 1


def test_a_broken_contract_is_noticed(tmp_path: Path) -> None:
    copy = copy_of_source(tmp_path)
    for mutant in CONTRACT_MUTANTS:
        if mutant.name in TRIED:
            done = outcome_of_mutant(copy, mutant)
            assert done.returncode == TESTS_FAILED, done.stdout[-2_000:] + done.stderr[-2_000:]


def test_mutants_have_names_of_their_own() -> None:
    names = Counter(mutant.name for mutant in CONTRACT_MUTANTS)
    assert names.keys() >= set(TRIED)
    assert max(names.values()) == 1
