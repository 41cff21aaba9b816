"""The state that every part of an encoder shares."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ingest.codec.attributes cimport Attributes, add_checked_attribute
from ingest.codec.cardinality cimport GuardState
from ingest.codec.columns cimport Column, Table
from ingest.codec.hashing cimport Stripes
from ingest.codec.memory cimport Arena, Buffer, Slice, put_text
from ingest.codec.validation cimport (
    VALID, Findings, Verdict, check_field, is_spotless, next_checked_field,
)
from ingest.codec.values cimport put_hex
from ingest.codec.wire cimport LENGTH, Field

cdef enum:
    INVALID_TRACE_ID = 0
    INVALID_SPAN_ID = 1
    INVALID_PARENT_SPAN_ID = 2
    OLDER_THAN_RETENTION = 3
    BUCKET_COUNTS_MISMATCH = 4
    ITEM_TOO_LARGE = 5
    TENANT_CONTRADICTION = 6
    TENANT_MISSING = 7
    TOO_MANY_NEW_SERIES = 8
    TOO_MANY_ATTRIBUTE_KEYS = 9
    REASONS = 10


cdef enum:
    CLOCK_OUT_OF_RANGE = 0
    UNCORRELATED = 1
    WARNINGS = 2


cdef enum:
    DONE = 0
    BLOCK_FULL = 1
    OUT_OF_MEMORY = 2
    UNSOUND = 3  # an item that was not validated is malformed, or needs repair


# Columns that rows of a request share. All tables begin with tenant and retention.
cdef enum:
    TENANT = 0
    RETENTION_DAYS = 1
    # Columns of a resource and a scope, from `origin_at` on, in the order of tables.py.
    SERVICE_NAME = 0
    RESOURCE_SCHEMA_URL = 1
    RESOURCE_ATTRIBUTES = 2
    RESOURCE_DROPPED = 3
    RESOURCE_ENTITY_REFS = 4
    SCOPE_SCHEMA_URL = 5
    SCOPE_NAME = 6
    SCOPE_VERSION = 7
    SCOPE_ATTRIBUTES = 8
    SCOPE_DROPPED = 9


# Outcome of one request so far.
cdef struct Tally:
    uint64_t accepted
    uint64_t[REASONS] rejected
    uint64_t[WARNINGS] warnings
    uint64_t guarded  # see Appended.guarded


# A resource and a scope, encoded once and repeated for each of their items.
cdef struct Origin:
    uint32_t service_name
    uint32_t resource_schema_url
    uint32_t resource_dropped
    uint32_t entity_refs
    uint32_t scope_schema_url
    uint32_t scope_name
    uint32_t scope_version
    uint32_t scope_dropped
    uint64_t number  # each time that a scope begins, another one
    # The resource's attributes as they go into a series hash: whole stripes, and what is behind.
    Stripes stripes
    Buffer series


cdef struct Encoding:
    Table* tables
    int table_count
    # Places of columns that all tables of the signal have in common.
    int origin_at
    Column resource_column  # of no table: holds the words of the map that each row repeats
    Column scope_column
    Attributes resource_attributes
    Attributes scope_attributes
    Attributes item_attributes
    Attributes[2] part_attributes  # events and links, or exemplars and metadata
    Origin origin
    Arena arena
    Buffer scratch
    Buffer series
    Buffer slices  # of parts of an item
    Tally tally
    uint64_t bytes_max
    uint64_t rows_max
    uint64_t* bytes_bound  # per table: never less than the block's bytes
    bint began_empty
    uint64_t parent_bytes  # that a row repeats of its item's parent (a metric's metadata)
    uint32_t retention_days
    bint is_validated  # the whole body; else items are checked while they are read
    Findings findings  # of these checks
    int found  # DONE, or UNSOUND
    Slice tenant
    Slice workspace
    int refusal  # why no item of the resource is taken; REASONS when they are
    GuardState* guard  # of the tenant; NULL when it has none
    bint origin_is_known  # to the guard: the keys of the resource and the scope at hand
    int64_t received
    int64_t oldest
    int64_t newest
    # Where the walk is, for `begin_origin_again`.
    Slice resource
    Slice resource_schema_url
    Slice scope
    Slice scope_schema_url
    void* owner
    # Closes the block of a table, if it has rows, and forgets all words.
    int (*renew)(Encoding* encoding, int table) noexcept nogil
    bint words_are_fresh
    int refused_for  # why the last item was not taken
    Buffer rejections  # of Rejection: a few for each reason
    Slice parent_name  # of a point: that of its metric


# Writes one item as a row; False when it was refused (and counted), or found to be unsound, before
# anything was written.
ctypedef bint (*PutRow)(Encoding* encoding, Table* table, Slice item, void* parent) noexcept nogil

cdef int put_item(
    Encoding* encoding, int table, PutRow put_row, Slice item, void* parent
) noexcept nogil
cdef bint place_in_time(Encoding* encoding, uint64_t sent, int64_t* time, bint* replaced) noexcept nogil
cdef bint take_new(Encoding* encoding, uint64_t series) noexcept nogil
cdef void keep_original_time(Encoding* encoding, uint64_t sent) noexcept nogil
cdef int64_t clamp_time(Encoding* encoding, uint64_t sent) noexcept nogil
cdef void begin_run(Encoding* encoding, Table* table) noexcept nogil
cdef void begin_origin_again(Encoding* encoding) noexcept nogil
cdef void begin_resource(Encoding* encoding, Slice resource, Slice schema_url) noexcept nogil
cdef void begin_scope(Encoding* encoding, Slice scope, Slice schema_url) noexcept nogil
cdef void put_event_attributes(Encoding* encoding, int which, Column* column) noexcept nogil

# Visits each item of a scope: spans, log records or metrics.
ctypedef int (*PutScopeItem)(Encoding* encoding, Slice item) noexcept nogil

cdef int walk_request(Encoding* encoding, Slice body, PutScopeItem put) noexcept nogil


cdef inline bint next_item_field(
    Encoding* encoding, const uint8_t* kinds, uint32_t attributes, Slice* message, Field* field
) noexcept nogil:
    """Moves to the next field of an item that nobody has looked into; False at its end, or where it
    is unsound. Its attributes, whose field number is given, are collected on the way."""
    cdef int verdict
    while message.at < message.end:
        verdict = next_checked_field(message, field)
        if verdict == VALID and field.type == LENGTH:
            if field.number == attributes:
                verdict = add_checked_attribute(
                    &encoding.item_attributes, field.text, &encoding.arena, &encoding.findings
                )
                if verdict == VALID:
                    continue
            else:
                verdict = check_field(kinds, field, &encoding.findings)
        encoding.findings.verdict = <Verdict>verdict
        return verdict == VALID
    return False


cdef inline bint is_sound(Encoding* encoding) noexcept nogil:
    """After an item was read: whether it can be written as it came."""
    if is_spotless(&encoding.findings):
        return True
    if not encoding.is_validated:
        encoding.found = UNSOUND
    return encoding.is_validated


cdef inline void refuse(Encoding* encoding, int reason) noexcept nogil:
    """Counts the item at hand as rejected."""
    encoding.tally.rejected[reason] += 1
    encoding.refused_for = reason


cdef inline void put_origin(Encoding* encoding, Table* table) noexcept nogil:
    """The columns that all items of a scope share, tenant and retention among them."""
    if table.run_origin != encoding.origin.number:
        begin_run(encoding, table)


cdef inline void count_row(Table* table, int64_t time) noexcept nogil:
    table.rows += 1
    table.all_runs_bytes += table.run_bytes
    if time < table.time_min:
        table.time_min = time
    if time > table.time_max:
        table.time_max = time


cdef inline bint is_zero(Slice raw) noexcept nogil:
    while raw.at < raw.end:
        if raw.at[0]:
            return False
        raw.at += 1
    return True


cdef inline void put_hex_text(Encoding* encoding, Column* column, Slice raw) noexcept nogil:
    """An id of a link or an exemplar as hex digits; empty when it is all zero."""
    encoding.scratch.used = 0
    if not is_zero(raw):
        put_hex(raw, &encoding.scratch)
    put_text(&column.data, encoding.scratch.data, encoding.scratch.used)
