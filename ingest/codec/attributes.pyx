"""Attributes: sorted by the bytes of their keys; of equal keys the last one counts."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from ingest.codec.columns cimport WORD_MAP, Column, end_map
from ingest.codec.dictionary cimport Dictionary, Word, is_word, look_up, text_of, word_of_slice
from ingest.codec.memory cimport (
    Arena, Buffer, Slice, grow_memory, put_bytes, put_text, put_u32, release, take,
)
from ingest.codec.values cimport (
    BOOL_VALUE, INT_VALUE, STRING_VALUE, Value, put_bool, put_decimal, put_double, put_value,
    read_value, sort_keys,
)
from ingest.codec.validation cimport KEY_VALUE, VALID, Findings, check_length_field
from ingest.codec.wire cimport is_plain_number, plain_number


cdef void open_attributes(Attributes* attributes, Dictionary* key_words) noexcept nogil:
    memset(attributes, 0, sizeof(Attributes))
    attributes.key_words = key_words
    attributes.shapes = <Shape*>grow_memory(NULL, SHAPES * sizeof(Shape))
    forget_shapes(attributes)


cdef void close_attributes(Attributes* attributes) noexcept nogil:
    release(&attributes.entries)
    free(attributes.shapes)
    attributes.shapes = NULL


cdef void forget_shapes(Attributes* attributes) noexcept nogil:
    """To be called when the key words were forgotten."""
    memset(attributes.shapes, 0, SHAPES * sizeof(Shape))


cdef void begin_attributes(Attributes* attributes) noexcept nogil:
    attributes.entries.used = 0
    attributes.kept = 0
    attributes.key_words.latest = 0


cdef void add_text_attribute(
    Attributes* attributes, Slice key, Slice text, Arena* arena
) noexcept nogil:
    """An attribute of our own with a short text (under 128 bytes); it replaces one of that key."""
    cdef size_t size = text.end - text.at
    cdef uint8_t* message = take(arena, size + 2)
    cdef Slice value
    cdef size_t position
    message[0] = 0x0A  # AnyValue.string_value
    message[1] = <uint8_t>size
    for position in range(size):
        message[2 + position] = text.at[position]
    value.at = message
    value.end = message + 2 + size
    add_entry(attributes, word_of_slice(attributes.key_words, key), value)


cdef int add_unexpected_attribute(
    Attributes* attributes, Slice key_value, Arena* arena, Findings* findings
) noexcept nogil:
    cdef int verdict = check_length_field(KEY_VALUE, key_value, 0, findings)
    # What is not UTF-8 must not become a word.
    if verdict == VALID and findings.bad_texts == 0:
        add_attribute(attributes, key_value, arena)
    return verdict


cdef inline Entry* entries_of(Attributes* attributes) noexcept nogil:
    return <Entry*>attributes.entries.data


cdef void arrange(Attributes* attributes, Arena* arena) noexcept nogil:
    """Decides which entries are written, and in which order."""
    cdef uint32_t count = <uint32_t>(attributes.entries.used // sizeof(Entry))
    cdef Entry* entry = entries_of(attributes)
    cdef uint32_t position
    cdef uint32_t place = count
    cdef Shape* shape
    if count == 0:
        attributes.kept = 0
        return
    if count > SHAPE_KEYS_MAX:
        attributes.order = <uint32_t*>take(arena, <size_t>count * 8)
        attributes.keys_in_order = attributes.order + count
        sort_entries(attributes, count, arena)
        return
    # Three keys tell shapes apart well enough; the comparison tells them apart for certain.
    place = (place * 31 + entry[0].key) * 31 + entry[count >> 1].key
    place = place * 31 + entry[count - 1].key
    shape = attributes.shapes + ((place ^ (place >> 6) ^ (place >> 12)) % SHAPES)
    attributes.order = shape.order
    attributes.keys_in_order = shape.keys_in_order
    if has_shape(entry, count, shape):
        attributes.kept = shape.kept
        return
    shape.came = count
    for position in range(count):
        shape.keys[position] = entry[position].key
    sort_entries(attributes, count, arena)
    shape.kept = attributes.kept


cdef inline bint has_shape(Entry* entry, uint32_t count, Shape* shape) noexcept nogil:
    cdef uint32_t* key = shape.keys
    cdef uint32_t* end = key + count
    if shape.came != count:
        return False
    while key < end:
        if key[0] != entry.key:
            return False
        key += 1
        entry += 1
    return True


cdef void sort_entries(Attributes* attributes, uint32_t count, Arena* arena) noexcept nogil:
    """Fills `order`, `keys_in_order` and `kept`."""
    cdef Entry* entry = entries_of(attributes)
    cdef Slice* keys = <Slice*>take(arena, count * sizeof(Slice))
    cdef uint32_t* sorted_order = <uint32_t*>take(arena, <size_t>count * 8)
    cdef uint32_t position
    cdef uint32_t kept = 0
    for position in range(count):
        keys[position] = text_of(attributes.key_words, entry[position].key)
    sort_keys(keys, sorted_order, sorted_order + count, count)
    for position in range(count):
        # Equal keys have one number; the sort is stable, so the last of a run came last.
        if position + 1 < count and (
            entry[sorted_order[position]].key == entry[sorted_order[position + 1]].key
        ):
            continue
        attributes.order[kept] = sorted_order[position]
        attributes.keys_in_order[kept] = entry[sorted_order[position]].key
        kept += 1
    attributes.kept = kept


cdef inline void put_plain_number(Slice message, Buffer* out) noexcept nogil:
    cdef uint64_t scalar = plain_number(message)
    cdef double number
    if message.at[0] >> 3 == BOOL_VALUE:
        put_bool(scalar != 0, out)
    elif message.at[0] >> 3 == INT_VALUE:
        put_decimal(scalar, out)
    else:
        memcpy(&number, &scalar, 8)
        put_double(number, out)


cdef Slice value_text(Slice message, Buffer* scratch, Arena* arena) noexcept nogil:
    cdef Value value
    cdef Slice text
    scratch.used = 0
    if is_plain_number(message):
        put_plain_number(message, scratch)
    else:
        value = read_value(message, arena)
        if value.member == STRING_VALUE:
            return value.text
        put_value(value, scratch, arena)
    text.at = scratch.data
    text.end = scratch.data + scratch.used
    return text


cdef inline uint32_t value_word(
    Column* column, Word* key, Slice text
) noexcept nogil:
    """The value's word: most often the one that came with this key before."""
    cdef size_t size = text.end - text.at
    if not is_word(column.words, key.hint, text.at, size):
        key.hint = look_up(column.words, text.at, size)
    return key.hint


cdef void put_attributes(
    Attributes* attributes, Column* column, Buffer* scratch, Arena* arena
) noexcept nogil:
    """Writes what `arrange` decided as one map of *column*."""
    cdef Entry* entry = entries_of(attributes)
    cdef Entry* one
    cdef uint32_t position
    cdef Slice text
    put_bytes(&column.keys, attributes.keys_in_order, <size_t>attributes.kept * 4)
    for position in range(attributes.kept):
        one = entry + attributes.order[position]
        text = one.value if one.is_text else value_text(one.value, scratch, arena)
        if column.kind == WORD_MAP:
            put_u32(&column.data, value_word(column, column.key_words.words + one.key, text))
        else:
            put_text(&column.data, text.at, text.end - text.at)
    end_map(column)


cdef void put_series(Attributes* attributes, Buffer* out, Buffer* scratch, Arena* arena) noexcept nogil:
    """What identifies a series: each key and value with its length, in order."""
    cdef Entry* entry = entries_of(attributes)
    cdef Entry* one
    cdef uint32_t position
    cdef Slice text
    for position in range(attributes.kept):
        one = entry + attributes.order[position]
        text = text_of(attributes.key_words, one.key)
        put_text(out, text.at, text.end - text.at)
        text = one.value if one.is_text else value_text(one.value, scratch, arena)
        put_text(out, text.at, text.end - text.at)
