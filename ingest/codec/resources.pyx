"""The resources of a request: where each stands, and which tenant it names.

An Export request is a sequence of resource messages in field 1, the same for each signal, so what
stands between two of these places is a request of its own.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.string cimport memcmp, memset

from ingest.codec.memory cimport Arena, Buffer, Slice, empty_arena, guarded, put_bytes, release
from ingest.codec.validation cimport (
    EXPORT_LOGS, EXPORT_METRICS, EXPORT_TRACES, VALID, Findings, MessageType, malformed, validate,
)
from ingest.codec.values cimport STRING_VALUE, KeyValue, Value, read_key_value, read_value
from ingest.codec.wire cimport LENGTH, Field, Parts, add_part, joined, next_field

cdef enum:
    TENANT_ID_BYTES = 23
    DONE = 0
    OUT_OF_MEMORY = 1

cdef const char* TENANT_ID = b"telemetryflow.tenant.id"

_MESSAGES = {"traces": EXPORT_TRACES, "logs": EXPORT_LOGS, "metrics": EXPORT_METRICS}


cdef struct Resource:
    Slice field  # with its tag
    Slice tenant


# One search, which runs without the GIL.
cdef struct Search:
    Slice body
    MessageType message
    Findings findings
    Buffer found  # of Resource
    Arena arena


cdef Slice tenant_of(Slice resource_items, Arena* arena) noexcept nogil:
    """The last telemetryflow.tenant.id of the resource; empty without one, or if it is no text."""
    cdef Parts heads
    cdef Field field
    cdef KeyValue pair
    cdef Value value
    cdef Slice rest = resource_items
    cdef Slice tenant
    cdef const uint8_t* tag
    heads.count = 0
    tenant.at = tenant.end = resource_items.end
    while True:
        tag = rest.at
        if not next_field(&rest, &field):
            break
        if field.number == 1 and field.type == LENGTH:
            add_part(&heads, field.text, tag)
    rest = joined(&heads, 1, resource_items, arena)
    while next_field(&rest, &field):
        if field.number != 1 or field.type != LENGTH:
            continue
        pair = read_key_value(field.text, arena)
        if pair.key.end - pair.key.at != TENANT_ID_BYTES:
            continue
        if memcmp(pair.key.at, TENANT_ID, TENANT_ID_BYTES) == 0:
            value = read_value(pair.value, arena)
            tenant = value.text
            if value.member != STRING_VALUE:
                tenant.end = tenant.at
    return tenant


cdef int find(void* argument) noexcept nogil:
    cdef Search* search = <Search*>argument
    cdef Slice rest = search.body
    cdef Field field
    cdef Resource resource
    search.findings = validate(search.body, search.message)
    if search.findings.verdict != VALID:
        return DONE
    while True:
        resource.field.at = rest.at
        if not next_field(&rest, &field):
            return DONE
        if field.number == 1 and field.type == LENGTH:
            resource.field.end = rest.at
            resource.tenant = tenant_of(field.text, &search.arena)
            put_bytes(&search.found, &resource, sizeof(Resource))


def resources_of(str signal not None, bytes body not None):
    """(tenant that it names or '', first byte, end) of each resource of an Export request.

    Raises Malformed when *body* is none.
    """
    cdef Search search
    cdef int status
    cdef size_t place
    cdef Resource* resource
    cdef const uint8_t* start = <const uint8_t*>PyBytes_AS_STRING(body)
    memset(&search, 0, sizeof(Search))
    search.body.at = start
    search.body.end = start + PyBytes_GET_SIZE(body)
    search.message = _MESSAGES[signal]
    try:
        with nogil:
            status = guarded(find, &search, OUT_OF_MEMORY)
        if status == OUT_OF_MEMORY:
            raise MemoryError("no memory to look through the request")
        if search.findings.verdict != VALID:
            raise malformed(&search.findings, start)
        found = []
        for place in range(search.found.used // sizeof(Resource)):
            resource = <Resource*>search.found.data + place
            name = resource.tenant.at[:resource.tenant.end - resource.tenant.at]
            found.append(
                (name.decode("utf-8", "replace"), resource.field.at - start, resource.field.end - start)
            )
        return found
    finally:
        release(&search.found)
        empty_arena(&search.arena, False)
