"""Attributes of one item: collected as they come, then written sorted and without duplicates."""

from libc.stdint cimport uint8_t, uint32_t

from ingest.codec.columns cimport Column
from ingest.codec.dictionary cimport Dictionary, word_of_slice
from ingest.codec.memory cimport Arena, Buffer, Slice, reserve
from ingest.codec.values cimport KeyValue, read_key_value
from ingest.codec.wire cimport is_plain_pair

cdef enum:
    SHAPE_KEYS_MAX = 32
    SHAPES = 64


cdef struct Entry:
    Slice value  # an AnyValue message
    uint32_t key  # number of the key's word


# The keys of an item as they came, and the order in which they are written.
cdef struct Shape:
    uint32_t came
    uint32_t kept
    uint32_t[SHAPE_KEYS_MAX] keys
    uint32_t[SHAPE_KEYS_MAX] order


# `shapes` remembers how key sequences sort: instrumentation sends the same keys again and again.
cdef struct Attributes:
    Dictionary* key_words
    Buffer entries  # of Entry
    uint32_t* order  # positions of entries, in the order to write; kept of them
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


cdef inline void add_entry(Attributes* attributes, uint32_t key, Slice value) noexcept nogil:
    cdef Entry* entry
    reserve(&attributes.entries, sizeof(Entry))
    entry = <Entry*>(attributes.entries.data + attributes.entries.used)
    entry.key = key
    entry.value = value
    attributes.entries.used += sizeof(Entry)


cdef inline void add_attribute(
    Attributes* attributes, Slice key_value, Arena* arena
) noexcept nogil:
    """One KeyValue message."""
    cdef KeyValue pair
    if not is_plain_pair(key_value, &pair.key, &pair.value):
        pair = read_key_value(key_value, arena)
    add_entry(attributes, word_of_slice(attributes.key_words, pair.key), pair.value)
