"""The words of a LowCardinality column: each text once, found again by number."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from ingest.codec.memory cimport Buffer, Slice

cdef extern from *:
    """
    #include <cstdint>
    static inline uint64_t telemetryflow_mix(uint64_t left, uint64_t right) {
        unsigned __int128 product = (unsigned __int128)left * right;
        return (uint64_t)product ^ (uint64_t)(product >> 64);
    }
    /* At least 16 bytes, 16 a step; the last step overlaps the one before. */
    static inline int telemetryflow_are_equal(const uint8_t* one, const uint8_t* other, size_t size) {
        typedef uint64_t Pair __attribute__((vector_size(16), aligned(1), may_alias));
        Pair bits = *(const Pair*)(one + size - 16) ^ *(const Pair*)(other + size - 16);
        for (; size > 16; one += 16, other += 16, size -= 16)
            bits |= *(const Pair*)one ^ *(const Pair*)other;
        return (bits[0] | bits[1]) == 0;
    }
    """
    uint64_t mix "telemetryflow_mix"(uint64_t left, uint64_t right) noexcept nogil
    bint are_equal "telemetryflow_are_equal"(
        const uint8_t* one, const uint8_t* other, size_t size
    ) noexcept nogil


cdef struct Word:
    uint32_t start  # of the text, behind its length prefix
    uint32_t size
    uint32_t hash
    uint32_t follower  # the word that was looked up after this one, last time
    uint32_t hint  # map keys: the value that came with this key, last time


# Word 0 is always '', ClickHouse's default. `texts` holds every word as a ClickHouse String, ready
# to be copied into a block.
cdef struct Dictionary:
    Buffer texts
    Word* words
    uint32_t count
    uint32_t room
    uint32_t* slots  # open addressing; word number + 1, 0 = free
    uint32_t slot_mask
    uint32_t latest


cdef void open_dictionary(Dictionary* dictionary) noexcept nogil
cdef void close_dictionary(Dictionary* dictionary) noexcept nogil
cdef void forget_words(Dictionary* dictionary) noexcept nogil
cdef uint32_t look_up(Dictionary* dictionary, const uint8_t* at, size_t size) noexcept nogil


cdef inline bint equal_bytes(const uint8_t* one, const uint8_t* other, size_t size) noexcept nogil:
    """memcmp without a call, since most texts are short."""
    cdef uint64_t a
    cdef uint64_t b
    cdef uint32_t c
    cdef uint32_t d
    if size >= 16:
        return are_equal(one, other, size)
    if size >= 8:
        memcpy(&a, one, 8)
        memcpy(&b, other, 8)
        if a != b:
            return False
        memcpy(&a, one + size - 8, 8)
        memcpy(&b, other + size - 8, 8)
        return a == b
    if size >= 4:
        memcpy(&c, one, 4)
        memcpy(&d, other, 4)
        if c != d:
            return False
        memcpy(&c, one + size - 4, 4)
        memcpy(&d, other + size - 4, 4)
        return c == d
    while size:
        size -= 1
        if one[size] != other[size]:
            return False
    return True


cdef inline bint is_word(
    Dictionary* dictionary, uint32_t number, const uint8_t* at, size_t size
) noexcept nogil:
    cdef Word* word = dictionary.words + number
    return word.size == size and equal_bytes(dictionary.texts.data + word.start, at, size)


cdef inline uint32_t word_of(Dictionary* dictionary, const uint8_t* at, size_t size) noexcept nogil:
    """The number of a text. Telemetry repeats itself: the follower of the latest word comes first."""
    cdef uint32_t guess = dictionary.words[dictionary.latest].follower
    if not is_word(dictionary, guess, at, size):
        guess = look_up(dictionary, at, size)
        dictionary.words[dictionary.latest].follower = guess
    dictionary.latest = guess
    return guess


cdef inline uint32_t word_of_slice(Dictionary* dictionary, Slice text) noexcept nogil:
    return word_of(dictionary, text.at, text.end - text.at)


cdef inline Slice text_of(Dictionary* dictionary, uint32_t number) noexcept nogil:
    """The text of a word; valid until the next word is added."""
    cdef Slice text
    text.at = dictionary.texts.data + dictionary.words[number].start
    text.end = text.at + dictionary.words[number].size
    return text
