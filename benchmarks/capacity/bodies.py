"""Bodies of export requests, each distinct, at the cost of a copy.

A body that was sent before would be recognised as a client's retry and cost nothing. So a few
bodies are built with the protobuf library, and each request is one of them with its trace and span
ids, and its times, overwritten in place: ids by one mask a request, so that a parent is still a
span of the same request.
"""

import base64
import gzip
import json
import time
from collections.abc import Callable, Iterator
from itertools import count, cycle
from random import Random
from typing import Final

import numpy as np
from google.protobuf import json_format
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.payloads import Patchable, patchable

MESSAGE_OF: Final[dict[str, type[Message]]] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}
# More bytes in all than a second-level cache holds, so that no body is warm when it comes.
TEMPLATES: Final = 8
PACKED_BODIES: Final = 64
# How much later each request's items are than those of the one before, at most in all.
STEP_NS: Final = 1_000
STEPS: Final = 1_000_000
# Field 1000, fixed64, which OTLP does not have: what makes two gzip bodies differ.
UNKNOWN_FIELD: Final = b"\xc1\x3e"


def bodies(
    signal: str, items: int, *, seed: int, encoding: str = "protobuf", compressed: bool = False
) -> Iterator[bytes]:
    """Endless distinct bodies of *items* items; other seeds give other ids.

    *encoding* is protobuf or json; *compressed* makes them gzip. JSON and gzip bodies repeat their
    items, and differ only behind them: to write them anew each time would cost more than to serve
    them.
    """
    plain = _patched(signal, items, Random(seed))
    if encoding == "protobuf" and not compressed:
        return plain
    pack: Callable[[bytes], bytes] = (lambda body: gzip.compress(body, 1)) if compressed else bytes
    if encoding == "json":
        made = [_json(signal, next(plain)) for _ in range(min(PACKED_BODIES, 16))]
        return _ending(list(map(pack, made)), lambda number: pack(_blanks(number)))
    made = [next(plain) for _ in range(PACKED_BODIES)]
    # Members of a gzip stream, and fields of a protobuf message, may stand one behind the other.
    return _ending(
        list(map(pack, made)), lambda number: pack(UNKNOWN_FIELD + number.to_bytes(8, "little"))
    )


def _ending(made: list[bytes], end: Callable[[int], bytes]) -> Iterator[bytes]:
    start = time.time_ns()
    for number, body in zip(count(start), cycle(made), strict=False):
        yield body + end(number)


def _blanks(number: int) -> bytes:
    """*number* as white space, which may stand behind JSON."""
    return f"{number:b}".replace("1", "\n").replace("0", " ").encode()


def _json(signal: str, body: bytes) -> bytes:
    """OTLP/JSON as SDKs write it: ids in hex instead of protobuf's base64."""
    message = MESSAGE_OF[signal].FromString(body)
    text = json_format.MessageToDict(message, use_integers_for_enums=True)
    return json.dumps(_with_hex_ids(text), ensure_ascii=False).encode()


def _with_hex_ids(value: object) -> object:
    if isinstance(value, list):
        return [_with_hex_ids(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64decode(one).hex()
        if key in {"traceId", "spanId", "parentSpanId"}
        else _with_hex_ids(one)
        for key, one in value.items()
    }


class _Template:
    """One body, and where its ids and times stand."""

    def __init__(self, body: Patchable) -> None:
        self._octets = np.frombuffer(bytearray(body.body), dtype=np.uint8)
        # Every 8 bytes as one number, from any byte on.
        self._words = np.ndarray(
            (len(body.body) - 7,), dtype="<u8", buffer=self._octets.data, strides=(1,)
        )
        self._ids = np.array(body.ids, dtype=np.intp)
        self._times = np.array(body.times, dtype=np.intp)
        self._id_words = self._words[self._ids].copy()
        self._time_words = self._words[self._times].copy()

    def body(self, mask: int, later_ns: int) -> bytes:
        """The body with its ids under *mask* and its times *later_ns* later."""
        self._words[self._ids] = self._id_words ^ np.uint64(mask)
        self._words[self._times] = self._time_words + np.uint64(later_ns)
        return self._octets.tobytes()


def _patched(signal: str, items: int, random: Random) -> Iterator[bytes]:
    now_ns = time.time_ns()
    made = [
        _Template(one) for one in patchable(signal, items=items, count=TEMPLATES, now_ns=now_ns)
    ]
    for number, template in zip(count(), cycle(made), strict=False):
        yield template.body(random.getrandbits(64), number % STEPS * STEP_NS)
