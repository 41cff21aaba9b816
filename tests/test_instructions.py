"""The hot paths take as many instructions as they did: a figure that no machine's mood changes."""

import os
import shutil

import pytest

from benchmarks.instructions import PARTS_OF, built_with, compared, counted, kept_counts


@pytest.mark.timeout(400)
def test_hot_paths_take_as_many_instructions_as_is_kept() -> None:
    kept = kept_counts().get(built_with())
    if kept is None or shutil.which("valgrind") is None:
        why = f"no counts are kept for {built_with()}, or valgrind is missing"
        how = "`python -m benchmarks.instructions --keep` keeps them"
        if "CI" in os.environ:
            pytest.fail(f"{why}: {how}")
        pytest.skip(f"{why}; {how}")
    different = compared(kept, counted())
    text = "; ".join(different)
    assert not different, f"{text}: make it as cheap as it was, or keep what it costs now"


def test_counts_are_compared_within_three_per_cent() -> None:
    kept = {"decode traces": 1_000, "write": 1_000}
    assert compared(kept, {"decode traces": 1_030, "write": 970}) == []
    (sentence,) = compared(kept, {"decode traces": 1_031, "write": 1_000})
    assert sentence.startswith("decode traces: 1031 instructions instead of 1000")
    assert len(compared(kept, {"decode traces": 969, "write": 1_031})) == 2


def test_every_path_has_a_kept_count() -> None:
    for counts in kept_counts().values():
        assert counts.keys() == PARTS_OF.keys()
