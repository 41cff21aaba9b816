"""Everything the fuzzer ever found worth keeping, through the build that the product loads."""

from pathlib import Path

import pytest

from tests.fuzz import encoder_target, json_target
from tests.fuzz.seeds import SEPARATOR

CORPUS = Path(__file__).parents[3] / "fuzz" / "corpus"
CORPUS_BYTES_MAX = 2 * 2**20
SIGNALS = ("traces", "logs", "metrics")


def inputs(target: str) -> list[Path]:
    found = sorted((CORPUS / target).iterdir())
    assert len(found) > 10
    return found


@pytest.mark.parametrize("signal", SIGNALS)
def test_C075_the_encoder_and_the_reference_agree_on_the_whole_corpus(signal: str) -> None:
    check = encoder_target.check_of(signal)
    different = {}
    for path in inputs(signal):
        try:
            check(path.read_bytes(), compare=True)
        except AssertionError as error:
            different[path.name] = str(error)
    assert not different


def test_C075_what_the_json_mapper_maps_is_protobuf_on_the_whole_corpus() -> None:
    for path in inputs("json"):
        json_target.check(path.read_bytes(), compare=True)


def test_C075_the_corpus_stays_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*")) < CORPUS_BYTES_MAX


def test_C075_the_seeds_part_requests_as_the_target_does() -> None:
    assert SEPARATOR == encoder_target.SEPARATOR
