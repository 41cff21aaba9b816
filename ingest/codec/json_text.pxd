"""Reading JSON text (RFC 8259): white space, strings, hex, base64, and skipping what is unknown.

The text is that of a bytes object, so a NUL stands behind its last byte; no NUL is legal anywhere
in JSON, so every scan stops there at the latest.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from ingest.codec.json_buffer cimport LENGTH_BYTES, Output, reserve
from ingest.codec.json_number cimport Number, scan_number

cdef enum:
    # Nested objects and arrays, known and unknown ones together; must not pass 64, see skip_value.
    DEPTH_MAX = 64
    # Unescaped text is parked this far behind the output, so that a tag and a length can be
    # written before it without touching it.
    PARKING_GAP = 16
    REPLACEMENT = 0xFFFD

cdef enum Error:
    NO_ERROR
    NOT_UTF8
    NOT_OBJECT
    SYNTAX
    ENDS_EARLY
    CONTROL_CHARACTER
    BAD_ESCAPE
    TOO_DEEP
    TRAILING_TEXT
    EXPECTED_OBJECT
    EXPECTED_ARRAY
    EXPECTED_STRING
    EXPECTED_BOOL
    EXPECTED_BASE64
    EXPECTED_INTEGER
    EXPECTED_NUMBER
    NULL_ELEMENT
    ERRORS

cdef struct Text:
    const unsigned char* at
    const unsigned char* end
    int depth
    Error error

cdef struct View:
    const unsigned char* at
    size_t length


cdef inline bint fail(Text* text, Error error) noexcept nogil:
    """Notes the error; text that stops short is called that, whatever was expected there."""
    if text.at >= text.end and error != NOT_UTF8 and error != TOO_DEEP:
        error = ENDS_EARLY
    text.error = error
    return False


cdef inline void skip_space(Text* text) noexcept nogil:
    cdef unsigned char letter = text.at[0]
    while letter == c' ' or letter == c'\n' or letter == c'\t' or letter == c'\r':
        text.at += 1
        letter = text.at[0]


cdef inline bint skip_word(Text* text, const char* word) noexcept nogil:
    """Steps over a literal such as `null`; stays where it is and says False when it is another."""
    cdef const unsigned char* at = text.at
    while word[0] != 0:
        if at[0] != <unsigned char>word[0]:
            return False
        at += 1
        word += 1
    text.at = at
    return True


cdef inline size_t utf8_tail(const unsigned char* at, size_t left) noexcept nogil:
    """How many bytes the well-formed sequence at *at* has behind its lead byte; 0 for none."""
    cdef unsigned char lead = at[0]
    cdef size_t tail = 1 if lead < 0xE0 else 2 if lead < 0xF0 else 3
    cdef unsigned char low = 0x80
    cdef unsigned char high = 0xBF
    cdef size_t place
    if lead < 0xC2 or lead > 0xF4 or left <= tail:
        return 0
    if lead == 0xE0:
        low = 0xA0
    elif lead == 0xED:
        high = 0x9F
    elif lead == 0xF0:
        low = 0x90
    elif lead == 0xF4:
        high = 0x8F
    if not low <= at[1] <= high:
        return 0
    for place in range(2, tail + 1):
        if at[place] & 0xC0 != 0x80:
            return 0
    return tail


cdef inline bint is_utf8(Text* text) noexcept nogil:
    """Checks everything that is left, before any of it is read; afterwards no code has to."""
    cdef const unsigned char* at = text.at
    cdef uint64_t word
    cdef size_t tail
    while at < text.end:
        if text.end - at >= 8:
            memcpy(&word, at, 8)
            if word & <uint64_t>0x8080808080808080 == 0:
                at += 8
                continue
        if at[0] >= 0x80:
            tail = utf8_tail(at, text.end - at)
            if tail == 0:
                text.at = at
                return fail(text, NOT_UTF8)
            at += tail
        at += 1
    return True


cdef inline uint64_t zero_bytes(uint64_t word) noexcept nogil:
    return (word - <uint64_t>0x0101010101010101) & ~word & <uint64_t>0x8080808080808080


cdef inline const unsigned char* plain_end(
    const unsigned char* at, const unsigned char* end
) noexcept nogil:
    """The first quote, backslash or control character from *at* on (at the latest the NUL)."""
    cdef uint64_t word
    cdef uint64_t special
    while end - at >= 8:
        memcpy(&word, at, 8)
        special = (word - <uint64_t>0x2020202020202020) & ~word & <uint64_t>0x8080808080808080
        special |= zero_bytes(word ^ <uint64_t>0x2222222222222222)
        special |= zero_bytes(word ^ <uint64_t>0x5C5C5C5C5C5C5C5C)
        if special:
            break
        at += 8
    while at[0] >= 0x20 and at[0] != c'"' and at[0] != c'\\':
        at += 1
    return at


cdef inline int hex_digit(unsigned char letter) noexcept nogil:
    if c'0' <= letter <= c'9':
        return letter - c'0'
    letter |= 0x20
    if c'a' <= letter <= c'f':
        return letter - c'a' + 10
    return -1


cdef inline int hex_unit(const unsigned char* at) noexcept nogil:
    """The four hex digits of a \\u escape; -1 when there are fewer (the NUL is not one)."""
    cdef int unit = 0
    cdef int place
    cdef int digit
    for place in range(4):
        digit = hex_digit(at[place])
        if digit < 0:
            return -1
        unit = unit << 4 | digit
    return unit


cdef inline bint skip_escape(Text* text) noexcept nogil:
    """Steps over one escape, checking it; `unescape` then needs no checks."""
    cdef unsigned char letter = text.at[1]
    if letter == c'u':
        if hex_unit(text.at + 2) < 0:
            return fail(text, BAD_ESCAPE)
        text.at += 6
        return True
    if (
        letter == c'"' or letter == c'\\' or letter == c'/' or letter == c'n' or letter == c't'
        or letter == c'r' or letter == c'b' or letter == c'f'
    ):
        text.at += 2
        return True
    return fail(text, BAD_ESCAPE)


cdef inline bint raw_string(Text* text, View* view, bint* escaped) noexcept nogil:
    """Reads a string whose opening quote is at hand; *view* is what stands between the quotes."""
    text.at += 1
    view.at = text.at
    escaped[0] = False
    while True:
        text.at = plain_end(text.at, text.end)
        if text.at[0] == c'"':
            break
        if text.at[0] != c'\\':
            return fail(text, CONTROL_CHARACTER)
        escaped[0] = True
        if not skip_escape(text):
            return False
    view.length = text.at - view.at
    text.at += 1
    return True


cdef inline size_t encode_utf8(uint32_t point, unsigned char* to) noexcept nogil:
    if point < 0x80:
        to[0] = point
        return 1
    if point < 0x800:
        to[0] = 0xC0 | (point >> 6)
        to[1] = 0x80 | (point & 0x3F)
        return 2
    if point < 0x10000:
        to[0] = 0xE0 | (point >> 12)
        to[1] = 0x80 | (point >> 6 & 0x3F)
        to[2] = 0x80 | (point & 0x3F)
        return 3
    to[0] = 0xF0 | (point >> 18)
    to[1] = 0x80 | (point >> 12 & 0x3F)
    to[2] = 0x80 | (point >> 6 & 0x3F)
    to[3] = 0x80 | (point & 0x3F)
    return 4


cdef inline unsigned char short_escape(unsigned char letter) noexcept nogil:
    if letter == c'n':
        return c'\n'
    if letter == c't':
        return c'\t'
    if letter == c'r':
        return c'\r'
    if letter == c'b':
        return 8
    if letter == c'f':
        return 12
    return letter


cdef inline const unsigned char* unescape_unit(
    const unsigned char* at, uint32_t* point
) noexcept nogil:
    """Reads the \\u escape at *at*, with the second half of a pair; a lone half becomes U+FFFD."""
    cdef int low
    point[0] = hex_unit(at + 2)
    at += 6
    if point[0] & 0xF800 != 0xD800:
        return at
    low = hex_unit(at + 2) if point[0] < 0xDC00 and at[0] == c'\\' and at[1] == c'u' else 0
    if low & 0xFC00 != 0xDC00:
        point[0] = REPLACEMENT
        return at
    point[0] = 0x10000 + ((point[0] & 0x3FF) << 10) + (low & 0x3FF)
    return at + 6


cdef inline size_t unescape(const View* view, unsigned char* to) noexcept nogil:
    """Writes a checked raw string without its escapes, never more bytes than it had; how many."""
    cdef const unsigned char* at = view.at
    cdef const unsigned char* end = view.at + view.length
    cdef const unsigned char* stop
    cdef unsigned char* start = to
    cdef uint32_t point
    while at < end:
        stop = plain_end(at, end)
        memcpy(to, at, stop - at)
        to += stop - at
        at = stop
        if at < end and at[1] == c'u':
            at = unescape_unit(at, &point)
            to += encode_utf8(point, to)
        elif at < end:
            to[0] = short_escape(at[1])
            to += 1
            at += 2
    return to - start


cdef inline bint read_string(Text* text, Output* out, View* view) noexcept nogil:
    """Reads a string without its escapes: *view* is in the text or, if there were any, parked
    behind the output and valid until more than PARKING_GAP bytes are written or room is made."""
    cdef bint escaped
    if text.at[0] != c'"':
        return fail(text, EXPECTED_STRING)
    if not raw_string(text, view, &escaped):
        return False
    if not escaped:
        return True
    if not reserve(out, PARKING_GAP + view.length):
        return False
    view.length = unescape(view, out.at + out.used + PARKING_GAP)
    view.at = out.at + out.used + PARKING_GAP
    return True


cdef inline bint skip_number(Text* text) noexcept nogil:
    cdef Number number
    if not scan_number(text.at, text.end, &number):
        return fail(text, SYNTAX)
    text.at = number.end
    return True


cdef inline bint skip_key(Text* text) noexcept nogil:
    """Steps over white space, a key, its colon and the white space before the value."""
    cdef View view
    cdef bint escaped
    skip_space(text)
    if text.at[0] != c'"':
        return fail(text, SYNTAX)
    if not raw_string(text, &view, &escaped):
        return False
    skip_space(text)
    if text.at[0] != c':':
        return fail(text, SYNTAX)
    text.at += 1
    skip_space(text)
    return True


cdef inline bint skip_scalar(Text* text) noexcept nogil:
    cdef View view
    cdef bint escaped
    cdef unsigned char letter = text.at[0]
    if letter == c'"':
        return raw_string(text, &view, &escaped)
    if letter == c't' or letter == c'f' or letter == c'n':
        if skip_word(text, b"true") or skip_word(text, b"false") or skip_word(text, b"null"):
            return True
    return skip_number(text)


cdef inline bint skip_value(Text* text) noexcept nogil:
    """Steps over a value nobody asked for, with a loop: a bit of *objects* for each open bracket
    says which kind it is."""
    cdef int outside = text.depth
    cdef uint64_t objects = 0
    while True:
        if text.at[0] == c'{' or text.at[0] == c'[':
            if text.depth >= DEPTH_MAX:
                return fail(text, TOO_DEEP)
            text.depth += 1
            objects = objects << 1 | (text.at[0] == c'{')
            text.at += 1
            skip_space(text)
            if text.at[0] != (c'}' if objects & 1 else c']'):
                if objects & 1 and not skip_key(text):
                    return False
                continue
        elif not skip_scalar(text):
            return False
        if not skip_closings(text, outside, &objects):
            return False
        if text.depth == outside:
            return True


cdef inline bint skip_closings(Text* text, int outside, uint64_t* objects) noexcept nogil:
    """Steps from behind a value over closing brackets to the next value, or out of them all."""
    while text.depth > outside:
        skip_space(text)
        if text.at[0] == c',':
            text.at += 1
            skip_space(text)
            return skip_key(text) if objects[0] & 1 else True
        if text.at[0] != (c'}' if objects[0] & 1 else c']'):
            return fail(text, SYNTAX)
        text.at += 1
        text.depth -= 1
        objects[0] >>= 1
    return True
