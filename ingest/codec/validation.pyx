"""First pass over a request: it decides everything that can fail, so that the second pass, which
fills columns, neither checks nor rolls back.

Accepts what protobuf's own decoder (upb) accepts: unknown fields and groups are passed over, a
known field with another wire type counts as unknown. The message schema is a table made from the
published descriptors' field numbers: for each message, which fields are messages, texts or packed.
Source: opentelemetry-proto v1.10 and https://protobuf.dev/programming-guides/encoding/.
"""

from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.string cimport memset

from ingest.codec.memory cimport Buffer, Slice, put_bytes, put_u8, put_varint, reserve
from ingest.codec.wire cimport (
    END_GROUP, FIXED32, FIXED64, LENGTH, START_GROUP, VARINT, is_plain_number, is_plain_pair,
    is_plain_text, read_fixed64,
)

from ingest.codec.results import Malformed

# Levels of arrays and key-value lists inside one attribute or log body.
cdef enum:
    VALUE_DEPTH_MAX = 32
    GROUP_DEPTH_MAX = 100
    TYPES = 48
    LIST = 5
    KEY_VALUE_LIST = 6
    PACKED_VARINT = 101
    PACKED_FIXED64 = 102
    STRING_INDEX = 103
    # Requests, with items whose inside is for those that read them.
    ITEMS_ENVELOPE = 34
    POINTS_ENVELOPE = 37

VERDICTS = {
    BAD_TAG: "a field number or wire type that does not exist",
    TRUNCATED: "a field runs past the end of its message",
    BAD_VARINT: "a number of more bytes than a varint has",
    BAD_LENGTH: "a length of 2 GiB or more",
    BAD_GROUP: "a group that does not end, or ends without a beginning",
    TOO_DEEP: "values nested more than 32 levels deep",
}

# The message that rows of each table come from.
ITEM_TYPES = {
    "tf_traces": SPAN,
    "tf_logs": LOG_RECORD,
    "tf_metrics_gauge": NUMBER_POINT,
    "tf_metrics_sum": NUMBER_POINT,
    "tf_metrics_histogram": HISTOGRAM_POINT,
    "tf_metrics_exponential_histogram": EXPONENTIAL_POINT,
    "tf_metrics_summary": SUMMARY_POINT,
}

cdef uint8_t schema[TYPES][FIELDS]


def _fill_schema() -> None:
    """The part of the OTLP schema that matters here, by field number."""
    resource, scope, entity = 8, 9, 10
    messages = {
        EXPORT_TRACES: {1: 11},
        EXPORT_LOGS: {1: 12},
        EXPORT_METRICS: {1: 13},
        ANY_VALUE: {1: TEXT, 5: LIST, 6: KEY_VALUE_LIST, 8: STRING_INDEX},
        LIST: {1: ANY_VALUE},
        KEY_VALUE_LIST: {1: KEY_VALUE},
        KEY_VALUE: {1: TEXT, 2: ANY_VALUE, 3: STRING_INDEX},
        resource: {1: KEY_VALUE, 3: entity},
        scope: {1: TEXT, 2: TEXT, 3: KEY_VALUE},
        entity: {1: TEXT, 2: TEXT, 3: TEXT, 4: TEXT},
        11: {1: resource, 2: 14, 3: TEXT},
        12: {1: resource, 2: 15, 3: TEXT},
        13: {1: resource, 2: 16, 3: TEXT},
        14: {1: scope, 2: SPAN, 3: TEXT},
        15: {1: scope, 2: LOG_RECORD, 3: TEXT},
        16: {1: scope, 2: 19, 3: TEXT},
        # Span, its events, links and status
        SPAN: {3: TEXT, 5: TEXT, 9: KEY_VALUE, 11: 20, 13: 21, 15: 22},
        20: {2: TEXT, 3: KEY_VALUE},
        21: {3: TEXT, 4: KEY_VALUE},
        22: {2: TEXT},
        LOG_RECORD: {3: TEXT, 5: ANY_VALUE, 6: KEY_VALUE, 12: TEXT},
        # Metric and its five kinds of data
        19: {1: TEXT, 2: TEXT, 3: TEXT, 5: 23, 7: 23, 9: 24, 10: 25, 11: 26, 12: KEY_VALUE},
        23: {1: NUMBER_POINT},
        24: {1: HISTOGRAM_POINT},
        25: {1: EXPONENTIAL_POINT},
        26: {1: SUMMARY_POINT},
        NUMBER_POINT: {5: 31, 7: KEY_VALUE},
        HISTOGRAM_POINT: {6: PACKED_FIXED64, 7: PACKED_FIXED64, 8: 31, 9: KEY_VALUE},
        EXPONENTIAL_POINT: {1: KEY_VALUE, 8: 32, 9: 32, 11: 31},
        SUMMARY_POINT: {6: 33, 7: KEY_VALUE},
        31: {7: KEY_VALUE},
        32: {2: PACKED_VARINT},
        # Envelopes: of traces and logs, then of metrics (request … metric, data). Where an item
        # would be told, there is nothing.
        34: {1: 35},
        35: {1: resource, 2: 36, 3: TEXT},
        36: {1: scope, 3: TEXT},
        37: {1: 38},
        38: {1: resource, 2: 39, 3: TEXT},
        39: {1: scope, 2: 40, 3: TEXT},
        40: {1: TEXT, 2: TEXT, 3: TEXT, 5: 41, 7: 41, 9: 41, 10: 41, 11: 41, 12: KEY_VALUE},
        41: {},
    }
    memset(schema, 0, sizeof(schema))
    for message, fields in messages.items():
        for number, kind in fields.items():
            schema[message][number] = kind


_fill_schema()


cdef extern from *:
    int trailing_zeros "__builtin_ctzll"(uint64_t word) noexcept nogil


cdef inline bint is_utf8(const uint8_t* at, const uint8_t* end) noexcept nogil:
    return is_ascii(at, end) or is_wide_utf8(at, end)


cdef bint is_wide_utf8(const uint8_t* at, const uint8_t* end) noexcept nogil:
    cdef uint8_t size
    cdef uint64_t high
    while at < end:
        if end - at >= 8:
            high = read_fixed64(at) & <uint64_t>0x8080808080808080
            if high == 0:
                at += 8
                continue
            at += trailing_zeros(high) >> 3
        size = sequence_bytes(at, end)
        if size == 0:
            return False
        at += size
    return True


cdef inline bint continues(const uint8_t* at, const uint8_t* end) noexcept nogil:
    return at < end and (at[0] & 0xC0) == 0x80


cdef uint8_t sequence_bytes(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """Length of the well-formed UTF-8 sequence at *at*, 0 when there is none (RFC 3629)."""
    cdef uint8_t lead = at[0]
    if lead < 0x80:
        return 1
    if 0xC2 <= lead <= 0xDF:
        return 2 if continues(at + 1, end) else 0
    if 0xE0 <= lead <= 0xEF:
        return 3 if second_fits(at, end) and continues(at + 2, end) else 0
    if 0xF0 <= lead <= 0xF4 and second_fits(at, end) and continues(at + 2, end):
        return 4 if continues(at + 3, end) else 0
    return 0


cdef bint second_fits(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """Whether the second byte of a sequence of three or four is one that its first byte allows."""
    cdef uint8_t lead = at[0]
    if not continues(at + 1, end):
        return False
    if lead == 0xE0:
        return at[1] >= 0xA0
    if lead == 0xED:
        return at[1] <= 0x9F
    if lead == 0xF0:
        return at[1] >= 0x90
    if lead == 0xF4:
        return at[1] <= 0x8F
    return True


cdef size_t ill_formed_bytes(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """Length of the maximal ill-formed part at *at*, which one U+FFFD replaces (Unicode 3.9)."""
    cdef uint8_t lead = at[0]
    if lead < 0xE0 or lead > 0xF4 or not second_fits(at, end):
        return 1
    if lead >= 0xF0 and continues(at + 2, end):
        return 3
    return 2


cdef int read_number(Slice* at, int bytes_max, uint64_t* value) noexcept nogil:
    """A varint of at most *bytes_max* bytes, checked."""
    cdef const uint8_t* p = at.at
    cdef int size = 0
    value[0] = 0
    while p < at.end:
        if size == bytes_max:
            return BAD_VARINT
        value[0] |= (<uint64_t>(p[0] & 0x7F)) << (7 * size)
        size += 1
        if p[0] < 0x80:
            at.at = p + 1
            return VALID
        p += 1
    return BAD_VARINT if size == bytes_max else TRUNCATED


cdef int read_long_length(Slice* at, Slice* text) noexcept nogil:
    """A length of several bytes, or none at all, and what has that length."""
    cdef uint64_t size
    cdef int verdict = read_number(at, TAG_BYTES_MAX, &size)
    if verdict != VALID:
        return verdict
    if size > LENGTH_MAX:
        return BAD_LENGTH
    if size > <uint64_t>(at.end - at.at):
        return TRUNCATED
    text.at = at.at
    at.at += size
    text.end = at.at
    return VALID


cdef inline int pass_scalar(Slice* at, uint32_t type) noexcept nogil:
    cdef uint64_t ignored
    cdef size_t size = 8 if type == FIXED64 else 4
    if type == VARINT:
        return read_number(at, 10, &ignored)
    if <size_t>(at.end - at.at) < size:
        return TRUNCATED
    at.at += size
    return VALID


cdef int check_packed(Slice packed, uint8_t kind) noexcept nogil:
    cdef uint64_t ignored
    cdef int verdict
    if kind == PACKED_FIXED64:
        return VALID if ((packed.end - packed.at) & 7) == 0 else TRUNCATED
    while packed.at < packed.end:
        verdict = read_number(&packed, 10, &ignored)
        if verdict != VALID:
            return verdict
    return VALID


cdef int check_length_field(
    uint8_t kind, Slice text, int depth, Findings* findings
) noexcept nogil:
    cdef Slice key
    cdef Slice value
    cdef Slice inner
    if kind == TEXT:
        if not is_utf8(text.at, text.end):
            findings.bad_texts += 1
        return VALID
    if kind == KEY_VALUE and is_plain_pair(text, &key, &value):
        if is_plain_text(value, &inner):
            # Tags and lengths of a plain pair are ASCII too, so key and value are one check.
            if not is_ascii(text.at, text.end):
                findings.bad_texts += not is_utf8(key.at, key.end)
                findings.bad_texts += not is_utf8(inner.at, inner.end)
            return VALID
        if not is_utf8(key.at, key.end):
            findings.bad_texts += 1
        if is_plain_number(value):
            return VALID
        return check_message(value, ANY_VALUE, depth, findings)
    if kind == 0 or kind == STRING_INDEX:
        return VALID
    if kind == PACKED_VARINT or kind == PACKED_FIXED64:
        return check_packed(text, kind)
    return check_message(text, kind, depth, findings)


cdef int pass_group(Slice* at, uint32_t number, int depth) noexcept nogil:
    """Passes over an unknown group, from behind its start to behind its end."""
    cdef uint32_t[GROUP_DEPTH_MAX] open_groups
    cdef int levels = 1
    cdef uint32_t type
    cdef int verdict
    cdef Slice ignored
    open_groups[0] = number
    while levels:
        if at.at == at.end:
            return BAD_GROUP
        verdict = read_tag(at, &number, &type)
        if verdict != VALID:
            return verdict
        if type == START_GROUP:
            if levels + depth >= GROUP_DEPTH_MAX:
                return TOO_DEEP
            open_groups[levels] = number
            levels += 1
        elif type == END_GROUP:
            levels -= 1
            if open_groups[levels] != number:
                return BAD_GROUP
        elif type == LENGTH:
            verdict = read_length(at, &ignored)
        elif type > FIXED32:
            verdict = BAD_TAG
        else:
            verdict = pass_scalar(at, type)
        if verdict != VALID:
            return verdict
    return VALID


cdef int check_message(Slice message, uint8_t type, int depth, Findings* findings) noexcept nogil:
    """*depth* counts the lists and key-value lists around *message*; every way in carries it."""
    cdef uint32_t number
    cdef uint32_t wire_type
    cdef uint8_t kind
    cdef int verdict = VALID
    cdef Slice text
    if type == LIST or type == KEY_VALUE_LIST:
        depth += 1
        if depth > VALUE_DEPTH_MAX:
            findings.at = message.at
            return TOO_DEEP
    while message.at < message.end:
        findings.at = message.at
        verdict = read_tag(&message, &number, &wire_type)
        if verdict != VALID:
            return verdict
        kind = schema[type][number] if number < FIELDS else 0
        if wire_type == LENGTH:
            verdict = read_length(&message, &text)
            if verdict == VALID:
                verdict = check_length_field(kind, text, depth, findings)
        elif wire_type == START_GROUP:
            verdict = pass_group(&message, number, depth)
        elif wire_type == END_GROUP:
            verdict = BAD_GROUP
        elif wire_type > FIXED32:
            verdict = BAD_TAG
        else:
            verdict = pass_scalar(&message, wire_type)
            if kind == STRING_INDEX and wire_type == VARINT:
                findings.string_indices += 1
        if verdict != VALID:
            return verdict
    return VALID


cdef Findings validate(Slice body, MessageType type) noexcept nogil:
    """Whether *body* is one message of *type*, and what of it needs repair."""
    return validated(body, <uint8_t>type)


cdef Findings validate_envelope(Slice body, MessageType type) noexcept nogil:
    """The same of all but the inside of items: spans, log records, data points."""
    return validated(body, POINTS_ENVELOPE if type == EXPORT_METRICS else ITEMS_ENVELOPE)


cdef Findings validated(Slice body, uint8_t type) noexcept nogil:
    cdef Findings findings
    findings.at = body.at
    findings.bad_texts = 0
    findings.string_indices = 0
    findings.verdict = <Verdict>check_message(body, type, 0, &findings)
    return findings


cdef const uint8_t* kinds_of(uint8_t type) noexcept nogil:
    """What each known field of a message type is, by field number."""
    return schema[type]


cdef object malformed(Findings* findings, const uint8_t* body):
    """What is raised for a *body* that is not valid."""
    reason = VERDICTS[findings.verdict]
    offset = findings.at - body
    return Malformed(f"the body is not an OTLP request in protobuf: {reason} (byte {offset})")


cdef void put_repaired_text(Slice text, Buffer* out) noexcept nogil:
    cdef uint8_t size
    while text.at < text.end:
        size = sequence_bytes(text.at, text.end)
        if size:
            put_bytes(out, text.at, size)
            text.at += size
        else:
            put_bytes(out, b"\xef\xbf\xbd", 3)
            text.at += ill_formed_bytes(text.at, text.end)


cdef void repair_message(Slice message, uint8_t type, Buffer* out) noexcept nogil:
    """Copies *message*, with its texts repaired; unknown groups are left out."""
    cdef uint32_t number
    cdef uint32_t wire_type
    cdef uint8_t kind
    cdef Slice text
    cdef const uint8_t* start
    cdef size_t head
    while message.at < message.end:
        start = message.at
        read_tag(&message, &number, &wire_type)
        kind = schema[type][number] if number < FIELDS else 0
        if wire_type == LENGTH:
            read_length(&message, &text)
            if kind == 0 or kind >= PACKED_VARINT:
                put_bytes(out, start, message.at - start)
                continue
            # The length is not known yet: five bytes hold any, as a padded varint.
            put_varint(out, (<uint64_t>number << 3) | wire_type)
            reserve(out, 5)
            out.used += 5
            head = out.used
            if kind == TEXT:
                put_repaired_text(text, out)
            else:
                repair_message(text, kind, out)
            fill_length(out.data + head - 5, out.used - head)
        elif wire_type == START_GROUP:
            pass_group(&message, number, 0)
        else:
            pass_scalar(&message, wire_type)
            put_bytes(out, start, message.at - start)


cdef inline void fill_length(uint8_t* at, size_t size) noexcept nogil:
    cdef int position
    for position in range(4):
        at[position] = <uint8_t>((size >> (7 * position)) & 0x7F) | 0x80
    at[4] = <uint8_t>(size >> 28)


cdef void repair(Slice body, MessageType type, Buffer* out) noexcept nogil:
    """A copy of a valid *body* in which every text is UTF-8 (U+FFFD for what is not)."""
    out.used = 0
    repair_message(body, <uint8_t>type, out)
