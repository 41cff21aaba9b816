"""How errors are told to clients: one table per transport, and google.rpc.Status bodies.

Which codes clients retry is OTLP's rule: HTTP 429, 502, 503, 504; gRPC UNAVAILABLE and the like,
RESOURCE_EXHAUSTED only with a RetryInfo.
"""

import base64
import math
import random
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar
from urllib.parse import quote_from_bytes

import orjson
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.code_pb2 import Code  # type: ignore[import-untyped]
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]
    BadRequest,
    RetryInfo,
)
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from shared.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    RateLimited,
    TelemetryFlowError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
)

_T = TypeVar("_T")

RETRY_SECONDS_MAX: Final = 30.0
RETRY_SECONDS_MIN: Final = 0.1
RETRY_JITTER: Final = 0.2
MESSAGE_CHARACTERS_MAX: Final = 1_000
DETAILS_TRAILER: Final = b"grpc-status-details-bin"
UNEXPECTED: Final = "the gateway could not handle the request; send it again"


class MethodNotAllowed(Unsupported):
    """A path that exists was asked with a method that it does not serve."""


class LengthRequired(Invalid):
    """A body without Content-Length and without chunks."""


class Slow(Invalid):
    """The client took longer to send its request than it may."""


class UrlTooLong(Invalid):
    """The request line passes its limit."""


class HeadersTooLarge(Invalid):
    """The headers pass a limit."""


class NotImplementedHere(Unsupported):
    """A gRPC method that is not served."""


class Broken(Invalid):
    """A gRPC call whose framing is wrong: not one message, or cut short."""


class DeadlineExceeded(Unavailable):
    """The client's own deadline passed."""


HTTP_STATUS_OF: Final[dict[type[TelemetryFlowError], int]] = {
    Invalid: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    MethodNotAllowed: 405,
    Slow: 408,
    Conflict: 409,
    LengthRequired: 411,
    TooLarge: 413,
    UrlTooLong: 414,
    Unsupported: 415,
    RateLimited: 429,
    HeadersTooLarge: 431,
    Unavailable: 503,
}
GRPC_CODE_OF: Final[dict[type[TelemetryFlowError], int]] = {
    Invalid: Code.INVALID_ARGUMENT,
    Unauthenticated: Code.UNAUTHENTICATED,
    Forbidden: Code.PERMISSION_DENIED,
    NotFound: Code.NOT_FOUND,
    Conflict: Code.INVALID_ARGUMENT,
    TooLarge: Code.RESOURCE_EXHAUSTED,
    HeadersTooLarge: Code.RESOURCE_EXHAUSTED,
    Unsupported: Code.UNIMPLEMENTED,
    Broken: Code.INTERNAL,
    Slow: Code.DEADLINE_EXCEEDED,
    DeadlineExceeded: Code.DEADLINE_EXCEEDED,
    RateLimited: Code.RESOURCE_EXHAUSTED,
    Unavailable: Code.UNAVAILABLE,
}
_OUTCOME_OF: Final[dict[type[TelemetryFlowError], str]] = {
    Invalid: "invalid",
    Unauthenticated: "unauthenticated",
    Forbidden: "forbidden",
    NotFound: "unsupported",
    Conflict: "invalid",
    TooLarge: "too_large",
    Unsupported: "unsupported",
    RateLimited: "rate_limited",
    Unavailable: "unavailable",
}


class Refusal(NamedTuple):
    """An error as it goes to a client."""

    http_status: int
    grpc_code: int
    message: str
    retry_seconds: float | None
    field: str
    outcome: str


def refusal_of(
    error: BaseException, *, uniform: Callable[[float, float], float] = random.uniform
) -> Refusal:
    """What is told of *error*; of one that nobody raised on purpose nothing but "again"."""
    if not isinstance(error, TelemetryFlowError):
        return Refusal(503, Code.UNAVAILABLE, UNEXPECTED, _jittered(1.0, uniform), "", "error")
    retry_seconds = None
    if isinstance(error, Unavailable | RateLimited):
        retry_seconds = _jittered(error.retry_after_seconds, uniform)
    return Refusal(
        http_status=_lookup(HTTP_STATUS_OF, error, 503),
        grpc_code=_lookup(GRPC_CODE_OF, error, Code.UNAVAILABLE),
        message=str(error)[:MESSAGE_CHARACTERS_MAX],
        retry_seconds=retry_seconds,
        field=error.field if isinstance(error, Invalid) else "",
        outcome=_lookup(_OUTCOME_OF, error, "error"),
    )


def _lookup(table: dict[type[TelemetryFlowError], _T], error: TelemetryFlowError, other: _T) -> _T:
    for kind in type(error).__mro__:
        if kind in table:
            return table[kind]
    return other


def _jittered(seconds: float, uniform: Callable[[float, float], float]) -> float:
    """So that clients refused together do not come back together."""
    jittered = seconds * uniform(1 - RETRY_JITTER, 1 + RETRY_JITTER)
    return min(max(jittered, RETRY_SECONDS_MIN), RETRY_SECONDS_MAX)


def retry_after(refusal: Refusal) -> int | None:
    """The Retry-After of an HTTP answer: whole seconds, at least 1."""
    return None if refusal.retry_seconds is None else max(1, math.ceil(refusal.retry_seconds))


def status_protobuf(refusal: Refusal) -> bytes:
    """google.rpc.Status with RetryInfo or BadRequest where they apply."""
    status = Status(code=refusal.grpc_code, message=refusal.message)
    if refusal.retry_seconds is not None:
        seconds, nanoseconds = divmod(round(refusal.retry_seconds * 1e9), 1_000_000_000)
        delay = Duration(seconds=seconds, nanos=nanoseconds)
        status.details.append(_packed(RetryInfo(retry_delay=delay)))
    if refusal.grpc_code == Code.INVALID_ARGUMENT:
        violation = BadRequest.FieldViolation(field=refusal.field, description=refusal.message)
        status.details.append(_packed(BadRequest(field_violations=[violation])))
    return bytes(status.SerializeToString())


def status_json(refusal: Refusal) -> bytes:
    """The same in protobuf's JSON mapping."""
    details: list[dict[str, object]] = []
    if refusal.retry_seconds is not None:
        details.append(
            {
                "@type": "type.googleapis.com/google.rpc.RetryInfo",
                "retryDelay": f"{refusal.retry_seconds:.3f}s",
            }
        )
    if refusal.grpc_code == Code.INVALID_ARGUMENT:
        violation = {"field": refusal.field, "description": refusal.message}
        details.append(
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [violation],
            }
        )
    status = {"code": int(refusal.grpc_code), "message": refusal.message, "details": details}
    return orjson.dumps(status)


def grpc_trailers(refusal: Refusal) -> tuple[tuple[bytes, bytes], ...]:
    """grpc-status, grpc-message and grpc-status-details-bin of a failed call, as on the wire."""
    details = base64.b64encode(status_protobuf(refusal)).rstrip(b"=")
    return (
        (b"grpc-status", b"%d" % refusal.grpc_code),
        (b"grpc-message", percent_encoded(refusal.message)),
        (DETAILS_TRAILER, details),
    )


def percent_encoded(text: str) -> bytes:
    """As gRPC's HTTP/2 protocol encodes Status-Message: UTF-8, only space to ~ as they are."""
    return quote_from_bytes(text.encode(), safe=_UNESCAPED).encode()


def _packed(message: RetryInfo | BadRequest) -> Any:
    # What Any.Pack does, in a fifth of its time: a flood is met by refusals.
    name = message.DESCRIPTOR.full_name
    return Any(type_url=f"type.googleapis.com/{name}", value=message.SerializeToString())


_UNESCAPED: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
