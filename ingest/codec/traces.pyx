"""Spans as rows of tf_traces. Field numbers: opentelemetry/proto/trace/v1/trace.proto."""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from ingest.codec.attributes cimport add_attribute, arrange, begin_attributes, put_attributes
from ingest.codec.columns cimport Column, Table, end_array, put_slice, put_word
from ingest.codec.encoding cimport (
    INVALID_PARENT_SPAN_ID, INVALID_SPAN_ID, INVALID_TRACE_ID, Encoding, clamp_time, count_row,
    is_sound, is_zero, keep_original_time, next_item_field, place_in_time, put_event_attributes, put_hex_text,
    put_item, put_origin, refuse, take_new,
)
from ingest.codec.memory cimport Slice, put_bytes, put_u32, put_u64
from ingest.codec.tables import TABLES
from ingest.codec.wire cimport (
    FIXED32, FIXED64, LENGTH, VARINT, Field, Parts, add_part, joined, next_field,
)


cdef struct Span:
    Slice trace_id
    Slice span_id
    Slice parent_span_id
    Slice trace_state
    Slice name
    Parts status
    uint64_t start
    uint64_t end
    uint32_t kind
    uint32_t flags
    uint32_t dropped_attributes
    uint32_t dropped_events
    uint32_t dropped_links
    uint32_t events
    uint32_t links

cdef enum:
    EVENT = 0
    LINK = 1

# Places of the columns, by their order in tables.py.
_names = [name for name, _type in TABLES["tf_traces"]]
cdef int TIMESTAMP = _names.index("Timestamp")
cdef int ATTRIBUTES = _names.index("SpanAttributes")
cdef int EVENTS = _names.index("Events.Timestamp")
cdef int LINKS = _names.index("Links.TraceId")

# SpanKind and StatusCode by number, as the exporter spells them.
cdef Slice[6] KINDS
cdef Slice[3] CODES
_kind_names = (b"Unspecified", b"Internal", b"Server", b"Client", b"Producer", b"Consumer")
_code_names = (b"Unset", b"Ok", b"Error")


cdef Slice slice_of(bytes text):
    cdef Slice whole
    whole.at = <const uint8_t*>PyBytes_AS_STRING(text)
    whole.end = whole.at + len(text)
    return whole


cdef int _number
for _number in range(6):
    KINDS[_number] = slice_of(_kind_names[_number])
for _number in range(3):
    CODES[_number] = slice_of(_code_names[_number])


cdef void read_span_text(Span* span, Field* field, const uint8_t* tag) noexcept nogil:
    if field.number == 1:
        span.trace_id = field.text
    elif field.number == 2:
        span.span_id = field.text
    elif field.number == 3:
        span.trace_state = field.text
    elif field.number == 4:
        span.parent_span_id = field.text
    elif field.number == 5:
        span.name = field.text
    elif field.number == 11:
        span.events += 1
    elif field.number == 13:
        span.links += 1
    elif field.number == 15:
        add_part(&span.status, field.text, tag)


cdef bint read_span(
    Encoding* encoding, const uint8_t* kinds, Slice message, Span* span
) noexcept nogil:
    """False when it is unsound."""
    cdef Field field
    cdef const uint8_t* tag
    memset(span, 0, sizeof(Span))
    begin_attributes(&encoding.item_attributes)
    while True:
        tag = message.at
        if not next_item_field(encoding, kinds, 9, &message, &field):
            break
        if field.type == LENGTH:
            read_span_text(span, &field, tag)
        elif field.type == FIXED64:
            if field.number == 7:
                span.start = field.scalar
            elif field.number == 8:
                span.end = field.scalar
        elif field.type == FIXED32:
            if field.number == 16:
                span.flags = <uint32_t>field.scalar
        elif field.number == 6:
            span.kind = <uint32_t>field.scalar
        elif field.number == 10:
            span.dropped_attributes = <uint32_t>field.scalar
        elif field.number == 12:
            span.dropped_events = <uint32_t>field.scalar
        elif field.number == 14:
            span.dropped_links = <uint32_t>field.scalar
    return is_sound(encoding)


cdef bint has_valid_ids(Encoding* encoding, Span* span) noexcept nogil:
    cdef size_t parent = span.parent_span_id.end - span.parent_span_id.at
    if span.trace_id.end - span.trace_id.at != 16 or is_zero(span.trace_id):
        refuse(encoding, INVALID_TRACE_ID)
    elif span.span_id.end - span.span_id.at != 8 or is_zero(span.span_id):
        refuse(encoding, INVALID_SPAN_ID)
    elif parent != 8 and not is_zero(span.parent_span_id):
        refuse(encoding, INVALID_PARENT_SPAN_ID)
    else:
        return True
    return False


cdef void put_events(Encoding* encoding, Column* column, Slice span, uint32_t count) noexcept nogil:
    """Events.{Timestamp, Name, Attributes, DroppedAttributesCount}."""
    cdef Field field
    if count:
        while next_field(&span, &field):
            if field.number == 11 and field.type == LENGTH:
                put_event(encoding, column, field.text)
    end_array(column, count)


cdef void put_event(Encoding* encoding, Column* column, Slice event) noexcept nogil:
    cdef Field field
    cdef Slice name
    cdef uint64_t time = 0
    cdef uint32_t dropped = 0
    name.at = name.end = event.end
    begin_attributes(&encoding.part_attributes[EVENT])
    while next_field(&event, &field):
        if field.number == 1 and field.type == FIXED64:
            time = field.scalar
        elif field.number == 2 and field.type == LENGTH:
            name = field.text
        elif field.number == 3 and field.type == LENGTH:
            add_attribute(&encoding.part_attributes[EVENT], field.text, &encoding.arena)
        elif field.number == 4 and field.type == VARINT:
            dropped = <uint32_t>field.scalar
    put_u64(&column[0].data, <uint64_t>clamp_time(encoding, time))
    put_word(column + 1, name)
    put_event_attributes(encoding, EVENT, column + 2)
    put_u32(&column[3].data, dropped)


cdef void put_links(Encoding* encoding, Column* column, Slice span, uint32_t count) noexcept nogil:
    """Links.{TraceId, SpanId, TraceState, Attributes, DroppedAttributesCount, Flags}."""
    cdef Field field
    if count:
        while next_field(&span, &field):
            if field.number == 13 and field.type == LENGTH:
                put_link(encoding, column, field.text)
    end_array(column, count)


cdef void put_link(Encoding* encoding, Column* column, Slice link) noexcept nogil:
    cdef Field field
    cdef Slice[3] texts  # trace id, span id, trace state
    cdef uint32_t dropped = 0
    cdef uint32_t flags = 0
    texts[0].at = texts[0].end = link.end
    texts[1] = texts[2] = texts[0]
    begin_attributes(&encoding.part_attributes[LINK])
    while next_field(&link, &field):
        if field.type == LENGTH and 1 <= field.number <= 3:
            texts[field.number - 1] = field.text
        elif field.type == LENGTH and field.number == 4:
            add_attribute(&encoding.part_attributes[LINK], field.text, &encoding.arena)
        elif field.type == VARINT and field.number == 5:
            dropped = <uint32_t>field.scalar
        elif field.type == FIXED32 and field.number == 6:
            flags = <uint32_t>field.scalar
    put_hex_text(encoding, column, texts[0])
    put_hex_text(encoding, column + 1, texts[1])
    put_slice(column + 2, texts[2])
    put_event_attributes(encoding, LINK, column + 3)
    put_u32(&column[4].data, dropped)
    put_u32(&column[5].data, flags)


cdef void put_status(Column* column, Slice status) noexcept nogil:
    """StatusCode and StatusMessage."""
    cdef Field field
    cdef Slice message
    cdef uint32_t code = 0
    message.at = message.end = status.end
    while next_field(&status, &field):
        if field.number == 2 and field.type == LENGTH:
            message = field.text
        elif field.number == 3 and field.type == VARINT:
            code = <uint32_t>field.scalar
    if code > 2:
        code = 0
    put_word(column, CODES[code])
    put_word(column + 1, message)


cdef bint put_span_row(
    Encoding* encoding, Table* table, Slice message, void* parent
) noexcept nogil:
    cdef Span span
    cdef int64_t time
    cdef bint replaced
    cdef uint64_t duration = 0
    cdef uint64_t no_parent = 0
    cdef Column* column = &table.columns[TIMESTAMP]
    if not read_span(encoding, table.item_kinds, message, &span):
        return False
    if not has_valid_ids(encoding, &span):
        return False
    if not place_in_time(encoding, span.start, &time, &replaced):
        return False
    if encoding.guard != NULL and not take_new(encoding, 0):
        return False
    if replaced:
        keep_original_time(encoding, span.start)
    else:
        arrange(&encoding.item_attributes, &encoding.arena)
    if span.start and span.end > span.start:
        duration = span.end - span.start
    put_u64(&column[0].data, <uint64_t>time)
    put_bytes(&column[1].data, span.trace_id.at, 16)
    put_bytes(&column[2].data, span.span_id.at, 8)
    if span.parent_span_id.end - span.parent_span_id.at == 8:
        put_bytes(&column[3].data, span.parent_span_id.at, 8)
    else:
        put_u64(&column[3].data, no_parent)
    put_word(&column[4], span.trace_state)
    put_u32(&column[5].data, span.flags)
    put_word(&column[6], span.name)
    if span.kind > 5:
        span.kind = 0
    put_word(&column[7], KINDS[span.kind])
    put_origin(encoding, table)
    column = &table.columns[ATTRIBUTES]
    put_attributes(&encoding.item_attributes, column, &encoding.scratch, &encoding.arena)
    put_u32(&column[1].data, span.dropped_attributes)
    put_u64(&column[2].data, duration)
    put_status(&column[3], joined(&span.status, 15, message, &encoding.arena))
    put_events(encoding, &table.columns[EVENTS], message, span.events)
    put_u32(&table.columns[EVENTS + 4].data, span.dropped_events)
    put_links(encoding, &table.columns[LINKS], message, span.links)
    put_u32(&table.columns[LINKS + 6].data, span.dropped_links)
    count_row(table, time)
    return True


cdef int put_span(Encoding* encoding, Slice span) noexcept nogil:
    return put_item(encoding, 0, put_span_row, span, NULL)
