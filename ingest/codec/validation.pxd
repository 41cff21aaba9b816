"""First pass over a request: is it OTLP protobuf, and is its text UTF-8?"""

from libc.stdint cimport uint32_t, uint8_t

from ingest.codec.memory cimport Buffer, Slice

cdef enum MessageType:
    NO_MESSAGE = 0
    EXPORT_TRACES = 1
    EXPORT_LOGS = 2
    EXPORT_METRICS = 3


cdef enum Verdict:
    VALID = 0
    BAD_TAG = 1
    TRUNCATED = 2
    BAD_VARINT = 3
    BAD_LENGTH = 4
    BAD_GROUP = 5
    TOO_DEEP = 6


cdef struct Findings:
    Verdict verdict
    const uint8_t* at  # where the verdict fell, when not VALID
    uint32_t bad_texts  # string fields that are not UTF-8
    uint32_t string_indices  # key_strindex and string_value_strindex fields


cdef Findings validate(Slice body, MessageType type) noexcept nogil
cdef object malformed(Findings* findings, const uint8_t* body)
cdef void repair(Slice body, MessageType type, Buffer* out) noexcept nogil
