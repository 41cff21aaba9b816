"""The JSON mapper under bodies that are hostile, broken, or simply everything the protocol has."""
# ruff: noqa: UP031 - JSON is full of braces, which other ways to format would have to double

import json
import time
import tracemalloc
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from ingest.codec.json import to_protobuf
from tests.unit.ingest.codec.mapped_json import (
    DATA,
    HISTOGRAM,
    LOG,
    SIGNALS,
    SPAN,
    mapped,
    refused,
    span,
    value,
)
from tests.unit.ingest.codec.otlp_json import requests, to_json

if TYPE_CHECKING:
    from google.protobuf.message import Message


def cpu_seconds(work: Callable[[int], object], size: int) -> float:
    started = time.process_time()
    work(size)
    return time.process_time() - started


def grows_in_proportion(work: Callable[[int], object], size: int) -> bool:
    """Whether eight times as much takes about 8 times as long, and not 64 times.

    What is too short to be measured well is not a way to keep a server busy.
    """
    seconds = cpu_seconds(work, size)
    return seconds < 0.05 or seconds < 24 * cpu_seconds(work, size // 8)


def test_C090_more_than_64_levels_are_refused() -> None:
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        to_protobuf("traces", f'{{"x":{opening * 63}1{closing * 63}}}'.encode())
        assert "deeper" in str(refused(f'{{"x":{opening * 64}1{closing * 64}}}'))


def test_C090_known_levels_count_as_much_as_unknown_ones() -> None:
    deep = '{"arrayValue":{"values":['
    for levels, fine in ((19, True), (20, False)):  # a body lies below 7 levels, each adds 3
        text = LOG % ('{"body":%s%s}' % (deep * levels, "]}}" * levels))
        if fine:
            assert mapped("logs", text)
        else:
            assert "deeper" in str(refused(text, "logs"))
    assert "deeper" in str(refused(SPAN % ('{"x":%s}' % ("[" * 60)), "traces"))


def test_C090_a_number_of_very_many_digits_is_refused_in_no_time() -> None:
    def work(digits: int) -> None:
        refused(SPAN % '{"startTimeUnixNano":"1%s1"}' % ("0" * digits))
        refused(SPAN % '{"startTimeUnixNano":%s}' % ("9" * digits))
        refused(SPAN % '{"startTimeUnixNano":0.%s1}' % ("0" * digits))
        assert mapped("traces", '{"x":%s}' % ("9" * digits)) is not None

    work(5_000)
    assert grows_in_proportion(work, 4_000_000)


_BODY_BYTES = 16 * 2**20


@pytest.mark.parametrize(
    ("head", "piece", "tail", "fine"),
    [
        ("", "[", "", False),
        ('{"resourceSpans":', "[", "", False),
        ("{", '"a":{},', '"a":{}}', True),
        ('{"resourceSpans":[', "{},", "{}]}", True),
        ("{", '"resourceSpans":[{}],', '"resourceSpans":[]}', True),
        ('{"resourceSpans":[{"resource":{"entityRefs":[{"idKeys":[', '"",', '""]}]}}]}', True),
        ('{"resourceSpans":[{"schemaUrl":"', "\\n", '"}]}', True),
    ],
)
def test_C091_a_bomb_is_answered_fast_in_bounded_memory(
    head: str, piece: str, tail: str, fine: bool
) -> None:
    def work(size_bytes: int) -> int:
        body = (head + piece * (size_bytes // len(piece)) + tail).encode()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        if fine:
            to_protobuf("traces", body)
        else:
            refused(body)
        return tracemalloc.get_traced_memory()[1] - before

    assert grows_in_proportion(work, _BODY_BYTES)
    tracemalloc.start()
    try:
        assert work(_BODY_BYTES) < 3 * _BODY_BYTES
    finally:
        tracemalloc.stop()


def test_C091_packed_numbers_grow_to_no_more_than_four_times_their_text() -> None:
    body = (HISTOGRAM % ('{"bucketCounts":[%s0]}' % ("0," * 2**20))).encode()
    assert len(to_protobuf("metrics", body)) < 4 * len(body)


def test_C091_taking_back_what_was_written_does_not_grow_quadratic() -> None:
    big = '"attributes":[%s{}],"name":"\\n","kind":1,' % ("{}," * 37_500)

    def work(repeats: int) -> None:
        assert span('{%s"flags":1}' % (big * repeats)).flags == 1

    assert grows_in_proportion(work, 80)


@pytest.mark.parametrize(
    "body",
    [
        "",
        " ",
        "[]",
        "1",
        "null",
        '"a"',
        "{",
        "{}}",
        "{}{}",
        "{} x",
        "{}\0",
        "\0",
        "// c\n{}",
        "{}//",
    ],
)
def test_C092_anything_but_one_object_is_refused(body: str) -> None:
    refused(body)


def test_C092_an_empty_object_is_an_empty_request() -> None:
    for signal in SIGNALS:
        assert to_protobuf(signal, b" \r\n\t{ } \n") == b""


def test_C092_every_truncation_of_a_request_is_refused() -> None:
    body = json.dumps(json.loads((DATA / "traces.json").read_text())).encode()
    assert to_protobuf("traces", body)
    for length in range(len(body)):
        assert refused(body[:length])


def test_C093_of_the_members_of_a_oneof_the_last_counts() -> None:
    assert value('{"stringValue":"a","intValue":1}') == AnyValue(int_value=1)
    assert value('{"intValue":1,"kvlistValue":{},"stringValue":""}') == AnyValue(string_value="")
    assert value('{"arrayValue":{"values":[{}]},"intValue":2,"arrayValue":{}}').HasField(
        "array_value"
    )


@pytest.mark.parametrize(
    ("signal", "text", "field"),
    [
        ("traces", '{"resourceSpans":{}}', "resourceSpans"),
        ("traces", '{"resourceSpans":[{},[]]}', "resourceSpans[1]"),
        (
            "traces",
            '{"resourceSpans":[{"resource":{"attributes":{}}}]}',
            "resourceSpans[0].resource.attributes",
        ),
        (
            "traces",
            '{"resourceSpans":[{"scopeSpans":[{},{"spans":[{},{},{},{"kind":"x"}]}]}]}',
            "resourceSpans[0].scopeSpans[1].spans[3].kind",
        ),
        ("traces", '{"resourceSpans":[{"schemaUrl":1}]}', "resourceSpans[0].schemaUrl"),
        ("traces", '{"resourceSpans":[{"resource":[]}]}', "resourceSpans[0].resource"),
        (
            "logs",
            '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"traceId":12}]}]}]}',
            "resourceLogs[0].scopeLogs[0].logRecords[0].traceId",
        ),
        (
            "logs",
            '{"resourceLogs":[{"resource":{"x":1},"scopeLogs":7}]}',
            "resourceLogs[0].scopeLogs",
        ),
        ("metrics", '{"resourceMetrics":[{"x":tru}]}', "resourceMetrics[0]"),
        ("metrics", '{"resourceMetrics":[{} {}]}', "resourceMetrics[0]"),
        ("metrics", '{"resourceMetrics":true}', "resourceMetrics"),
    ],
)
def test_C094_a_value_of_the_wrong_type_is_refused_with_its_path(
    signal: str, text: str, field: str
) -> None:
    assert refused(text, signal).field == field


def test_C094_elements_of_packed_arrays_have_a_path_too() -> None:
    error = refused(HISTOGRAM % '{"explicitBounds":[1,2,"x"]}', "metrics")
    assert error.field.endswith("histogram.dataPoints[0].explicitBounds[2]")
    assert "at byte" in str(error)


@pytest.mark.parametrize("signal", SIGNALS)
@given(data=st.data(), numbers_as_strings=st.booleans(), unknown=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_C096_any_request_written_as_json_comes_back_the_same(
    signal: str, data: st.DataObject, numbers_as_strings: bool, unknown: bool
) -> None:
    request: Message = data.draw(requests(signal))
    text = to_json(request, numbers_as_strings=numbers_as_strings, unknown=unknown)
    found = mapped(signal, text)
    assert found.SerializeToString(deterministic=True) == request.SerializeToString(
        deterministic=True
    ), text


def test_the_signal_must_be_one_that_is_served() -> None:
    with pytest.raises(KeyError):
        to_protobuf("profiles", b"{}")


def test_a_body_above_the_bound_for_holding_the_lock_is_mapped_alike() -> None:
    small = '{"name":"n","attributes":[{"key":"k","value":{"intValue":"5"}}]}'
    request = mapped("traces", SPAN % ",".join([small] * 2000))
    spans = request.resource_spans[0].scope_spans[0].spans
    assert len(spans) == 2000
    assert all(found == span(small) for found in spans)
