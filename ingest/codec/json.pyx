# distutils: language = c++
# distutils: extra_compile_args = -std=c++17
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""OTLP/JSON requests, rewritten as OTLP protobuf in one pass over the text.

The encoder then decodes those bytes, so that both encodings meet the same rules. Nothing is built
in between: a value is written as soon as it is read, the length of a message once it ends.
"""

from libc.stdint cimport uint32_t
from libc.string cimport memcmp

from ingest.codec.json_buffer cimport (
    LENGTH_BYTES, Py_XDECREF, TAG_BYTES_MAX, _PyBytes_Resize, close_length, erase, open_length,
    open_output, put_varint, reserve,
)
from ingest.codec.json_text cimport (
    BAD_ESCAPE, CONTROL_CHARACTER, DEPTH_MAX, ENDS_EARLY, EXPECTED_ARRAY, EXPECTED_BASE64,
    EXPECTED_BOOL, EXPECTED_INTEGER, EXPECTED_NUMBER, EXPECTED_OBJECT, EXPECTED_STRING, NOT_OBJECT, NOT_UTF8,
    NO_ERROR, NULL_ELEMENT, SYNTAX, TOO_DEEP, TRAILING_TEXT, Text, View, fail, is_utf8, read_string,
    skip_space, skip_value, skip_word,
)
from ingest.codec.json_value cimport (
    BASE64, BOOL, DOUBLE, ENUM, FIELDS_MAX, FIXED32, FIXED64, FIXED_4_BYTES, FIXED_8_BYTES, Field,
    Frame, ID, INT32, INT64, Kind, LENGTH_DELIMITED, MESSAGE, Message, Parser, SFIXED64, SINT32,
    STRING, UINT32, UINT64, VARINT, map_base64, map_id, map_scalar, map_string, put_tag,
)

from ingest.codec.json_schema import MESSAGES, ROOT_OF_SIGNAL
from ingest.codec.results import Malformed

cdef enum:
    MESSAGES_MAX = 64
    # Below this many bytes, letting other threads run costs more than it gives.
    RELEASED_BYTES_MIN = 16_384
    OUTPUT_BYTES_MIN = 256

cdef Message[MESSAGES_MAX] SCHEMA

KINDS = {
    "message": MESSAGE, "string": STRING, "id": ID, "base64": BASE64, "bool": BOOL, "enum": ENUM,
    "int32": INT32, "uint32": UINT32, "sint32": SINT32, "int64": INT64, "uint64": UINT64,
    "fixed32": FIXED32, "fixed64": FIXED64, "sfixed64": SFIXED64, "double": DOUBLE,
}
NUMBER_OF_MESSAGE = {name: place for place, name in enumerate(MESSAGES)}
NAMES = {field.name: field.name.encode() for fields in MESSAGES.values() for field in fields}

SAYS = {
    NOT_UTF8: "not UTF-8",
    NOT_OBJECT: "the request is not a JSON object",
    SYNTAX: "not JSON",
    ENDS_EARLY: "the JSON ends early",
    CONTROL_CHARACTER: "a control character inside a string",
    BAD_ESCAPE: "an escape that JSON does not know",
    TOO_DEEP: f"nested deeper than {DEPTH_MAX} levels",
    TRAILING_TEXT: "text behind the end of the JSON object",
    EXPECTED_OBJECT: "expected an object",
    EXPECTED_ARRAY: "expected an array",
    EXPECTED_STRING: "expected a string",
    EXPECTED_BOOL: "expected true or false",
    EXPECTED_BASE64: "expected base64",
    EXPECTED_INTEGER: "expected an integer that fits the field",
    EXPECTED_NUMBER: "expected a number that fits a double",
    NULL_ELEMENT: "null as an element of this array",
}


cdef uint32_t wire_type_of(Kind kind) noexcept:
    if kind <= BASE64:
        return LENGTH_DELIMITED
    if kind == FIXED32:
        return FIXED_4_BYTES
    if kind == FIXED64 or kind == SFIXED64 or kind == DOUBLE:
        return FIXED_8_BYTES
    return VARINT


cdef void load_field(Field* field, object source, bint in_array_value) except *:
    field.name = NAMES[source.name]
    field.length = len(source.name)
    field.number = source.number
    field.kind = KINDS[source.kind]
    field.wire_type = wire_type_of(field.kind)
    field.message = NUMBER_OF_MESSAGE[source.message] if source.message else -1
    field.repeated = source.repeated
    field.null_is_empty = in_array_value


cdef void load_schema() except *:
    cdef Message* message
    if len(MESSAGES) > MESSAGES_MAX:
        raise ValueError(f"{len(MESSAGES)} messages, room for {MESSAGES_MAX}")
    for name, fields in MESSAGES.items():
        if len(fields) > FIELDS_MAX:
            raise ValueError(f"{name} has {len(fields)} fields, room for {FIELDS_MAX}")
        message = &SCHEMA[<int>NUMBER_OF_MESSAGE[name]]
        message.count = len(fields)
        for place, field in enumerate(fields):
            load_field(&message.fields[<int>place], field, name == "ArrayValue")


load_schema()


# --- Values with a tag --------------------------------------------------------------------------


cdef bint map_nested(Parser* parser, const Field* field) noexcept nogil:
    cdef size_t start
    if parser.text.at[0] != c'{':
        return fail(&parser.text, EXPECTED_OBJECT)
    if not reserve(&parser.out, TAG_BYTES_MAX + LENGTH_BYTES):
        return False
    put_tag(&parser.out, field.number, LENGTH_DELIMITED)
    start = open_length(&parser.out)
    if not map_message(parser, field.message):
        return False
    close_length(&parser.out, start)
    return True


cdef bint map_one(Parser* parser, const Field* field) noexcept nogil:
    if field.kind == MESSAGE:
        return map_nested(parser, field)
    if field.kind == STRING:
        return map_string(parser, field.number)
    if field.kind == ID:
        return map_id(parser, field.number)
    if field.kind == BASE64:
        return map_base64(parser, field.number)
    if not reserve(&parser.out, TAG_BYTES_MAX):
        return False
    put_tag(&parser.out, field.number, field.wire_type)
    return map_scalar(parser, field.kind)


# --- Arrays and objects -------------------------------------------------------------------------


cdef bint map_element(Parser* parser, const Field* field) noexcept nogil:
    if parser.text.at[0] == c'n' and skip_word(&parser.text, b"null"):
        if not field.null_is_empty:
            return fail(&parser.text, NULL_ELEMENT)
        if not reserve(&parser.out, TAG_BYTES_MAX + 1):
            return False
        put_tag(&parser.out, field.number, LENGTH_DELIMITED)
        put_varint(&parser.out, 0)
        return True
    if field.wire_type == LENGTH_DELIMITED:
        return map_one(parser, field)
    return map_scalar(parser, field.kind)


cdef bint map_elements(Parser* parser, const Field* field) noexcept nogil:
    """Reads from behind the opening bracket to behind the closing one."""
    cdef Text* text = &parser.text
    cdef Frame* frame = &parser.path[parser.frames - 1]
    skip_space(text)
    if text.at[0] == c']':
        text.at += 1
        return True
    frame.index = 0
    while map_element(parser, field):
        skip_space(text)
        if text.at[0] == c']':
            text.at += 1
            frame.index = -1
            return True
        if text.at[0] != c',':
            return fail(text, SYNTAX)
        text.at += 1
        frame.index += 1
        skip_space(text)
    return False


cdef bint map_array(Parser* parser, const Field* field) noexcept nogil:
    """Writes each element behind a tag of its own, numbers packed behind one."""
    cdef Text* text = &parser.text
    cdef size_t start = 0
    if text.at[0] != c'[':
        return fail(text, EXPECTED_ARRAY)
    if text.depth >= DEPTH_MAX:
        return fail(text, TOO_DEEP)
    text.at += 1
    text.depth += 1
    if field.wire_type != LENGTH_DELIMITED:
        if not reserve(&parser.out, TAG_BYTES_MAX + LENGTH_BYTES):
            return False
        put_tag(&parser.out, field.number, LENGTH_DELIMITED)
        start = open_length(&parser.out)
    if not map_elements(parser, field):
        return False
    if field.wire_type != LENGTH_DELIMITED:
        close_length(&parser.out, start)
    text.depth -= 1
    return True


cdef inline int find_field(const Message* message, const View* name, int after) noexcept nogil:
    """The field of that name, looked for from behind *after* on: fields tend to keep their order."""
    cdef int place = after
    cdef int tried
    cdef const Field* field
    for tried in range(message.count):
        place = place + 1 if place + 1 < message.count else 0
        field = &message.fields[place]
        if field.length == name.length and memcmp(field.name, name.at, name.length) == 0:
            return place
    return -1


cdef void forget_field(Parser* parser, Frame* frame, int gone) noexcept nogil:
    """Takes back what an earlier member of the same name wrote."""
    cdef size_t stop = frame.stop[gone]
    cdef size_t size = stop - frame.start[gone]
    cdef int place
    erase(&parser.out, frame.start[gone], stop)
    for place in range(SCHEMA[frame.message].count):
        if frame.seen >> place & 1 and frame.start[place] >= stop:
            frame.start[place] -= size
            frame.stop[place] -= size


cdef bint map_field(Parser* parser, Frame* frame, int place) noexcept nogil:
    cdef const Field* field = &SCHEMA[frame.message].fields[place]
    cdef bint done = True
    if frame.seen >> place & 1:
        forget_field(parser, frame, place)
    frame.field = place
    frame.seen |= <uint32_t>1 << place
    frame.start[place] = parser.out.used
    if parser.text.at[0] != c'n' or not skip_word(&parser.text, b"null"):
        done = map_array(parser, field) if field.repeated else map_one(parser, field)
    frame.stop[place] = parser.out.used
    if done:
        frame.field = -1
    return done


cdef bint map_member(Parser* parser, Frame* frame, int* last) noexcept nogil:
    """Reads one key with its value."""
    cdef Text* text = &parser.text
    cdef View name
    cdef int place
    if text.at[0] != c'"':
        return fail(text, SYNTAX)
    if not read_string(text, &parser.out, &name):
        return False
    place = find_field(&SCHEMA[frame.message], &name, last[0])
    skip_space(text)
    if text.at[0] != c':':
        return fail(text, SYNTAX)
    text.at += 1
    skip_space(text)
    if place < 0:
        return skip_value(text)
    last[0] = place
    return map_field(parser, frame, place)


cdef bint map_members(Parser* parser, Frame* frame) noexcept nogil:
    """Reads from the first key to before the closing brace."""
    cdef Text* text = &parser.text
    cdef int last = -1
    while map_member(parser, frame, &last):
        skip_space(text)
        if text.at[0] == c'}':
            return True
        if text.at[0] != c',':
            return fail(text, SYNTAX)
        text.at += 1
        skip_space(text)
    return False


cdef bint map_message(Parser* parser, int which) noexcept nogil:
    """Reads the object at hand and writes its fields; calls itself at most DEPTH_MAX times."""
    cdef Text* text = &parser.text
    cdef Frame* frame = &parser.path[parser.frames]
    if text.depth >= DEPTH_MAX:
        return fail(text, TOO_DEEP)
    text.depth += 1
    parser.frames += 1
    frame.message = which
    frame.field = -1
    frame.index = -1
    frame.seen = 0
    text.at += 1
    skip_space(text)
    if text.at[0] != c'}':
        if not map_members(parser, frame):
            return False
    text.at += 1
    text.depth -= 1
    parser.frames -= 1
    return True


cdef bint map_request(Parser* parser, int root) noexcept nogil:
    cdef Text* text = &parser.text
    if not is_utf8(text):
        return False
    skip_space(text)
    if text.at[0] != c'{':
        return fail(text, NOT_OBJECT)
    if not map_message(parser, root):
        return False
    skip_space(text)
    if text.at < text.end:
        return fail(text, TRAILING_TEXT)
    return True


# --- From and to Python -------------------------------------------------------------------------


cdef str path_of(const Parser* parser):
    """Where the parser stopped, such as `resourceSpans[0].scopeSpans[1].spans[3].kind`."""
    cdef const Frame* frame
    cdef int place
    cdef list steps = []
    for place in range(parser.frames):
        frame = &parser.path[place]
        if frame.field < 0:
            break
        step = SCHEMA[frame.message].fields[frame.field].name.decode()
        steps.append(f"{step}[{frame.index}]" if frame.index >= 0 else step)
    return ".".join(steps)


cdef object error_of(const Parser* parser, object body):
    if parser.text.error != NO_ERROR:
        return Malformed(
            f"{SAYS[parser.text.error]}, at byte {parser.text.at - <const unsigned char*>body} "
            f"of {len(body)}",
            field=path_of(parser),
        )
    if parser.out.full:
        return Malformed(f"{len(body)} bytes of JSON give too large a request", field="")
    return MemoryError(f"no room to map {len(body)} bytes of JSON")


def to_protobuf(str signal not None, bytes body not None) -> bytes:
    """Rewrites an OTLP/JSON export request as the protobuf request that says the same.

    *signal* is traces, logs or metrics. Unknown members are skipped. An id that is not hex is
    written as an id of one byte, for the encoder to refuse that item. Of members with the same
    name the last one counts, and so it does of the members of a oneof. Raises `Malformed`, with the path of the field where it is known,
    for anything that is not JSON in UTF-8 or not of the type that the field has, and KeyError for
    another signal. The answer has at most four times as many bytes as *body*, plus a few.
    """
    cdef Parser parser
    cdef const unsigned char* start = body
    cdef size_t size = len(body)
    cdef int root = NUMBER_OF_MESSAGE[ROOT_OF_SIGNAL[signal]]
    cdef bint done
    parser.frames = 0
    parser.text = Text(at=start, end=start + size, depth=0, error=NO_ERROR)
    if not open_output(&parser.out, size + OUTPUT_BYTES_MIN):
        raise MemoryError(f"no room to map {size} bytes of JSON")
    if size >= RELEASED_BYTES_MIN:
        with nogil:
            done = map_request(&parser, root)
    else:
        done = map_request(&parser, root)
    if done and _PyBytes_Resize(&parser.out.holder, <Py_ssize_t>parser.out.used) < 0:
        raise MemoryError(f"no room to map {size} bytes of JSON")
    try:
        if not done:
            raise error_of(&parser, body)
        return <bytes>parser.out.holder
    finally:
        Py_XDECREF(parser.out.holder)
