"""XXH64, for series hashes: the same series has the same hash in every process and release."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef uint64_t PRIME1 = 0x9E3779B185EBCA87
cdef uint64_t PRIME2 = 0xC2B2AE3D27D4EB4F
cdef uint64_t PRIME3 = 0x165667B19E3779F9
cdef uint64_t PRIME4 = 0x85EBCA77C2B2AE63
cdef uint64_t PRIME5 = 0x27D4EB2F165667C5


cdef inline uint64_t step(uint64_t lane, uint64_t word) noexcept nogil:
    return rotated(lane + word * PRIME2, 31) * PRIME1


cdef inline uint64_t fold(uint64_t hash, uint64_t lane) noexcept nogil:
    return (hash ^ step(0, lane)) * PRIME1 + PRIME4


cdef uint64_t stripes(const uint8_t** at, const uint8_t* end) noexcept nogil:
    """The 32-byte stripes of an input that has at least one."""
    cdef uint64_t[LANES] lane
    cdef uint64_t hash
    cdef int position
    lane[0] = PRIME1 + PRIME2
    lane[1] = PRIME2
    lane[2] = 0
    lane[3] = 0 - PRIME1
    while end - at[0] >= 32:
        for position in range(LANES):
            lane[position] = step(lane[position], word64(at[0] + 8 * position))
        at[0] += 32
    hash = rotated(lane[0], 1) + rotated(lane[1], 7) + rotated(lane[2], 12) + rotated(lane[3], 18)
    for position in range(LANES):
        hash = fold(hash, lane[position])
    return hash


cdef uint64_t xxh64(const uint8_t* at, size_t size) noexcept nogil:
    cdef const uint8_t* end = at + size
    cdef uint64_t hash = PRIME5
    cdef uint32_t half
    if size >= 32:
        hash = stripes(&at, end)
    hash += size
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
