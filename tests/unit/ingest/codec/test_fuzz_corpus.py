"""Everything the fuzzer ever found worth keeping, through the build that the product loads."""

from pathlib import Path

import pytest

from tests.fuzz import encoder_target, json_target
from tests.fuzz.seeds import SEPARATOR

CORPUS = Path(__file__).parents[3] / "fuzz" / "corpus"
CORPUS_BYTES_MAX = 2 * 2**20
SIGNALS = ("traces", "logs", "metrics")
# Each twin bounds the bytes of a block by an estimate of its own, so they may cut at other items.
BYTE_LIMITS = 0b1100


def inputs(target: str) -> list[Path]:
    found = sorted((CORPUS / target).iterdir())
    assert len(found) > 10
    return found


@pytest.mark.parametrize("signal", SIGNALS)
def test_C075_the_encoder_and_the_reference_agree_on_the_whole_corpus(signal: str) -> None:
    check = encoder_target.check_of(signal)
    different = {}
    for path in inputs(signal):
        data = path.read_bytes()
        try:
            check(data, compare=False)
            check(without_byte_limit(data), compare=True)
        except AssertionError as error:
            different[path.name] = str(error)
    assert not different


def without_byte_limit(data: bytes) -> bytes:
    """The same requests and the same options, except that blocks are as large as can be."""
    return bytes([encoder_target.options_of(data) & ~BYTE_LIMITS]) + data[1:]


def test_C075_what_the_json_mapper_maps_is_protobuf_on_the_whole_corpus() -> None:
    for path in inputs("json"):
        json_target.check(path.read_bytes(), compare=True)


def test_C075_the_corpus_stays_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*")) < CORPUS_BYTES_MAX


def test_C075_the_seeds_part_requests_as_the_target_does() -> None:
    assert SEPARATOR == encoder_target.SEPARATOR
