"""Emission of column buffers as one ClickHouse Native block.

Layout (ClickHouse `NativeWriter`, no BlockInfo): number of columns, number of rows, then for each
column its name, its type and its data. LowCardinality data is a version prefix, which stands before
the offsets of an enclosing Array or Map, then flags, the dictionary and the row's indices. Only
words that rows use are emitted, in order of first use behind '', so the same rows always give the
same bytes, whatever was looked up before.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.ref cimport Py_DECREF, PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from ingest.codec.dictionary cimport Dictionary, Word
from ingest.codec.memory cimport Buffer, put_bytes, put_u64, put_varint, release, reserve

cdef extern from "Python.h":
    PyObject* new_bytes "PyBytes_FromStringAndSize"(const char* text, Py_ssize_t size) except NULL
    int resize_bytes "_PyBytes_Resize"(PyObject** whole, Py_ssize_t size) except -1

cdef extern from *:
    """
    #if defined(__clang__)
    #define TELEMETRYFLOW_UNROLL _Pragma("unroll 8")
    #else
    #define TELEMETRYFLOW_UNROLL _Pragma("GCC unroll 8")
    #endif
    /* The first row from *row* on whose word has no number yet; *rows* when all have. */
    static inline size_t telemetryflow_unnumbered(
        const uint32_t* word, const uint32_t* numbers, size_t row, size_t rows
    ) {
        TELEMETRYFLOW_UNROLL
        for (; row < rows; row++) if (!numbers[word[row]]) return row;
        return rows;
    }
    /* The number of each row's word, in so few bytes. */
    template <typename Index>
    static inline void telemetryflow_put_numbers(
        uint8_t* out, const uint32_t* word, const uint32_t* numbers, size_t rows
    ) {
        typedef Index Place __attribute__((aligned(1), may_alias));
        Place* place = (Place*)out;
        TELEMETRYFLOW_UNROLL
        for (size_t row = 0; row < rows; row++) place[row] = (Index)numbers[word[row]];
    }
    """
    size_t unnumbered "telemetryflow_unnumbered"(
        const uint32_t* word, const uint32_t* numbers, size_t row, size_t rows
    ) noexcept nogil
    void put_numbers8 "telemetryflow_put_numbers<uint8_t>"(
        uint8_t* out, const uint32_t* word, const uint32_t* numbers, size_t rows
    ) noexcept nogil
    void put_numbers16 "telemetryflow_put_numbers<uint16_t>"(
        uint8_t* out, const uint32_t* word, const uint32_t* numbers, size_t rows
    ) noexcept nogil
    void put_numbers32 "telemetryflow_put_numbers<uint32_t>"(
        uint8_t* out, const uint32_t* word, const uint32_t* numbers, size_t rows
    ) noexcept nogil

cdef enum:
    # SerializationLowCardinality: key version, and the flags "additional keys, update dictionary".
    DICTIONARY_VERSION = 1
    DICTIONARY_FLAGS = 0x600
    INT64_MAX = 0x7FFFFFFFFFFFFFFF


cdef inline size_t* used_of(Column* column, int stream) noexcept nogil:
    if stream == 0:
        return &column.data.used
    if stream == 1:
        return &column.keys.used
    if stream == 2:
        return &column.map_ends.used
    return &column.array_ends.used


cdef void release_column(Column* column) noexcept nogil:
    release(&column.data)
    release(&column.keys)
    release(&column.map_ends)
    release(&column.array_ends)


cdef void mark_table(Table* table) noexcept nogil:
    """Remembers the state that `roll_back_table` comes back to."""
    cdef int position
    cdef int stream
    for position in range(table.count):
        for stream in range(4):
            table.columns[position].marks[stream] = used_of(&table.columns[position], stream)[0]
    table.runs_mark = table.runs.used
    table.all_runs_bytes_mark = table.all_runs_bytes
    table.rows_mark = table.rows
    table.time_min_mark = table.time_min
    table.time_max_mark = table.time_max


cdef void roll_back_table(Table* table) noexcept nogil:
    cdef int position
    cdef int stream
    for position in range(table.count):
        for stream in range(4):
            used_of(&table.columns[position], stream)[0] = table.columns[position].marks[stream]
    table.runs.used = table.runs_mark
    table.run_origin = 0
    table.all_runs_bytes = table.all_runs_bytes_mark
    table.rows = table.rows_mark
    table.time_min = table.time_min_mark
    table.time_max = table.time_max_mark


cdef void empty_table(Table* table) noexcept nogil:
    cdef int position
    cdef int stream
    for position in range(table.count):
        for stream in range(4):
            used_of(&table.columns[position], stream)[0] = 0
    table.runs.used = 0
    table.run_origin = 0
    table.all_runs_bytes = 0
    table.rows = 0
    table.rows_at_request = 0
    table.time_min = INT64_MAX
    table.time_max = 0


cdef uint64_t table_bytes(Table* table) noexcept nogil:
    """Upper bound of the raw block, dictionaries counted in full."""
    cdef uint64_t total = 64 + table.all_runs_bytes
    cdef int position
    cdef int stream
    cdef Column* column
    for position in range(table.count):
        column = &table.columns[position]
        total += column.header_size + 64
        if not column.is_of_run:
            for stream in range(3):
                total += used_of(column, stream)[0]
            total += column.nested.array_ends.used
        if column.words != NULL:
            total += column.words.texts.used
        if column.key_words != NULL:
            total += column.key_words.texts.used
    return total


cdef uint32_t emit_used_words(
    Dictionary* dictionary, Buffer* numbers, Buffer* scratch, Buffer* out
) noexcept nogil:
    """Flags, and used words in order of first use. Returns the width of an index (0: a byte, 1: two,
    2: four); *scratch* holds the new number of each word then."""
    cdef size_t rows = numbers.used >> 2
    cdef uint32_t* word = <uint32_t*>numbers.data
    cdef uint32_t* renumbered
    cdef uint32_t* used
    cdef uint32_t count = 1
    cdef size_t row
    cdef uint32_t width
    scratch.used = 0
    reserve(scratch, (<size_t>dictionary.count) * 8)
    renumbered = <uint32_t*>scratch.data
    used = renumbered + dictionary.count
    memset(renumbered, 0, (<size_t>dictionary.count) * 4)
    used[0] = 0
    renumbered[0] = 1  # while others are met: word 0 has its place
    row = unnumbered(word, renumbered, 0, rows)
    while row < rows:
        renumbered[word[row]] = count
        used[count] = word[row]
        count += 1
        row = unnumbered(word, renumbered, row + 1, rows)
    renumbered[0] = 0
    width = 0 if count <= 256 else 1 if count <= 65536 else 2
    put_u64(out, DICTIONARY_FLAGS | width)
    put_u64(out, count)
    for row in range(count):
        emit_word(dictionary, used[row], out)
    return width


cdef void emit_words(
    Dictionary* dictionary, Buffer* numbers, Buffer* scratch, Buffer* out
) noexcept nogil:
    """Dictionary, and one index a row."""
    cdef uint32_t width
    if numbers.used == 0:
        return
    width = emit_used_words(dictionary, numbers, scratch, out)
    put_u64(out, numbers.used >> 2)
    emit_indices(
        <uint32_t*>numbers.data, numbers.used >> 2, <uint32_t*>scratch.data, width, out
    )


cdef inline void emit_word(Dictionary* dictionary, uint32_t number, Buffer* out) noexcept nogil:
    cdef Word* word = dictionary.words + number
    put_varint(out, word.size)
    put_bytes(out, dictionary.texts.data + word.start, word.size)


cdef void emit_indices(
    uint32_t* word, size_t rows, uint32_t* renumbered, uint32_t width, Buffer* out
) noexcept nogil:
    reserve(out, rows << width)
    if width == 0:
        put_numbers8(out.data + out.used, word, renumbered, rows)
    elif width == 1:
        put_numbers16(out.data + out.used, word, renumbered, rows)
    else:
        put_numbers32(out.data + out.used, word, renumbered, rows)
    out.used += rows << width


cdef inline uint64_t rows_of_run(Table* table, size_t run) noexcept nogil:
    cdef uint64_t* first = <uint64_t*>table.runs.data + run
    return (first[1] if (run + 1) * 8 < table.runs.used else table.rows) - first[0]


cdef void repeat_last(Buffer* out, size_t size, uint64_t times) noexcept nogil:
    """Repeats the last *size* bytes, so that they stand so often: each copy doubles them."""
    cdef size_t more = size * (times - 1)
    cdef size_t step
    reserve(out, more)
    while more:
        step = size if size < more else more
        memcpy(out.data + out.used, out.data + out.used - size, step)
        out.used += step
        more -= step
        size += step


cdef void emit_run_map_ends(Table* table, Column* column, Buffer* out) noexcept nogil:
    cdef uint64_t* ends = <uint64_t*>column.map_ends.data
    cdef uint64_t entries
    cdef uint64_t end = 0
    cdef size_t run
    cdef uint64_t row
    reserve(out, table.rows * 8)
    for run in range(table.runs.used >> 3):
        entries = ends[run] - (ends[run - 1] if run else 0)
        for row in range(rows_of_run(table, run)):
            end += entries
            memcpy(out.data + out.used + 8 * row, &end, 8)
        out.used += 8 * rows_of_run(table, run)


cdef void emit_run_words(
    Table* table, Dictionary* dictionary, Buffer* numbers, Buffer* ends, Buffer* scratch, Buffer* out
) noexcept nogil:
    """As `emit_words`, repeated for the rows of each run. *ends* are those of maps, or empty."""
    cdef uint32_t* word = <uint32_t*>numbers.data
    cdef uint32_t width
    cdef size_t count_at
    cdef uint64_t count
    cdef uint64_t first = 0
    cdef uint64_t end
    cdef size_t run
    if numbers.used == 0:
        return
    width = emit_used_words(dictionary, numbers, scratch, out)
    count_at = out.used
    put_u64(out, 0)
    for run in range(table.runs.used >> 3):
        end = (<uint64_t*>ends.data)[run] if ends.used else run + 1
        emit_indices(word + first, end - first, <uint32_t*>scratch.data, width, out)
        repeat_last(out, (end - first) << width, rows_of_run(table, run))
        first = end
    count = (out.used - count_at - 8) >> width
    memcpy(out.data + count_at, &count, 8)


cdef void emit_run_column(Table* table, Column* column, Buffer* scratch, Buffer* out) noexcept nogil:
    cdef size_t run
    if column.kind == FIXED:
        for run in range(table.runs.used >> 3):
            put_bytes(out, column.data.data + run * column.width, column.width)
            repeat_last(out, column.width, rows_of_run(table, run))
        return
    if column.kind == WORD_MAP:
        emit_run_map_ends(table, column, out)
        emit_run_words(table, column.key_words, &column.keys, &column.map_ends, scratch, out)
    emit_run_words(table, column.words, &column.data, &column.map_ends, scratch, out)


cdef void emit_column(Table* table, Column* column, Buffer* scratch, Buffer* out) noexcept nogil:
    put_bytes(out, column.header, column.header_size)
    if column.key_words != NULL:
        put_u64(out, DICTIONARY_VERSION)
    if column.words != NULL:
        put_u64(out, DICTIONARY_VERSION)
    if column.is_of_run:
        emit_run_column(table, column, scratch, out)
        return
    put_bytes(out, column.nested.array_ends.data, column.nested.array_ends.used)
    put_bytes(out, column.map_ends.data, column.map_ends.used)
    if column.key_words != NULL:
        emit_words(column.key_words, &column.keys, scratch, out)
    if column.words != NULL:
        emit_words(column.words, &column.data, scratch, out)
    else:
        put_bytes(out, column.data.data, column.data.used)


cdef void emit_table(Table* table, Buffer* scratch, Buffer* out) noexcept nogil:
    cdef int position
    put_varint(out, table.count)
    put_varint(out, table.rows)
    for position in range(table.count):
        emit_column(table, &table.columns[position], scratch, out)


cdef bytes emit(Table* table):
    """The Native block of all rows: written where it stays, and what is left over is given back."""
    cdef Buffer out
    cdef Buffer scratch
    cdef PyObject* block
    memset(&scratch, 0, sizeof(Buffer))
    out.used = 0
    # All that is written below has its place in this bound, so that `out` never grows.
    out.room = table_bytes(table)
    block = new_bytes(NULL, <Py_ssize_t>out.room)
    out.data = <uint8_t*>PyBytes_AS_STRING(<object>block)
    with nogil:
        emit_table(table, &scratch, &out)
        free(scratch.data)
    resize_bytes(&block, <Py_ssize_t>out.used)
    whole = <bytes>block
    Py_DECREF(whole)
    return whole
