"""What is kept of a rejected item until its request is answered."""

from libc.stdint cimport uint32_t, uint8_t

from ingest.codec.memory cimport Buffer, Slice

cdef enum:
    # 128 characters take at most so many.
    TEXT_BYTES_MAX = 512


# `item` is its message, in what the request is read from; `parent_name` that of a point's metric.
cdef struct Rejection:
    int reason
    int table
    Slice item
    Slice parent_name
    uint32_t service_bytes
    uint8_t[TEXT_BYTES_MAX] service  # its words may be forgotten before the request ends

cdef tuple described(Buffer* rejections, tuple tables)
