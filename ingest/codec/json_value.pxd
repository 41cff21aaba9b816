"""What the JSON mapper holds while it works, and how it maps each value that holds no other."""

from libc.math cimport INFINITY, NAN
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memmove

from ingest.codec.json_binary cimport base64_size, decode_base64, decode_hex, trim_base64
from ingest.codec.json_buffer cimport Output, VARINT_BYTES_MAX, put_fixed, put_varint, reserve
from ingest.codec.json_number cimport EXACT, Number, scan_number, to_double, to_integer
from ingest.codec.json_text cimport (
    DEPTH_MAX, EXPECTED_BASE64, EXPECTED_BOOL, EXPECTED_INTEGER, EXPECTED_NUMBER, Error, PARKING_GAP,
    Text, View, fail, read_string, skip_word,
)

cdef enum:
    FIELDS_MAX = 16

# Protobuf wire types.
cdef enum:
    VARINT = 0
    FIXED_8_BYTES = 1
    LENGTH_DELIMITED = 2
    FIXED_4_BYTES = 5

cdef enum Kind:
    MESSAGE
    STRING
    ID
    BASE64
    BOOL
    ENUM
    INT32
    UINT32
    SINT32
    INT64
    UINT64
    FIXED32
    FIXED64
    SFIXED64
    DOUBLE

cdef struct Field:
    const char* name
    size_t length
    uint32_t number
    uint32_t wire_type  # of one value, packed or not
    Kind kind
    int message
    bint repeated
    bint null_is_empty  # whether an element may be null and then is an empty message

cdef struct Message:
    int count
    Field fields[FIELDS_MAX]

# One object that is open: which field is being read, and where the fields read so far were written.
cdef struct Frame:
    int message
    int field
    Py_ssize_t index
    uint32_t seen
    size_t start[FIELDS_MAX]
    size_t stop[FIELDS_MAX]

cdef struct Parser:
    Text text
    Output out
    int frames
    Frame path[DEPTH_MAX]


cdef inline void put_tag(Output* out, uint32_t number, uint32_t wire_type) noexcept nogil:
    put_varint(out, number << 3 | wire_type)


# --- Scalars: each reads one value and writes it without its tag --------------------------------


cdef inline bint read_number(Parser* parser, Number* number, Error error) noexcept nogil:
    """Reads a number or a string that is nothing but a number."""
    cdef Text* text = &parser.text
    cdef const unsigned char* start = text.at
    cdef View view
    if text.at[0] != c'"':
        if not scan_number(text.at, text.end, number):
            return fail(text, error)
        text.at = number.end
        return True
    if not read_string(text, &parser.out, &view):
        return False
    if scan_number(view.at, view.at + view.length, number):
        if number.end == view.at + view.length:
            return True
    text.at = start
    return fail(text, error)


cdef inline bint fits_integer(Kind kind, bint negative, uint64_t size) noexcept nogil:
    """Whether plus or minus *size* is a value of the type."""
    if kind == UINT32 or kind == FIXED32:
        return size <= <uint64_t>(0 if negative else 0xFFFFFFFF)
    if kind == UINT64 or kind == FIXED64:
        return not negative or size == 0
    if kind == INT64 or kind == SFIXED64:
        return size <= <uint64_t>0x7FFFFFFFFFFFFFFF + negative
    return size <= <uint64_t>0x7FFFFFFF + negative


cdef inline bint map_integer(Parser* parser, Kind kind) noexcept nogil:
    cdef const unsigned char* start = parser.text.at
    cdef Number number
    cdef uint64_t bits
    if kind == ENUM and start[0] == c'"':
        return fail(&parser.text, EXPECTED_INTEGER)
    if not read_number(parser, &number, EXPECTED_INTEGER):
        return False
    if to_integer(&number, &bits) != EXACT or not fits_integer(kind, number.negative, bits):
        parser.text.at = start
        return fail(&parser.text, EXPECTED_INTEGER)
    if number.negative:
        bits = <uint64_t>0 - bits
    if not reserve(&parser.out, VARINT_BYTES_MAX):
        return False
    if kind == FIXED32:
        put_fixed(&parser.out, bits, 4)
    elif kind == FIXED64 or kind == SFIXED64:
        put_fixed(&parser.out, bits, 8)
    elif kind == SINT32:
        put_varint(&parser.out, <uint32_t>(bits << 1 ^ (<uint64_t>0 - (bits >> 63))))
    else:
        put_varint(&parser.out, bits)
    return True


cdef inline bint read_special(Text* text, double* value) noexcept nogil:
    """Reads one of the three strings that stand for doubles which JSON cannot write."""
    if skip_word(text, b'"NaN"'):
        value[0] = NAN
    elif skip_word(text, b'"Infinity"'):
        value[0] = INFINITY
    elif skip_word(text, b'"-Infinity"'):
        value[0] = -INFINITY
    else:
        return False
    return True


cdef inline bint map_double(Parser* parser) noexcept nogil:
    cdef const unsigned char* start = parser.text.at
    cdef Number number
    cdef double value
    cdef uint64_t bits
    if not read_special(&parser.text, &value):
        if not read_number(parser, &number, EXPECTED_NUMBER):
            return False
        if not to_double(&number, &value):
            parser.text.at = start
            return fail(&parser.text, EXPECTED_NUMBER)
    if not reserve(&parser.out, sizeof(double)):
        return False
    memcpy(&bits, &value, sizeof(double))
    put_fixed(&parser.out, bits, sizeof(double))
    return True


cdef inline bint map_bool(Parser* parser) noexcept nogil:
    cdef bint value = skip_word(&parser.text, b"true")
    if not value and not skip_word(&parser.text, b"false"):
        return fail(&parser.text, EXPECTED_BOOL)
    if not reserve(&parser.out, VARINT_BYTES_MAX):
        return False
    put_varint(&parser.out, value)
    return True


cdef inline bint map_scalar(Parser* parser, Kind kind) noexcept nogil:
    if kind == DOUBLE:
        return map_double(parser)
    if kind == BOOL:
        return map_bool(parser)
    return map_integer(parser, kind)


# --- Values with a tag --------------------------------------------------------------------------


cdef inline bint map_string(Parser* parser, uint32_t number) noexcept nogil:
    cdef Output* out = &parser.out
    cdef View view
    if not read_string(&parser.text, out, &view):
        return False
    # For parked text there is room already, so that this does not move it.
    if not reserve(out, PARKING_GAP + view.length):
        return False
    put_tag(out, number, LENGTH_DELIMITED)
    put_varint(out, view.length)
    memmove(out.at + out.used, view.at, view.length)
    out.used += view.length
    return True


cdef inline bint map_id(Parser* parser, uint32_t number) noexcept nogil:
    """Writes the bytes of an id; text that is not hex becomes an id of one byte, which the
    encoder refuses for its length. An empty string is no id at all."""
    cdef Output* out = &parser.out
    cdef View view
    cdef size_t start
    if not read_string(&parser.text, out, &view):
        return False
    if view.length == 0:
        return True
    if not reserve(out, PARKING_GAP + view.length):
        return False
    start = out.used
    put_tag(out, number, LENGTH_DELIMITED)
    put_varint(out, view.length >> 1)
    if decode_hex(&view, out.at + out.used):
        out.used += view.length >> 1
        return True
    out.used = start
    put_tag(out, number, LENGTH_DELIMITED)
    put_varint(out, 1)
    put_fixed(out, 0xFF, 1)
    return True


cdef inline bint map_base64(Parser* parser, uint32_t number) noexcept nogil:
    """Writes the bytes that the text stands for, in either alphabet, padded or not."""
    cdef Text* text = &parser.text
    cdef Output* out = &parser.out
    cdef const unsigned char* start = text.at
    cdef View view
    if not read_string(text, out, &view):
        return False
    if not trim_base64(&view):
        text.at = start
        return fail(text, EXPECTED_BASE64)
    if not reserve(out, PARKING_GAP + view.length):
        return False
    put_tag(out, number, LENGTH_DELIMITED)
    put_varint(out, base64_size(&view))
    decode_base64(&view, out.at + out.used)
    out.used += base64_size(&view)
    return True
