"""OTLP/JSON through the compiled mapper and through the reference: the same message or refusal."""

import json
from random import Random
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.codec import Encoder
from ingest.codec.json import to_protobuf
from ingest.codec.reference.json import to_protobuf as reference_to_protobuf
from ingest.codec.results import Malformed
from tests.unit.ingest.codec.otlp_json import to_json
from tests.unit.ingest.codec.strategies import REQUESTS, random_request
from tests.unit.ingest.codec.twins import NOW_NS

SIGNALS: Final = tuple(REQUESTS)
SEEDS: Final = st.integers(0, 2**64 - 1)
# What a member may be instead of what it should be; many of them are right for some field.
_VALUES: Final = (
    *("null", "true", "false", "0", "-0", "1", "-1", "24", "1.0", "1.5", "1e3", "1E-3", "0e99999"),
    *("1e400", "-1e400", "1e-400", "1e99999999999999999999", "10e-1", "0.1e1", "00", "01", "+1"),
    *("1.", ".5", "1e", "NaN", "-Infinity", "9223372036854775807", "9223372036854775808", "0x10"),
    *("18446744073709551615", "18446744073709551616", "9007199254740993.0", "4294967295", "2e9"),
    *('"NaN"', '"Infinity"', '"-Infinity"', '"inf"', '"1"', '"-1"', '"1.5"', '" 1"', '"1 "', '""'),
    *('"18446744073709551615"', '"1e3"', '"0x10"', '"SPAN_KIND_SERVER"', '"\\ud800"', '"\\u12"'),
    *('"\\ud83d\\ude00"', '"\\ude00\\ud83d"', '"\\q"', '"a\nb"', '"\t"', '"5b8EFFF798038103"'),
    *('"5b8efff798038103d269b633813fc60c"', '"5g"', '"abc"', '"AA=="', '"AA="', '"A"', '"_-8"'),
    *('"AA==="', '"===="', '"AB"', '"AAA="', '"=AAA"', '"AA A"', "{}", "[]", "[{}]", "[[]]"),
    *("[null]", '["a"]', "[1]", '["1"]', "[1.5]", '[true,"x"]', '{"a":1,"a":[]}', "[1,]", "{,}"),
    *('{"values":[null,{"intValue":1}]}', '{"stringValue":"a","intValue":"2","stringValue":null}'),
    *('{"bytesValue":"!","stringValue":null}', '{"bytesValue":"!","bytesValue":null}', "tru", "{"),
)


def mapped(body: bytes, signal: str, mapper: Any) -> tuple[str, str]:
    """The message as its own text, or the path of what was refused."""
    try:
        answer = mapper(signal, body)
    except Malformed as error:
        return "refused", error.field
    return "mapped", str(REQUESTS[signal].FromString(answer))


def assert_same(signal: str, text: str | bytes) -> None:
    body = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    verdict, content = mapped(body, signal, to_protobuf)
    expected, expected_content = mapped(body, signal, reference_to_protobuf)
    assert verdict == expected, body
    # The reference reads all text before it maps any, so of two faults it may tell the other one.
    assert content == expected_content or verdict == "refused", body


def random_json(random: Random, signal: str) -> str:
    return to_json(
        random_request(random, signal),
        numbers_as_strings=random.random() < 0.5,
        unknown=random.random() < 0.5,
    )


@pytest.mark.parametrize("signal", SIGNALS)
@given(seed=SEEDS)
def test_C096_a_request_in_json_is_the_same_to_both_mappers(signal: str, seed: int) -> None:
    assert_same(signal, random_json(Random(seed), signal))


@pytest.mark.parametrize("signal", SIGNALS)
@given(seed=SEEDS)
def test_C094_members_of_any_kind_are_the_same_to_both_mappers(signal: str, seed: int) -> None:
    random = Random(seed)
    assert_same(signal, damaged(random, random_json(random, signal)))


def damaged(random: Random, text: str) -> str:
    """The text with one or two of its values replaced, or a member put in twice."""
    for _ in range(random.choice((1, 1, 2))):
        tokens = text.split(" : ")
        if len(tokens) < 2:
            return text
        place = random.randrange(1, len(tokens))
        value = random.choice(_VALUES)
        name = tokens[place - 1].rsplit('"', 2)[1]
        if random.random() < 0.5:  # before what is there, or instead of it
            tokens[place] = f'{value},"{name}" : {tokens[place]}'
        else:
            tokens[place] = value + tail_behind_value(tokens[place])
        text = " : ".join(tokens)
    return text


def tail_behind_value(text: str) -> str:
    """What stands behind the value at the beginning of *text*, as far as the value ends there."""
    try:
        return text[json.JSONDecoder(strict=False).raw_decode(text)[1] :]
    except ValueError:
        return text


@pytest.mark.parametrize("signal", SIGNALS)
@given(seed=SEEDS)
def test_C089_damaged_text_is_the_same_to_both_mappers(signal: str, seed: int) -> None:
    random = Random(seed)
    body = bytearray(random_json(random, signal).encode())
    for _ in range(random.choice((1, 2))):
        place = random.randrange(len(body))
        match random.randrange(4):
            case 0:
                body[place] ^= 1 << random.randrange(8)
            case 1:
                del body[place : place + random.choice((1, 1, 2, 9))]
            case 2:
                body[place:place] = random.choice(_VALUES).encode("utf-8", "surrogatepass")
            case _:
                body[place] = random.choice(b'{}[],:"\\ \n\x00\x1f\x7f\xc3')
    assert_same(signal, bytes(body))


@pytest.mark.parametrize(
    "around",
    [
        '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"%s":%s}}]}]}]}' % (name, "%s")  # noqa: UP031
        for name in (
            *("stringValue", "boolValue", "intValue", "doubleValue", "arrayValue", "kvlistValue"),
            *("bytesValue", "stringValueStrindex", "future"),
        )
    ]
    + [
        '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"%s":%s}]}]}]}' % (name, "%s")  # noqa: UP031
        for name in ("traceId", "spanId", "timeUnixNano", "severityNumber", "flags", "attributes")
    ]
    + ['{"resourceLogs":%s}', '{"resourceLogs":[%s]}', "%s", '{"resourceLogs":[{"resource":%s}]}'],
)
def test_C094_each_kind_of_field_takes_the_same_values(around: str) -> None:
    for value in _VALUES:
        assert_same("logs", around.replace("%s", value))


@pytest.mark.parametrize(
    "members",
    [
        '"attributes":[{"key":"a"}],"attributes":[{"key":"b"}]',
        '"attributes":[{"key":"a"}],"attributes":null',
        '"attributes":null,"attributes":[{"key":"a"}]',
        '"attributes":[7],"attributes":[]',
        '"body":{"intValue":1},"body":{"stringValue":"a"}',
        '"body":{"intValue":1},"body":{}',
        '"body":{"intValue":1,"stringValue":"a","intValue":null}',
        '"body":{"stringValue":"a","intValue":1,"stringValue":"b"}',
        '"body":{"bytesValue":"!","stringValue":null}',
        '"body":{"bytesValue":"!","bytesValue":null}',
        '"body":{"arrayValue":{"values":[{}]},"intValue":1,"arrayValue":{}}',
        '"traceId":"ab","traceId":""',
        '"flags":1,"flags":"x"',
        '"flags":"x","flags":1',
    ],
)
def test_C088_members_of_one_name_are_the_same_to_both_mappers(members: str) -> None:
    assert_same("logs", f'{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{{members}}}]}}]}}]}}')


@pytest.mark.parametrize("depth", [60, 61, 62, 63, 64, 65, 66, 200, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_C090_nesting_ends_at_the_same_level(depth: int, opening: str, closing: str) -> None:
    inside = opening * depth + "1" + closing * depth
    assert_same("traces", f'{{"future":{inside}}}')
    assert_same("traces", f'{{"resourceSpans":{inside}}}')


@pytest.mark.parametrize("levels", range(18, 34))
def test_C090_nesting_of_values_ends_at_the_same_level(levels: int) -> None:
    value = '{"arrayValue":{"values":[' * levels + "{}" + "]}}" * levels
    record = f'{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{value}}}]}}]}}]}}'
    assert_same("logs", record)


@pytest.mark.parametrize(
    ("signal", "text", "path"),
    [
        ("traces", '{"resourceSpans":{}}', "resourceSpans"),
        (
            "traces",
            '{"resourceSpans":[{"resource":{"attributes":{}}}]}',
            "resourceSpans[0].resource.attributes",
        ),
        (
            "logs",
            '{"resourceLogs":[{},{"scopeLogs":[{"logRecords":[{},{"flags":-1}]}]}]}',
            "resourceLogs[1].scopeLogs[0].logRecords[1].flags",
        ),
        ("logs", '{"resourceLogs":[{"schemaUrl":7}]}', "resourceLogs[0].schemaUrl"),
    ],
)
def test_C094_both_mappers_tell_where_the_fault_is(signal: str, text: str, path: str) -> None:
    assert mapped(text.encode(), signal, to_protobuf) == ("refused", path)
    assert mapped(text.encode(), signal, reference_to_protobuf) == ("refused", path)


@pytest.mark.parametrize("signal", SIGNALS)
@given(seed=SEEDS)
def test_C096_json_and_protobuf_of_a_request_give_the_same_rows(signal: str, seed: int) -> None:
    random = Random(seed)
    message = random_request(random, signal)
    text = to_json(message, numbers_as_strings=random.random() < 0.5, unknown=True)

    def blocks(body: bytes) -> object:
        encoder = Encoder(signal, retention_days=30)
        appended = encoder.append(body, tenant="acme", received_ns=NOW_NS)
        return appended, encoder.close()

    expected = blocks(message.SerializeToString())

    assert blocks(to_protobuf(signal, text.encode())) == expected
    assert blocks(reference_to_protobuf(signal, text.encode())) == expected
