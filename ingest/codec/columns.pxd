"""Column buffers of one table, and their emission as a ClickHouse Native block."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from libc.string cimport memcpy

from ingest.codec.dictionary cimport Dictionary, word_of_slice
from ingest.codec.memory cimport Buffer, Slice, put_text, put_u32, put_u64

cdef enum Kind:
    FIXED = 0  # `width` bytes a value
    STRING = 1
    WORDS = 2  # LowCardinality(String)
    TEXT_MAP = 3  # Map(LowCardinality(String), String)
    WORD_MAP = 4  # Map(LowCardinality(String), LowCardinality(String))


cdef struct Column:
    Kind kind
    bint is_array  # Array(…) of that kind; `array_ends` of `nested` counts elements
    bint is_of_run  # one value, or map, for each run of the table instead of each row
    uint32_t width
    Buffer data  # values: fixed bytes, Strings, or word numbers as uint32
    Buffer keys  # map keys, word numbers as uint32
    Buffer map_ends  # entries of all maps so far, uint64 per map
    Buffer array_ends  # elements of all rows so far, uint64 per row
    Column* nested  # the first column of its Nested, whose arrays are as long as its own
    Dictionary* words  # of `data`
    Dictionary* key_words
    size_t[4] marks
    uint8_t* header  # name and type, as they stand before the column's data
    size_t header_size


cdef struct Table:
    Column* columns
    int count
    uint8_t item_type  # the message that a row comes from (see validation)
    const uint8_t* item_kinds
    uint64_t rows
    uint64_t rows_mark
    uint64_t rows_at_request  # where the rows of the request at hand begin
    # Rows that follow each other share tenant, resource and scope, mostly: a run of them.
    Buffer runs  # the first row of each run, uint64
    size_t runs_mark
    uint64_t run_origin  # number of the origin that the last run is of; 0 = a new run is due
    uint64_t run_row_bytes  # what a row takes in the columns of runs, without its maps' entries
    uint64_t run_bytes  # what each row of the last run takes in them
    uint64_t all_runs_bytes  # the sum of that over all rows
    uint64_t all_runs_bytes_mark
    int64_t time_min
    int64_t time_max
    int64_t time_min_mark
    int64_t time_max_mark
    int part  # number of the open block since the last close


cdef void release_column(Column* column) noexcept nogil
cdef void mark_table(Table* table) noexcept nogil
cdef void roll_back_table(Table* table) noexcept nogil
cdef void empty_table(Table* table) noexcept nogil
cdef uint64_t table_bytes(Table* table) noexcept nogil
cdef bytes emit(Table* table)


cdef inline void put_word(Column* column, Slice text) noexcept nogil:
    put_u32(&column.data, word_of_slice(column.words, text))


cdef inline void put_slice(Column* column, Slice text) noexcept nogil:
    put_text(&column.data, text.at, text.end - text.at)


cdef inline void end_map(Column* column) noexcept nogil:
    """Closes a row's (or element's) map behind the keys that were put."""
    put_u64(&column.map_ends, column.keys.used >> 2)


cdef inline void end_array(Column* column, uint64_t elements) noexcept nogil:
    """Closes a row's array of *elements*; for all columns of a Nested by its first one."""
    cdef uint64_t before = 0
    if column.array_ends.used:
        memcpy(&before, column.array_ends.data + column.array_ends.used - 8, 8)
    put_u64(&column.array_ends, before + elements)
