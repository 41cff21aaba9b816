"""What the three signals have in common: resources, scopes, times, limits.

An OTLP request is resources of scopes of items; the field numbers are the same for each signal.
The body was validated before, so nothing here can fail but for memory and room in the block.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove

from ingest.codec.attributes cimport (
    Attributes, add_attribute, add_text_attribute, arrange, begin_attributes,
    put_attributes, put_series,
)
from ingest.codec.cardinality cimport (
    NEW_SERIES, NO_EXCESS, Excess, put_key_hashes, take_item,
)
from ingest.codec.columns cimport (
    Column, Table, end_map, mark_table, put_word, roll_back_table, table_bytes,
)
from ingest.codec.dictionary cimport text_of, word_of, word_of_slice
from ingest.codec.hashing cimport add_stripes, no_stripes
from ingest.codec.memory cimport (
    Buffer, Slice, put_bytes, put_u32, put_u64, put_u8, reserve, take,
)
from ingest.codec.rejections cimport TEXT_BYTES_MAX, Rejection
from ingest.codec.validation cimport Verdict, check_message
from ingest.codec.values cimport put_decimal, put_json_text
from ingest.codec.wire cimport LENGTH, VARINT, Field, Parts, add_part, joined, next_field

cdef enum:
    REJECTIONS_KEPT_MAX = 5  # of one reason and request; see REJECTED_ITEMS_MAX
    # The most that one byte of a request can become in a block: an empty exemplar is 2 bytes on
    # the wire and 36 in its columns.
    GROWTH_MAX = 20
    ROW_BYTES_MAX = 1024  # fixed-width columns and offsets of one row, in any table

cdef uint64_t INT64_MAX = 0x7FFFFFFFFFFFFFFF
cdef uint64_t GUARDED_PRIME = 0x100000001B3  # of the FNV hash
cdef uint64_t YEAR_2000 = <uint64_t>946684800 * 1000000000
cdef const char* ORIGINAL_TIME = b"telemetryflow.original_time_unix_nano"
cdef const char* TENANT_ID = b"telemetryflow.tenant.id"
cdef const char* WORKSPACE_ID = b"telemetryflow.workspace.id"


cdef uint64_t origin_bytes(Encoding* encoding) noexcept nogil:
    return (
        encoding.resource_column.keys.used + encoding.resource_column.data.used
        + encoding.scope_column.keys.used + encoding.scope_column.data.used
    )


cdef int put_item(
    Encoding* encoding, int table, PutRow put_row, Slice item, void* parent
) noexcept nogil:
    """Adds one item, in a new part when it does not fit behind what this request wrote so far."""
    cdef Table* target = &encoding.tables[table]
    cdef uint64_t bound
    if encoding.refusal != REASONS:
        refuse(encoding, encoding.refusal)
        encoding.findings.verdict = <Verdict>check_message(
            item, target.item_type, 0, &encoding.findings
        )
        if is_sound(encoding):
            keep_rejection(encoding, table, item)
        return encoding.found
    bound = (
        <uint64_t>(item.end - item.at) * GROWTH_MAX + ROW_BYTES_MAX + origin_bytes(encoding)
        + encoding.parent_bytes
    )
    encoding.bytes_bound[table] += bound
    encoding.words_are_fresh = False
    if target.rows < encoding.rows_max and encoding.bytes_bound[table] <= encoding.bytes_max:
        take_row(encoding, table, put_row, item, parent)
        return encoding.found
    return put_near_limit(encoding, table, put_row, item, parent, bound)


cdef inline bint take_row(
    Encoding* encoding, int table, PutRow put_row, Slice item, void* parent
) noexcept nogil:
    if put_row(encoding, &encoding.tables[table], item, parent):
        encoding.tally.accepted += 1
        return True
    if encoding.found == DONE:
        keep_rejection(encoding, table, item)
    return False


cdef void keep_rejection(Encoding* encoding, int table, Slice item) noexcept nogil:
    """Notes the item that was just refused, if it is one of the first of its reason."""
    cdef Rejection one
    cdef Slice service
    if encoding.tally.rejected[encoding.refused_for] > REJECTIONS_KEPT_MAX:
        return
    service = text_of(origin_column(encoding, SERVICE_NAME).words, encoding.origin.service_name)
    one.reason = encoding.refused_for
    one.table = table
    one.item = item
    one.parent_name = encoding.parent_name
    one.service_bytes = <uint32_t>min(service.end - service.at, TEXT_BYTES_MAX)
    memcpy(one.service, service.at, one.service_bytes)
    put_bytes(&encoding.rejections, &one, sizeof(Rejection))


cdef int put_near_limit(
    Encoding* encoding, int table, PutRow put_row, Slice item, void* parent, uint64_t bound
) noexcept nogil:
    """As `put_item`, where the row may pass a limit of the block."""
    cdef Table* target = &encoding.tables[table]
    cdef Tally before = encoding.tally
    cdef uint64_t bytes_open = table_bytes(target)
    cdef int status
    if target.rows < encoding.rows_max and bytes_open + bound <= encoding.bytes_max:
        encoding.bytes_bound[table] = bytes_open + bound
        take_row(encoding, table, put_row, item, parent)
        return encoding.found
    if not encoding.began_empty:
        # It might still fit, but to close a block that is nearly full is cheaper than to find out.
        return BLOCK_FULL
    mark_table(target)
    if not take_row(encoding, table, put_row, item, parent):
        return encoding.found
    encoding.bytes_bound[table] = table_bytes(target)
    if target.rows <= encoding.rows_max and encoding.bytes_bound[table] <= encoding.bytes_max:
        return DONE
    roll_back_table(target)
    encoding.tally = before
    if target.rows == 0 and encoding.words_are_fresh:
        refuse(encoding, ITEM_TOO_LARGE)
        keep_rejection(encoding, table, item)
        return DONE
    status = encoding.renew(encoding, table)
    if status != DONE:
        return status
    return put_near_limit(encoding, table, put_row, item, parent, bound)


cdef void begin_origin_again(Encoding* encoding) noexcept nogil:
    """To be called when all words were forgotten in the middle of a request."""
    begin_resource(encoding, encoding.resource, encoding.resource_schema_url)
    begin_scope(encoding, encoding.scope, encoding.scope_schema_url)


cdef bint place_in_time(
    Encoding* encoding, uint64_t sent, int64_t* time, bint* replaced
) noexcept nogil:
    """The time that an item is stored under; False when it is older than its retention."""
    replaced[0] = False
    if sent == 0:
        time[0] = encoding.received
        return True
    if sent < YEAR_2000 or sent > <uint64_t>encoding.newest:
        replaced[0] = True
        time[0] = encoding.received
        return True
    time[0] = <int64_t>sent
    if time[0] < encoding.oldest:
        refuse(encoding, OLDER_THAN_RETENTION)
        return False
    return True


cdef uint64_t items_of(Tally* tally) noexcept nogil:
    """How many items came so far."""
    cdef uint64_t items = tally.accepted
    cdef int reason
    for reason in range(REASONS):
        items += tally.rejected[reason]
    return items


cdef bint take_new(Encoding* encoding, uint64_t series) noexcept nogil:
    """False for an item with more that is new than its tenant's guard, which there is, lets in.

    To be asked last: nothing else may reject the item but its size.
    """
    cdef Excess excess
    encoding.scratch.used = 0
    if encoding.guard.keys.max_new:
        arrange(&encoding.item_attributes, &encoding.arena)
        if not encoding.origin_is_known:
            put_key_hashes(&encoding.resource_attributes, &encoding.scratch)
            put_key_hashes(&encoding.scope_attributes, &encoding.scratch)
        put_key_hashes(&encoding.item_attributes, &encoding.scratch)
    excess = take_item(encoding.guard, series, &encoding.scratch)
    if excess == NO_EXCESS:
        encoding.origin_is_known = True
        return True
    encoding.tally.guarded = encoding.tally.guarded * GUARDED_PRIME + items_of(&encoding.tally) + 1
    refuse(encoding, TOO_MANY_NEW_SERIES if excess == NEW_SERIES else TOO_MANY_ATTRIBUTE_KEYS)
    return False


cdef void keep_original_time(Encoding* encoding, uint64_t sent) noexcept nogil:
    """Adds the time that a broken clock gave to the item's attributes, and arranges them."""
    cdef Slice key
    cdef Slice text
    encoding.tally.warnings[CLOCK_OUT_OF_RANGE] += 1
    encoding.scratch.used = 0
    put_decimal(sent, &encoding.scratch)
    text.at = encoding.scratch.data
    text.end = text.at + encoding.scratch.used
    key.at = <const uint8_t*>ORIGINAL_TIME
    key.end = key.at + 37
    add_text_attribute(&encoding.item_attributes, key, text, &encoding.arena)
    arrange(&encoding.item_attributes, &encoding.arena)


cdef int64_t clamp_time(Encoding* encoding, uint64_t sent) noexcept nogil:
    """A time that is kept as it was sent, up to what DateTime64 holds."""
    if sent > INT64_MAX:
        encoding.tally.warnings[CLOCK_OUT_OF_RANGE] += 1
        return <int64_t>INT64_MAX
    return <int64_t>sent


cdef inline uint64_t put_map_of(Column* source, Column* target) noexcept nogil:
    """Returns what its entries take."""
    put_bytes(&target.keys, source.keys.data, source.keys.used)
    put_bytes(&target.data, source.data.data, source.data.used)
    end_map(target)
    return source.keys.used + source.data.used


cdef void begin_run(Encoding* encoding, Table* table) noexcept nogil:
    """Writes what the rows from here on share."""
    cdef Column* column = &table.columns[encoding.origin_at]
    cdef Origin* origin = &encoding.origin
    put_u64(&table.runs, table.rows)
    table.run_origin = origin.number
    table.run_bytes = table.run_row_bytes
    put_word(&table.columns[TENANT], encoding.tenant)
    put_bytes(&table.columns[RETENTION_DAYS].data, &encoding.retention_days, 2)
    put_u32(&column[SERVICE_NAME].data, origin.service_name)
    put_u32(&column[RESOURCE_SCHEMA_URL].data, origin.resource_schema_url)
    table.run_bytes += put_map_of(&encoding.resource_column, &column[RESOURCE_ATTRIBUTES])
    put_u32(&column[RESOURCE_DROPPED].data, origin.resource_dropped)
    put_u32(&column[RESOURCE_ENTITY_REFS].data, origin.entity_refs)
    put_u32(&column[SCOPE_SCHEMA_URL].data, origin.scope_schema_url)
    put_u32(&column[SCOPE_NAME].data, origin.scope_name)
    put_u32(&column[SCOPE_VERSION].data, origin.scope_version)
    table.run_bytes += put_map_of(&encoding.scope_column, &column[SCOPE_ATTRIBUTES])
    put_u32(&column[SCOPE_DROPPED].data, origin.scope_dropped)


cdef inline Column* origin_column(Encoding* encoding, int which) noexcept nogil:
    return &encoding.tables[0].columns[encoding.origin_at + which]


cdef void encode_map(Encoding* encoding, Attributes* attributes, Column* column) noexcept nogil:
    """Replaces what *column*, of no table, holds."""
    column.keys.used = 0
    column.data.used = 0
    column.map_ends.used = 0
    arrange(attributes, &encoding.arena)
    put_attributes(attributes, column, &encoding.scratch, &encoding.arena)


cdef uint32_t service_name(Encoding* encoding) noexcept nogil:
    """The resource's service.name as text, '' without one."""
    cdef Attributes* attributes = &encoding.resource_attributes
    cdef Column* column = &encoding.resource_column
    cdef uint32_t position
    cdef uint32_t* key = <uint32_t*>column.keys.data
    cdef uint32_t* value = <uint32_t*>column.data.data
    cdef Slice text
    for position in range(attributes.kept):
        text = text_of(column.key_words, key[position])
        if is_text(text, b"service.name", 12):
            text = text_of(column.words, value[position])
            return word_of_slice(origin_column(encoding, SERVICE_NAME).words, text)
    return 0


cdef inline bint is_text(Slice text, const char* other, size_t size) noexcept nogil:
    return <size_t>(text.end - text.at) == size and memcmp(text.at, other, size) == 0


cdef inline bint names_another(Slice named, Slice ours) noexcept nogil:
    return named.at != named.end and not is_text(named, <const char*>ours.at, ours.end - ours.at)


cdef int refusal_of(Encoding* encoding) noexcept nogil:
    """Why no item of the resource may be taken, by what it says of its tenant; else REASONS."""
    cdef Column* column = &encoding.resource_column
    cdef uint32_t position
    cdef uint32_t* key = <uint32_t*>column.keys.data
    cdef uint32_t* value = <uint32_t*>column.data.data
    cdef bint is_of_a_tenant = encoding.tenant.at != encoding.tenant.end
    cdef int refusal = REASONS if is_of_a_tenant else TENANT_MISSING
    cdef Slice text
    cdef Slice named
    for position in range(encoding.resource_attributes.kept):
        text = text_of(column.key_words, key[position])
        if is_text(text, TENANT_ID, 23):
            if names_another(text_of(column.words, value[position]), encoding.tenant):
                refusal = TENANT_CONTRADICTION
        elif is_text(text, WORKSPACE_ID, 26) and encoding.workspace.at != encoding.workspace.end:
            named = text_of(column.words, value[position])
            if names_another(named, encoding.workspace):
                refusal = TENANT_CONTRADICTION
    return refusal


cdef void put_entity_ref(Slice message, Buffer* out) noexcept nogil:
    """One EntityRef as JSON: its two texts, then its two lists of attribute keys."""
    cdef Slice[2] texts
    cdef Slice rest = message
    cdef Field field
    cdef uint32_t number
    cdef bint first
    texts[0].at = texts[0].end = texts[1].at = texts[1].end = message.end
    while next_field(&rest, &field):
        if field.type == LENGTH and 1 <= field.number <= 2:
            texts[field.number - 1] = field.text
    put_bytes(out, b'{"schemaUrl":', 13)
    put_json_text(texts[0], out)
    put_bytes(out, b',"type":', 8)
    put_json_text(texts[1], out)
    for number in range(3, 5):
        put_bytes(out, b',"idKeys":[' if number == 3 else b',"descriptionKeys":[', 11 if number == 3 else 20)
        rest = message
        first = True
        while next_field(&rest, &field):
            if field.type == LENGTH and field.number == number:
                if not first:
                    put_u8(out, b",")
                first = False
                put_json_text(field.text, out)
        put_u8(out, b"]")
    put_u8(out, b"}")


cdef uint32_t entity_refs(Encoding* encoding, Slice resource) noexcept nogil:
    """The resource's entity_refs as a JSON array, '' without any."""
    cdef Buffer* out = &encoding.scratch
    cdef Field field
    out.used = 0
    while next_field(&resource, &field):
        if field.type == LENGTH and field.number == 3:
            put_u8(out, b"," if out.used else b"[")
            put_entity_ref(field.text, out)
    if out.used == 0:
        return 0
    put_u8(out, b"]")
    return word_of(origin_column(encoding, RESOURCE_ENTITY_REFS).words, out.data, out.used)


cdef void begin_resource(Encoding* encoding, Slice resource, Slice schema_url) noexcept nogil:
    cdef Slice rest = resource
    cdef Field field
    cdef Origin* origin = &encoding.origin
    encoding.resource = resource
    encoding.resource_schema_url = schema_url
    origin.resource_dropped = 0
    begin_attributes(&encoding.resource_attributes)
    while next_field(&rest, &field):
        if field.number == 1 and field.type == LENGTH:
            add_attribute(&encoding.resource_attributes, field.text, &encoding.arena)
        elif field.number == 2 and field.type == VARINT:
            origin.resource_dropped = <uint32_t>field.scalar
    encode_map(encoding, &encoding.resource_attributes, &encoding.resource_column)
    encoding.refusal = refusal_of(encoding)
    begin_series(encoding)
    origin.service_name = service_name(encoding)
    origin.entity_refs = entity_refs(encoding, resource)
    origin.resource_schema_url = word_of_slice(
        origin_column(encoding, RESOURCE_SCHEMA_URL).words, schema_url
    )


cdef void begin_series(Encoding* encoding) noexcept nogil:
    """Hashes the resource's attributes as far as all series of the resource share it."""
    cdef Origin* origin = &encoding.origin
    cdef size_t taken
    origin.series.used = 0
    put_series(&encoding.resource_attributes, &origin.series, &encoding.scratch, &encoding.arena)
    put_u8(&origin.series, 0)
    origin.stripes = no_stripes()
    taken = add_stripes(&origin.stripes, origin.series.data, origin.series.used)
    origin.series.used -= taken
    memmove(origin.series.data, origin.series.data + taken, origin.series.used)


cdef void begin_scope(Encoding* encoding, Slice scope, Slice schema_url) noexcept nogil:
    cdef Field field
    cdef Origin* origin = &encoding.origin
    cdef Slice[2] texts
    texts[0].at = texts[0].end = texts[1].at = texts[1].end = scope.end
    encoding.scope = scope
    encoding.scope_schema_url = schema_url
    encoding.origin_is_known = False
    origin.number += 1
    origin.scope_dropped = 0
    begin_attributes(&encoding.scope_attributes)
    while next_field(&scope, &field):
        if field.type == LENGTH and 1 <= field.number <= 2:
            texts[field.number - 1] = field.text
        elif field.type == LENGTH and field.number == 3:
            add_attribute(&encoding.scope_attributes, field.text, &encoding.arena)
        elif field.type == VARINT and field.number == 4:
            origin.scope_dropped = <uint32_t>field.scalar
    encode_map(encoding, &encoding.scope_attributes, &encoding.scope_column)
    origin.scope_name = word_of_slice(origin_column(encoding, SCOPE_NAME).words, texts[0])
    origin.scope_version = word_of_slice(origin_column(encoding, SCOPE_VERSION).words, texts[1])
    origin.scope_schema_url = word_of_slice(
        origin_column(encoding, SCOPE_SCHEMA_URL).words, schema_url
    )


cdef void put_event_attributes(Encoding* encoding, int which, Column* column) noexcept nogil:
    """Writes the attributes collected for a part of an item (an event, a link, an exemplar)."""
    arrange(&encoding.part_attributes[which], &encoding.arena)
    put_attributes(
        &encoding.part_attributes[which], column, &encoding.scratch, &encoding.arena
    )


cdef Slice head_of(Encoding* encoding, Slice message, Slice* schema_url) noexcept nogil:
    """The resource or scope of *message*, wherever it stands, and its schema URL."""
    cdef Parts heads
    cdef Field field
    cdef Slice rest = message
    cdef const uint8_t* tag
    heads.count = 0
    schema_url.at = message.end
    schema_url.end = message.end
    while True:
        tag = rest.at
        if not next_field(&rest, &field):
            break
        if field.type != LENGTH:
            continue
        if field.number == 1:
            add_part(&heads, field.text, tag)
        elif field.number == 3:
            schema_url[0] = field.text
    return joined(&heads, 1, message, &encoding.arena)


cdef int walk_scope(Encoding* encoding, Slice scope_items, PutScopeItem put) noexcept nogil:
    cdef Slice schema_url
    cdef Slice scope = head_of(encoding, scope_items, &schema_url)
    cdef Field field
    cdef int status
    begin_scope(encoding, scope, schema_url)
    while next_field(&scope_items, &field):
        if field.number == 2 and field.type == LENGTH:
            status = put(encoding, field.text)
            if status != DONE:
                return status
    return DONE


cdef int walk_request(Encoding* encoding, Slice body, PutScopeItem put) noexcept nogil:
    """Hands each item of the request to *put*, with `origin` set to its resource and scope."""
    cdef Field outer
    cdef Field inner
    cdef Slice resource_items
    cdef Slice schema_url
    cdef Slice resource
    cdef int status
    while next_field(&body, &outer):
        if outer.number != 1 or outer.type != LENGTH:
            continue
        resource_items = outer.text
        resource = head_of(encoding, resource_items, &schema_url)
        begin_resource(encoding, resource, schema_url)
        while next_field(&resource_items, &inner):
            if inner.number == 2 and inner.type == LENGTH:
                status = walk_scope(encoding, inner.text, put)
                if status != DONE:
                    return status
    return DONE
