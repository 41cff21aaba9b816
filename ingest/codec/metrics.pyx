"""Data points as rows of the five tf_metrics tables.

Field numbers: opentelemetry/proto/metrics/v1/metrics.proto. The kinds of points give the same
fields different numbers; `PointNumbers` holds those of each kind.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from ingest.codec.attributes cimport (
    add_attribute, arrange, begin_attributes, put_attributes, put_series,
)
from ingest.codec.columns cimport Column, Table, end_array, put_word
from ingest.codec.encoding cimport (
    BUCKET_COUNTS_MISMATCH, DONE, UNSOUND, Encoding, Origin, clamp_time, count_row, is_sound,
    keep_original_time, next_item_field, place_in_time, put_event_attributes, put_hex_text,
    put_item, put_origin, refuse, take_new,
)
from ingest.codec.hashing cimport rotated, xxh64, xxh64_behind
from ingest.codec.memory cimport Slice, put_bytes, put_u32, put_u64, put_u8
from ingest.codec.tables import TABLES
from ingest.codec.wire cimport (
    FIXED64, LENGTH, VARINT, Field, Parts, add_part, joined, next_field, read_varint,
)

cdef enum PointKind:
    GAUGE = 0
    SUM = 1
    HISTOGRAM = 2
    EXPONENTIAL_HISTOGRAM = 3
    SUMMARY = 4

cdef enum:
    # Places in part_attributes
    EXEMPLAR = 0
    METADATA = 1


cdef struct PointNumbers:
    uint32_t attributes
    uint32_t exemplars  # 0 = this kind has none
    uint32_t flags

cdef PointNumbers[5] NUMBERS = [
    PointNumbers(7, 5, 8), PointNumbers(7, 5, 8), PointNumbers(9, 8, 10),
    PointNumbers(1, 11, 10), PointNumbers(7, 0, 8),
]


cdef struct Metric:
    PointKind kind
    Slice name
    Slice description
    Slice unit
    Slice whole
    uint32_t metadata
    Slice message
    uint32_t temporality
    bint monotonic


cdef struct Buckets:
    Slice message
    int32_t offset


cdef struct Point:
    uint64_t start
    uint64_t time
    uint32_t flags
    uint32_t exemplars
    # Numbers: the value. Histograms: what each kind has; `has` is a bit per optional field.
    uint32_t value_type
    uint64_t value
    uint64_t count
    uint64_t zero_count
    double sum
    double minimum
    double maximum
    double zero_threshold
    uint32_t has
    int32_t scale
    Parts positive
    Parts negative
    uint64_t bucket_counts
    uint64_t bounds

cdef enum:
    HAS_SUM = 1
    HAS_MIN = 2
    HAS_MAX = 4

# Places of the columns, by their order in tables.py.
_gauge = [name for name, _type in TABLES["tf_metrics_gauge"]]
cdef int NAME = _gauge.index("MetricName")
cdef int VALUE = _gauge.index("Flags") + 1


cdef inline double as_double(uint64_t bits) noexcept nogil:
    cdef double value
    memcpy(&value, &bits, 8)
    return value


cdef inline void put_double(Column* column, double value) noexcept nogil:
    put_bytes(&column.data, &value, 8)


cdef inline int32_t zigzag(uint64_t value) noexcept nogil:
    cdef uint32_t low = <uint32_t>value
    return <int32_t>((low >> 1) ^ (0 - (low & 1)))


cdef void read_number(Point* point, Field* field) noexcept nogil:
    if field.type == FIXED64 and (field.number == 4 or field.number == 6):
        point.value = field.scalar
        point.value_type = 1 if field.number == 4 else 2


cdef inline void set_optional(Point* point, double* place, Field* field, uint32_t bit) noexcept nogil:
    place[0] = as_double(field.scalar)
    point.has |= bit


cdef void read_histogram(Point* point, Field* field) noexcept nogil:
    if field.type == FIXED64:
        if field.number == 4:
            point.count = field.scalar
        elif field.number == 5:
            set_optional(point, &point.sum, field, HAS_SUM)
        elif field.number == 6:
            point.bucket_counts += 1
        elif field.number == 7:
            point.bounds += 1
        elif field.number == 11:
            set_optional(point, &point.minimum, field, HAS_MIN)
        elif field.number == 12:
            set_optional(point, &point.maximum, field, HAS_MAX)
    elif field.type == LENGTH:
        if field.number == 6:
            point.bucket_counts += (field.text.end - field.text.at) // 8
        elif field.number == 7:
            point.bounds += (field.text.end - field.text.at) // 8


cdef void read_exponential(Point* point, Field* field, const uint8_t* tag) noexcept nogil:
    if field.type == FIXED64:
        if field.number == 4:
            point.count = field.scalar
        elif field.number == 5:
            set_optional(point, &point.sum, field, HAS_SUM)
        elif field.number == 7:
            point.zero_count = field.scalar
        elif field.number == 12:
            set_optional(point, &point.minimum, field, HAS_MIN)
        elif field.number == 13:
            set_optional(point, &point.maximum, field, HAS_MAX)
        elif field.number == 14:
            point.zero_threshold = as_double(field.scalar)
    elif field.type == VARINT and field.number == 6:
        point.scale = zigzag(field.scalar)
    elif field.type == LENGTH:
        if field.number == 8:
            add_part(&point.positive, field.text, tag)
        elif field.number == 9:
            add_part(&point.negative, field.text, tag)


cdef void read_summary(Point* point, Field* field) noexcept nogil:
    if field.type == FIXED64:
        if field.number == 4:
            point.count = field.scalar
        elif field.number == 5:
            point.sum = as_double(field.scalar)


cdef bint read_point(
    Encoding* encoding, const uint8_t* kinds, PointKind kind, Slice message, Point* point
) noexcept nogil:
    """False when it is unsound."""
    cdef PointNumbers number = NUMBERS[<int>kind]
    cdef Field field
    cdef const uint8_t* tag
    memset(point, 0, sizeof(Point))
    begin_attributes(&encoding.item_attributes)
    while True:
        tag = message.at
        if not next_item_field(encoding, kinds, number.attributes, &message, &field):
            break
        if field.type == LENGTH and field.number == number.exemplars:
            point.exemplars += 1
        elif field.type == VARINT and field.number == number.flags:
            point.flags = <uint32_t>field.scalar
        elif field.type == FIXED64 and field.number == 2:
            point.start = field.scalar
        elif field.type == FIXED64 and field.number == 3:
            point.time = field.scalar
        elif kind <= SUM:
            read_number(point, &field)
        elif kind == HISTOGRAM:
            read_histogram(point, &field)
        elif kind == EXPONENTIAL_HISTOGRAM:
            read_exponential(point, &field, tag)
        else:
            read_summary(point, &field)
    return is_sound(encoding)


cdef void put_value_columns(Column* column, uint32_t value_type, uint64_t bits) noexcept nogil:
    """Value, ValueInt, ValueType."""
    put_double(column, as_double(bits) if value_type < 2 else <double><int64_t>bits)
    put_u64(&column[1].data, bits if value_type == 2 else 0)
    put_u8(&column[2].data, <uint8_t>value_type)


cdef void put_exemplar(Encoding* encoding, Column* column, Slice exemplar) noexcept nogil:
    cdef Field field
    cdef Slice[2] ids  # span, trace
    cdef uint64_t time = 0
    cdef uint64_t bits = 0
    cdef uint32_t value_type = 0
    ids[0].at = ids[0].end = ids[1].at = ids[1].end = exemplar.end
    begin_attributes(&encoding.part_attributes[EXEMPLAR])
    while next_field(&exemplar, &field):
        if field.type == LENGTH and field.number == 7:
            add_attribute(&encoding.part_attributes[EXEMPLAR], field.text, &encoding.arena)
        elif field.type == LENGTH and 4 <= field.number <= 5:
            ids[field.number - 4] = field.text
        elif field.type == FIXED64 and field.number == 2:
            time = field.scalar
        elif field.type == FIXED64 and (field.number == 3 or field.number == 6):
            bits = field.scalar
            value_type = 1 if field.number == 3 else 2
    put_event_attributes(encoding, EXEMPLAR, column)
    put_u64(&column[1].data, <uint64_t>clamp_time(encoding, time))
    put_value_columns(column + 2, value_type, bits)
    put_hex_text(encoding, column + 5, ids[0])
    put_hex_text(encoding, column + 6, ids[1])


cdef void put_exemplars(
    Encoding* encoding, Column* column, Slice message, uint32_t number, uint32_t count
) noexcept nogil:
    """Exemplars.{FilteredAttributes, TimeUnix, Value, ValueInt, ValueType, SpanId, TraceId}."""
    cdef Field field
    if count:
        while next_field(&message, &field):
            if field.type == LENGTH and field.number == number:
                put_exemplar(encoding, column, field.text)
    end_array(column, count)


cdef void put_extremes(Column* column, Point* point) noexcept nogil:
    """Count, Sum, HasSum, Min, HasMin, Max, HasMax."""
    put_u64(&column[0].data, point.count)
    put_double(column + 1, point.sum)
    put_u8(&column[2].data, point.has & HAS_SUM != 0)
    put_double(column + 3, point.minimum)
    put_u8(&column[4].data, point.has & HAS_MIN != 0)
    put_double(column + 5, point.maximum)
    put_u8(&column[6].data, point.has & HAS_MAX != 0)


cdef void put_fixed64_list(Column* column, Slice message, uint32_t number) noexcept nogil:
    """A repeated fixed64 or double field, packed or not."""
    cdef Field field
    cdef size_t before = column.data.used
    while next_field(&message, &field):
        if field.number == number and field.type == LENGTH:
            put_bytes(&column.data, field.text.at, field.text.end - field.text.at)
        elif field.number == number and field.type == FIXED64:
            put_u64(&column.data, field.scalar)
    end_array(column, (column.data.used - before) >> 3)


cdef void put_buckets(Column* column, Slice message) noexcept nogil:
    """Offset and BucketCounts of one side of an exponential histogram."""
    cdef Field field
    cdef int32_t offset = 0
    cdef size_t before = column[1].data.used
    while next_field(&message, &field):
        if field.number == 1 and field.type == VARINT:
            offset = zigzag(field.scalar)
        elif field.number == 2 and field.type == VARINT:
            put_u64(&column[1].data, field.scalar)
        elif field.number == 2 and field.type == LENGTH:
            while field.text.at < field.text.end:
                put_u64(&column[1].data, read_varint(&field.text.at))
    put_u32(&column.data, <uint32_t>offset)
    end_array(column + 1, (column[1].data.used - before) >> 3)


cdef void put_quantiles(Column* column, Slice message) noexcept nogil:
    """ValueAtQuantiles.{Quantile, Value}."""
    cdef Field field
    cdef Field inner
    cdef uint64_t[2] pair
    cdef uint64_t count = 0
    while next_field(&message, &field):
        if field.number != 6 or field.type != LENGTH:
            continue
        pair[0] = pair[1] = 0
        while next_field(&field.text, &inner):
            if inner.type == FIXED64 and 1 <= inner.number <= 2:
                pair[inner.number - 1] = inner.scalar
        put_u64(&column[0].data, pair[0])
        put_u64(&column[1].data, pair[1])
        count += 1
    end_array(column, count)


cdef void put_histogram(
    Encoding* encoding, Column* column, Metric* metric, Point* point, Slice message
) noexcept nogil:
    put_extremes(column, point)
    put_fixed64_list(column + 7, message, 6)
    put_fixed64_list(column + 8, message, 7)
    put_u32(&column[9].data, metric.temporality)
    put_exemplars(encoding, column + 10, message, 8, point.exemplars)


cdef void put_exponential(
    Encoding* encoding, Column* column, Metric* metric, Point* point, Slice message
) noexcept nogil:
    put_extremes(column, point)
    put_u32(&column[7].data, <uint32_t>point.scale)
    put_u64(&column[8].data, point.zero_count)
    put_double(column + 9, point.zero_threshold)
    put_buckets(column + 10, joined(&point.positive, 8, message, &encoding.arena))
    put_buckets(column + 12, joined(&point.negative, 9, message, &encoding.arena))
    put_u32(&column[14].data, metric.temporality)
    put_exemplars(encoding, column + 15, message, 11, point.exemplars)


cdef void put_data(
    Encoding* encoding, Column* column, Metric* metric, Point* point, Slice message
) noexcept nogil:
    """The columns in which the five tables differ."""
    if metric.kind <= SUM:
        put_value_columns(column, point.value_type, point.value)
        column += 3
        if metric.kind == SUM:
            put_u32(&column.data, metric.temporality)
            put_u8(&column[1].data, metric.monotonic)
            column += 2
        put_exemplars(encoding, column, message, 5, point.exemplars)
    elif metric.kind == HISTOGRAM:
        put_histogram(encoding, column, metric, point, message)
    elif metric.kind == EXPONENTIAL_HISTOGRAM:
        put_exponential(encoding, column, metric, point, message)
    else:
        put_u64(&column[0].data, point.count)
        put_double(column + 1, point.sum)
        put_quantiles(column + 2, message)


cdef uint64_t series_hash(Encoding* encoding) noexcept nogil:
    """Of the resource's attributes, a zero byte, and the point's attributes as they were sent."""
    cdef Origin* origin = &encoding.origin
    encoding.series.used = 0
    put_bytes(&encoding.series, origin.series.data, origin.series.used)
    put_series(&encoding.item_attributes, &encoding.series, &encoding.scratch, &encoding.arena)
    return xxh64_behind(origin.stripes, encoding.series.data, encoding.series.used)


cdef uint64_t series_of(Slice name, uint64_t hash) noexcept nogil:
    """What a guard knows a series by: the metric's name too. Not 0."""
    return (xxh64(name.at, name.end - name.at) + rotated(hash, 31)) | 1


cdef bint buckets_match(Point* point) noexcept nogil:
    if point.bucket_counts == 0:
        return point.bounds == 0
    return point.bucket_counts == point.bounds + 1


cdef void put_metadata(Encoding* encoding, Column* column, Metric* metric) noexcept nogil:
    cdef Slice rest = metric.whole
    cdef Field field
    begin_attributes(&encoding.part_attributes[METADATA])
    if metric.metadata:
        while next_field(&rest, &field):
            if field.type == LENGTH and field.number == 12:
                add_attribute(&encoding.part_attributes[METADATA], field.text, &encoding.arena)
    put_event_attributes(encoding, METADATA, column)


cdef bint put_point_row(
    Encoding* encoding, Table* table, Slice message, void* parent
) noexcept nogil:
    cdef Metric* metric = <Metric*>parent
    cdef Point point
    cdef int64_t time
    cdef bint replaced
    cdef uint64_t hash
    cdef Column* column = &table.columns[NAME]
    if not read_point(encoding, table.item_kinds, metric.kind, message, &point):
        return False
    if metric.kind == HISTOGRAM and not buckets_match(&point):
        refuse(encoding, BUCKET_COUNTS_MISMATCH)
        return False
    if not place_in_time(encoding, point.time, &time, &replaced):
        return False
    arrange(&encoding.item_attributes, &encoding.arena)
    hash = series_hash(encoding)
    if encoding.guard != NULL and not take_new(encoding, series_of(metric.name, hash)):
        return False
    if replaced:
        keep_original_time(encoding, point.time)
    put_origin(encoding, table)
    put_word(&column[0], metric.name)
    put_word(&column[1], metric.description)
    put_word(&column[2], metric.unit)
    put_metadata(encoding, &column[3], metric)
    put_attributes(&encoding.item_attributes, &column[4], &encoding.scratch, &encoding.arena)
    put_u64(&column[5].data, hash)
    put_u64(&column[6].data, <uint64_t>clamp_time(encoding, point.start))
    put_u64(&column[7].data, <uint64_t>time)
    put_u32(&column[8].data, point.flags)
    put_data(encoding, &table.columns[VALUE], metric, &point, message)
    count_row(table, time)
    return True


cdef bint read_metric(Encoding* encoding, Slice message, Metric* metric) noexcept nogil:
    """False for a metric without data."""
    cdef Field field
    cdef uint32_t member = 0
    cdef Parts data
    cdef Slice rest = message
    cdef const uint8_t* tag
    memset(metric, 0, sizeof(Metric))
    metric.whole = message
    data.count = 0
    while True:
        tag = rest.at
        if not next_field(&rest, &field):
            break
        if field.type != LENGTH:
            continue
        if field.number == 1:
            metric.name = field.text
        elif field.number == 2:
            metric.description = field.text
        elif field.number == 3:
            metric.unit = field.text
        elif field.number == 12:
            metric.metadata += 1
        elif field.number in (5, 7, 9, 10, 11):
            # The member that came last counts; more of the same member merges.
            if field.number != member:
                data.count = 0
                # Nobody will look into the points of the one before.
                if member and not encoding.is_validated:
                    encoding.found = UNSOUND
            member = field.number
            add_part(&data, field.text, tag)
    if member == 0:
        return False
    metric.message = joined(&data, member, message, &encoding.arena)
    metric.kind = (
        GAUGE if member == 5 else SUM if member == 7 else HISTOGRAM if member == 9
        else EXPONENTIAL_HISTOGRAM if member == 10 else SUMMARY
    )
    return True


cdef void read_aggregation(Metric* metric) noexcept nogil:
    cdef Slice message = metric.message
    cdef Field field
    while next_field(&message, &field):
        if field.type == VARINT and field.number == 2:
            metric.temporality = <uint32_t>field.scalar
        elif field.type == VARINT and field.number == 3 and metric.kind == SUM:
            metric.monotonic = field.scalar != 0
    if metric.temporality > 2:
        metric.temporality = 0


cdef int put_metric(Encoding* encoding, Slice message) noexcept nogil:
    """Each data point of the metric, into the table of its kind."""
    cdef Metric metric
    cdef Field field
    cdef int status
    cdef Slice points
    if not read_metric(encoding, message, &metric) or encoding.found != DONE:
        return encoding.found
    read_aggregation(&metric)
    encoding.parent_name = metric.name
    points = metric.message
    while next_field(&points, &field):
        if field.number == 1 and field.type == LENGTH:
            encoding.parent_bytes = <uint64_t>metric.metadata * 8
            status = put_item(encoding, <int>metric.kind, put_point_row, field.text, &metric)
            if status != DONE:
                return status
    return DONE
