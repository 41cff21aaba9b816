"""Attribute values and bodies as text: what both codecs make of every kind of value."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from ingest.codec.reference.values import number
from tests.unit.ingest.codec.twins import NOW_NS, stored
from tests.unit.ingest.codec.wire_format import (
    body_of,
    fixed32,
    fixed64,
    message,
    record_with,
    request_of,
)
from tests.unit.ingest.codec.wire_format import number as number_field


def array(*values: AnyValue) -> AnyValue:
    return AnyValue(array_value=ArrayValue(values=values))


def kvlist(*pairs: tuple[str, AnyValue]) -> AnyValue:
    values = [KeyValue(key=key, value=value) for key, value in pairs]
    return AnyValue(kvlist_value=KeyValueList(values=values))


def text(value: str) -> AnyValue:
    return AnyValue(string_value=value)


def double(value: float) -> AnyValue:
    return AnyValue(double_value=value)


def body(value: AnyValue) -> str:
    found = stored("logs", body_of(value.SerializeToString())).row["Body"]
    assert isinstance(found, str)
    return found


def with_attributes(*pairs: tuple[str, AnyValue]) -> bytes:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=NOW_NS)
    record.attributes.extend(KeyValue(key=key, value=value) for key, value in pairs)
    return request.SerializeToString()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (AnyValue(), ""),
        (text(""), ""),
        (text("as it is <&>\n\x00"), "as it is <&>\n\x00"),
        (AnyValue(bool_value=True), "true"),
        (AnyValue(bool_value=False), "false"),
        (AnyValue(int_value=0), "0"),
        (AnyValue(int_value=-(2**63)), "-9223372036854775808"),
        (AnyValue(int_value=2**63 - 1), "9223372036854775807"),
        (AnyValue(bytes_value=b""), ""),
        (AnyValue(bytes_value=b"\xff"), "/w=="),
        (AnyValue(bytes_value=b"\xff\xfe"), "//4="),
        (AnyValue(bytes_value=b"\xfb\xff\x00"), "+/8A"),
        (array(), "[]"),
        (kvlist(), "{}"),
        (array(AnyValue(), text(""), AnyValue(bytes_value=b"\xff")), '[null,"","/w=="]'),
        (array(AnyValue(bool_value=True), AnyValue(int_value=-7), double(9.0)), "[true,-7,9]"),
        (
            array(double(math.nan), double(math.inf), double(-math.inf)),
            '["NaN","Infinity","-Infinity"]',
        ),
        (kvlist(("b", text("1")), ("a", array(kvlist()))), '{"a":[{}],"b":"1"}'),
        (
            kvlist(("k", text("first")), ("", AnyValue()), ("k", text("last"))),
            '{"":null,"k":"last"}',
        ),
        (kvlist(('<"\\>', text("&"))), '{"\\u003c\\"\\\\\\u003e":"\\u0026"}'),
    ],
)
def test_C073_every_kind_of_value_has_a_text(value: AnyValue, expected: str) -> None:
    pair = KeyValue(key="k", value=value)
    found = stored("logs", with_attributes((pair.key, pair.value)))

    assert body(value) == expected
    assert found.row["LogAttributes"] == {"k": expected}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (9.0, "9"),
        (0.0, "0"),
        (-0.0, "-0"),
        (0.1, "0.1"),
        (-1.5, "-1.5"),
        (100.0, "100"),
        (123456789.125, "123456789.125"),
        (1e-6, "0.000001"),
        (9.999e-7, "9.999e-7"),
        (1e-7, "1e-7"),
        (1.5e-10, "1.5e-10"),
        (1e20, "100000000000000000000"),
        (123456789012345680000.0, "123456789012345680000"),
        (1e21, "1e+21"),
        (-1.25e100, "-1.25e+100"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (2.0**53, "9007199254740992"),
        (0.30000000000000004, "0.30000000000000004"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
    ],
)
def test_C073_doubles_are_written_as_go_writes_them(value: float, expected: str) -> None:
    assert body(double(value)) == expected


@given(st.integers(0, 2**64 - 1))
def test_C069_every_double_comes_back_from_its_text(bits: int) -> None:
    [value] = struct.unpack("<d", bits.to_bytes(8, "little"))
    written = number(value)

    assert struct.pack("<d", float(written)) == struct.pack("<d", value) or math.isnan(value)
    assert body(double(value)) == written


@pytest.mark.parametrize(
    ("plain", "escaped"),
    [
        ('"\\/', '\\"\\\\/'),
        ("\b\f\n\r\t", "\\b\\f\\n\\r\\t"),
        ("\x00\x01\x1f\x7f", "\\u0000\\u0001\\u001f\x7f"),
        ("<a href='&'>", "\\u003ca href='\\u0026'\\u003e"),
        ("\u2027\u2028\u2029\u202a", "\u2027\\u2028\\u2029\u202a"),
        ("ä€\U0001f600", "ä€\U0001f600"),
    ],
)
def test_C073_texts_in_lists_are_escaped_as_go_escapes_them(plain: str, escaped: str) -> None:
    assert body(array(text(plain))) == f'["{escaped}"]'


def test_C074_of_equal_keys_the_last_counts_and_keys_are_sorted_by_bytes() -> None:
    pairs = [
        ("b", "1"),
        ("ä", "2"),
        ("a", "3"),
        ("", "4"),
        ("b", "5"),
        ("\U0001f600", "6"),
        ("\uffff", "7"),
    ]
    found = stored("logs", with_attributes(*((key, text(value)) for key, value in pairs))).row

    assert list(found["LogAttributes"].items()) == [
        ("", "4"),
        ("a", "3"),
        ("b", "5"),
        ("ä", "2"),
        ("\uffff", "7"),  # before what UTF-16 would sort first
        ("\U0001f600", "6"),
    ]


def test_C074_a_longer_key_is_sorted_behind_its_beginning() -> None:
    keys = ["ab", "a", "abc", "b", "aa"] + [f"k{number:03}" for number in range(300, 0, -1)]
    found = stored("logs", with_attributes(*((key, text(key)) for key in keys))).row

    assert list(found["LogAttributes"]) == sorted(keys)


def test_C074_many_attributes_keep_the_last_of_each_key() -> None:
    pairs = [(f"k{number % 50}", text(str(number))) for number in range(1000)]
    found = stored("logs", with_attributes(*pairs)).row["LogAttributes"]

    assert found == {f"k{number % 50}": str(number) for number in range(950, 1000)}


def test_C074_keys_in_pieces_count_once() -> None:
    def key(value: bytes) -> bytes:
        return message(1, value)

    pair = message(6, key(b"first"), message(2, message(1, b"v")), key(b"last"), message(2))

    assert stored("logs", record_with(pair)).row["LogAttributes"] == {"last": "v"}


BAD_UTF8 = {
    b"\xff": "\ufffd",
    b"a\xc3": "a\ufffd",
    b"\xc3(": "\ufffd(",
    b"\xe2\x82": "\ufffd",
    b"\xe2\x28\xa1": "\ufffd(\ufffd",
    b"\xed\xa0\x80": "\ufffd" * 3,  # a surrogate
    b"\xf0\x9f\x98": "\ufffd",
    b"\xf4\x90\x80\x80": "\ufffd" * 4,  # beyond U+10FFFF
    b"\xc0\xaf": "\ufffd" * 2,  # overlong
    b"\xf8\x88\x80\x80\x80": "\ufffd" * 5,
    b"ok\x80ok": "ok\ufffdok",
}


@pytest.mark.parametrize("raw", BAD_UTF8)
def test_C067_what_is_not_utf8_is_replaced_and_counted(raw: bytes) -> None:
    found = stored("logs", body_of(message(1, raw)))

    assert found.row["Body"] == BAD_UTF8[raw] == raw.decode("utf-8", "replace")
    assert (found.appended.accepted, found.appended.warnings) == (1, {"repaired_utf8": 1})


@given(st.binary(max_size=24), st.binary(max_size=24))
def test_C067_any_bytes_are_repaired_as_python_repairs_them(key: bytes, value: bytes) -> None:
    found = stored("logs", record_with(message(6, message(1, key), message(2, message(1, value)))))

    expected = {key.decode("utf-8", "replace"): value.decode("utf-8", "replace")}
    assert found.row["LogAttributes"] == expected


def test_C067_each_text_is_counted_wherever_it_stands() -> None:
    bad = b"\xff"
    entity = message(1, bad) + message(2, bad) + message(3, bad) + message(4, bad)
    pair = message(1, bad) + message(2, message(1, bad))
    scope = message(1, message(1, bad), message(2, bad), message(3, pair))
    body = message(5, message(1, bad))
    record = message(2, message(3, bad), body, message(6, pair), message(12, bad))
    scope_logs = message(2, scope, record, message(3, bad))
    resource = message(1, message(1, pair), message(3, entity))

    found = stored("logs", message(1, resource, scope_logs, message(3, bad)))

    assert found.appended.warnings == {"repaired_utf8": 7 + 5 + 5}  # resource, scope, record
    assert found.row["SeverityText"] == found.row["EventName"] == found.row["ScopeName"] == "\ufffd"


def test_C067_bytes_and_unknown_fields_are_left_alone() -> None:
    value = message(7, b"\xff") + message(99, b"\xfe")
    found = stored("logs", body_of(value))

    assert (found.row["Body"], found.appended.warnings) == ("/w==", {})


def test_C067_keys_that_become_equal_by_repair_are_one() -> None:
    pairs = [
        message(6, message(1, key), message(2, message(1, key[:1]))) for key in (b"a\xff", b"a\xfe")
    ]

    assert stored("logs", record_with(*pairs)).row["LogAttributes"] == {"a\ufffd": "a"}


def test_C072_references_to_a_table_of_strings_mean_nothing_and_are_counted() -> None:
    pair = number_field(3, 5) + message(2, number_field(8, 6))
    found = stored("logs", record_with(message(6, pair), message(5, number_field(8, 7))))

    assert (found.row["LogAttributes"], found.row["Body"]) == ({"": ""}, "")
    assert found.appended.warnings == {"string_index": 3}


def test_C072_a_field_of_another_wire_type_is_no_reference() -> None:
    value = fixed32(8, 5) + fixed64(8, 5)

    assert stored("logs", body_of(value)).appended.warnings == {}


def test_C072_inside_of_a_list_such_a_reference_is_an_empty_text() -> None:
    value = message(5, message(1, number_field(8, 1)), message(1, message(1, b"x")))

    assert stored("logs", body_of(value)).row["Body"] == '["","x"]'


def test_C073_entity_references_are_kept_as_json() -> None:
    def entity(*fields: bytes) -> bytes:
        return message(3, *fields)

    full = entity(
        message(1, b"u<"),
        message(2, b"service"),
        message(3, b"a"),
        message(3, b"b"),
        message(4, b"c"),
    )
    one = stored("logs", request_of(b"", resource=full + entity())).row["ResourceEntityRefs"]

    assert one == (
        '[{"schemaUrl":"u\\u003c","type":"service","idKeys":["a","b"],"descriptionKeys":["c"]},'
        '{"schemaUrl":"","type":"","idKeys":[],"descriptionKeys":[]}]'
    )
    assert stored("logs", request_of(b"")).row["ResourceEntityRefs"] == ""
