"""The JSON mapper: an OTLP/JSON request becomes the protobuf request that says the same."""
# ruff: noqa: UP031 - JSON is full of braces, which other ways to format would have to double

import struct
from typing import Any

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ingest.codec.json import to_protobuf
from ingest.codec.json_schema import MESSAGES, ROOT_OF_SIGNAL
from tests.unit.ingest.codec.mapped_json import (
    DATA,
    HISTOGRAM,
    LOG,
    POINT,
    SIGNALS,
    SPAN,
    TRACE_ID,
    mapped,
    metric,
    refused,
    span,
    value,
)
from tests.unit.ingest.codec.otlp_json import IDS, REQUEST_OF_SIGNAL


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("suffix", ["", "_as_strings"])
def test_C080_an_example_in_json_says_what_its_protobuf_twin_says(signal: str, suffix: str) -> None:
    twin = text_format.Parse((DATA / f"{signal}.txtpb").read_text(), REQUEST_OF_SIGNAL[signal]())
    assert mapped(signal, (DATA / f"{signal}{suffix}.json").read_bytes()) == twin


def _described(root: Any) -> dict[str, list[FieldDescriptor]]:
    """The fields of every message that a request can hold, by the name of the message."""
    found: dict[str, list[FieldDescriptor]] = {}
    left = [root]
    while left:
        descriptor = left.pop()
        if descriptor.name not in found:
            found[descriptor.name] = list(descriptor.fields)
            left += [field.message_type for field in descriptor.fields if field.message_type]
    return found


def _kind(field: FieldDescriptor) -> str:
    kinds = {getattr(field, name): name[5:] for name in dir(field) if name[:5] == "TYPE_"}
    kind = kinds[field.type].lower()
    if kind == "bytes":
        return "id" if field.name in IDS else "base64"
    return kind


def test_C080_the_schema_has_every_field_that_the_protocol_has() -> None:
    described: dict[str, list[FieldDescriptor]] = {}
    for signal, name in ROOT_OF_SIGNAL.items():
        assert REQUEST_OF_SIGNAL[signal].DESCRIPTOR.name == name
        described |= _described(REQUEST_OF_SIGNAL[signal].DESCRIPTOR)
    expected = {
        name: {
            (
                field.json_name,
                field.number,
                _kind(field),
                field.message_type.name if field.message_type else "",
                field.is_repeated,
            )
            for field in fields
        }
        for name, fields in described.items()
    }
    assert {name: set(fields) for name, fields in MESSAGES.items()} == expected


def test_C081_ids_are_hex_in_either_case() -> None:
    found = span(
        '{"traceId":"%s","spanId":"EEE19B7EC3C1B174","parentSpanId":"0a0B0c0D0e0F0001",'
        '"links":[{"traceId":"%s","spanId":"\\u0065ee19b7ec3c1b174"}]}'
        % (TRACE_ID.upper(), TRACE_ID)
    )
    assert found.trace_id.hex() == TRACE_ID
    assert found.span_id.hex() == found.links[0].span_id.hex() == "eee19b7ec3c1b174"
    assert found.parent_span_id.hex() == "0a0b0c0d0e0f0001"
    assert found.links[0].trace_id.hex() == TRACE_ID


@pytest.mark.parametrize(
    "text",
    [
        TRACE_ID[:-1],
        TRACE_ID[:-1] + "g",
        TRACE_ID + "\\u0000",
        " " + TRACE_ID[:-1],
        "W47/95gDgQPSabYzgT/GDA==",
        TRACE_ID[:-1] + "\\uff11",
        "\u00e9" * 16,
    ],
)
def test_C081_an_id_that_is_not_hex_becomes_one_of_a_length_that_no_id_has(text: str) -> None:
    found = span(
        '{"traceId":"%s","spanId":"%s","parentSpanId":"%s","name":"n"}' % (text, text, text)
    )
    assert (found.trace_id, found.span_id, found.parent_span_id) == (b"\xff",) * 3
    assert found.name == "n"


def test_C081_sixteen_bytes_come_from_thirty_two_hex_digits_only() -> None:
    for digits in range(70):
        found = span('{"traceId":"%s"}' % ("a" * digits)).trace_id
        assert (len(found) == 16) == (digits == 32)


def test_C081_an_empty_id_is_no_id() -> None:
    assert not span('{"parentSpanId":"","traceId":""}').parent_span_id
    assert to_protobuf("logs", b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"spanId":""}]}]}]}')


def test_C082_snake_case_names_are_unknown() -> None:
    assert to_protobuf("traces", b'{"resource_spans":[{"scope_spans":5}]}') == b""
    assert span('{"trace_id":1,"span_id":[],"TraceId":"","traceid":{}}') == Span()


def test_C082_an_escaped_name_is_the_name_it_spells() -> None:
    assert span('{"na\\u006de":"n"}').name == "n"


@pytest.mark.parametrize(
    "unknown", ["1", "-0.5e-3", '"\\u12aB"', "null", "true", "[]", "{}", '[{"a":[[],{"b":{}}]},1]']
)
def test_C083_unknown_members_are_ignored_at_every_level(unknown: str) -> None:
    text = (
        '{"x":U,"resourceSpans":[{"x":U,"resource":{"x":U},"scopeSpans":[{"x":U,"spans":'
        '[{"x":U,"name":"n","y":U,"status":{"x":U,"code":2},"z":U}]}]}],"y":U}'
    )
    expected = span('{"name":"n","status":{"code":2}}')
    found = mapped("traces", text.replace("U", unknown))
    assert found.resource_spans[0].scope_spans[0].spans[0] == expected


@pytest.mark.parametrize(
    "bad", ["[1,]", '{"a":1,}', "[1 2]", '{"a" 1}', "{1:2}", "tru", "01", "[}"]
)
def test_C083_unknown_members_must_still_be_json(bad: str) -> None:
    refused('{"x":%s}' % bad)


def test_C084_an_enum_is_an_integer() -> None:
    assert span('{"kind":3,"status":{"code":2.0}}').kind == Span.SPAN_KIND_CLIENT
    assert span('{"kind":77}').kind == 77
    assert span('{"kind":-1}').kind == -1
    for bad in ('"SPAN_KIND_SERVER"', '"3"', "2147483648", "1.5", "true", "{}"):
        assert refused(SPAN % '{"kind":%s}' % bad).field == (
            "resourceSpans[0].scopeSpans[0].spans[0].kind"
        )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9007199254740993", 2**53 + 1),
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775807", 2**63 - 1),
        ("1e3", 1000),
        ("5.0", 5),
        ("1.500e1", 15),
        ("-0", 0),
        ("0e99999999999999999999", 0),
        ("9223372036854775807000e-3", 2**63 - 1),
        ("9223372036854775.807E+3", 2**63 - 1),
        ("5" + "0" * 5000 + "e-5000", 5),
        ("0." + "0" * 5000 + "7e5001", 7),
    ],
)
def test_C085_a_whole_number_is_kept_exactly(text: str, expected: int) -> None:
    assert value('{"intValue":%s}' % text).int_value == expected
    assert value('{"intValue":"%s"}' % text).int_value == expected


@pytest.mark.parametrize(
    "bad",
    [
        *("1.5", "1e-1", "9223372036854775808", "-9223372036854775809", "1e19", "1e999999999999"),
        *('"0x10"', '""', '" 1"', '"1 "', '"+1"', '"01"', '"1.5"', '"1,"', '"1\\u0000"', '"NaN"'),
        *("true", "[1]", "{}", "+1", "01", "1.", ".5", "1e", "-", "0x10", "9" * 25 + "e-3"),
    ],
)
def test_C085_a_number_that_is_not_an_integer_of_the_type_is_refused(bad: str) -> None:
    error = refused(LOG % '{"body":{"intValue":%s}}' % bad, "logs")
    assert error.field.startswith("resourceLogs[0].scopeLogs[0].logRecords[0].body")


def test_C085_unsigned_and_narrow_integers_have_their_own_bounds() -> None:
    assert span('{"startTimeUnixNano":18446744073709551615}').start_time_unix_nano == 2**64 - 1
    assert span('{"flags":"4294967295","droppedLinksCount":4294967295}').flags == 2**32 - 1
    assert metric(POINT % '{"asInt":-1}').gauge.data_points[0].as_int == -1
    for bad in (
        *('"startTimeUnixNano":18446744073709551616', '"startTimeUnixNano":-1', '"flags":-1'),
        *('"droppedLinksCount":4294967296', '"flags":4294967296', '"endTimeUnixNano":1.5'),
    ):
        refused(SPAN % ("{%s}" % bad))


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 30), st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_C085_any_integer_in_any_spelling(number: int, places: int, zeros: int) -> None:
    digits = str(abs(number)).rjust(places + 1, "0")
    spelled = digits[: len(digits) - places] + "." + digits[len(digits) - places :] + "0" * zeros
    whole, fraction = (spelled + ("0" if spelled[-1] == "." else "")).split(".")
    text = f"{'-' if number < 0 else ''}{whole}.{fraction}e{places}"
    assert value('{"intValue":%s}' % text).int_value == number


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(('"NaN"', "nan"), ('"Infinity"', "inf"), ('"-Infinity"', "-inf"), ("-0.0", "-0.0")),
        *(("1", "1"), ('"2.5"', "2.5"), ("1e-400", "0"), ("-1e-400", "-0.0"), ("5e-324", "5e-324")),
        *(("1.7976931348623157e308", "1.7976931348623157e308"), ("2.4e-324", "0")),
        ("0." + "0" * 400 + "1e401", "1"),
        ("8.5" + "0" * 800 + "1", "8.5"),
        ("9007199254740993", "9007199254740992"),
    ],
)
def test_C086_doubles_are_numbers_or_strings(text: str, expected: str) -> None:
    found = value('{"doubleValue":%s}' % text).double_value
    assert struct.pack("<d", found) == struct.pack("<d", float(expected))


@pytest.mark.parametrize(
    "bad",
    ["NaN", "Infinity", "-Infinity", '"nan"', '"inf"', '"+1"', '""', "1e400", '"1x"', "true", "[]"],
)
def test_C086_other_spellings_of_doubles_are_refused(bad: str) -> None:
    error = refused(POINT % '{"asDouble":%s}' % bad, "metrics")
    assert error.field.endswith("metrics[0].gauge.dataPoints[0].asDouble")


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["r", ".17e", ".30e"]))
@settings(max_examples=200, deadline=None)
def test_C086_a_double_is_the_nearest_one(number: float, style: str) -> None:
    text = repr(number) if style == "r" else format(number, style)
    found = value('{"doubleValue":%s}' % text).double_value
    assert struct.pack("<d", found) == struct.pack("<d", float(text))


@pytest.mark.parametrize("text", ["+/8=", "-_8=", "+/8", "-_8", "\\u002b/8="])
def test_C087_bytes_are_base64_of_either_alphabet_with_or_without_padding(text: str) -> None:
    assert value('{"bytesValue":"%s"}' % text).bytes_value == b"\xfb\xff"


@pytest.mark.parametrize(
    "text", ["A", "AA=", "AAA==", "====", "A*==", "AA==AA==", "AA A", "\u20ac"]
)
def test_C087_what_is_not_base64_is_refused(text: str) -> None:
    error = refused(LOG % '{"body":{"bytesValue":"%s"}}' % text, "logs")
    assert error.field == "resourceLogs[0].scopeLogs[0].logRecords[0].body.bytesValue"
    assert "base64" in str(error)


def test_C087_a_bool_is_true_or_false_and_nothing_else() -> None:
    assert value('{"boolValue":true}').bool_value
    assert value('{"boolValue":false}') == AnyValue(bool_value=False)
    for bad in ('"true"', "1", "0", "True", "tru", "[]"):
        assert refused(LOG % '{"body":{"boolValue":%s}}' % bad, "logs").field.endswith("boolValue")


def test_C087_null_is_an_absent_field() -> None:
    nulls = ",".join(f'"{field.json_name}":null' for field in Span.DESCRIPTOR.fields)
    assert span("{%s}" % nulls) == Span()
    assert value('{"stringValue":"a","intValue":null}') == AnyValue(string_value="a")


def test_C087_null_in_an_array_value_is_an_empty_value() -> None:
    found = value('{"arrayValue":{"values":[null,{"intValue":1},null]}}').array_value.values
    assert list(found) == [AnyValue(), AnyValue(int_value=1), AnyValue()]


@pytest.mark.parametrize(
    ("signal", "text"),
    [
        ("traces", '{"resourceSpans":[null]}'),
        ("traces", SPAN % '{"attributes":[{},null]}'),
        ("logs", LOG % '{"body":{"kvlistValue":{"values":[null]}}}'),
        ("metrics", HISTOGRAM % '{"bucketCounts":[null]}'),
        ("traces", '{"resourceSpans":[{"resource":{"entityRefs":[{"idKeys":[null]}]}}]}'),
    ],
)
def test_C087_null_in_any_other_array_is_refused(signal: str, text: str) -> None:
    assert refused(text, signal).field.endswith("]")


def test_C088_of_equal_names_the_last_counts() -> None:
    assert span('{"name":"a","kind":1,"name":"b","kind":2}') == Span(
        name="b", kind=Span.SPAN_KIND_SERVER
    )
    assert span('{"name":"a","name":null}') == Span()
    twice = '{"status":{"message":"m"},"attributes":[{"key":"a"}],"name":"n","status":{"code":1}'
    assert span(twice + ',"attributes":[{"key":"b"}],"kind":1,"status":{"code":2}}') == span(
        '{"name":"n","attributes":[{"key":"b"}],"kind":1,"status":{"code":2}}'
    )


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_C088_any_order_of_repeated_names_gives_what_a_dict_gives(data: st.DataObject) -> None:
    members = {
        "name": st.sampled_from(['"a"', '"long \\n name"', "null"]),
        "kind": st.sampled_from(["1", "2"]),
        "traceId": st.sampled_from([f'"{TRACE_ID}"', '""', '"zz"']),
        "attributes": st.sampled_from(["[]", '[{"key":"k"},{"key":"k\\t"}]', '[{"key":"j"}]']),
        "status": st.sampled_from(['{"code":1}', '{"code":2,"message":"m","code":1}']),
        "unknown": st.sampled_from(["{}", "[1]"]),
    }
    names = data.draw(st.lists(st.sampled_from(sorted(members)), max_size=14))
    pairs = [(name, data.draw(members[name])) for name in names]
    text = "{" + ",".join(f'"{name}":{written}' for name, written in pairs) + "}"
    once = "{" + ",".join(f'"{name}":{written}' for name, written in dict(pairs).items()) + "}"
    assert span(text) == span(once)


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf{}",
        '{"resourceSpans":[]}'.encode("utf-16"),
        '{"resourceSpans":[]}'.encode("utf-16-be"),
        b'{"a":"\xff"}',
        b'{"a\xc0\x80":1}',
        b'{"resourceSpans":[{"schemaUrl":"\xed\xa0\x80"}]}',
        b'{"a":"\xf4\x90\x80\x80"}',
        b'{"a":"\xe0\x80\x80"}',
        b'{"a":"\xf0\x80\x80\x80"}',
        b'{"a":"\xe2\x82',
        b'{"a":"0123456\xe2"}',
        b"{}\x80",
    ],
)
def test_C089_a_body_that_is_not_plain_utf8_is_refused(body: bytes) -> None:
    refused(body)


@given(st.binary(max_size=24))
@settings(max_examples=300, deadline=None)
def test_C089_utf8_is_what_python_calls_utf8(body: bytes) -> None:
    text = bytes(byte for byte in body if byte >= 0x20 and byte not in b'"\\')
    wrapped = b'{"resourceSpans":[{"schemaUrl":"' + text + b'"}]}'
    try:
        expected = text.decode()
    except UnicodeDecodeError:
        assert "UTF-8" in str(refused(wrapped))
    else:
        assert mapped("traces", wrapped).resource_spans[0].schema_url == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\\ud800", "\ufffd"),
        ("\\udc00x", "\ufffdx"),
        ("\\ud800\\ud800", "\ufffd\ufffd"),
        ("\\ud83d\\uDE00", "\U0001f600"),
        ("\\ud800\\ud83d\\ude00", "\ufffd\U0001f600"),
        ("\\ud83d\\n", "\ufffd\n"),
        ("\\ud83d\\u0041", "\ufffdA"),
        ("\\u0000\\u007f\\u0080\\u07ff\\u0800\\uffff", "\0\x7f\x80\u07ff\u0800\uffff"),
        ('\\"\\\\\\/\\b\\f\\n\\r\\t', '"\\/\b\f\n\r\t'),
    ],
)
def test_C089_escapes_are_resolved_and_lone_surrogates_replaced(text: str, expected: str) -> None:
    assert span('{"name":"%s"}' % text).name == expected


@pytest.mark.parametrize("bad", ["\n", "\0", "\x1f", "\\x", "\\u12g4", "\\u12", "\\", "\\U0041"])
def test_C089_what_no_json_string_may_hold_is_refused(bad: str) -> None:
    refused(SPAN % ('{"name":"%s"}' % bad))
    refused('{"unknown":"%s"}' % bad)
