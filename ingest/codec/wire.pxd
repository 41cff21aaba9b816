"""The protobuf wire format, for bodies that `validation` has accepted: nothing is checked here.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
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


cdef inline bint is_head(const uint8_t* at, uint8_t tag, size_t size) noexcept nogil:
    """Whether a field begins with this tag and a length under 128 of one byte, both at once."""
    cdef uint16_t head
    memcpy(&head, at, 2)
    return head == (tag | size << 8)


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


cdef inline bint is_plain_pair(Slice message, Slice* key, Slice* value) noexcept nogil:
    """Whether a KeyValue is just key and value, both under 128 bytes, as encoders write them."""
    cdef size_t size = message.end - message.at
    cdef size_t key_size
    if size < 4 or message.at[0] != 0x0A or message.at[1] >= 0x80:
        return False
    key_size = message.at[1]
    if size < key_size + 4 or message.at[2 + key_size] != 0x12:
        return False
    if message.at[3 + key_size] >= 0x80 or size != 4 + key_size + message.at[3 + key_size]:
        return False
    key.at = message.at + 2
    key.end = key.at + key_size
    value.at = key.end + 2
    value.end = message.end
    return True


cdef inline bint is_plain_text(Slice value, Slice* text) noexcept nogil:
    """Whether an AnyValue is just a string under 128 bytes."""
    cdef size_t size = value.end - value.at
    if size < 2 or size >= 0x82 or value.at[0] != 0x0A or value.at[1] != size - 2:
        return False
    text.at = value.at + 2
    text.end = value.end
    return True


cdef inline bint is_plain_number(Slice value) noexcept nogil:
    """Whether an AnyValue is just a double, or a bool or integer from 0 to 16383."""
    cdef size_t size = value.end - value.at
    if size == 2 or size == 3:
        if value.at[0] != 0x10 and value.at[0] != 0x18:
            return False
        return value.end[-1] < 0x80 and (size == 2 or value.at[1] >= 0x80)
    return size == 9 and value.at[0] == 0x21


cdef inline uint64_t plain_number(Slice value) noexcept nogil:
    """The scalar of what `is_plain_number` accepts."""
    if value.at[0] == 0x21:
        return read_fixed64(value.at + 1)
    value.at += 1
    return read_varint(&value.at)


# Occurrences of one message field, which merge: the merge is the parse of all, one after another.
cdef struct Parts:
    Slice first
    const uint8_t* since  # the first occurrence's tag
    uint32_t count
    size_t size


cdef inline void add_part(Parts* parts, Slice text, const uint8_t* tag) noexcept nogil:
    if parts.count == 0:
        parts.first = text
        parts.since = tag
        parts.size = 0
    parts.count += 1
    parts.size += text.end - text.at


cdef inline Slice joined(Parts* parts, uint32_t number, Slice message, Arena* arena) noexcept nogil:
    """All parts as one message; *message* is the one that they stand in, *number* their field."""
    cdef Slice whole
    cdef Field field
    cdef uint8_t* at
    if parts.count == 1:
        return parts.first
    whole.at = message.end
    whole.end = message.end
    if parts.count == 0 or parts.size == 0:
        return whole
    at = take(arena, parts.size)
    whole.at = at
    message.at = parts.since
    while next_field(&message, &field):
        if field.number == number and field.type == LENGTH:
            memcpy(at, field.text.at, field.text.end - field.text.at)
            at += field.text.end - field.text.at
    whole.end = at
    return whole
