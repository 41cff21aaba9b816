"""The output of the JSON mapper: a bytes object that is written in place and grows."""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.exc cimport PyErr_Clear
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memmove

cdef extern from "Python.h":
    PyObject* PyBytes_FromStringAndSize(const char* text, Py_ssize_t size)
    int _PyBytes_Resize(PyObject** text, Py_ssize_t size)
    void Py_XDECREF(PyObject* item)

cdef extern from *:
    """
    /* The fuzzer's build keeps no room to spare, so that a write without a reserve is caught. */
    #ifdef TELEMETRYFLOW_NO_SLACK
    #define tf_slack(bytes) 0
    #else
    #define tf_slack(bytes) (bytes)
    #endif
    """
    size_t tf_slack(size_t size) nogil

cdef enum:
    # A length that is not known yet gets this many bytes; it is then filled in as a padded varint.
    LENGTH_BYTES = 5
    TAG_BYTES_MAX = 2
    VARINT_BYTES_MAX = 10
    # Protobuf lengths stop short of 2 GiB.
    OUTPUT_BYTES_MAX = 0x7FFFFFFF

cdef struct Output:
    PyObject* holder
    unsigned char* at
    size_t used
    size_t room
    bint full  # stopped at OUTPUT_BYTES_MAX; if growing failed without this, memory ran out


cdef inline bint open_output(Output* out, size_t room) noexcept:
    out.used = 0
    out.room = tf_slack(room)
    out.full = False
    # Never empty: the empty bytes object is shared by all and cannot be resized.
    out.holder = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>out.room + 1)
    if out.holder == NULL:
        return False
    out.at = <unsigned char*>PyBytes_AS_STRING(<object>out.holder)
    return True


cdef inline bint grow(Output* out, size_t more) noexcept nogil:
    cdef size_t room = out.used + more + tf_slack(out.used >> 1)
    if out.used + more > OUTPUT_BYTES_MAX:
        out.full = True
        return False
    with gil:
        if _PyBytes_Resize(&out.holder, <Py_ssize_t>room) < 0:
            PyErr_Clear()  # the caller raises a MemoryError with a text
            return False
        out.at = <unsigned char*>PyBytes_AS_STRING(<object>out.holder)
    out.room = room
    return True


cdef inline bint reserve(Output* out, size_t more) noexcept nogil:
    """Makes room for *more* bytes; the functions below write without a further check."""
    if out.room - out.used >= more:
        return True
    return grow(out, more)


cdef inline void put_varint(Output* out, uint64_t value) noexcept nogil:
    while value >= 0x80:
        out.at[out.used] = <unsigned char>(value | 0x80)
        out.used += 1
        value >>= 7
    out.at[out.used] = <unsigned char>value
    out.used += 1


cdef inline void put_fixed(Output* out, uint64_t value, size_t width) noexcept nogil:
    """Writes the low *width* bytes, lowest first (the host is little-endian, as x86 and ARM are)."""
    memcpy(out.at + out.used, &value, width)
    out.used += width


cdef inline size_t open_length(Output* out) noexcept nogil:
    out.used += LENGTH_BYTES
    return out.used


cdef inline void close_length(Output* out, size_t start) noexcept nogil:
    """Fills in the length of what was written since *start*, which `open_length` returned."""
    cdef size_t length = out.used - start
    cdef int place
    for place in range(LENGTH_BYTES - 1):
        out.at[start - LENGTH_BYTES + place] = <unsigned char>(length | 0x80)
        length >>= 7
    out.at[start - 1] = <unsigned char>length


cdef inline void erase(Output* out, size_t start, size_t stop) noexcept nogil:
    memmove(out.at + start, out.at + stop, out.used - stop)
    out.used -= stop - start
