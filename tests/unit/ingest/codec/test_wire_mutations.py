"""Requests damaged as only one who knows protobuf would: the codecs must still agree."""

from random import Random

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from ingest.codec import Appended, BlockFull, Encoder, Malformed
from ingest.codec.reference import Encoder as ReferenceEncoder
from ingest.codec.reference.wire import decoded
from tests.unit.ingest.codec.strategies import REQUESTS, random_request
from tests.unit.ingest.codec.twins import NOW_NS
from tests.unit.ingest.codec.wire_mutations import mutated

SIGNALS = tuple(REQUESTS)
MUTATED_PART = 0.75
SEEDS = st.integers(0, 2**64 - 1)
AnyEncoder = Encoder | ReferenceEncoder


def bodies_of(random: Random, signal: str) -> list[bytes]:
    """One to four requests, most of them damaged."""
    bodies = []
    for _ in range(random.choice((1, 1, 2, 4))):
        body = random_request(random, signal).SerializeToString()
        bodies.append(mutated(random, body) if random.random() < MUTATED_PART else body)
    return bodies


def told(encoder: AnyEncoder, body: bytes, tenant: str) -> Appended | str:
    """What the encoder says of a request."""
    try:
        return encoder.append(body, tenant=tenant, received_ns=NOW_NS)
    except Malformed:
        return "malformed"
    except BlockFull:
        return "full"


@pytest.mark.parametrize("signal", SIGNALS)
@given(seed=SEEDS)
def test_C061_damaged_requests_are_the_same_to_both_codecs(signal: str, seed: int) -> None:
    compiled = Encoder(signal, retention_days=30)
    reference = ReferenceEncoder(signal, retention_days=30)
    for number, body in enumerate(bodies_of(Random(seed), signal)):
        tenant = f"tenant {number % 2}"
        assert told(compiled, body, tenant) == told(reference, body, tenant), body.hex()
        assert compiled.rows == reference.rows
    assert compiled.close() == reference.close()


@pytest.mark.parametrize("signal", SIGNALS)
@given(seed=SEEDS, rows_max=st.integers(1, 12))
def test_C061_blocks_of_few_rows_are_cut_at_the_same_items(
    signal: str, seed: int, rows_max: int
) -> None:
    random = Random(seed)
    compiled = Encoder(signal, retention_days=30, block_rows_max=rows_max)
    reference = ReferenceEncoder(signal, retention_days=30, block_rows_max=rows_max)
    for body in [*bodies_of(random, signal), *bodies_of(random, signal)]:
        answer = told(compiled, body, "acme")
        if answer == "full":  # the compiled one may say so of rows that would be rejected
            assert compiled.close() == reference.close()
            answer = told(compiled, body, "acme")
        assert answer == told(reference, body, "acme"), body.hex()
    assert compiled.close() == reference.close()


@pytest.mark.parametrize("signal", SIGNALS)
@given(seed=SEEDS)
def test_R1_refused_requests_leave_no_trace(signal: str, seed: int) -> None:
    bodies = bodies_of(Random(seed), signal)
    encoder = Encoder(signal, retention_days=30, block_rows_max=9)
    taken = [body for body in bodies if isinstance(told(encoder, body, "acme"), Appended)]
    clean = Encoder(signal, retention_days=30, block_rows_max=9)
    for body in taken:
        assert isinstance(told(clean, body, "acme"), Appended)

    assert encoder.close() == clean.close()


@pytest.mark.parametrize("signal", SIGNALS)
@given(seed=SEEDS)
def test_C061_damage_is_judged_as_protobuf_judges_it(signal: str, seed: int) -> None:
    """The library alone is the judge, wherever it has no complaint about UTF-8."""
    random = Random(seed)
    body = mutated(random, random_request(random, signal).SerializeToString())
    try:
        expected = str(REQUESTS[signal].FromString(body))
    except DecodeError as error:
        expected = "UTF-8" if "UTF-8" in str(error) else "malformed"
    try:
        found = str(decoded(signal, body).message)
    except Malformed:
        found = "malformed"

    assert expected in (found, "UTF-8")
