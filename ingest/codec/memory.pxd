"""Growing buffers and the request's scratch memory. A failed allocation throws std::bad_alloc,
which `guarded` at the top turns into a status: nothing below it needs to check."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy

cdef extern from *:
    """
    #include <cstdint>
    #include <cstdlib>
    #include <cstring>
    #include <new>
    /* Rare, and far larger than what calls it: it stays out of the code that puts values. */
    __attribute__((noinline, cold))
    static void* telemetryflow_grow(void* memory, size_t size) {
        void* grown = std::realloc(memory, size);
        if (grown == nullptr) throw std::bad_alloc();
        return grown;
    }
    template <typename Word>
    static inline void telemetryflow_copy_ends(uint8_t* to, const uint8_t* from, size_t size) {
        Word head, tail;
        std::memcpy(&head, from, sizeof(Word));
        std::memcpy(&tail, from + size - sizeof(Word), sizeof(Word));
        std::memcpy(to, &head, sizeof(Word));
        std::memcpy(to + size - sizeof(Word), &tail, sizeof(Word));
    }
    /* memcpy without a call for short texts, which nearly all are: two words, which may overlap. */
    static inline void telemetryflow_copy(uint8_t* to, const uint8_t* from, size_t size) {
        struct Sixteen { uint64_t low, high; };
        if (size > 32) std::memcpy(to, from, size);
        else if (size >= 16) telemetryflow_copy_ends<Sixteen>(to, from, size);
        else if (size >= 8) telemetryflow_copy_ends<uint64_t>(to, from, size);
        else if (size >= 4) telemetryflow_copy_ends<uint32_t>(to, from, size);
        else if (size >= 2) telemetryflow_copy_ends<uint16_t>(to, from, size);
        else if (size) *to = *from;
    }
    /* The fuzzer's build keeps no room to spare, so that a write without a reserve is caught. */
    #ifdef TELEMETRYFLOW_NO_SLACK
    #define telemetryflow_slack(size) 0
    #define telemetryflow_chunk 1
    #else
    #define telemetryflow_slack(size) ((size) / 2 + 64)
    #define telemetryflow_chunk 65536
    #endif
    typedef int (*telemetryflow_work)(void*);
    static inline int telemetryflow_guarded(telemetryflow_work work, void* argument, int failed) {
        try { return work(argument); } catch (const std::bad_alloc&) { return failed; }
    }
    """
    void* grow_memory "telemetryflow_grow"(void* memory, size_t size) noexcept nogil
    void copy_text "telemetryflow_copy"(uint8_t* to, const uint8_t* at, size_t size) noexcept nogil
    size_t slack "telemetryflow_slack"(size_t size) noexcept nogil
    size_t CHUNK_BYTES "telemetryflow_chunk"
    ctypedef int (*Work "telemetryflow_work")(void*) noexcept nogil
    int guarded "telemetryflow_guarded"(Work work, void* argument, int failed) noexcept nogil


cdef struct Slice:
    const uint8_t* at
    const uint8_t* end


cdef struct Buffer:
    uint8_t* data
    size_t used
    size_t room


cdef struct Chunk:
    Chunk* older
    size_t room


# Memory that lives as long as one request: merged messages and lists.
cdef struct Arena:
    Chunk* newest
    size_t used


cdef inline void reserve(Buffer* buffer, size_t more) noexcept nogil:
    cdef size_t room
    if buffer.room - buffer.used >= more:
        return
    room = buffer.used + more + slack(buffer.used)
    buffer.data = <uint8_t*>grow_memory(buffer.data, room)
    buffer.room = room


cdef inline void release(Buffer* buffer) noexcept nogil:
    free(buffer.data)
    buffer.data = NULL
    buffer.used = 0
    buffer.room = 0


cdef inline void put_u8(Buffer* buffer, uint8_t value) noexcept nogil:
    reserve(buffer, 1)
    buffer.data[buffer.used] = value
    buffer.used += 1


cdef inline void put_u32(Buffer* buffer, uint32_t value) noexcept nogil:
    reserve(buffer, 4)
    memcpy(buffer.data + buffer.used, &value, 4)
    buffer.used += 4


cdef inline void put_u64(Buffer* buffer, uint64_t value) noexcept nogil:
    reserve(buffer, 8)
    memcpy(buffer.data + buffer.used, &value, 8)
    buffer.used += 8


cdef inline void put_bytes(Buffer* buffer, const void* at, size_t size) noexcept nogil:
    reserve(buffer, size)
    copy_text(buffer.data + buffer.used, <const uint8_t*>at, size)
    buffer.used += size


cdef inline size_t write_varint(uint8_t* at, uint64_t value) noexcept nogil:
    cdef size_t size = 0
    while value >= 0x80:
        at[size] = <uint8_t>(value | 0x80)
        value >>= 7
        size += 1
    at[size] = <uint8_t>value
    return size + 1


cdef inline void put_varint(Buffer* buffer, uint64_t value) noexcept nogil:
    reserve(buffer, 10)
    buffer.used += write_varint(buffer.data + buffer.used, value)


cdef inline void put_text(Buffer* buffer, const uint8_t* at, size_t size) noexcept nogil:
    """A ClickHouse String: its length as a varint, then its bytes."""
    reserve(buffer, size + 10)
    buffer.used += write_varint(buffer.data + buffer.used, size)
    copy_text(buffer.data + buffer.used, at, size)
    buffer.used += size


cdef inline uint8_t* take(Arena* arena, size_t size) noexcept nogil:
    """*size* bytes, aligned to 8, until the arena is emptied."""
    cdef Chunk* chunk
    cdef size_t room
    size = (size + 7) & ~(<size_t>7)
    if arena.newest == NULL or arena.newest.room - arena.used < size:
        room = CHUNK_BYTES if size <= CHUNK_BYTES else size
        chunk = <Chunk*>grow_memory(NULL, sizeof(Chunk) + room)
        chunk.older = arena.newest
        chunk.room = room
        arena.newest = chunk
        arena.used = 0
    arena.used += size
    return <uint8_t*>(arena.newest + 1) + arena.used - size


cdef inline void empty_arena(Arena* arena, bint keep_one) noexcept nogil:
    """Frees all; *keep_one* keeps the first chunk for the next request."""
    cdef Chunk* older
    while arena.newest != NULL and not (keep_one and arena.newest.older == NULL):
        older = arena.newest.older
        free(arena.newest)
        arena.newest = older
    arena.used = 0
