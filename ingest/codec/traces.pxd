from ingest.codec.encoding cimport Encoding
from ingest.codec.memory cimport Slice

cdef int put_span(Encoding* encoding, Slice span) noexcept nogil
