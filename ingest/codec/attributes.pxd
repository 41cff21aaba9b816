"""Attributes of one item: collected as they come, then written sorted and without duplicates."""

from libc.stdint cimport uint8_t, uint32_t

from ingest.codec.columns cimport Column
from ingest.codec.dictionary cimport Dictionary, Word, equal_bytes, word_of_slice
from ingest.codec.memory cimport Arena, Buffer, Slice, reserve
from ingest.codec.values cimport KeyValue, read_key_value
from ingest.codec.validation cimport (
    ANY_VALUE, VALID, Findings, check_message, is_ascii, is_wide_utf8,
)
from ingest.codec.wire cimport is_head, is_plain_number, is_plain_pair, is_plain_text

cdef enum:
    SHAPE_KEYS_MAX = 32
    SHAPES = 64


cdef struct Entry:
    Slice value  # an AnyValue message, or the text that is all of it
    uint32_t key  # number of the key's word
    bint is_text


# The keys of an item as they came, and the order in which they are written.
cdef struct Shape:
    uint32_t came
    uint32_t kept
    uint32_t[SHAPE_KEYS_MAX] keys
    uint32_t[SHAPE_KEYS_MAX] order
    uint32_t[SHAPE_KEYS_MAX] keys_in_order


# `shapes` remembers how key sequences sort: instrumentation sends the same keys again and again.
cdef struct Attributes:
    Dictionary* key_words
    Buffer entries  # of Entry
    uint32_t* order  # positions of entries, in the order to write; kept of them
    uint32_t* keys_in_order
    uint32_t kept
    Shape* shapes


cdef void open_attributes(Attributes* attributes, Dictionary* key_words) noexcept nogil
cdef void close_attributes(Attributes* attributes) noexcept nogil
cdef void forget_shapes(Attributes* attributes) noexcept nogil
cdef void begin_attributes(Attributes* attributes) noexcept nogil
cdef void add_text_attribute(
    Attributes* attributes, Slice key, Slice text, Arena* arena
) noexcept nogil
cdef void arrange(Attributes* attributes, Arena* arena) noexcept nogil
cdef void put_attributes(
    Attributes* attributes, Column* column, Buffer* scratch, Arena* arena
) noexcept nogil
cdef void put_series(Attributes* attributes, Buffer* out, Buffer* scratch, Arena* arena) noexcept nogil
cdef int add_unexpected_attribute(
    Attributes* attributes, Slice key_value, Arena* arena, Findings* findings
) noexcept nogil


cdef inline Entry* add_entry(Attributes* attributes, uint32_t key, Slice value) noexcept nogil:
    cdef Entry* entry
    reserve(&attributes.entries, sizeof(Entry))
    entry = <Entry*>(attributes.entries.data + attributes.entries.used)
    entry.key = key
    entry.is_text = is_plain_text(value, &entry.value)
    if not entry.is_text:
        entry.value = value
    attributes.entries.used += sizeof(Entry)
    return entry


cdef inline void add_attribute(
    Attributes* attributes, Slice key_value, Arena* arena
) noexcept nogil:
    """One KeyValue message."""
    cdef KeyValue pair
    if not is_plain_pair(key_value, &pair.key, &pair.value):
        pair = read_key_value(key_value, arena)
    add_entry(attributes, word_of_slice(attributes.key_words, pair.key), pair.value)


cdef inline bint is_expected_pair(Attributes* attributes, Slice message, Slice* value) noexcept nogil:
    """Whether a KeyValue is a plain pair (see wire) with the key that followed the latest last time."""
    cdef Dictionary* words = attributes.key_words
    cdef uint32_t guess = words.words[words.latest].follower
    cdef Word* word = words.words + guess
    # Of a message that is too short for the key this wraps around, far beyond 128.
    cdef size_t value_size = <size_t>(message.end - message.at) - 4 - word.size
    if value_size >= 0x80 or word.size >= 0x80 or not is_head(message.at, 0x0A, word.size):
        return False
    value.at = message.at + 4 + word.size
    value.end = message.end
    if not is_head(value.at - 2, 0x12, value_size):
        return False
    if not equal_bytes(words.texts.data + word.start, message.at + 2, word.size):
        return False
    words.latest = guess
    return True


cdef inline int add_checked_attribute(
    Attributes* attributes, Slice key_value, Arena* arena, Findings* findings
) noexcept nogil:
    """One KeyValue message that nobody has looked into. A key that is a word was checked before."""
    cdef Slice value
    cdef Entry* entry
    if not is_expected_pair(attributes, key_value, &value):
        return add_unexpected_attribute(attributes, key_value, arena, findings)
    entry = add_entry(attributes, attributes.key_words.latest, value)
    if entry.is_text:
        if not is_ascii(entry.value.at, entry.value.end):
            findings.bad_texts += not is_wide_utf8(entry.value.at, entry.value.end)
        return VALID
    if is_plain_number(value):
        return VALID
    return check_message(value, ANY_VALUE, 0, findings)
