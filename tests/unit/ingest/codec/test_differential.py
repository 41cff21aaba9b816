"""The compiled codec and the reference: equal blocks, byte for byte, or equal rejections."""

from collections.abc import Sequence

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import payloads
from benchmarks.payloads import NOW_NS
from ingest.codec import Appended, BlockFull, Encoder, Malformed
from ingest.codec.json import to_protobuf
from ingest.codec.reference import Encoder as ReferenceEncoder
from ingest.codec.reference.native import Reader
from tests.unit.ingest.codec.otlp_json import to_json
from tests.unit.ingest.codec.strategies import REQUESTS, requests

SIGNALS = tuple(REQUESTS)
RETENTION_DAYS = 30


def outcome(
    encoder: Encoder | ReferenceEncoder, body: bytes, tenant: str = "acme"
) -> Appended | str:
    """What became of a request, comparable between the twins."""
    try:
        appended = encoder.append(body, tenant=tenant, workspace="shop", received_ns=NOW_NS)
    except Malformed:
        return "malformed"
    return appended._replace(spans=tuple(sorted(appended.spans)))


def assert_equal(signal: str, bodies: Sequence[bytes]) -> None:
    """Both twins say the same of each body, and close into the same bytes."""
    compiled = Encoder(signal, retention_days=RETENTION_DAYS)
    reference = ReferenceEncoder(signal, retention_days=RETENTION_DAYS)
    for number, body in enumerate(bodies):
        tenant = f"tenant-{number % 2}"
        assert outcome(compiled, body, tenant) == outcome(reference, body, tenant), body.hex()
    blocks = compiled.close()
    expected = reference.close()
    for block, other in zip(blocks, expected, strict=True):
        if block.native != other.native:
            assert Reader(block.native).rows() == Reader(other.native).rows(), block.table
        assert block == other, block.table


@pytest.mark.parametrize("signal", SIGNALS)
def test_C060_random_requests_give_equal_blocks(signal: str) -> None:
    @given(st.lists(requests(signal), min_size=1, max_size=3))
    def check(messages: list[Message]) -> None:
        assert_equal(signal, [message.SerializeToString() for message in messages])

    check()


@st.composite
def mutated(draw: st.DrawFn, signal: str) -> bytes:
    """A request with bits flipped, pieces cut out, doubled, swapped or put somewhere else."""
    body = bytearray(draw(requests(signal)).SerializeToString())
    for _ in range(draw(st.integers(1, 4))):
        if not body:
            break
        start = draw(st.integers(0, len(body) - 1))
        end = min(len(body), start + draw(st.integers(1, 12)))
        match draw(st.integers(0, 4)):
            case 0:
                body[start] ^= 1 << draw(st.integers(0, 7))
            case 1:
                del body[start:end]
            case 2:
                body[start:start] = body[start:end]
            case 3:
                body = body[:start]
            case _:
                piece = bytes(body[start:end])
                place = draw(st.integers(0, len(body)))
                body[place:place] = piece
    return bytes(body)


@pytest.mark.parametrize("signal", SIGNALS)
def test_C061_mutated_requests_are_taken_or_refused_by_both(signal: str) -> None:
    good = payloads.requests(signal, items=3, count=1)[0]

    @given(mutated(signal))
    def check(body: bytes) -> None:
        assert_equal(signal, [good, body, good])

    check()


@pytest.mark.parametrize("signal", SIGNALS)
def test_C066_a_request_in_two_pieces_merges_as_protobuf_says(signal: str) -> None:
    @given(requests(signal), requests(signal), st.binary(max_size=6))
    def check(one: Message, two: Message, between: bytes) -> None:
        first, second = one.SerializeToString(), two.SerializeToString()
        merged = _length_delimited(1, _fields_inside(first) + _fields_inside(second))
        assert_equal(signal, [first + second, merged, first + between + second])

    check()


def _fields_inside(body: bytes) -> bytes:
    """The content of the first field of a request."""
    message = body
    size = shift = 0
    at = 1
    while message[at : at + 1]:
        size |= (message[at] & 0x7F) << shift
        shift += 7
        at += 1
        if message[at - 1] < 0x80:
            break
    return message[at : at + size]


def _length_delimited(number: int, content: bytes) -> bytes:
    size = len(content)
    out = bytearray([number << 3 | 2])
    while size >= 0x80:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes(out) + bytes([size]) + content


@pytest.mark.parametrize("signal", SIGNALS)
def test_C096_json_and_protobuf_of_a_request_give_equal_blocks(signal: str) -> None:
    @given(requests(signal))
    def check(message: Message) -> None:
        from_json = Encoder(signal, retention_days=RETENTION_DAYS)
        from_protobuf = Encoder(signal, retention_days=RETENTION_DAYS)
        body = to_protobuf(signal, to_json(message, numbers_as_strings=True).encode())
        told = outcome(from_json, body)

        assert told == outcome(from_protobuf, message.SerializeToString())
        assert from_json.close() == from_protobuf.close()

    check()


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize(
    "limits",
    [
        {"block_rows_max": 7},
        {"block_bytes_max": 100_000},
        {"block_bytes_max": 100_000, "block_rows_max": 20},
    ],
)
def test_C076_limits_cut_between_items_and_lose_none(signal: str, limits: dict[str, int]) -> None:
    compiled = Encoder(signal, retention_days=RETENTION_DAYS, **limits)
    reference = ReferenceEncoder(signal, retention_days=RETENTION_DAYS)
    blocks = []
    for body in payloads.requests(signal, items=120, count=4):
        try:
            appended = compiled.append(body, tenant="acme", received_ns=NOW_NS)
        except BlockFull:
            blocks += compiled.close()
            appended = compiled.append(body, tenant="acme", received_ns=NOW_NS)
        assert appended.accepted == sum(span.rows for span in appended.spans)
        reference.append(body, tenant="acme", received_ns=NOW_NS)
    blocks += compiled.close()

    for expected in reference.close():
        parts = [block for block in blocks if block.table == expected.table]
        rows = [row for block in parts for row in Reader(block.native).rows()]
        assert rows == Reader(expected.native).rows()
        assert all(block.rows <= limits.get("block_rows_max", 65_536) for block in parts)
        assert all(len(block.native) <= limits.get("block_bytes_max", 8_000_000) for block in parts)


def test_an_item_larger_than_a_block_is_refused_and_its_neighbours_are_kept() -> None:
    message = REQUESTS["logs"]()
    records = message.resource_logs.add().scope_logs.add().log_records  # type: ignore[attr-defined]
    for size in (10, 200_000, 20):
        records.add(time_unix_nano=NOW_NS).body.string_value = "x" * size
    encoder = Encoder("logs", retention_days=30, block_bytes_max=100_000)

    appended = encoder.append(message.SerializeToString(), tenant="acme", received_ns=NOW_NS)

    assert (appended.accepted, appended.rejected) == (2, {"item_too_large": 1})
    rows = [row for block in encoder.close() for row in Reader(block.native).rows()]
    assert [len(row["Body"]) for row in rows] == [10, 20]
