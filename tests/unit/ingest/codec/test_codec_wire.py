"""What is a request, and what its bytes mean: protobuf's rules, kept by both codecs."""

from collections.abc import Callable

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingest.codec.reference.wire import decoded
from ingest.codec.results import Malformed
from tests.unit.ingest.codec.twins import NOW_NS, SPAN_ID, TRACE_ID, refused, stored
from tests.unit.ingest.codec.wire_format import (
    END_GROUP,
    FIXED32,
    FIXED64,
    LENGTH,
    SPAN,
    START_GROUP,
    VARINT,
    body_of,
    fixed32,
    fixed64,
    group,
    message,
    number,
    record_with,
    request_of,
    span_with,
    tag,
    varint,
)

FUTURE = {
    "varint": number(99, 2**63),
    "fixed64": fixed64(99, 7),
    "length": message(99, b"\xff\xfe"),
    "empty group": group(99),
    "groups": group(99, group(98, number(1, 1)), message(97, b"x"), fixed32(96, 1), fixed64(95, 1)),
    "fixed32": fixed32(99, 7),
    "reserved": message(1000, b"deprecated"),
    "highest number": number(2**29 - 1, 1),
}
MALFORMED = {
    "field 0": b"\x02\x00",
    "field 0, padded": b"\x82\x00\x00",
    "wire type 6": tag(99, 6),
    "wire type 7": tag(99, 7),
    "varint of 11 bytes": tag(99, VARINT) + b"\x80" * 10 + b"\x01",
    "varint that does not end": tag(99, VARINT) + b"\x80",
    "tag that does not end": b"\x80",
    "tag beyond 32 bits": varint(2**32 + (99 << 3)) + b"\x00",
    "tag of six bytes": varint(99 << 3, padding=4) + b"\x00",
    "length beyond the end": tag(99, LENGTH) + b"\x05abc",
    "length of 2 GiB": tag(99, LENGTH) + varint(2**31) + b"abc",
    "negative length": tag(99, LENGTH) + varint(2**64 - 1) + b"abc",
    "length that is missing": tag(99, LENGTH),
    "fixed64 of seven bytes": tag(99, FIXED64) + b"1234567",
    "fixed32 of three bytes": tag(99, FIXED32) + b"123",
    "group without end": tag(99, START_GROUP) + number(1, 1),
    "end without group": tag(99, END_GROUP),
    "group that ends as another": tag(99, START_GROUP) + tag(98, END_GROUP),
    "truncated inside a group": tag(99, START_GROUP) + tag(1, LENGTH) + b"\x09a",
}
# Where a field of its own may stand: from the request itself down to an attribute's value.
PLACES: dict[str, Callable[[bytes], bytes]] = {
    "request": lambda field: request_of(SPAN) + field,
    "resource spans": lambda field: request_of(SPAN) + message(1, field),
    "resource": lambda field: request_of(SPAN, resource=field),
    "scope": lambda field: request_of(SPAN, scope=field),
    "span": span_with,
    "status": lambda field: span_with(message(15, field)),
    "event": lambda field: span_with(message(11, field)),
    "link": lambda field: span_with(message(13, field)),
    "key value": lambda field: span_with(message(9, field)),
    "value": lambda field: span_with(message(9, message(2, field))),
    "list": lambda field: span_with(message(9, message(2, message(5, field)))),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", FUTURE)
def test_C062_C072_unknown_fields_of_any_kind_are_passed_over(kind: str, place: str) -> None:
    request = PLACES[place](FUTURE[kind])

    assert stored("traces", request).rows == stored("traces", PLACES[place](b"")).rows


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", MALFORMED)
def test_C063_what_is_not_protobuf_is_refused(kind: str, place: str) -> None:
    assert refused("traces", PLACES[place](MALFORMED[kind]))


@given(st.binary(max_size=40) | st.sampled_from(sorted(MALFORMED.values())))
def test_C061_the_reference_takes_what_protobuf_takes(raw: bytes) -> None:
    for body in (raw, span_with(raw), span_with(message(9, message(2, raw)))):
        try:
            expected: object = ExportTraceServiceRequest.FromString(body)
        except DecodeError as error:
            if "UTF-8" in str(error):
                continue
            expected = Malformed
        try:
            found: object = decoded("traces", body).message
        except Malformed:
            found = Malformed
        assert str(found) == str(expected)


@pytest.mark.parametrize("padding", [1, 3])
def test_C061_padded_tags_lengths_and_numbers_count(padding: int) -> None:
    name = varint(5 << 3 | LENGTH, padding=padding) + varint(3, padding=padding) + b"GET"
    kind = tag(6, VARINT) + varint(2, padding=padding)

    row = stored("traces", span_with(name, kind)).row

    assert (row["SpanName"], row["SpanKind"]) == ("GET", "Server")


def test_C063_a_length_of_six_bytes_is_refused_before_a_text_to_repair() -> None:
    for text in (b"GET", b"\xff"):
        refused("traces", span_with(tag(5, LENGTH) + varint(len(text), padding=5) + text))


def nested(levels: int) -> bytes:
    """An AnyValue of that many arrays and key-value lists, by turns."""
    value = message(1, b"x")
    for level in range(levels):
        value = (
            message(5, message(1, value))
            if level % 2
            else message(6, message(1, message(2, value)))
        )
    return value


@pytest.mark.parametrize("levels", [1, 31, 32])
def test_C064_values_nest_32_levels_deep(levels: int) -> None:
    body = stored("logs", body_of(nested(levels))).row["Body"]

    assert body.count("[") + body.count("{") == levels


@pytest.mark.parametrize(
    "place",
    [
        body_of,
        lambda value: record_with(message(6, message(1, b"key") + message(2, value))),
        lambda value: record_with(message(6, message(2, value) + message(1, b"key"))),
        lambda value: request_of(b"", resource=message(1, message(2, value))),
        lambda value: request_of(b"", scope=message(3, message(2, value))),
        lambda value: body_of(message(1, b"a text") + value),
        lambda value: body_of(value + message(1, b"a text")),
        lambda value: body_of(value) + message(1, b""),
        lambda value: record_with(message(5, number(2, 1)), message(5, value)),
    ],
)
def test_C064_no_way_in_leads_deeper(place: Callable[[bytes], bytes]) -> None:
    stored("logs", place(nested(32)))
    assert "32 levels" in refused("logs", place(nested(33)))
    refused("logs", place(nested(300)))


def groups(levels: int) -> bytes:
    return tag(99, START_GROUP) * levels + tag(99, END_GROUP) * levels


def test_C064_unknown_groups_nest_100_levels_deep() -> None:
    assert stored("traces", span_with(groups(100))).appended.accepted == 1
    refused("traces", span_with(groups(101)))
    refused("traces", span_with(groups(100_000)))


def test_C064_groups_inside_of_values_do_not_lead_deeper() -> None:
    refused("logs", body_of(nested(32).replace(message(1, b"x"), groups(101))))


@pytest.mark.parametrize(
    "field",
    [
        number(1, 5),  # trace_id
        fixed64(5, 5),  # name
        message(7, b"12345678"),  # start
        fixed32(7, 5),
        number(8, 5),  # end
        message(6, b"\x02"),  # kind
        fixed64(9, 5),  # attributes
        number(11, 5),  # events
        group(13),  # links
        fixed32(15, 5),  # status
        number(16, 5),  # flags
    ],
)
def test_C065_a_known_field_of_another_wire_type_is_unknown(field: bytes) -> None:
    assert stored("traces", span_with(field)).rows == stored("traces", span_with()).rows


def test_C066_the_last_of_several_scalars_counts() -> None:
    row = stored(
        "traces",
        span_with(
            message(5, b"first"), number(6, 2), message(5, b"last"), number(6, 3), fixed64(8, 1)
        ),
    ).row

    assert (row["SpanName"], row["SpanKind"], row["Duration"]) == ("last", "Client", 0)


def test_C066_resources_and_scopes_in_pieces_are_one_each() -> None:
    def attribute(key: bytes, value: bytes) -> bytes:
        return message(1, key) + message(2, message(1, value))

    body = message(
        1,
        message(2, message(1, message(1, b"one")), message(2, SPAN), message(1, message(2, b"v1"))),
        message(1, message(1, attribute(b"service.name", b"shop"))),
        message(1, number(2, 3), message(1, attribute(b"a", b"b"))),
    )
    row = stored("traces", body).row

    assert row["ResourceAttributes"] == {"a": "b", "service.name": "shop"}
    assert (row["ServiceName"], row["ResourceDroppedAttrCount"]) == ("shop", 3)
    assert (row["ScopeName"], row["ScopeVersion"]) == ("one", "v1")


def test_C066_a_status_in_pieces_is_one() -> None:
    row = stored("traces", span_with(message(15, number(3, 2)), message(15, message(2, b"no")))).row

    assert (row["StatusCode"], row["StatusMessage"]) == ("Error", "no")


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ([message(1, b"a"), number(3, 7)], "7"),
        ([number(3, 7), message(1, b"a")], "a"),
        ([number(3, 7), message(1, b"")], ""),
        ([message(5, message(1, number(3, 1))), message(5, message(1, number(3, 2)))], "[1,2]"),
        ([message(5, message(1, number(3, 1))), number(2, 1), message(5)], "[]"),
        ([message(6), message(5, message(1)), message(5, message(1))], "[null,null]"),
        ([message(5, message(1)), message(6)], "{}"),
        ([message(7, b"\x00"), number(8, 5)], ""),
        ([number(3, 1), fixed64(3, 2)], "1"),
    ],
)
def test_C066_of_a_oneof_the_last_member_counts(members: list[bytes], text: str) -> None:
    one_piece = stored("logs", body_of(b"".join(members)))
    in_pieces = stored("logs", record_with(*(message(5, member) for member in members)))

    assert one_piece.row["Body"] == text
    assert in_pieces.rows == one_piece.rows


def test_C066_of_two_kinds_of_data_the_last_counts_and_its_pieces_merge() -> None:
    def gauge(value: int) -> bytes:
        return message(5, message(1, fixed64(3, NOW_NS), fixed64(6, value)))

    merged = stored("metrics", request_of(gauge(1) + gauge(2)))
    replaced = stored("metrics", request_of(gauge(1) + message(7, message(1)) + gauge(2)))

    assert [row["ValueInt"] for row in merged.tables["tf_metrics_gauge"]] == [1, 2]
    assert [row["ValueInt"] for row in replaced.rows] == [2]


def test_C063_C067_points_that_do_not_count_are_looked_into_too() -> None:
    def replaced(point: bytes) -> bytes:
        return request_of(message(5, message(1, point)) + message(7, message(1)))

    bad_text = message(7, message(1, b"\xff"))

    assert refused("metrics", replaced(b"\xff"))
    assert stored("metrics", replaced(bad_text)).appended.warnings == {"repaired_utf8": 1}


@pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
def test_C063_items_of_a_resource_that_is_not_taken_are_looked_into_too(signal: str) -> None:
    def not_taken(item: bytes) -> bytes:
        tenant = message(1, b"telemetryflow.tenant.id") + message(2, message(1, b"globex"))
        return request_of(item, resource=message(1, tenant))

    bad = {"traces": b"\xff", "logs": b"\xff", "metrics": message(5, message(1, b"\xff"))}
    good = {"traces": b"", "logs": b"", "metrics": message(5, message(1))}

    assert refused(signal, not_taken(bad[signal]))
    assert stored(signal, not_taken(good[signal])).appended.rejected == {"tenant_contradiction": 1}


def test_C068_packed_and_single_numbers_are_the_same() -> None:
    def row(*fields: bytes) -> object:
        point = message(1, fixed64(3, NOW_NS), *fields)
        return stored("metrics", request_of(message(9, point))).row

    counts, bounds = [1, 2**64 - 1, 3], [bytes(8), b"\x00" * 6 + b"\xf0\x3f"]
    raw = [count.to_bytes(8, "little") for count in counts]
    packed = row(message(6, *raw), message(7, *bounds))
    single = row(
        *(fixed64(6, count) for count in counts),
        *(tag(7, FIXED64) + bound for bound in bounds),
    )
    mixed = row(
        message(6, raw[0]),
        message(7, *bounds),
        message(6),
        fixed64(6, counts[1]),
        message(6, raw[2]),
    )

    assert packed == single == mixed
    assert isinstance(packed, dict)
    assert packed["BucketCounts"] == counts
    assert packed["ExplicitBounds"] == [0.0, 1.0]


def test_C068_packed_numbers_that_end_early_are_refused() -> None:
    refused("metrics", request_of(message(9, message(1, message(6, b"1234567")))))
    refused("metrics", request_of(message(10, message(1, message(8, message(2, b"\x80"))))))


def test_C068_buckets_of_exponential_histograms_are_varints() -> None:
    buckets = message(8, number(1, 3), message(2, varint(1), varint(2**64 - 1)), number(2, 5))
    point = message(1, fixed64(3, NOW_NS), buckets, message(8, message(2, varint(9))))

    row = stored("metrics", request_of(message(10, point))).row

    assert row["PositiveOffset"] == -2
    assert row["PositiveBucketCounts"] == [1, 2**64 - 1, 5, 9]


@pytest.mark.parametrize(("raw", "text"), [(0, "false"), (1, "true"), (2, "true"), (2**63, "true")])
def test_C069_any_number_but_0_is_true(raw: int, text: str) -> None:
    assert stored("logs", body_of(number(2, raw))).row["Body"] == text


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (0, "Unspecified"),
        (5, "Consumer"),
        (6, "Unspecified"),
        (-1, "Unspecified"),
        (2**32 + 1, "Internal"),
    ],
)
def test_C066_enums_have_32_bits(kind: int, name: str) -> None:
    assert stored("traces", span_with(number(6, kind))).row["SpanKind"] == name


def test_C066_counters_have_32_bits() -> None:
    assert stored("traces", span_with(number(10, 2**32 + 7))).row["DroppedAttributesCount"] == 7


def test_C060_an_empty_request_has_no_items() -> None:
    found = stored("traces", b"")

    assert (found.appended.accepted, found.appended.rejected, found.rows) == (0, {}, [])


def test_C060_fields_in_any_order_give_the_same_row() -> None:
    fields = [
        message(1, TRACE_ID),
        message(2, SPAN_ID),
        fixed64(7, NOW_NS),
        message(9, message(2, message(1, b"v")), message(1, b"k")),
        message(15, number(3, 1)),
        message(11, message(2, b"event")),
    ]

    forth, back = request_of(b"".join(fields)), request_of(b"".join(reversed(fields)))

    assert stored("traces", forth).rows == stored("traces", back).rows
