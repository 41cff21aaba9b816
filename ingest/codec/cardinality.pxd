"""Guards against runaway cardinality: what was seen of a tenant in this hour and the one before."""

from libc.stdint cimport uint64_t

from ingest.codec.attributes cimport Attributes
from ingest.codec.memory cimport Buffer

cdef enum Excess:
    NO_EXCESS = 0
    NEW_SERIES = 1
    NEW_ATTRIBUTE_KEYS = 2


# Open addressing; 0 = free. `count` slots (0 or a power of two), `used` of them.
cdef struct HashSet:
    uint64_t* slots
    uint64_t count
    uint64_t used


cdef struct Seen:
    uint64_t max_new  # an hour; 0 = no limit, and nothing is kept
    uint64_t new  # of this hour
    HashSet lately  # this hour
    HashSet before  # the hour before


cdef struct GuardState:
    Seen series
    Seen keys


cdef class Guard:
    cdef GuardState state


cdef void put_key_hashes(Attributes* attributes, Buffer* out) noexcept nogil
cdef Excess take_item(GuardState* guard, uint64_t series, Buffer* keys) noexcept nogil
