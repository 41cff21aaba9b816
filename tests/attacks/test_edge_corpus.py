"""Everything the fuzzer ever found worth keeping of the receivers' edges."""

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from tests.fuzz import edge_target

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"


@pytest.mark.parametrize("target", ["http1", "http2"])
def test_S09_no_bytes_of_the_corpus_hurt_a_receiver(target: str) -> None:
    found = sorted((CORPUS / target).iterdir())
    assert len(found) > 20
    wrong = {}
    with closing(asyncio.new_event_loop()) as loop:
        check = edge_target.check_of(target, loop)
        for path in found:
            try:
                check(path.read_bytes(), compare=True)
            except AssertionError as error:
                wrong[path.name] = str(error)
    assert not wrong
