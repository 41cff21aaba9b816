"""XXH64 (https://github.com/Cyan4973/xxHash, specification 0.1.1), seed 0: stable everywhere."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    LANES = 4

cdef inline uint64_t rotated(uint64_t value, int bits) noexcept nogil:
    return (value << bits) | (value >> (64 - bits))


cdef inline uint64_t word64(const uint8_t* at) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, at, 8)
    return value


# What whole stripes of 32 bytes make of an input, from its beginning on.
cdef struct Stripes:
    uint64_t[LANES] lanes
    uint64_t size  # bytes of them


cdef Stripes no_stripes() noexcept nogil
cdef size_t add_stripes(Stripes* stripes, const uint8_t* at, size_t size) noexcept nogil
cdef uint64_t xxh64_behind(Stripes stripes, const uint8_t* at, size_t size) noexcept nogil
cdef uint64_t xxh64(const uint8_t* at, size_t size) noexcept nogil
