"""The encoder: OTLP requests in, ClickHouse Native blocks out.

A request is read twice: `validation` decides whether it is OTLP at all, and `encoding` and the
signal's module fill the columns. Nearly all requests are, so the inside of items, which is nearly
all of a request, is at first checked by those that read it anyway; what they find undoes all, and
the request is validated as a whole before anything is written. No Python object is made per item.
"""

import re

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from ingest.codec.attributes cimport Attributes, close_attributes, forget_shapes, open_attributes
from ingest.codec.cardinality cimport Guard
from ingest.codec.columns cimport (
    FIXED, STRING, TEXT_MAP, WORD_MAP, WORDS, Column, Kind, Table, emit, empty_table, mark_table,
    release_column, roll_back_table, table_bytes,
)
from ingest.codec.dictionary cimport Dictionary, close_dictionary, forget_words, open_dictionary
from ingest.codec.encoding cimport (
    BLOCK_FULL, DONE, OUT_OF_MEMORY, REASONS, RETENTION_DAYS, SCOPE_DROPPED, UNSOUND, WARNINGS,
    Encoding, PutScopeItem, Tally, begin_origin_again, walk_request,
)
from ingest.codec.logs cimport put_log_record
from ingest.codec.memory cimport Buffer, Slice, empty_arena, guarded, release
from ingest.codec.metrics cimport put_metric
from ingest.codec.rejections cimport described
from ingest.codec.traces cimport put_span
from ingest.codec.validation cimport (
    EXPORT_LOGS, EXPORT_METRICS, EXPORT_TRACES, VALID, Findings, MessageType, is_spotless, kinds_of,
    malformed, repair, validate, validate_envelope,
)

from ingest.codec.results import REASONS as REASON_NAMES, Appended, Block, BlockFull, RowRange
from ingest.codec.tables import TABLES, TABLES_OF_SIGNAL
from ingest.codec.validation import ITEM_TYPES

cdef extern from "malloc.h" nogil:
    int mallopt(int parameter, int value)
    int M_MMAP_THRESHOLD
    int M_TRIM_THRESHOLD

cdef enum:
    TABLES_MAX = 5
    BYTES_MAX_MAX = 0x40000000
    # Below this, to release the GIL costs more than it gives to other threads.
    GIL_KEPT_BYTES_MAX = 16384
    # Words are kept from block to block, since they repeat, until they are this part of a block.
    WORDS_KEPT_PART = 16
    HEAP_KEPT_BYTES = 256 * 1024 * 1024

# Blocks are larger than malloc's default threshold, so each would be mapped and unmapped anew:
# page faults were a third of the cost of decoding.
mallopt(M_MMAP_THRESHOLD, HEAP_KEPT_BYTES)
mallopt(M_TRIM_THRESHOLD, HEAP_KEPT_BYTES)

_NANOSECONDS_PER_DAY = 86_400 * 1_000_000_000
_WIDTHS = {
    "UInt8": 1, "Bool": 1, "UInt16": 2, "Int32": 4, "UInt32": 4, "Int64": 8, "UInt64": 8,
    "Float64": 8, "DateTime64(9)": 8,
}
_KINDS = {
    "LowCardinality(String)": WORDS,
    "String": STRING,
    "Map(LowCardinality(String), String)": TEXT_MAP,
    "Map(LowCardinality(String), LowCardinality(String))": WORD_MAP,
}
_WARNINGS = ("clock_out_of_range", "invalid_trace_id")
_MESSAGES = {"traces": EXPORT_TRACES, "logs": EXPORT_LOGS, "metrics": EXPORT_METRICS}
# Maps whose keys the attributes of an item and of its parts come from.
_ITEM_MAPS = {
    "traces": ("SpanAttributes", "Events.Attributes", "Links.Attributes"),
    "logs": ("LogAttributes", "LogAttributes", "LogAttributes"),
    "metrics": ("Attributes", "Exemplars.FilteredAttributes", "MetricMetadata"),
}


# One call of `work`, which runs without the GIL.
cdef struct Call:
    Encoding* encoding
    Slice body
    MessageType message
    PutScopeItem put
    Buffer* repaired
    Findings findings
    bint is_thorough


cdef int work(void* argument) noexcept nogil:
    cdef Call* call = <Call*>argument
    call.encoding.is_validated = call.is_thorough
    call.encoding.found = DONE
    memset(&call.encoding.findings, 0, sizeof(Findings))
    if not call.is_thorough:
        call.findings = validate_envelope(call.body, call.message)
        if is_spotless(&call.findings):
            return walk_request(call.encoding, call.body, call.put)
        return UNSOUND
    call.findings = validate(call.body, call.message)
    if call.findings.verdict != VALID:
        return DONE
    if call.findings.bad_texts:
        repair(call.body, call.message, call.repaired)
        call.body.at = call.repaired.data
        call.body.end = call.repaired.data + call.repaired.used
    return walk_request(call.encoding, call.body, call.put)


cdef int renew_part(Encoding* encoding, int table) noexcept nogil:
    cdef int status
    with gil:
        status = (<Encoder>encoding.owner).renew(table)
    if status == DONE:
        begin_origin_again(encoding)
    return status


cdef class Encoder:
    """Open blocks of one signal and one retention class, for one owner at a time.

    *block_bytes_max* and *block_rows_max* bound each block (raw Native bytes, rows);
    *retention_days* is how long its items are kept: older ones are rejected.
    """

    cdef Encoding encoding
    cdef Table[TABLES_MAX] tables
    cdef uint64_t[TABLES_MAX] bounds
    cdef Dictionary* dictionaries
    cdef int dictionary_count
    cdef Buffer repaired
    cdef MessageType message
    cdef PutScopeItem put
    cdef bint busy
    cdef int64_t retention_ns
    cdef list headers  # keeps the bytes alive that columns point to
    cdef list sealed
    cdef list ranges
    cdef tuple names

    def __cinit__(
        self,
        str signal,
        *,
        retention_days: int,
        block_bytes_max: int = 8_000_000,
        block_rows_max: int = 65_536,
    ):
        if signal not in TABLES_OF_SIGNAL:
            raise ValueError(f"unknown signal {signal!r}")
        if not 0 < block_bytes_max <= BYTES_MAX_MAX or block_rows_max < 1:
            raise ValueError("a block holds 1 to 2^30 bytes and at least one row")
        if not 0 < retention_days < 65_536:
            raise ValueError("retention is 1 to 65535 days")
        memset(&self.encoding, 0, sizeof(Encoding))
        self.names = TABLES_OF_SIGNAL[signal]
        self.headers = []
        self.sealed = []
        self.ranges = []
        self.message = _MESSAGES[signal]
        self.put = (
            put_span if signal == "traces" else put_log_record if signal == "logs" else put_metric
        )
        self.retention_ns = retention_days * _NANOSECONDS_PER_DAY
        self.encoding.retention_days = retention_days
        self.encoding.bytes_max = block_bytes_max
        self.encoding.rows_max = block_rows_max
        self._open_tables(_ITEM_MAPS[signal])

    def __dealloc__(self) -> None:
        cdef int position
        cdef int table
        cdef Column* column
        for table in range(self.encoding.table_count):
            for position in range(self.tables[table].count):
                column = &self.tables[table].columns[position]
                release_column(column)
            free(self.tables[table].columns)
            release(&self.tables[table].runs)
        for position in range(self.dictionary_count):
            close_dictionary(&self.dictionaries[position])
        free(self.dictionaries)
        release_column(&self.encoding.resource_column)
        release_column(&self.encoding.scope_column)
        close_attributes(&self.encoding.resource_attributes)
        close_attributes(&self.encoding.scope_attributes)
        close_attributes(&self.encoding.item_attributes)
        close_attributes(&self.encoding.part_attributes[0])
        close_attributes(&self.encoding.part_attributes[1])
        release(&self.encoding.origin.series)
        release(&self.encoding.scratch)
        release(&self.encoding.series)
        release(&self.encoding.rejections)
        release(&self.repaired)
        empty_arena(&self.encoding.arena, False)

    @property
    def rows(self) -> int:
        """Rows in everything open."""
        return sum(block.rows for block in self.sealed) + self._open_rows()

    @property
    def bytes(self) -> int:
        """Raw Native bytes of everything open, at most."""
        cdef int table
        total = sum(len(block.native) for block in self.sealed)
        for table in range(self.encoding.table_count):
            if self.tables[table].rows:
                total += table_bytes(&self.tables[table])
        return total

    def append(
        self, bytes body not None, *, str tenant not None, int64_t received_ns,
        str workspace not None = "", Guard guard=None,
    ):
        """Add the items of one Export request (protobuf) to the open blocks.

        Items of a resource that names another tenant, or workspace where that is given, are
        rejected; with *tenant* empty all are. So are those with more that is new than *guard*
        lets in.

        Raises Malformed when *body* cannot be decoded and BlockFull when it does not fit behind
        what is open; the encoder is then as it was before. *received_ns* is the time of receipt.
        """
        if self.busy:
            raise RuntimeError("encoder in use")
        self.busy = True
        self.encoding.guard = NULL
        if guard is not None:
            self.encoding.guard = &guard.state
        try:
            return self._append(body, tenant.encode(), workspace.encode(), received_ns)
        finally:
            empty_arena(&self.encoding.arena, True)
            self.busy = False

    def close(self):
        """Every open block, in the order of tables and parts; the encoder is empty afterwards."""
        cdef int table
        if self.busy:
            raise RuntimeError("encoder in use")
        self.busy = True
        try:
            for table in range(self.encoding.table_count):
                if self.tables[table].rows:
                    self._seal(table)
            blocks = sorted(self.sealed, key=lambda block: (self.names.index(block.table), block.part))
            self._forget_everything()
            return blocks
        finally:
            self.busy = False

    cdef _append(self, bytes body, bytes tenant, bytes workspace, int64_t received):
        cdef Call call
        cdef int status
        self._begin(tenant, workspace, received)
        memset(&call, 0, sizeof(Call))
        call.encoding = &self.encoding
        call.body.at = <const uint8_t*>PyBytes_AS_STRING(body)
        call.body.end = call.body.at + PyBytes_GET_SIZE(body)
        call.message = self.message
        call.put = self.put
        call.repaired = &self.repaired
        # A guard remembers what it was asked, which nothing undoes.
        call.is_thorough = self.encoding.guard != NULL
        status = self._work(&call)
        if status == UNSOUND:
            self._undo()
            self._begin(tenant, workspace, received)
            call.is_thorough = True
            status = self._work(&call)
        if call.findings.verdict != VALID:
            raise malformed(&call.findings, <const uint8_t*>PyBytes_AS_STRING(body))
        if status != DONE:
            self._undo()
            if status == BLOCK_FULL:
                raise BlockFull
            raise MemoryError("no memory to decode the request")
        return self._appended(&call.findings)

    cdef int _work(self, Call* call) noexcept:
        cdef int status
        if call.body.end - call.body.at <= GIL_KEPT_BYTES_MAX:
            return guarded(work, <void*>call, OUT_OF_MEMORY)
        with nogil:
            status = guarded(work, <void*>call, OUT_OF_MEMORY)
        return status

    cdef _begin(self, bytes tenant, bytes workspace, int64_t received):
        cdef Encoding* encoding = &self.encoding
        cdef int table
        encoding.began_empty = not self.sealed and self._open_rows() == 0
        for table in range(encoding.table_count):
            self.tables[table].rows_at_request = self.tables[table].rows
            if not encoding.began_empty:
                mark_table(&self.tables[table])
            encoding.bytes_bound[table] = table_bytes(&self.tables[table])
        self.ranges = []
        memset(&encoding.tally, 0, sizeof(Tally))
        encoding.parent_bytes = 0
        encoding.parent_name.at = encoding.parent_name.end = NULL
        encoding.rejections.used = 0
        encoding.tenant.at = <const uint8_t*>PyBytes_AS_STRING(tenant)
        encoding.tenant.end = encoding.tenant.at + PyBytes_GET_SIZE(tenant)
        encoding.workspace.at = <const uint8_t*>PyBytes_AS_STRING(workspace)
        encoding.workspace.end = encoding.workspace.at + PyBytes_GET_SIZE(workspace)
        encoding.received = received
        encoding.newest = received + _NANOSECONDS_PER_DAY
        encoding.oldest = received - self.retention_ns
        encoding.owner = <void*>self
        encoding.renew = renew_part

    cdef _undo(self):
        cdef int table
        for table in range(self.encoding.table_count):
            if self.encoding.began_empty:
                empty_table(&self.tables[table])
                self.tables[table].part = 0
            else:
                roll_back_table(&self.tables[table])
        if self.encoding.began_empty:
            self.sealed = []
            self._forget_many_words()

    cdef _appended(self, Findings* findings):
        cdef int table
        cdef int number
        cdef Table* target
        cdef Tally* tally = &self.encoding.tally
        for table in range(self.encoding.table_count):
            target = &self.tables[table]
            if target.rows > target.rows_at_request:
                self._add_range(table)
        rejected = {}
        for number in range(<int>REASONS):
            if tally.rejected[number]:
                rejected[REASON_NAMES[number]] = tally.rejected[number]
        warnings = {}
        for number in range(<int>WARNINGS):
            if tally.warnings[number]:
                warnings[_WARNINGS[number]] = tally.warnings[number]
        if findings.bad_texts:
            warnings["repaired_utf8"] = findings.bad_texts
        if findings.string_indices:
            warnings["string_index"] = findings.string_indices
        samples = described(&self.encoding.rejections, self.names)
        return Appended(tally.accepted, rejected, warnings, tuple(self.ranges), tally.guarded, samples)

    cdef _add_range(self, int table):
        cdef Table* target = &self.tables[table]
        first = target.rows_at_request
        self.ranges.append(RowRange(self.names[table], target.part, first, target.rows - first))

    cdef int renew(self, int table) except? -1:
        """Between two items of a request that began on an empty encoder: see Encoding.renew."""
        cdef int position
        try:
            if self.tables[table].rows:
                self._add_range(table)
                self._seal(table)
            # Words that other tables' open rows use must stay.
            if self._open_rows() == 0:
                self._forget_words()
            self.encoding.words_are_fresh = True
        except MemoryError:
            return OUT_OF_MEMORY
        return DONE

    cdef _seal(self, int table):
        cdef Table* target = &self.tables[table]
        self.sealed.append(
            Block(
                self.names[table], target.part, target.rows, emit(target),
                target.time_min, target.time_max,
            )
        )
        empty_table(target)
        target.part += 1

    cdef uint64_t _open_rows(self):
        cdef int table
        cdef uint64_t total = 0
        for table in range(self.encoding.table_count):
            total += self.tables[table].rows
        return total

    cdef _forget_everything(self):
        cdef int position
        self.sealed = []
        for position in range(self.encoding.table_count):
            self.tables[position].part = 0
        self._forget_many_words()

    cdef _forget_many_words(self):
        """When no row is open."""
        cdef int position
        cdef uint64_t words_bytes = 0
        for position in range(self.dictionary_count):
            words_bytes += self.dictionaries[position].texts.used
        if words_bytes * WORDS_KEPT_PART > self.encoding.bytes_max:
            self._forget_words()

    cdef _forget_words(self):
        cdef int position
        for position in range(self.dictionary_count):
            forget_words(&self.dictionaries[position])
        forget_shapes(&self.encoding.resource_attributes)
        forget_shapes(&self.encoding.scope_attributes)
        forget_shapes(&self.encoding.item_attributes)
        forget_shapes(&self.encoding.part_attributes[0])
        forget_shapes(&self.encoding.part_attributes[1])

    cdef _open_tables(self, tuple item_maps):
        """Columns as tables.py says; columns of one name share their words between tables."""
        cdef int table
        cdef int position
        cdef Dictionary* words
        types = dict(column for name in self.names for column in TABLES[name])
        numbers: dict[str, int] = {}
        for name, type in types.items():
            for part in range(type.count("LowCardinality")):
                numbers[f"{name}/{part}"] = len(numbers)
        self.dictionaries = <Dictionary*>calloc(len(numbers), sizeof(Dictionary))
        if self.dictionaries == NULL:
            raise MemoryError
        for position in range(len(numbers)):
            open_dictionary(&self.dictionaries[position])
            self.dictionary_count += 1
        first = [name for name, _type in TABLES[self.names[0]]]
        self.encoding.origin_at = first.index("ServiceName")
        self.encoding.tables = self.tables
        self.encoding.bytes_bound = self.bounds
        for table, name in enumerate(self.names):
            self._open_table(&self.tables[table], TABLES[name], numbers)
            self.tables[table].item_type = ITEM_TYPES[name]
            self.tables[table].item_kinds = kinds_of(self.tables[table].item_type)
            self.encoding.table_count += 1
        self._share_words(&self.encoding.resource_column, "ResourceAttributes", numbers)
        self._share_words(&self.encoding.scope_column, "ScopeAttributes", numbers)
        open_attributes(
            &self.encoding.resource_attributes, self.encoding.resource_column.key_words
        )
        open_attributes(&self.encoding.scope_attributes, self.encoding.scope_column.key_words)
        open_attributes(&self.encoding.item_attributes, self._keys_of(item_maps[0], numbers))
        for position in range(2):
            words = self._keys_of(item_maps[position + 1], numbers)
            open_attributes(&self.encoding.part_attributes[position], words)

    cdef Dictionary* _keys_of(self, str name, dict numbers) except NULL:
        return &self.dictionaries[<int>numbers[f"{name}/0"]]

    cdef int _share_words(self, Column* column, str name, dict numbers) except -1:
        column.kind = WORD_MAP
        column.key_words = self._keys_of(name, numbers)
        column.words = &self.dictionaries[<int>numbers[f"{name}/1"]]
        return 0

    cdef int _open_table(self, Table* table, tuple columns, dict numbers) except -1:
        cdef Column* column
        cdef int position
        table.columns = <Column*>calloc(len(columns), sizeof(Column))
        if table.columns == NULL:
            raise MemoryError
        table.count = len(columns)
        empty_table(table)
        for position, (name, type) in enumerate(columns):
            column = &table.columns[position]
            element = re.sub(r"^Array\((.*)\)$", r"\1", type)
            column.is_array = element != type
            origin = position - self.encoding.origin_at
            column.is_of_run = position <= RETENTION_DAYS or 0 <= origin <= SCOPE_DROPPED
            column.nested = column
            nested, _dot, inner = name.partition(".")
            if inner and columns[position - 1][0].startswith(f"{nested}."):
                column.nested = table.columns[position - 1].nested
            column.kind = <Kind><int>_KINDS.get(element, FIXED)
            if column.kind == FIXED:
                fixed = re.fullmatch(r"FixedString\((\d+)\)", element)
                column.width = int(fixed[1]) if fixed else _WIDTHS[element]
            if column.kind in (TEXT_MAP, WORD_MAP):
                column.key_words = self._keys_of(name, numbers)
            if column.kind == WORDS:
                column.words = &self.dictionaries[<int>numbers[f"{name}/0"]]
            elif column.kind == WORD_MAP:
                column.words = &self.dictionaries[<int>numbers[f"{name}/1"]]
            if column.is_of_run:
                table.run_row_bytes += {FIXED: column.width, WORDS: 4, WORD_MAP: 8}[column.kind]
            self._set_header(column, name, type)
        return 0

    cdef int _set_header(self, Column* column, str name, str type) except -1:
        # All names and types are shorter than 128 bytes, so their lengths are one byte each.
        header = bytes([len(name)]) + name.encode() + bytes([len(type)]) + type.encode()
        self.headers.append(header)
        column.header = <uint8_t*>PyBytes_AS_STRING(header)
        column.header_size = len(header)
        return 0
