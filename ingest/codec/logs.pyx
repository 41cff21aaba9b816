"""Log records as rows of tf_logs. Field numbers: opentelemetry/proto/logs/v1/logs.proto."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from ingest.codec.attributes cimport arrange, begin_attributes, put_attributes
from ingest.codec.columns cimport Column, Table, put_slice, put_word
from ingest.codec.encoding cimport (
    UNCORRELATED, Encoding, clamp_time, count_row, is_sound, is_zero, keep_original_time,
    next_item_field, place_in_time, put_item, put_origin, take_new,
)
from ingest.codec.memory cimport Slice, put_bytes, put_text, put_u32, put_u64, put_u8
from ingest.codec.tables import TABLES
from ingest.codec.values cimport STRING_VALUE, Value, put_value, read_value
from ingest.codec.wire cimport FIXED32, FIXED64, LENGTH, Field, Parts, add_part, joined


cdef struct LogRecord:
    Slice trace_id
    Slice span_id
    Slice severity_text
    Slice event_name
    Parts body
    uint64_t time
    uint64_t observed
    uint32_t severity
    uint32_t flags
    uint32_t dropped_attributes

_names = [name for name, _type in TABLES["tf_logs"]]
cdef int TIMESTAMP = _names.index("Timestamp")
cdef int ATTRIBUTES = _names.index("LogAttributes")
cdef enum:
    SEVERITY_MAX = 24


cdef bint read_record(
    Encoding* encoding, const uint8_t* kinds, Slice message, LogRecord* record
) noexcept nogil:
    """False when it is unsound."""
    cdef Field field
    cdef const uint8_t* tag
    memset(record, 0, sizeof(LogRecord))
    begin_attributes(&encoding.item_attributes)
    while True:
        tag = message.at
        if not next_item_field(encoding, kinds, 6, &message, &field):
            break
        if field.type == LENGTH:
            if field.number == 5:
                add_part(&record.body, field.text, tag)
            elif field.number == 3:
                record.severity_text = field.text
            elif field.number == 9:
                record.trace_id = field.text
            elif field.number == 10:
                record.span_id = field.text
            elif field.number == 12:
                record.event_name = field.text
        elif field.type == FIXED64:
            if field.number == 1:
                record.time = field.scalar
            elif field.number == 11:
                record.observed = field.scalar
        elif field.type == FIXED32:
            if field.number == 8:
                record.flags = <uint32_t>field.scalar
        elif field.number == 2:
            record.severity = <uint32_t>field.scalar
        elif field.number == 7:
            record.dropped_attributes = <uint32_t>field.scalar
    return is_sound(encoding)


cdef void put_ids(Encoding* encoding, Column* column, LogRecord* record) noexcept nogil:
    """TraceId and SpanId; a record with an id of a wrong length is kept, but uncorrelated."""
    cdef uint8_t[16] none
    cdef size_t trace_bytes = record.trace_id.end - record.trace_id.at
    cdef size_t span_bytes = record.span_id.end - record.span_id.at
    cdef bint correlated = (trace_bytes == 16 or is_zero(record.trace_id)) and (
        span_bytes == 8 or is_zero(record.span_id)
    )
    memset(none, 0, 16)
    if not correlated:
        encoding.tally.warnings[UNCORRELATED] += 1
    put_bytes(&column[0].data, record.trace_id.at if correlated and trace_bytes == 16 else none, 16)
    put_bytes(&column[1].data, record.span_id.at if correlated and span_bytes == 8 else none, 8)


cdef void put_body(Encoding* encoding, Column* column, Slice body) noexcept nogil:
    cdef Value value = read_value(body, &encoding.arena)
    if value.member == STRING_VALUE:
        put_slice(column, value.text)
        return
    encoding.series.used = 0
    put_value(value, &encoding.series, &encoding.arena)
    put_text(&column.data, encoding.series.data, encoding.series.used)


cdef bint put_log_row(
    Encoding* encoding, Table* table, Slice message, void* parent
) noexcept nogil:
    cdef LogRecord record
    cdef int64_t time
    cdef bint replaced
    cdef Column* column = &table.columns[TIMESTAMP]
    cdef uint64_t sent
    if not read_record(encoding, table.item_kinds, message, &record):
        return False
    sent = record.time if record.time else record.observed
    if not place_in_time(encoding, sent, &time, &replaced):
        return False
    if encoding.guard != NULL and not take_new(encoding, 0):
        return False
    if replaced:
        keep_original_time(encoding, sent)
    else:
        arrange(&encoding.item_attributes, &encoding.arena)
    put_u64(&column[0].data, <uint64_t>time)
    put_u64(
        &column[1].data,
        <uint64_t>(clamp_time(encoding, record.observed) if record.observed else encoding.received),
    )
    put_ids(encoding, &column[2], &record)
    put_u32(&column[4].data, record.flags)
    put_word(&column[5], record.severity_text)
    put_u8(&column[6].data, <uint8_t>(record.severity if record.severity <= SEVERITY_MAX else 0))
    put_body(encoding, &column[7], joined(&record.body, 5, message, &encoding.arena))
    put_origin(encoding, table)
    column = &table.columns[ATTRIBUTES]
    put_attributes(&encoding.item_attributes, column, &encoding.scratch, &encoding.arena)
    put_u32(&column[1].data, record.dropped_attributes)
    put_word(&column[2], record.event_name)
    count_row(table, time)
    return True


cdef int put_log_record(Encoding* encoding, Slice record) noexcept nogil:
    return put_item(encoding, 0, put_log_row, record, NULL)
