"""The ways to send an export request, and what comes back, told in the same words for all."""

import gzip
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import grpc  # type: ignore[import-untyped]
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from ingest.signals import Signal
from tests.contract.raw_grpc import METHODS
from tests.contract.raw_http import JSON, PROTOBUF
from tests.unit.ingest.codec.otlp_json import to_json

SECONDS_MAX: Final = 20.0
# INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION, UNIMPLEMENTED, INTERNAL.
NOT_RETRYABLE: Final = frozenset({3, 5, 9, 12, 13})
RESPONSE_OF: Final[dict[Signal, type[Message]]] = {
    Signal.TRACES: ExportTraceServiceResponse,
    Signal.METRICS: ExportMetricsServiceResponse,
    Signal.LOGS: ExportLogsServiceResponse,
}
REJECTED_OF: Final = {
    Signal.TRACES: "rejected_spans",
    Signal.METRICS: "rejected_data_points",
    Signal.LOGS: "rejected_log_records",
}


@dataclass(frozen=True)
class Reply:
    """What came back: an HTTP status or a gRPC code, header fields in lower case, the body.

    *error* is the google.rpc.Status of a failure, None when there is none to be read.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    error: Any = None

    def __repr__(self) -> str:
        """As the table of a comparison tells it."""
        content_type = self.headers.get("content-type", "no content type")
        said = self.error.message if self.error is not None else self.body[:60]
        return f"{self.status}, {content_type}, {said!r:.120}"


class Sender(Protocol):
    """One way to send."""

    name: str

    def send(
        self,
        signal: Signal,
        request: Message | bytes,
        *,
        headers: Mapping[str, str] | None = None,
        compressed: bool = False,
    ) -> Reply:
        """Export *request*; bytes go as they are."""

    def response(self, signal: Signal, reply: Reply) -> Any:
        """The Export<Signal>ServiceResponse of a success; fails for anything else."""

    def check_refusal(self, reply: Reply, *, http_status: int, grpc_code: int) -> None:
        """That *reply* is this failure. How it is told is looked at too, but only of ours: else one
        fault of an endpoint would count wherever it refuses something."""

    def check_told(self, reply: Reply) -> None:
        """That a failure is told as OTLP says: with a google.rpc.Status."""


class HttpSender:
    """OTLP/HTTP in one of its encodings."""

    def __init__(
        self, address: str, content_type: str, credentials: Mapping[str, str], *, strict: bool
    ) -> None:
        self._strict = strict
        self.address = address
        self.content_type = content_type
        self.name = "http-json" if content_type == JSON else "http-protobuf"
        self._credentials = credentials

    def encode(self, request: Message | bytes) -> bytes:
        """The body for *request*."""
        if isinstance(request, bytes):
            return request
        if self.content_type == JSON:
            return to_json(request, numbers_as_strings=True).encode()
        return request.SerializeToString()

    def send(
        self,
        signal: Signal,
        request: Message | bytes,
        *,
        headers: Mapping[str, str] | None = None,
        compressed: bool = False,
    ) -> Reply:
        body = self.encode(request)
        fields = {"Content-Type": self.content_type, **self._credentials}
        if compressed:
            body, fields["Content-Encoding"] = gzip.compress(body, mtime=0), "gzip"
        return self.ask("POST", f"/v1/{signal.value}", body, {**fields, **(headers or {})})

    def ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """One HTTP exchange on a connection of its own."""
        connection = http.client.HTTPConnection(self.address, timeout=SECONDS_MAX)
        try:
            connection.request(method, path, body, {k: v for k, v in headers.items() if v})
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            content = answer.read()
        finally:
            connection.close()
        error = None
        if answer.status >= 400:
            error = _status_in(content, fields.get("content-type", ""))
        return Reply(answer.status, fields, content, error)

    def response(self, signal: Signal, reply: Reply) -> Any:
        assert reply.status == 200, reply
        assert reply.headers.get("content-type") == self.content_type, reply
        response = RESPONSE_OF[signal]()
        if self.content_type == JSON:
            json_format.Parse(reply.body, response)
        else:
            response.ParseFromString(reply.body)
        return response

    def check_refusal(self, reply: Reply, *, http_status: int, grpc_code: int) -> None:
        assert reply.status == http_status, reply
        if self._strict:
            self.check_told(reply)
            assert reply.error.code == grpc_code, reply

    def check_told(self, reply: Reply) -> None:
        assert reply.headers.get("content-type") == self.content_type, reply
        # The code of the Status MAY be left out.
        assert reply.error is not None, reply
        assert reply.error.message, reply


class GrpcSender:
    """OTLP/gRPC by grpcio's client."""

    def __init__(
        self, name: str, address: str, credentials: Mapping[str, str], *, strict: bool
    ) -> None:
        self.name = name
        self.address = address
        self._strict = strict
        self._credentials = credentials
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(address, options=options)

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def encode(self, request: Message | bytes) -> bytes:
        """The message for *request*."""
        return request if isinstance(request, bytes) else request.SerializeToString()

    def send(
        self,
        signal: Signal,
        request: Message | bytes,
        *,
        headers: Mapping[str, str] | None = None,
        compressed: bool = False,
    ) -> Reply:
        return self.call(
            METHODS[signal], self.encode(request), headers=headers, compressed=compressed
        )

    def call(
        self,
        method: str,
        message: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        compressed: bool = False,
    ) -> Reply:
        """One unary call."""
        fields = {name.lower(): value for name, value in self._credentials.items()}
        fields |= headers or {}
        compression = grpc.Compression.Gzip if compressed else None
        metadata = [(name.lower(), value) for name, value in fields.items() if value]
        try:
            body, call = self._channel.unary_unary(method).with_call(
                message, timeout=SECONDS_MAX, metadata=metadata, compression=compression
            )
        except grpc.RpcError as error:
            trailers = dict(error.trailing_metadata() or ())
            details = trailers.get("grpc-status-details-bin", b"")
            status = Status.FromString(details)
            status.message = status.message or error.details()
            return Reply(error.code().value[0], trailers, b"", status)
        return Reply(0, dict(call.initial_metadata() or ()), body)

    def response(self, signal: Signal, reply: Reply) -> Any:
        assert reply.status == 0, reply
        response = RESPONSE_OF[signal]()
        response.ParseFromString(reply.body)
        return response

    def check_refusal(self, reply: Reply, *, http_status: int, grpc_code: int) -> None:
        if self._strict:
            assert reply.status == grpc_code, reply
            self.check_told(reply)
        elif grpc_code in NOT_RETRYABLE:
            # OTLP recommends a code, and lets a server use a more fitting one of the same kind.
            assert reply.status in NOT_RETRYABLE, reply
        else:
            assert reply.status == grpc_code, reply

    def check_told(self, reply: Reply) -> None:
        assert reply.error.message, reply
        assert reply.error.code in {0, reply.status}, reply


def in_full(response: Any) -> bool:
    """Whether all was accepted; whether partial_success is set for that is C031."""
    return not response.partial_success.ListFields()


def retry_seconds_of(error: Any) -> float | None:
    """The delay of the RetryInfo among the details; None without one."""
    for detail in error.details:
        info = RetryInfo()
        if detail.Unpack(info):
            return float(info.retry_delay.ToMilliseconds()) / 1e3
    return None


def _status_in(body: bytes, content_type: str) -> Any:
    """The Status in the body of a failure; None when it is none."""
    try:
        if content_type == PROTOBUF:
            return Status.FromString(body)
        fields = json.loads(body)
        return Status(code=fields.get("code", 0), message=fields.get("message", ""))
    except (ValueError, AttributeError, TypeError):
        return None
