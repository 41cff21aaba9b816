"""Loads on an encoder whose memory is measured: run as a process of its own, prints one number.

A fresh process, because memory that an earlier test freed would hide what an encoder allocates,
and because allocations of compiled code are seen from outside only.
"""

import ctypes
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.payloads import NOW_NS, requests
from ingest.codec import BlockFull, Encoder, Malformed

REQUESTS: Final = 100_000
WARM_REQUESTS: Final = 10_000
HOSTILE_BYTES: Final = 2_000_000
# A broken encoder fails in its own process instead of taking the machine's memory.
ADDRESS_BYTES_MAX: Final = 2_000_000_000


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """A number in base 128, least significant digits first."""
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def request_of(*items: bytes) -> bytes:
    """An export request with one resource and one scope that holds *items*; any signal."""
    return field(1, field(2, b"".join(field(2, item) for item in items)))


def span_with(*parts: bytes) -> bytes:
    """A valid span with further fields."""
    return field(1, b"t" * 16) + field(2, b"s" * 8) + b"".join(parts)


def string_value(text: bytes) -> bytes:
    """An AnyValue that holds a string."""
    return field(1, text)


def attribute(key: bytes, value: bytes) -> bytes:
    """A KeyValue of a key and an AnyValue."""
    return field(1, key) + field(2, value)


def array_value(element: bytes, count: int) -> bytes:
    """An AnyValue that is an array of *count* times the same element."""
    return field(5, field(1, element) * count)


def hostile_request(shape: str) -> bytes:
    """A request of about HOSTILE_BYTES bytes that would become very much if taken carelessly."""
    builders: dict[str, Callable[[], bytes]] = {
        "empty values": lambda: request_of(
            span_with(field(9, attribute(b"k", field(5, _empty_fields(1)))))
        ),
        "empty attributes": lambda: request_of(span_with(_empty_fields(9))),
        "empty resource attributes": lambda: field(1, field(1, _empty_fields(1)) + field(2, b"")),
        "empty events": lambda: request_of(span_with(_empty_fields(11))),
        "empty links": lambda: request_of(span_with(_empty_fields(13))),
        "empty spans": lambda: field(1, field(2, _empty_fields(2))),
        "empty resources": lambda: _empty_fields(1),
        "empty pieces of a resource": lambda: field(
            1, _empty_fields(1) + field(2, field(2, span_with()))
        ),
    }
    return builders[shape]()


def _empty_fields(number: int) -> bytes:
    return field(number, b"") * (HOSTILE_BYTES // 2)


def resident_bytes(name: str = "VmRSS") -> int:
    """Memory of this process: VmRSS is what it has now, VmHWM the most since `forget_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1_024
    raise LookupError(name)


def forget_peak() -> None:
    """Begins to measure VmHWM anew, without free memory that new blocks could be taken from."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def append(encoder: Encoder, body: bytes) -> None:
    """One request, as a gateway does it: close what is open when there is no room."""
    try:
        encoder.append(body, tenant="acme", received_ns=NOW_NS)
    except Malformed:
        pass
    except BlockFull:
        encoder.close()
        encoder.append(body, tenant="acme", received_ns=NOW_NS)


def growth_over_many_requests(signal: str) -> int:
    """Bytes by which the process grew over REQUESTS requests of all outcomes."""
    bodies = requests(signal, items=1, count=200)
    bodies += [body[: len(body) // 2] for body in bodies[:50]]  # malformed
    bodies += requests(signal, items=50, count=4)
    encoder = Encoder(signal, retention_days=30, block_bytes_max=200_000, block_rows_max=400)
    grown_from = 0
    for number in range(REQUESTS + WARM_REQUESTS):
        if number == WARM_REQUESTS:
            grown_from = resident_bytes()
        append(encoder, bodies[number % len(bodies)])
        if number % 1_000 == 0:
            # An encoder that ends in the middle of a block gives its memory back too.
            encoder = Encoder(
                signal, retention_days=30, block_bytes_max=200_000, block_rows_max=400
            )
    return resident_bytes() - grown_from


def growth_over_malformed_requests(signal: str) -> int:
    """Bytes by which the process grew over requests that bring new words, and end in nonsense."""
    encoder = Encoder(signal, retention_days=30)
    grown_from = 0
    for number in range(WARM_REQUESTS):
        if number == WARM_REQUESTS // 10:
            grown_from = resident_bytes()
        keys = (b"%d/%d/" % (number, key) + b"k" * 50 for key in range(20))
        span = span_with(*(field(9, attribute(key, string_value(b"v"))) for key in keys))
        append(encoder, request_of(span, b"\xff"))
    return resident_bytes() - grown_from


def percent_of_size(shape: str) -> int:
    """Percent of the request's size that it takes at most to append it and close the encoder."""
    body = hostile_request(shape)
    encoder = Encoder("traces", retention_days=30)
    append(encoder, requests("traces", items=50, count=1)[0])
    encoder.close()
    forget_peak()
    before = resident_bytes()
    encoder.append(body, tenant="acme", received_ns=NOW_NS)
    encoder.close()
    return (resident_bytes("VmHWM") - before) * 100 // len(body)


LOADS: Final[dict[str, Callable[[str], int]]] = {
    "growth": growth_over_many_requests,
    "malformed": growth_over_malformed_requests,
    "amplification": percent_of_size,
}

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES_MAX, ADDRESS_BYTES_MAX))
    print(LOADS[sys.argv[1]](sys.argv[2]))
