"""Guards against runaway cardinality: how many series and attribute keys of a tenant are new.

What a tenant sent in this hour or in the one before is known; anything else is new, and only so
much of that is let in. So a series that lasts is not new at each turn of the hour. Kept are 64-bit
hashes in exact sets, whose memory is bounded; what no set has room for is not let in.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from ingest.codec.attributes cimport Attributes
from ingest.codec.dictionary cimport text_of
from ingest.codec.hashing cimport xxh64
from ingest.codec.memory cimport Buffer, Slice, put_u64

cdef extern from *:
    """
    #include <algorithm>
    #include <mutex>
    /* Of all guards: blocks are decoded in several threads, without the GIL. */
    static std::mutex telemetryflow_guards;
    static inline void telemetryflow_lock() { telemetryflow_guards.lock(); }
    static inline void telemetryflow_unlock() { telemetryflow_guards.unlock(); }
    static inline size_t telemetryflow_distinct(uint64_t* first, size_t count) {
        std::sort(first, first + count);
        return std::unique(first, first + count) - first;
    }
    """
    void lock "telemetryflow_lock"() noexcept nogil
    void unlock "telemetryflow_unlock"() noexcept nogil
    size_t distinct "telemetryflow_distinct"(uint64_t* first, size_t count) noexcept nogil

cdef enum:
    SLOTS_MIN = 64
    # Of one set: 8 MiB, and room for 786 432 hashes, since three quarters of the slots are used.
    SLOTS_MAX = 1 << 20
    # Of the sets of all guards in this process.
    ALL_BYTES_MAX = 128 * 1024 * 1024

cdef uint64_t bytes_held = 0


cdef inline uint64_t* slot_of(HashSet* of, uint64_t hash) noexcept nogil:
    """Where *hash* (not 0) is, or would be."""
    cdef uint64_t place = hash & (of.count - 1)
    while of.slots[place] != 0 and of.slots[place] != hash:
        place = (place + 1) & (of.count - 1)
    return of.slots + place


cdef inline bint has(HashSet* of, uint64_t hash) noexcept nogil:
    return of.used != 0 and slot_of(of, hash)[0] == hash


cdef void empty(HashSet* of) noexcept nogil:
    global bytes_held
    bytes_held -= of.count * 8
    free(of.slots)
    memset(of, 0, sizeof(HashSet))


cdef bint make_room(HashSet* of, uint64_t more) noexcept nogil:
    """Whether *more* hashes may be added."""
    global bytes_held
    cdef HashSet wider
    cdef uint64_t place
    wider.count = of.count if of.count else SLOTS_MIN
    while (of.used + more) * 4 > wider.count * 3:
        if wider.count >= SLOTS_MAX:
            return False
        wider.count *= 2
    if wider.count == of.count:
        return True
    if bytes_held + wider.count * 8 > ALL_BYTES_MAX:
        return False
    # No std::bad_alloc here, which would leave the lock locked.
    wider.slots = <uint64_t*>calloc(wider.count, 8)
    if wider.slots == NULL:
        return False
    wider.used = of.used
    bytes_held += wider.count * 8
    for place in range(of.count):
        if of.slots[place]:
            slot_of(&wider, of.slots[place])[0] = of.slots[place]
    empty(of)
    of[0] = wider
    return True


cdef inline bint is_new(Seen* seen, uint64_t hash) noexcept nogil:
    return not has(&seen.lately, hash) and not has(&seen.before, hash)


cdef bint let_in(Seen* seen, uint64_t count) noexcept nogil:
    """Whether so many that are new may come; there is room for them, then."""
    if count == 0:
        return True
    return seen.new + count <= seen.max_new and make_room(&seen.lately, count)


cdef void remember(Seen* seen, uint64_t hash) noexcept nogil:
    """A known one that there is no room for is new in the hour after the next."""
    if has(&seen.lately, hash) or not make_room(&seen.lately, 1):
        return
    if not has(&seen.before, hash):
        seen.new += 1
    slot_of(&seen.lately, hash)[0] = hash
    seen.lately.used += 1


cdef Excess take_locked(
    GuardState* guard, uint64_t series, uint64_t* keys, size_t count
) noexcept nogil:
    cdef size_t position
    cdef uint64_t keys_new = 0
    cdef uint64_t series_new = 1 if series and is_new(&guard.series, series) else 0
    for position in range(count):
        if is_new(&guard.keys, keys[position]):
            keys_new += 1
    if not let_in(&guard.series, series_new):
        return NEW_SERIES
    if not let_in(&guard.keys, keys_new):
        return NEW_ATTRIBUTE_KEYS
    if series:
        remember(&guard.series, series)
    for position in range(count):
        remember(&guard.keys, keys[position])
    return NO_EXCESS


cdef Excess take_item(GuardState* guard, uint64_t series, Buffer* keys) noexcept nogil:
    """Whether an item may come, by its series (0: it has none) and its keys (see
    `put_key_hashes`); if so, they are known from now on. It leaves nothing behind if not."""
    cdef uint64_t* first = <uint64_t*>keys.data
    cdef size_t count = distinct(first, keys.used // 8)
    cdef Excess excess
    if guard.series.max_new == 0:
        series = 0
    lock()
    excess = take_locked(guard, series, first, count)
    unlock()
    return excess


cdef void put_key_hashes(Attributes* attributes, Buffer* out) noexcept nogil:
    cdef uint32_t position
    cdef uint64_t hash
    cdef Slice key
    for position in range(attributes.kept):
        key = text_of(attributes.key_words, attributes.keys_in_order[position])
        hash = xxh64(key.at, key.end - key.at)
        put_u64(out, hash if hash else 1)


cdef class Guard:
    """What is known of one tenant, and how much that is new it may send in an hour.

    *series_max* and *keys_max* are those limits; 0 is none. To be given to `Encoder.append`; whose
    hour it is, is told by `turn`.
    """

    def __cinit__(self, *, uint64_t series_max=0, uint64_t keys_max=0):
        memset(&self.state, 0, sizeof(GuardState))
        self.state.series.max_new = series_max
        self.state.keys.max_new = keys_max

    def __dealloc__(self) -> None:
        self.forget()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is known, so that it may as well be forgotten."""
        cdef GuardState* state = &self.state
        return not (
            state.series.lately.used or state.series.before.used
            or state.keys.lately.used or state.keys.before.used
        )

    def limit(self, *, uint64_t series_max, uint64_t keys_max) -> None:
        """Other limits from now on."""
        self.state.series.max_new = series_max
        self.state.keys.max_new = keys_max

    def turn(self) -> None:
        """An hour ends: what was sent in it is known for one more."""
        lock()
        turn(&self.state.series)
        turn(&self.state.keys)
        unlock()

    def forget(self) -> None:
        """Nothing is known any more."""
        self.turn()
        self.turn()


cdef void turn(Seen* seen) noexcept nogil:
    empty(&seen.before)
    seen.before = seen.lately
    memset(&seen.lately, 0, sizeof(HashSet))
    seen.new = 0


def guards_bytes() -> int:
    """Memory of the sets of all guards in this process."""
    return bytes_held
