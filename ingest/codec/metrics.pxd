from ingest.codec.encoding cimport Encoding
from ingest.codec.memory cimport Slice

cdef int put_metric(Encoding* encoding, Slice metric) noexcept nogil
