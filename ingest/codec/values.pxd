"""OTLP attribute values (AnyValue) as text."""

from libc.stdint cimport uint32_t, uint64_t

from ingest.codec.memory cimport Arena, Buffer, Slice, put_bytes


# The member of an AnyValue that counts: its field number, 0 when unset.
cdef enum:
    UNSET = 0
    STRING_VALUE = 1
    BOOL_VALUE = 2
    INT_VALUE = 3
    DOUBLE_VALUE = 4
    ARRAY_VALUE = 5
    KEY_VALUE_LIST_VALUE = 6
    BYTES_VALUE = 7
    STRING_INDEX_VALUE = 8


cdef struct Value:
    uint32_t member
    uint64_t scalar
    Slice text  # of a string, bytes, or the encoded list


# A key and a not yet decoded AnyValue.
cdef struct KeyValue:
    Slice key
    Slice value


cdef Value read_value(Slice message, Arena* arena) noexcept nogil
cdef KeyValue read_key_value(Slice message, Arena* arena) noexcept nogil
cdef void put_value(Value value, Buffer* out, Arena* arena) noexcept nogil
cdef void put_json_text(Slice text, Buffer* out) noexcept nogil
cdef void put_double(double value, Buffer* out) noexcept nogil
cdef void put_decimal(uint64_t value, Buffer* out) noexcept nogil
cdef void put_hex(Slice raw, Buffer* out) noexcept nogil
cdef void sort_keys(Slice* keys, uint32_t* order, uint32_t* spare, uint32_t count) noexcept nogil


cdef inline void put_bool(bint value, Buffer* out) noexcept nogil:
    put_bytes(out, b"true" if value else b"false", 4 if value else 5)
