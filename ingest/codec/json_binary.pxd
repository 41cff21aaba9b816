"""Bytes that JSON writes as text: ids in hex, everything else in base64."""

from ingest.codec.json_text cimport View, hex_digit

cdef enum:
    NOT_BASE64 = 0xFF


cdef inline bint decode_hex(const View* view, unsigned char* to) noexcept nogil:
    """Writes half as many bytes; False, with bytes written, when the text is not hex.

    *to* may be the text itself or lie before it.
    """
    cdef size_t place
    cdef int high
    cdef int low
    if view.length & 1:
        return False
    for place in range(view.length >> 1):
        high = hex_digit(view.at[2 * place])
        low = hex_digit(view.at[2 * place + 1])
        if high < 0 or low < 0:
            return False
        to[place] = <unsigned char>(high << 4 | low)
    return True


cdef inline unsigned char base64_digit(unsigned char letter) noexcept nogil:
    """The value of a letter of the standard or of the URL-safe alphabet."""
    if c'A' <= letter <= c'Z':
        return letter - c'A'
    if c'a' <= letter <= c'z':
        return letter - c'a' + 26
    if c'0' <= letter <= c'9':
        return letter - c'0' + 52
    if letter == c'+' or letter == c'-':
        return 62
    if letter == c'/' or letter == c'_':
        return 63
    return NOT_BASE64


cdef inline bint trim_base64(View* view) noexcept nogil:
    """Checks the whole text and takes its padding off; padding is optional but must be right."""
    cdef size_t length = view.length
    cdef size_t place
    if length and length % 4 == 0 and view.at[length - 1] == c'=':
        length -= 2 if view.at[length - 2] == c'=' else 1
    if length % 4 == 1:
        return False
    for place in range(length):
        if base64_digit(view.at[place]) == NOT_BASE64:
            return False
    view.length = length
    return True


cdef inline size_t base64_size(const View* view) noexcept nogil:
    """How many bytes trimmed base64 stands for."""
    return view.length // 4 * 3 + (view.length % 4 * 3) // 4


cdef inline void decode_base64(const View* view, unsigned char* to) noexcept nogil:
    """Decodes trimmed base64; *to* may be the text itself or lie before it."""
    cdef unsigned int bits = 0
    cdef int held = 0
    cdef size_t place
    for place in range(view.length):
        bits = bits << 6 | base64_digit(view.at[place])
        held += 6
        if held >= 8:
            held -= 8
            to[0] = <unsigned char>(bits >> held)
            to += 1
