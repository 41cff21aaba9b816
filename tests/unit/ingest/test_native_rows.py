"""Rows cut out of real blocks, compared with what is left when all rows are decoded."""

import pytest
from clickhouse_connect.driver.asyncclient import BytesSource
from clickhouse_connect.driver.buffer import ResponseBuffer
from clickhouse_connect.driver.query import QueryResult
from clickhouse_connect.driver.transform import NativeTransform
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.codec import Encoder
from ingest.native_rows import without_rows
from shared.errors import Invalid
from tests.integration.ingest.stored_blocks import logs_request, points_request, spans_request

ROWS = 40
NOW_NS = 1_800_000_000_000_000_000


def blocks(signal: str, body: bytes) -> list[bytes]:
    encoder = Encoder(signal, retention_days=30_000)
    encoder.append(body, tenant="acme", received_ns=NOW_NS)
    return [block.native for block in encoder.close()]


BLOCKS = [
    *blocks("logs", logs_request([f"body {n % 7}" for n in range(ROWS)])),
    *blocks("traces", spans_request(ROWS)),
    *blocks("metrics", points_request(ROWS)),
]


def decoded(native: bytes) -> list[tuple[object, ...]]:
    source = ResponseBuffer(BytesSource(native))  # type: ignore[no-untyped-call] # of the driver
    result = NativeTransform.parse_response(source)
    assert isinstance(result, QueryResult)
    return [tuple(row) for row in result.result_rows]


@settings(max_examples=60, deadline=None)
@given(
    block=st.sampled_from(BLOCKS),
    dropped=st.lists(
        st.tuples(st.integers(0, ROWS), st.integers(0, ROWS)).map(lambda p: (min(p), max(p))),
        max_size=4,
    ),
)
def test_I09_exactly_the_other_rows_are_left(block: bytes, dropped: list[tuple[int, int]]) -> None:
    rows = decoded(block)
    left = [
        row
        for number, row in enumerate(rows)
        if not any(first <= number < end for first, end in dropped)
    ]
    if left:
        assert decoded(without_rows(block, dropped)) == left


@pytest.mark.parametrize("block", BLOCKS)
def test_dropping_nothing_changes_no_byte(block: bytes) -> None:
    assert without_rows(block, []) == block


@pytest.mark.parametrize("length", [0, 1, 50, 500])
def test_a_block_that_ends_early_is_invalid(length: int) -> None:
    with pytest.raises(Invalid):
        without_rows(BLOCKS[0][:length], [(0, 1)])
