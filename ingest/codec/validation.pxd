"""First pass over a request: is it OTLP protobuf, and is its text UTF-8?"""

from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy

from ingest.codec.memory cimport Buffer, Slice
from ingest.codec.wire cimport (
    END_GROUP, FIXED32, FIXED64, LENGTH, START_GROUP, VARINT, Field, read_fixed64,
)

cdef enum MessageType:
    NO_MESSAGE = 0
    EXPORT_TRACES = 1
    EXPORT_LOGS = 2
    EXPORT_METRICS = 3


# Messages whose inside is checked by those that read them, and the kinds of their fields.
cdef enum:
    SPAN = 17
    LOG_RECORD = 18
    NUMBER_POINT = 27
    HISTOGRAM_POINT = 28
    EXPONENTIAL_POINT = 29
    SUMMARY_POINT = 30
    ANY_VALUE = 4
    KEY_VALUE = 7
    TEXT = 100
    FIELDS = 17  # the highest known field number is 16
    TAG_BYTES_MAX = 5
    LENGTH_MAX = 0x7FFFFFFF


cdef enum Verdict:
    VALID = 0
    BAD_TAG = 1
    TRUNCATED = 2
    BAD_VARINT = 3
    BAD_LENGTH = 4
    BAD_GROUP = 5
    TOO_DEEP = 6


cdef struct Findings:
    Verdict verdict
    const uint8_t* at  # where the verdict fell, when not VALID
    uint32_t bad_texts  # string fields that are not UTF-8
    uint32_t string_indices  # key_strindex and string_value_strindex fields


cdef Findings validate(Slice body, MessageType type) noexcept nogil
cdef Findings validate_envelope(Slice body, MessageType type) noexcept nogil
cdef const uint8_t* kinds_of(uint8_t type) noexcept nogil
cdef int check_message(Slice message, uint8_t type, int depth, Findings* findings) noexcept nogil
cdef int check_length_field(
    uint8_t kind, Slice text, int depth, Findings* findings
) noexcept nogil
cdef int pass_group(Slice* at, uint32_t number, int depth) noexcept nogil
cdef bint is_wide_utf8(const uint8_t* at, const uint8_t* end) noexcept nogil
cdef int read_long_length(Slice* at, Slice* text) noexcept nogil
cdef int read_number(Slice* at, int bytes_max, uint64_t* value) noexcept nogil
cdef object malformed(Findings* findings, const uint8_t* body)
cdef void repair(Slice body, MessageType type, Buffer* out) noexcept nogil


cdef extern from *:
    """
    /* At least 16 bytes, 16 a step; the last step overlaps the one before. */
    static inline int telemetryflow_is_long_ascii(const uint8_t* at, size_t size) {
        typedef uint64_t Pair __attribute__((vector_size(16), aligned(1), may_alias));
        Pair bits = *(const Pair*)(at + size - 16);
        for (; size > 16; at += 16, size -= 16) bits |= *(const Pair*)at;
        return ((bits[0] | bits[1]) & 0x8080808080808080) == 0;
    }
    """
    bint is_long_ascii "telemetryflow_is_long_ascii"(const uint8_t* at, size_t size) noexcept nogil


cdef inline bint is_ascii(const uint8_t* at, const uint8_t* end) noexcept nogil:
    cdef size_t size = end - at
    cdef uint64_t word = 0
    cdef uint64_t last = 0
    cdef uint32_t half
    if size >= 16:
        return is_long_ascii(at, size)
    if size >= 8:
        word = read_fixed64(at)
        last = read_fixed64(end - 8)
    elif size >= 4:
        memcpy(&half, at, 4)
        word = half
        memcpy(&half, end - 4, 4)
        last = half
    else:
        while at < end:
            word |= at[0]
            at += 1
    return ((word | last) & <uint64_t>0x8080808080808080) == 0


cdef inline int read_length(Slice* at, Slice* text) noexcept nogil:
    cdef uint64_t size
    cdef Slice rest
    cdef int verdict
    if at.at < at.end and at.at[0] < 0x80:
        size = at.at[0]
        at.at += 1
    else:
        # A copy, since what a call may change is not kept in registers.
        rest = at[0]
        verdict = read_long_length(&rest, text)
        at.at = rest.at
        return verdict
    if size > <uint64_t>(at.end - at.at):
        return TRUNCATED
    text.at = at.at
    at.at += size
    text.end = at.at
    return VALID


cdef inline int read_tag(Slice* at, uint32_t* number, uint32_t* type) noexcept nogil:
    cdef Slice rest
    cdef uint64_t tag
    cdef int verdict
    if at.at < at.end and at.at[0] >= 8 and at.at[0] < 0x80:
        number[0] = at.at[0] >> 3
        type[0] = at.at[0] & 7
        at.at += 1
        return VALID
    rest = at[0]
    verdict = read_number(&rest, TAG_BYTES_MAX, &tag)
    at.at = rest.at
    number[0] = <uint32_t>(tag >> 3)
    type[0] = tag & 7
    if verdict == VALID and ((tag >> 32) != 0 or tag < 8):
        return BAD_TAG
    return verdict


cdef inline bint is_spotless(Findings* findings) noexcept nogil:
    return findings.verdict == VALID and (findings.bad_texts | findings.string_indices) == 0


cdef inline int next_checked_field(Slice* message, Field* field) noexcept nogil:
    """Moves to the next field of *message*, which has one, and checks that it lies within. A group,
    which is passed over, comes as field 0."""
    cdef Slice rest
    cdef uint64_t scalar
    cdef uint32_t word
    cdef int verdict = read_tag(message, &field.number, &field.type)
    if verdict != VALID:
        return verdict
    if field.type == LENGTH:
        return read_length(message, &field.text)
    if field.type == FIXED64:
        if message.end - message.at < 8:
            return TRUNCATED
        field.scalar = read_fixed64(message.at)
        message.at += 8
        return VALID
    if field.type == VARINT:
        if message.at < message.end and message.at[0] < 0x80:
            field.scalar = message.at[0]
            message.at += 1
            return VALID
        rest = message[0]
        verdict = read_number(&rest, 10, &scalar)
        message.at = rest.at
        field.scalar = scalar
        return verdict
    if field.type == FIXED32:
        if message.end - message.at < 4:
            return TRUNCATED
        memcpy(&word, message.at, 4)
        field.scalar = word
        message.at += 4
        return VALID
    if field.type == START_GROUP:
        rest = message[0]
        verdict = pass_group(&rest, field.number, 0)
        message.at = rest.at
        field.number = 0
        return verdict
    return BAD_GROUP if field.type == END_GROUP else BAD_TAG


cdef inline int check_field(
    const uint8_t* kinds, Field* field, Findings* findings
) noexcept nogil:
    """The inside of a LENGTH field of an item whose fields are of these *kinds*."""
    if field.number >= FIELDS or kinds[field.number] == 0:
        return VALID
    if kinds[field.number] == TEXT and is_ascii(field.text.at, field.text.end):
        return VALID
    return check_length_field(kinds[field.number], field.text, 0, findings)
