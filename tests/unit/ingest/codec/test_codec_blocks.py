"""Blocks: what is in which, where they are cut, and what a refused request leaves behind."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from ingest.codec import Appended, Block, BlockFull, Encoder, Malformed
from ingest.codec.reference import Encoder as ReferenceEncoder
from ingest.codec.reference.native import Reader, block_of
from ingest.codec.tables import TABLES, TABLES_OF_SIGNAL
from tests.unit.ingest.codec.twins import NOW_NS, TRACE_ID, stored
from tests.unit.ingest.codec.wire_format import RECORD, message, request_of

TWINS = pytest.mark.parametrize("encoder_class", [Encoder, ReferenceEncoder])
AnyEncoder = Encoder | ReferenceEncoder


def logs(*bodies: str) -> bytes:
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for body in bodies:
        records.add(time_unix_nano=NOW_NS, severity_text=body[:8]).body.string_value = body
    return request.SerializeToString()


def append(encoder: AnyEncoder, body: bytes, tenant: str = "acme") -> Appended:
    return encoder.append(body, tenant=tenant, received_ns=NOW_NS)


def bodies_of(blocks: list[Block]) -> list[list[str]]:
    return [[row["Body"] for row in Reader(block.native).rows()] for block in blocks]


@TWINS
def test_a_closed_encoder_is_as_a_new_one(encoder_class: type[AnyEncoder]) -> None:
    encoder = encoder_class("logs", retention_days=30)
    append(encoder, logs("one", "two"))
    first = encoder.close()

    assert (encoder.rows, encoder.bytes, encoder.close()) == (0, 0, [])
    append(encoder, logs("one", "two"))
    assert encoder.close() == first


@TWINS
def test_a_table_without_rows_has_no_block(encoder_class: type[AnyEncoder]) -> None:
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    scope.metrics.add().summary.data_points.add()
    scope.metrics.add().gauge.data_points.add()
    encoder = encoder_class("metrics", retention_days=30)
    appended = append(encoder, request.SerializeToString())

    assert [block.table for block in encoder.close()] == ["tf_metrics_gauge", "tf_metrics_summary"]
    assert [(one.table, one.part, one.first_row, one.rows) for one in appended.spans] == [
        ("tf_metrics_gauge", 0, 0, 1),
        ("tf_metrics_summary", 0, 0, 1),
    ]


@TWINS
def test_the_rows_of_each_request_are_where_it_was_told(encoder_class: type[AnyEncoder]) -> None:
    encoder = encoder_class("logs", retention_days=30)
    spans = [
        append(encoder, logs(*["x"] * rows), tenant).spans
        for rows, tenant in [(2, "a"), (1, "b"), (3, "a")]
    ]
    [block] = encoder.close()
    rows = Reader(block.native).rows()

    assert [tuple(one) for [one] in spans] == [
        ("tf_logs", 0, 0, 2),
        ("tf_logs", 0, 2, 1),
        ("tf_logs", 0, 3, 3),
    ]
    assert [row["TenantId"] for row in rows] == ["a", "a", "b", "a", "a", "a"]
    assert (block.rows, block.part) == (6, 0)


@TWINS
def test_a_block_tells_the_times_between_which_its_items_are(
    encoder_class: type[AnyEncoder],
) -> None:
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for sent in (NOW_NS - 3, NOW_NS + 9, NOW_NS, 1, 0):
        records.add(time_unix_nano=sent)
    encoder = encoder_class("logs", retention_days=30)
    append(encoder, request.SerializeToString())
    [block] = encoder.close()

    assert (block.time_min_ns, block.time_max_ns) == (NOW_NS - 3, NOW_NS + 9)


@TWINS
def test_a_request_that_does_not_fit_behind_others_leaves_no_trace(
    encoder_class: type[AnyEncoder],
) -> None:
    encoder = encoder_class("logs", retention_days=30, block_rows_max=3)
    append(encoder, logs("one", "two"))
    with pytest.raises(BlockFull):
        append(encoder, logs("three", "four"))
    append(encoder, logs("five"))

    assert bodies_of(encoder.close()) == [["one", "two", "five"]]


@TWINS
def test_a_malformed_request_leaves_no_trace(encoder_class: type[AnyEncoder]) -> None:
    clean, other = (encoder_class("logs", retention_days=30) for _ in range(2))
    for body in (logs("one"), logs("two")):
        append(clean, body)
        append(other, body)
        with pytest.raises(Malformed):
            append(other, logs("never", "ever", "seen") + b"\x0a\x7f", "nobody")

    assert other.close() == clean.close()


@TWINS
@pytest.mark.parametrize(("rows_max", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (8, [7])])
def test_a_request_larger_than_a_block_is_cut_between_items(
    encoder_class: type[AnyEncoder], rows_max: int, sizes: list[int]
) -> None:
    texts = [f"text {number}" for number in range(7)]
    encoder = encoder_class("logs", retention_days=30, block_rows_max=rows_max)
    appended = append(encoder, logs(*texts))
    blocks = encoder.close()

    assert [text for block in bodies_of(blocks) for text in block] == texts
    assert [(block.part, block.rows) for block in blocks] == list(enumerate(sizes))
    assert [(one.part, one.first_row, one.rows) for one in appended.spans] == [
        (part, 0, rows) for part, rows in enumerate(sizes)
    ]


@TWINS
def test_behind_a_request_that_was_cut_the_last_part_is_filled_up(
    encoder_class: type[AnyEncoder],
) -> None:
    encoder = encoder_class("logs", retention_days=30, block_rows_max=3)
    append(encoder, logs("1", "2", "3", "4"))
    appended = append(encoder, logs("5"))

    assert [tuple(one) for one in appended.spans] == [("tf_logs", 1, 1, 1)]
    assert bodies_of(encoder.close()) == [["1", "2", "3"], ["4", "5"]]


@TWINS
@given(sizes=st.lists(st.integers(0, 9_000), max_size=40), bytes_max=st.integers(9_000, 60_000))
def test_no_block_is_larger_than_its_limit_and_none_of_the_items_is_lost(
    encoder_class: type[AnyEncoder], sizes: list[int], bytes_max: int
) -> None:
    texts = [f"{number}".ljust(size, "x") for number, size in enumerate(sizes)]
    encoder = encoder_class("logs", retention_days=30, block_bytes_max=bytes_max)
    appended = append(encoder, logs(*texts))
    blocks = encoder.close()

    assert all(len(block.native) <= bytes_max for block in blocks)
    assert [len(block) for block in bodies_of(blocks)] == [block.rows for block in blocks]
    kept = [text for block in bodies_of(blocks) for text in block]
    assert len(texts) == len(kept) + appended.rejected.get("item_too_large", 0)
    assert set(kept) <= set(texts)
    assert all(text in kept for text in texts if len(text) < bytes_max // 4)


@TWINS
def test_an_item_larger_than_a_block_is_rejected_alone(encoder_class: type[AnyEncoder]) -> None:
    encoder = encoder_class("logs", retention_days=30, block_bytes_max=50_000)
    append(encoder, logs("before"))
    encoder.close()
    appended = append(encoder, logs("one", "x" * 50_000, "two"))

    assert (appended.accepted, appended.rejected) == (2, {"item_too_large": 1})
    assert [text for block in bodies_of(encoder.close()) for text in block] == ["one", "two"]


@TWINS
def test_what_was_put_right_in_an_item_too_large_is_not_counted(
    encoder_class: type[AnyEncoder],
) -> None:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=1)
    record.body.string_value = "x" * 50_000
    encoder = encoder_class("logs", retention_days=30, block_bytes_max=20_000)

    assert append(encoder, request.SerializeToString()).warnings == {}


@TWINS
def test_the_bytes_of_an_encoder_are_at_least_those_of_its_blocks(
    encoder_class: type[AnyEncoder],
) -> None:
    encoder = encoder_class("logs", retention_days=30)
    for number in range(300):
        append(encoder, logs(f"{number}", "x" * number))
        assert encoder.rows == 2 * number + 2
    told = encoder.bytes

    assert told >= sum(len(block.native) for block in encoder.close())


@TWINS
@pytest.mark.parametrize(
    "arguments",
    [
        {"signal": "profiles", "retention_days": 1},
        {"signal": "logs", "retention_days": 0},
        {"signal": "logs", "retention_days": 65_536},
        {"signal": "logs", "retention_days": 1, "block_rows_max": 0},
        {"signal": "logs", "retention_days": 1, "block_bytes_max": 0},
        {"signal": "logs", "retention_days": 1, "block_bytes_max": 2**30 + 1},
    ],
)
def test_an_encoder_of_impossible_limits_does_not_open(
    encoder_class: type[AnyEncoder], arguments: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"signal|block|retention"):
        encoder_class(**arguments)


def test_words_of_rejected_items_and_refused_requests_are_in_no_block() -> None:
    encoder = Encoder("traces", retention_days=30, block_rows_max=1)
    good = message(1, TRACE_ID) + message(2, b"spanspan") + message(5, b"kept")
    bad = message(1, TRACE_ID) + message(5, b"rejected")
    append(encoder, request_of(bad, good, bad))
    with pytest.raises(BlockFull):
        append(encoder, request_of(message(5, b"refused") + good))
    [block] = encoder.close()

    assert b"kept" in block.native
    assert b"rejected" not in block.native
    assert b"refused" not in block.native


@pytest.mark.parametrize("count", [254, 255, 256, 257, 65_534, 65_535, 65_536])
def test_indices_are_as_wide_as_their_dictionary_needs(count: int) -> None:
    """'' is a word, too: 255 others are the most for one byte, 65 535 for two."""
    records = [RECORD + message(3, b"s%d" % number) for number in range(count)]
    encoder = Encoder("logs", retention_days=30, block_rows_max=70_000, block_bytes_max=2**28)
    append(encoder, request_of(*records))
    [block] = encoder.close()
    rows = Reader(block.native).rows()

    assert [row["SeverityText"] for row in rows] == [f"s{number}" for number in range(count)]
    assert block.native == block_of("tf_logs", rows)


@pytest.mark.parametrize("signal", TABLES_OF_SIGNAL)
def test_blocks_have_the_columns_of_their_table_in_order(signal: str) -> None:
    body = {
        "traces": request_of(message(1, TRACE_ID) + message(2, b"spanspan")),
        "logs": request_of(b""),
        "metrics": request_of(*(message(number, message(1)) for number in (5, 7, 9, 10, 11))),
    }[signal]
    encoder = Encoder(signal, retention_days=30)
    append(encoder, body)
    blocks = encoder.close()

    assert tuple(block.table for block in blocks) == TABLES_OF_SIGNAL[signal]
    for block in blocks:
        assert tuple(Reader(block.native).next_block()) == TABLES[block.table]


def test_the_reader_takes_one_block_and_nothing_else() -> None:
    encoder = Encoder("logs", retention_days=30)
    append(encoder, logs("one", "two"))
    [block] = encoder.close()

    for size in range(len(block.native)):
        with pytest.raises((ValueError, IndexError)):
            Reader(block.native[:size]).rows()
    with pytest.raises(ValueError, match="behind the block"):
        Reader(block.native + b"\0").rows()


def test_requests_of_several_tenants_and_bad_ones_between_share_a_block() -> None:
    requests = [logs("a", "b"), b"\xff", logs("c"), logs("d") + b"\x0a", logs("a")]
    compiled = Encoder("logs", retention_days=30)
    reference = ReferenceEncoder("logs", retention_days=30)
    for number, body in enumerate(requests):
        for encoder in (compiled, reference):
            try:
                append(encoder, body, f"tenant {number}")
            except Malformed:
                assert number in (1, 3)
    blocks = compiled.close()

    assert blocks == reference.close()
    assert bodies_of(blocks) == [["a", "b", "c", "a"]]
    assert [
        one["TenantId"] for one, other in pairwise(Reader(blocks[0].native).rows()) if one != other
    ] == ["tenant 0", "tenant 0", "tenant 2"]


@pytest.mark.parametrize("count", [1, 2, 255, 256, 600])
def test_what_the_rows_of_a_resource_share_is_written_for_each_of_them(count: int) -> None:
    request = ExportLogsServiceRequest()
    for number in range(count):
        place = request.resource_logs.add()
        place.resource.dropped_attributes_count = number
        for key in range(number % 4):
            place.resource.attributes.add(key=f"k{key}").value.string_value = f"v{number}"
        for _ in range((number + 1) % 3):
            place.scope_logs.add().log_records.add(time_unix_nano=NOW_NS)

    rows = stored("logs", request, b"", request).rows

    assert [row["ResourceDroppedAttrCount"] for row in rows] == 2 * [
        number for number in range(count) for _ in range((number + 1) % 3)
    ]


def test_many_requests_in_one_block_are_equal_in_both_codecs() -> None:
    bodies = [logs(*(f"{number % 7} {line}" for line in range(number % 5))) for number in range(60)]

    assert len(stored("logs", *bodies).rows) == sum(number % 5 for number in range(60))
