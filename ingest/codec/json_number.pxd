"""JSON numbers, exactly: integers never pass through a double, doubles are correctly rounded."""

from libc.stdint cimport int64_t, uint64_t

cdef extern from *:
    """
    #include <charconv>

    static inline int tf_double(const unsigned char *text, const unsigned char *end, double *value)
    {
        auto answer = std::from_chars((const char *)text, (const char *)end, *value);
        return answer.ec == std::errc() && answer.ptr == (const char *)end;
    }
    """
    int tf_double(const unsigned char* text, const unsigned char* end, double* value) nogil

cdef enum:
    EXPONENT_MAX = 1000000000  # beyond it only the sign of an exponent matters
    UINT64_DIGITS_MAX = 20

cdef enum Exactness:
    EXACT
    FRACTIONAL
    OUT_OF_RANGE

cdef struct Number:
    const unsigned char* text  # from the sign
    const unsigned char* digits  # from the first digit to the last, with the point between them
    const unsigned char* digits_end
    const unsigned char* end
    size_t digits_fraction  # how many of the digits stand behind the point
    int64_t exponent
    bint negative


cdef inline bint is_digit(unsigned char letter) noexcept nogil:
    return c'0' <= letter <= c'9'


cdef inline const unsigned char* scan_exponent(
    const unsigned char* at, const unsigned char* end, Number* number
) noexcept nogil:
    """Reads from behind the `e`; NULL when no digit follows."""
    cdef bint negative = False
    if at < end and (at[0] == c'-' or at[0] == c'+'):
        negative = at[0] == c'-'
        at += 1
    if at >= end or not is_digit(at[0]):
        return NULL
    while at < end and is_digit(at[0]):
        if number.exponent < EXPONENT_MAX:
            number.exponent = number.exponent * 10 + (at[0] - c'0')
        at += 1
    if negative:
        number.exponent = -number.exponent
    return at


cdef inline bint scan_number(
    const unsigned char* at, const unsigned char* end, Number* number
) noexcept nogil:
    """Reads the longest JSON number (RFC 8259) at *at*; False when there is none."""
    number.text = at
    number.exponent = 0
    number.digits_fraction = 0
    number.negative = at < end and at[0] == c'-'
    at += number.negative
    number.digits = at
    if at >= end or not is_digit(at[0]):
        return False
    at += 1
    if at[-1] != c'0':
        while at < end and is_digit(at[0]):
            at += 1
    if at < end and at[0] == c'.':
        at += 1
        while at < end and is_digit(at[0]):
            number.digits_fraction += 1
            at += 1
        if number.digits_fraction == 0:
            return False
    number.digits_end = at
    if at < end and (at[0] | 0x20) == c'e':
        at = scan_exponent(at + 1, end, number)
    number.end = at
    return at != NULL


cdef inline bint append_digit(uint64_t* value, unsigned char digit) noexcept nogil:
    """False when the value would pass 2^64 - 1."""
    if value[0] > (<uint64_t>0xFFFFFFFFFFFFFFFF - digit) // 10:
        return False
    value[0] = value[0] * 10 + digit
    return True


cdef inline Exactness scale_up(uint64_t* value, int64_t zeros) noexcept nogil:
    """Multiplies by 10^*zeros*; a value other than zero with *zeros* < 0 has a fraction."""
    cdef int64_t step
    if zeros < 0:
        return FRACTIONAL
    if zeros > UINT64_DIGITS_MAX:
        return OUT_OF_RANGE
    for step in range(zeros):
        if not append_digit(value, 0):
            return OUT_OF_RANGE
    return EXACT


cdef inline Exactness to_integer(const Number* number, uint64_t* value) noexcept nogil:
    """The magnitude of a number, in time linear in its length however long it is."""
    cdef const unsigned char* at = number.digits
    cdef int64_t zeros = 0
    cdef bint fits = True
    value[0] = 0
    while at < number.digits_end:
        if at[0] == c'0':
            zeros += value[0] != 0
        elif at[0] != c'.' and fits:
            # The zeros met since the last other digit were significant after all.
            fits = scale_up(value, zeros) == EXACT and append_digit(value, at[0] - c'0')
            zeros = 0
        elif at[0] != c'.':
            zeros = 0
        at += 1
    if value[0] == 0:
        return EXACT
    zeros += number.exponent - <int64_t>number.digits_fraction
    if not fits:
        return FRACTIONAL if zeros < 0 else OUT_OF_RANGE
    return scale_up(value, zeros)


cdef inline bint is_tiny(const Number* number) noexcept nogil:
    """Whether a number that is not zero lies below 1; tells an underflow from an overflow."""
    cdef const unsigned char* at = number.digits
    cdef int64_t place = (number.digits_end - number.digits) - <int64_t>number.digits_fraction
    if number.digits_fraction:
        place -= 1  # the point
    while at < number.digits_end and (at[0] == c'0' or at[0] == c'.'):
        place -= at[0] == c'0'
        at += 1
    return place + number.exponent <= 0


cdef inline bint to_double(const Number* number, double* value) noexcept nogil:
    """The nearest double; too small becomes a zero of the same sign, too large is False."""
    if tf_double(number.text, number.end, value):
        return True
    if not is_tiny(number):
        return False
    value[0] = -0.0 if number.negative else 0.0
    return True
