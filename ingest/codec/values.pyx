"""OTLP attribute values as text, as the OpenTelemetry ClickHouse exporter writes them.

Source: `pcommon.Value.AsString` of the OpenTelemetry Collector: scalars in their shortest form,
bytes as base64, arrays and key-value lists as the JSON that Go's encoding/json makes of them.
"""

from libc.math cimport isinf, isnan
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from ingest.codec.memory cimport Arena, Buffer, Slice, put_bytes, put_u8, reserve, take
from ingest.codec.wire cimport (
    FIXED64, LENGTH, VARINT, Field, Parts, add_part, is_plain_pair, is_plain_text, joined,
    next_field,
)

cdef extern from *:
    """
    #include <charconv>
    // Shortest digits that read back as the same double: "d.ddde+XX", not terminated.
    static inline size_t telemetryflow_shortest(double value, char* at, size_t room) {
        return std::to_chars(at, at + room, value, std::chars_format::scientific).ptr - at;
    }
    """
    size_t shortest "telemetryflow_shortest"(double value, char* at, size_t room) noexcept nogil

cdef enum:
    DECIMALS_MAX = 4
    DIGITS_MAX = 20  # of 64 bits

cdef const char* HEX_DIGITS = b"0123456789abcdef"
cdef const char* BASE64_DIGITS = (
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
)


cdef Value read_value(Slice message, Arena* arena) noexcept nogil:
    """The member that was set last; an embedded one that is set again merges (oneof rules)."""
    cdef Value value
    cdef Field field
    cdef Parts parts
    cdef Slice rest = message
    cdef const uint8_t* tag
    value.scalar = 0
    if is_plain_text(message, &value.text):
        value.member = STRING_VALUE
        return value
    value.member = UNSET
    value.text.at = message.end
    value.text.end = message.end
    parts.count = 0
    while True:
        tag = rest.at
        if not next_field(&rest, &field):
            break
        if field.type == LENGTH:
            if field.number == ARRAY_VALUE or field.number == KEY_VALUE_LIST_VALUE:
                if field.number != value.member:
                    parts.count = 0
                add_part(&parts, field.text, tag)
            elif field.number != STRING_VALUE and field.number != BYTES_VALUE:
                continue
            value.text = field.text
        elif field.type == VARINT:
            if not (field.number in (BOOL_VALUE, INT_VALUE, STRING_INDEX_VALUE)):
                continue
            value.scalar = field.scalar
        elif field.type == FIXED64 and field.number == DOUBLE_VALUE:
            value.scalar = field.scalar
        else:
            continue
        value.member = field.number
    if value.member == ARRAY_VALUE or value.member == KEY_VALUE_LIST_VALUE:
        value.text = joined(&parts, value.member, message, arena)
    return value


cdef KeyValue read_key_value(Slice message, Arena* arena) noexcept nogil:
    cdef KeyValue pair
    cdef Field field
    cdef Parts values
    cdef Slice rest = message
    cdef const uint8_t* tag
    if is_plain_pair(message, &pair.key, &pair.value):
        return pair
    pair.key.at = message.end
    pair.key.end = message.end
    values.count = 0
    while True:
        tag = rest.at
        if not next_field(&rest, &field):
            break
        if field.type != LENGTH:
            continue
        if field.number == 1:
            pair.key = field.text
        elif field.number == 2:
            add_part(&values, field.text, tag)
    pair.value = joined(&values, 2, message, arena)
    return pair


cdef inline size_t digits_of(uint64_t value) noexcept nogil:
    cdef uint64_t power = 10
    cdef size_t size = 1
    while value >= power and size < DIGITS_MAX:
        power *= 10
        size += 1
    return size


cdef inline uint64_t write_digits(uint8_t* at, uint64_t value, size_t size) noexcept nogil:
    """The last *size* digits of *value*; returns what is before them."""
    while size:
        size -= 1
        at[size] = <uint8_t>(48 + value % 10)
        value //= 10
    return value


cdef void put_decimal(uint64_t value, Buffer* out) noexcept nogil:
    cdef size_t size = digits_of(value)
    reserve(out, size)
    write_digits(out.data + out.used, value, size)
    out.used += size


cdef void put_int(int64_t value, Buffer* out) noexcept nogil:
    if value < 0:
        put_u8(out, b"-")
        put_decimal(0 - <uint64_t>value, out)
    else:
        put_decimal(<uint64_t>value, out)


cdef double[DECIMALS_MAX + 1] POWERS_OF_TEN
POWERS_OF_TEN[:] = [1, 10, 100, 1_000, 10_000]


cdef bint put_few_decimals(double value, Buffer* out) noexcept nogil:
    """Numbers as people choose them: at most 15 digits, four of them decimals. False for others.

    Any decimal of 15 digits is told from any other by its double, so the one that reads back as
    *value* with the fewest decimals is the shortest form.
    """
    cdef double magnitude = -value if value < 0 else value
    cdef uint64_t number
    cdef size_t size
    cdef uint8_t* at
    cdef int decimals
    if not (1e-4 <= magnitude < 1e11):
        return False
    for decimals in range(DECIMALS_MAX + 1):
        number = <uint64_t>(magnitude * POWERS_OF_TEN[decimals] + 0.5)
        if <double>number / POWERS_OF_TEN[decimals] == magnitude:
            break
    else:
        return False
    size = max(digits_of(number), <size_t>decimals + 1)
    reserve(out, size + 2)
    at = out.data + out.used
    if value < 0:
        at[0] = b"-"
        at += 1
    if decimals:
        number = write_digits(at + size + 1 - decimals, number, decimals)
        at[size - decimals] = b"."
        size += 1
        write_digits(at, number, size - 1 - decimals)
    else:
        write_digits(at, number, size)
    out.used = at + size - out.data
    return True


cdef void put_double(double value, Buffer* out) noexcept nogil:
    """Go's shortest form: without an exponent between 1e-6 and 1e21."""
    cdef char[40] text
    cdef char[20] digits
    cdef size_t size
    cdef size_t at
    cdef int count = 0
    cdef int exponent = 0
    cdef bint negative_exponent
    if put_few_decimals(value, out):
        return
    if isnan(value):
        put_bytes(out, b"NaN", 3)
        return
    if isinf(value):
        put_bytes(out, b"-Infinity" if value < 0 else b"Infinity", 9 if value < 0 else 8)
        return
    size = shortest(value, text, 40)
    at = 0
    if text[0] == b"-":
        put_u8(out, b"-")
        at = 1
    while text[at] != b"e":
        if text[at] != b".":
            digits[count] = text[at]
            count += 1
        at += 1
    negative_exponent = text[at + 1] == b"-"
    for at in range(at + 2, size):
        exponent = exponent * 10 + (text[at] - 48)
    put_digits(digits, count, -exponent if negative_exponent else exponent, out)


cdef void put_digits(char* digits, int count, int exponent, Buffer* out) noexcept nogil:
    """The number d.ddd × 10^exponent."""
    cdef int position
    if exponent < -6 or exponent >= 21:
        put_u8(out, digits[0])
        if count > 1:
            put_u8(out, b".")
            put_bytes(out, digits + 1, count - 1)
        put_bytes(out, b"e-" if exponent < 0 else b"e+", 2)
        put_decimal(-exponent if exponent < 0 else exponent, out)
        return
    if exponent < 0:
        put_bytes(out, b"0.00000", 1 - exponent)
        put_bytes(out, digits, count)
        return
    for position in range(exponent + 1):
        put_u8(out, digits[position] if position < count else b"0")
    if count > exponent + 1:
        put_u8(out, b".")
        put_bytes(out, digits + exponent + 1, count - exponent - 1)


cdef void put_base64(Slice raw, Buffer* out) noexcept nogil:
    """Standard alphabet, padded (RFC 4648)."""
    cdef uint32_t group
    cdef size_t left = raw.end - raw.at
    reserve(out, 4 * (left // 3 + 1))
    while left:
        group = <uint32_t>raw.at[0] << 16
        if left > 1:
            group |= <uint32_t>raw.at[1] << 8
        if left > 2:
            group |= raw.at[2]
        put_u8(out, BASE64_DIGITS[group >> 18])
        put_u8(out, BASE64_DIGITS[(group >> 12) & 63])
        put_u8(out, BASE64_DIGITS[(group >> 6) & 63] if left > 1 else b"=")
        put_u8(out, BASE64_DIGITS[group & 63] if left > 2 else b"=")
        raw.at += 3 if left > 2 else left
        left -= 3 if left > 2 else left


cdef void put_hex(Slice raw, Buffer* out) noexcept nogil:
    """Lower-case hex."""
    cdef size_t size = 2 * (raw.end - raw.at)
    cdef uint8_t* at
    reserve(out, size)
    at = out.data + out.used
    out.used += size
    while raw.at < raw.end:
        at[0] = HEX_DIGITS[raw.at[0] >> 4]
        at[1] = HEX_DIGITS[raw.at[0] & 15]
        at += 2
        raw.at += 1


cdef void put_value(Value value, Buffer* out, Arena* arena) noexcept nogil:
    """The value's text, without a length before it."""
    cdef double number
    if value.member == STRING_VALUE:
        put_bytes(out, value.text.at, value.text.end - value.text.at)
    elif value.member == BOOL_VALUE:
        put_bool(value.scalar != 0, out)
    elif value.member == INT_VALUE:
        put_int(<int64_t>value.scalar, out)
    elif value.member == DOUBLE_VALUE:
        memcpy(&number, &value.scalar, 8)
        put_double(number, out)
    elif value.member == BYTES_VALUE:
        put_base64(value.text, out)
    elif value.member == ARRAY_VALUE:
        put_json_array(value.text, out, arena)
    elif value.member == KEY_VALUE_LIST_VALUE:
        put_json_object(value.text, out, arena)


cdef void put_json(Slice message, Buffer* out, Arena* arena) noexcept nogil:
    """An AnyValue inside of a list."""
    cdef Value value = read_value(message, arena)
    cdef double number
    cdef bint quoted = value.member == BYTES_VALUE
    if value.member == UNSET:
        put_bytes(out, b"null", 4)
        return
    if value.member == STRING_VALUE or value.member == STRING_INDEX_VALUE:
        put_json_text(value.text if value.member == STRING_VALUE else no_text(), out)
        return
    if value.member == DOUBLE_VALUE:
        memcpy(&number, &value.scalar, 8)
        quoted = isnan(number) or isinf(number)
    if quoted:
        put_u8(out, b'"')
    put_value(value, out, arena)
    if quoted:
        put_u8(out, b'"')


cdef inline Slice no_text() noexcept nogil:
    cdef Slice text
    text.at = NULL
    text.end = NULL
    return text


# Bytes that stand for themselves in JSON, whatever follows them.
cdef bint[256] JSON_PLAIN
_SPECIAL = b'"\\<>&\xe2' + bytes(range(0x20))
cdef int _octet
for _octet in range(256):
    JSON_PLAIN[_octet] = _octet not in _SPECIAL


cdef void put_json_text(Slice text, Buffer* out) noexcept nogil:
    """A JSON string with the escapes of Go's encoding/json, which also spares HTML."""
    cdef const uint8_t* plain = text.at
    cdef uint8_t octet
    put_u8(out, b'"')
    while text.at < text.end:
        octet = text.at[0]
        if JSON_PLAIN[octet]:
            text.at += 1
        elif octet == 0xE2 and text.end - text.at >= 3 and text.at[1] == 0x80 and (
            text.at[2] & 0xFE
        ) == 0xA8:
            put_bytes(out, plain, text.at - plain)
            put_bytes(out, b"\\u2028" if text.at[2] == 0xA8 else b"\\u2029", 6)
            text.at += 3
            plain = text.at
        elif octet < 0x20 or octet in (b'"', b"\\", b"<", b">", b"&"):
            put_bytes(out, plain, text.at - plain)
            put_escape(octet, out)
            text.at += 1
            plain = text.at
        else:
            text.at += 1
    put_bytes(out, plain, text.at - plain)
    put_u8(out, b'"')


cdef void put_escape(uint8_t octet, Buffer* out) noexcept nogil:
    put_u8(out, b"\\")
    if octet == b'"' or octet == b"\\":
        put_u8(out, octet)
    elif octet == 8:
        put_u8(out, b"b")
    elif octet == 9:
        put_u8(out, b"t")
    elif octet == 10:
        put_u8(out, b"n")
    elif octet == 12:
        put_u8(out, b"f")
    elif octet == 13:
        put_u8(out, b"r")
    else:
        put_bytes(out, b"u00", 3)
        put_u8(out, HEX_DIGITS[octet >> 4])
        put_u8(out, HEX_DIGITS[octet & 15])


cdef void put_json_array(Slice message, Buffer* out, Arena* arena) noexcept nogil:
    cdef Field field
    cdef bint first = True
    put_u8(out, b"[")
    while next_field(&message, &field):
        if field.number == 1 and field.type == LENGTH:
            if not first:
                put_u8(out, b",")
            first = False
            put_json(field.text, out, arena)
    put_u8(out, b"]")


cdef void put_json_object(Slice message, Buffer* out, Arena* arena) noexcept nogil:
    """Keys sorted by their bytes; of equal keys the last one counts."""
    cdef Slice rest = message
    cdef Field field
    cdef KeyValue pair
    cdef uint32_t count = 0
    cdef uint32_t position
    cdef Slice* keys
    cdef Slice* values
    cdef uint32_t* order
    cdef bint first = True
    while next_field(&rest, &field):
        count += field.number == 1 and field.type == LENGTH
    keys = <Slice*>take(arena, count * sizeof(Slice))
    values = <Slice*>take(arena, count * sizeof(Slice))
    order = <uint32_t*>take(arena, <size_t>count * 8)
    count = 0
    while next_field(&message, &field):
        if field.number == 1 and field.type == LENGTH:
            pair = read_key_value(field.text, arena)
            keys[count] = pair.key
            values[count] = pair.value
            count += 1
    sort_keys(keys, order, order + count, count)
    put_u8(out, b"{")
    for position in range(count):
        if position + 1 < count and compare(keys[order[position]], keys[order[position + 1]]) == 0:
            continue
        if not first:
            put_u8(out, b",")
        first = False
        put_json_text(keys[order[position]], out)
        put_u8(out, b":")
        put_json(values[order[position]], out, arena)
    put_u8(out, b"}")


cdef int compare(Slice left, Slice right) noexcept nogil:
    cdef size_t left_size = left.end - left.at
    cdef size_t right_size = right.end - right.at
    cdef size_t common = left_size if left_size < right_size else right_size
    cdef int order = memcmp(left.at, right.at, common) if common else 0
    if order == 0 and left_size != right_size:
        return -1 if left_size < right_size else 1
    return order


cdef void sort_keys(Slice* keys, uint32_t* order, uint32_t* spare, uint32_t count) noexcept nogil:
    """Fills *order* with the positions of *keys*, sorted by bytes and stable: a merge sort, since
    a client chooses the keys. *spare* holds as many numbers as *order*."""
    cdef uint32_t position
    cdef uint32_t width = 1
    for position in range(count):
        order[position] = position
    while width < count:
        position = 0
        while position < count:
            merge_runs(keys, order, spare, position, width, count)
            position += 2 * width
        memcpy(order, spare, <size_t>count * 4)
        width *= 2


cdef void merge_runs(
    Slice* keys, uint32_t* order, uint32_t* out, uint32_t start, uint32_t width, uint32_t count
) noexcept nogil:
    cdef uint32_t middle = min(start + width, count)
    cdef uint32_t end = min(start + 2 * width, count)
    cdef uint32_t left = start
    cdef uint32_t right = middle
    cdef uint32_t position
    for position in range(start, end):
        if right >= end or (left < middle and compare(keys[order[left]], keys[order[right]]) <= 0):
            out[position] = order[left]
            left += 1
        else:
            out[position] = order[right]
            right += 1
