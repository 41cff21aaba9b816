"""What the head of an HTTP/1.1 request asks for, or the error that refuses it.

Everything here is decided before a byte of the body is read.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ingest.exports import Encoding
from ingest.receivers.bodies import IDENTITY, encoding_named
from ingest.receivers.limits import Limits
from ingest.receivers.statuses import LengthRequired, MethodNotAllowed
from ingest.signals import Signal
from shared.errors import Invalid, NotFound, TooLarge, Unauthenticated, Unsupported
from shared.security.credentials import Credentials

SIGNAL_OF_PATH: Final = {
    path.format(signal.value).encode(): signal
    for signal in Signal
    for path in ("/v1/{}", "/v2/{}", "/api/v2/otlp/{}")
}
HEALTH_PATHS: Final = frozenset({b"/healthz", b"/livez", b"/readyz"})
READY_PATH: Final = b"/readyz"

_CONTENT_TYPES: Final = {
    b"application/x-protobuf": Encoding.PROTOBUF,
    b"application/json": Encoding.JSON,
}
_KEY_IN_QUERY: Final = re.compile(
    rb"(?:^|&)(?:x-)?(?:api[_-]?key|access[_-]?token|token|key|authorization)[_-]?\w*=",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Export:
    """An export request whose body may now come; `length` is None for a chunked one."""

    signal: Signal
    encoding: Encoding
    credentials: Credentials
    compression: str
    length: int | None


def answer_encoding(headers: Mapping[bytes, bytes]) -> Encoding:
    """The encoding of the answer: the request's, JSON when that is none of ours."""
    return _encoding_named(headers.get(b"content-type", b"")) or Encoding.JSON


def signal_of(method: bytes, path: bytes) -> Signal:
    """The signal that is posted to *path*."""
    signal = SIGNAL_OF_PATH.get(path)
    if signal is None:
        raise NotFound("no such path; OTLP is served at /v1/traces, /v1/metrics and /v1/logs")
    if method != b"POST":
        raise MethodNotAllowed("OTLP is sent with POST")
    return signal


def refuse_body_of_upgrade(method: bytes, headers: Mapping[bytes, bytes]) -> None:
    """Invalid when an offer to upgrade hides a body whose end the parser will not find."""
    length = headers.get(b"content-length", b"0")
    if b"transfer-encoding" in headers or (length != b"0" and method != b"POST"):
        raise Invalid("a request that offers another protocol cannot have such a body")


def refuse_key_in(query: bytes) -> None:
    """Unauthenticated when the URL carries an API key, because URLs end up in logs."""
    if _KEY_IN_QUERY.search(query):
        raise Unauthenticated("an API key does not belong in a URL: send it in a header")


def export_of(
    signal: Signal, credentials: Credentials, headers: Mapping[bytes, bytes], limits: Limits
) -> Export:
    """Checks what is said about the body: its type, its compression, its size."""
    encoding = _encoding_named(headers.get(b"content-type", b""))
    if encoding is None:
        raise Unsupported("Content-Type must be application/x-protobuf or application/json")
    compression = IDENTITY
    if b"content-encoding" in headers:
        compression = encoding_named(headers[b"content-encoding"].decode("latin-1"))
    return Export(signal, encoding, credentials, compression, _length(headers, limits))


def length_to_discard(headers: Mapping[bytes, bytes]) -> float:
    """How much of a refused request is still to come; infinite when that is not certain."""
    if b"transfer-encoding" in headers or b"expect" in headers:
        return math.inf
    return int(headers.get(b"content-length", b"0"))


def _length(headers: Mapping[bytes, bytes], limits: Limits) -> int | None:
    transfer_encoding = headers.get(b"transfer-encoding")
    if transfer_encoding is not None:
        if transfer_encoding.strip().lower() != b"chunked":
            raise Invalid("of transfer encodings only 'chunked' is supported")
        return None
    text = headers.get(b"content-length")
    if text is None:
        raise LengthRequired("send Content-Length, or a chunked body")
    length = int(text)
    if length > limits.body_bytes_max:
        raise TooLarge(
            f"the body of {length} bytes is larger than {limits.body_bytes_max}; "
            "send smaller batches"
        )
    return length


def _encoding_named(content_type: bytes) -> Encoding | None:
    known = _CONTENT_TYPES.get(content_type)
    if known is not None:
        return known
    return _CONTENT_TYPES.get(content_type.partition(b";")[0].strip().lower())
