"""The fuzz target of the JSON mapper.

An input is one byte that picks the signal (`0` traces, `1` logs, `2` metrics), then the body. The
mapper may refuse it with `Malformed`; what it maps must be protobuf that the encoder takes and, as
far as that is compared, the official classes too.
"""

from typing import Final

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingest.codec.encoder import Encoder
from ingest.codec.json import to_protobuf
from ingest.codec.results import Malformed
from tests.fuzz.encoder_target import RECEIVED_NS, open_encoder

REQUESTS: Final[tuple[tuple[str, type[Message]], ...]] = (
    ("traces", ExportTraceServiceRequest),
    ("logs", ExportLogsServiceRequest),
    ("metrics", ExportMetricsServiceRequest),
)
GROWTH_MAX: Final = 4  # bytes of protobuf for each byte of JSON, see to_protobuf
GROWTH_BYTES: Final = 16


def mapped(signal: str, body: bytes) -> bytes | None:
    """The protobuf of a body; None when it is refused."""
    try:
        return to_protobuf(signal, body)
    except Malformed:
        return None


def check(data: bytes, *, compare: bool) -> None:
    """Maps and encodes the input; *compare* has the official classes decode the answer too."""
    signal, request = REQUESTS[data[0] % len(REQUESTS)] if data else REQUESTS[0]
    answer = mapped(signal, data[1:])
    if answer is None:
        return
    if len(answer) > GROWTH_MAX * len(data) + GROWTH_BYTES:
        raise AssertionError(f"{len(data)} bytes of JSON became {len(answer)} of protobuf")
    encoder = open_encoder(Encoder, signal, 0)
    encoder.append(answer, tenant="acme", received_ns=RECEIVED_NS)
    encoder.close()
    if compare:
        request.FromString(answer)
