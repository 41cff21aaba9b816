from ingest.codec.encoding cimport Encoding
from ingest.codec.memory cimport Slice

cdef int put_log_record(Encoding* encoding, Slice record) noexcept nogil
