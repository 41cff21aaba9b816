"""Rejected items as they are told: what they were, and no values of theirs.

Field numbers: opentelemetry/proto/{trace,logs,metrics}/v1.
"""

from libc.stdint cimport uint32_t, uint64_t

from ingest.codec.memory cimport Buffer, Slice
from ingest.codec.wire cimport FIXED64, LENGTH, Field, next_field

from ingest.codec.results import (
    REASONS, REJECTED_KEYS_MAX, REJECTED_TEXT_CHARACTERS_MAX, RejectedItem,
)


# Of a kind of item, the fields that are told; 0 = it has none.
cdef struct Numbers:
    uint32_t trace_id
    uint32_t span_id
    uint32_t name
    uint32_t time
    uint32_t other_time  # where the first is missing
    uint32_t attributes

cdef Numbers[5] NUMBERS = [
    Numbers(1, 2, 5, 7, 0, 9),  # Span
    Numbers(9, 10, 12, 1, 11, 6),  # LogRecord
    Numbers(0, 0, 0, 3, 0, 7),  # NumberDataPoint, SummaryDataPoint
    Numbers(0, 0, 0, 3, 0, 9),  # HistogramDataPoint
    Numbers(0, 0, 0, 3, 0, 1),  # ExponentialHistogramDataPoint
]
_KINDS = {
    "tf_traces": 0, "tf_logs": 1, "tf_metrics_gauge": 2, "tf_metrics_sum": 2,
    "tf_metrics_summary": 2, "tf_metrics_histogram": 3, "tf_metrics_exponential_histogram": 4,
}


cdef tuple described(Buffer* rejections, tuple tables):
    """A RejectedItem of each Rejection; *tables* are those that their numbers mean."""
    cdef size_t place
    cdef Rejection* one
    cdef Numbers* numbers
    cdef Slice service
    if rejections.used == 0:
        return ()
    found = []
    for place in range(rejections.used // sizeof(Rejection)):
        one = <Rejection*>rejections.data + place
        numbers = &NUMBERS[<int>_KINDS[tables[one.table]]]
        service.at = one.service
        service.end = service.at + one.service_bytes
        found.append(RejectedItem(REASONS[one.reason], text(service), *_item(one, numbers)))
    return tuple(found)


cdef tuple _item(Rejection* one, Numbers* numbers):
    cdef Slice rest = one.item
    cdef Slice name = one.parent_name
    cdef Slice trace_id
    cdef Slice span_id
    cdef Field field
    cdef uint64_t time = 0
    cdef uint64_t other_time = 0
    trace_id.at = trace_id.end = span_id.at = span_id.end = rest.end
    keys = []
    while next_field(&rest, &field):
        if field.type == LENGTH:
            if field.number == numbers.trace_id:
                trace_id = field.text
            elif field.number == numbers.span_id:
                span_id = field.text
            elif field.number == numbers.name:
                name = field.text
            elif field.number == numbers.attributes and len(keys) < REJECTED_KEYS_MAX:
                keys.append(_key(field.text))
        elif field.type == FIXED64:
            if field.number == numbers.time:
                time = field.scalar
            elif field.number == numbers.other_time:
                other_time = field.scalar
    return text(name), digits(trace_id), digits(span_id), time or other_time, tuple(keys)


cdef str _key(Slice key_value):
    cdef Field field
    cdef Slice key
    key.at = key.end = key_value.end
    while next_field(&key_value, &field):
        if field.number == 1 and field.type == LENGTH:
            key = field.text
    return text(key)


cdef str text(Slice raw):
    """Its first characters; a cut goes through none."""
    cdef size_t size = min(raw.end - raw.at, TEXT_BYTES_MAX)
    return raw.at[:size].decode("utf-8", "ignore")[:REJECTED_TEXT_CHARACTERS_MAX]


cdef str digits(Slice raw):
    """Its first digits in hex."""
    cdef size_t size = min(raw.end - raw.at, TEXT_BYTES_MAX)
    return raw.at[:size].hex()[:REJECTED_TEXT_CHARACTERS_MAX]
