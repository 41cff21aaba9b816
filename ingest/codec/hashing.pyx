"""XXH64, for series hashes: the same series has the same hash in every process and release."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    static constexpr uint64_t telemetryflow_prime1 = 0x9E3779B185EBCA87;
    static constexpr uint64_t telemetryflow_prime2 = 0xC2B2AE3D27D4EB4F;
    static constexpr uint64_t telemetryflow_prime3 = 0x165667B19E3779F9;
    static constexpr uint64_t telemetryflow_prime4 = 0x85EBCA77C2B2AE63;
    static constexpr uint64_t telemetryflow_prime5 = 0x27D4EB2F165667C5;
    """
    const uint64_t PRIME1 "telemetryflow_prime1"
    const uint64_t PRIME2 "telemetryflow_prime2"
    const uint64_t PRIME3 "telemetryflow_prime3"
    const uint64_t PRIME4 "telemetryflow_prime4"
    const uint64_t PRIME5 "telemetryflow_prime5"


cdef inline uint64_t step(uint64_t lane, uint64_t word) noexcept nogil:
    return rotated(lane + word * PRIME2, 31) * PRIME1


cdef inline uint64_t fold(uint64_t hash, uint64_t lane) noexcept nogil:
    return (hash ^ step(0, lane)) * PRIME1 + PRIME4


cdef Stripes no_stripes() noexcept nogil:
    """Of an input that begins."""
    cdef Stripes stripes
    stripes.lanes[0] = PRIME1 + PRIME2
    stripes.lanes[1] = PRIME2
    stripes.lanes[2] = 0
    stripes.lanes[3] = 0 - PRIME1
    stripes.size = 0
    return stripes


cdef size_t add_stripes(Stripes* stripes, const uint8_t* at, size_t size) noexcept nogil:
    """Takes whole stripes of what comes next; returns how many bytes that were."""
    cdef size_t taken = size & ~(<size_t>31)
    cdef const uint8_t* end = at + taken
    cdef uint64_t one = stripes.lanes[0]
    cdef uint64_t two = stripes.lanes[1]
    cdef uint64_t three = stripes.lanes[2]
    cdef uint64_t four = stripes.lanes[3]
    while at < end:
        one = step(one, word64(at))
        two = step(two, word64(at + 8))
        three = step(three, word64(at + 16))
        four = step(four, word64(at + 24))
        at += 32
    stripes.lanes[0] = one
    stripes.lanes[1] = two
    stripes.lanes[2] = three
    stripes.lanes[3] = four
    stripes.size += taken
    return taken


cdef uint64_t merged(Stripes* stripes) noexcept nogil:
    cdef uint64_t* lane = stripes.lanes
    cdef uint64_t hash
    cdef int position
    hash = rotated(lane[0], 1) + rotated(lane[1], 7) + rotated(lane[2], 12) + rotated(lane[3], 18)
    for position in range(LANES):
        hash = fold(hash, lane[position])
    return hash


cdef uint64_t xxh64(const uint8_t* at, size_t size) noexcept nogil:
    return xxh64_behind(no_stripes(), at, size)


cdef uint64_t xxh64_behind(Stripes stripes, const uint8_t* at, size_t size) noexcept nogil:
    """Of an input that has *size* bytes more behind its first *stripes*."""
    cdef const uint8_t* end = at + size
    cdef uint64_t hash
    cdef uint32_t half
    at += add_stripes(&stripes, at, size)
    hash = (merged(&stripes) if stripes.size else PRIME5) + stripes.size + (end - at)
    while end - at >= 8:
        hash = rotated(hash ^ step(0, word64(at)), 27) * PRIME1 + PRIME4
        at += 8
    if end - at >= 4:
        memcpy(&half, at, 4)
        hash = rotated(hash ^ (half * PRIME1), 23) * PRIME2 + PRIME3
        at += 4
    while at < end:
        hash = rotated(hash ^ (at[0] * PRIME5), 11) * PRIME1
        at += 1
    hash = (hash ^ (hash >> 33)) * PRIME2
    hash = (hash ^ (hash >> 29)) * PRIME3
    return hash ^ (hash >> 32)
