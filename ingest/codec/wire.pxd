"""The protobuf wire format, for bodies that `validation` has accepted: nothing is checked here.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from ingest.codec.memory cimport Arena, Slice, take

cdef enum:
    VARINT = 0
    FIXED64 = 1
    LENGTH = 2
    START_GROUP = 3
    END_GROUP = 4
    FIXED32 = 5


# One field: `number`, `type`, and its value: `text` of a LENGTH field, else `scalar`.
cdef struct Field:
    uint32_t number
    uint32_t type
    uint64_t scalar
    Slice text


cdef inline uint64_t read_varint(const uint8_t** at) noexcept nogil:
    cdef const uint8_t* p = at[0]
    cdef uint64_t value = p[0]
    cdef int shift
    if value < 0x80:
        at[0] = p + 1
        return value
    value &= 0x7F
    shift = 7
    while True:
        p += 1
        value |= (<uint64_t>(p[0] & 0x7F)) << shift
        if p[0] < 0x80:
            break
        shift += 7
    at[0] = p + 1
    return value


cdef inline uint64_t read_fixed64(const uint8_t* at) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, at, 8)
    return value


cdef inline bint next_field(Slice* message, Field* field) noexcept nogil:
    """Moves to the next field of *message*; False at its end. Groups are passed over."""
    cdef uint64_t tag
    cdef uint32_t word
    cdef int depth = 0
    while message.at < message.end:
        tag = read_varint(&message.at)
        field.number = <uint32_t>(tag >> 3)
        field.type = <uint32_t>(tag & 7)
        if field.type == LENGTH:
            tag = read_varint(&message.at)
            field.text.at = message.at
            message.at += tag
            field.text.end = message.at
        elif field.type == VARINT:
            field.scalar = read_varint(&message.at)
        elif field.type == FIXED64:
            field.scalar = read_fixed64(message.at)
            message.at += 8
        elif field.type == FIXED32:
            memcpy(&word, message.at, 4)
            field.scalar = word
            message.at += 4
        elif field.type == START_GROUP:
            depth += 1
            continue
        else:
            depth -= 1
            continue
        if depth == 0:
            return True
    return False


cdef inline Slice merged(Slice first, Slice second, Arena* arena) noexcept nogil:
    """Two occurrences of one message field: the merge is the parse of both, one after the other."""
    cdef Slice whole
    cdef size_t head = first.end - first.at
    cdef size_t tail = second.end - second.at
    if head == 0:
        return second
    if tail == 0:
        return first
    whole.at = take(arena, head + tail)
    whole.end = whole.at + head + tail
    memcpy(<void*>whole.at, first.at, head)
    memcpy(<void*>(whole.at + head), second.at, tail)
    return whole
