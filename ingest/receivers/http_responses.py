"""HTTP/1.1 responses as bytes."""

from http import HTTPStatus
from typing import Final

import orjson

from ingest.exports import FULL_SUCCESS, Answer, Encoding
from ingest.receivers.answers import encoded_answer
from ingest.receivers.statuses import Refusal, retry_after, status_json, status_protobuf
from ingest.signals import Signal

CONTENT_TYPE_OF: Final = {
    Encoding.PROTOBUF: b"application/x-protobuf",
    Encoding.JSON: b"application/json",
}
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_STATUS_LINE_OF: Final = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode())
    for status in HTTPStatus
}
_CLOSE: Final = b"Connection: close\r\n"
_ALLOWED_HEADERS: Final = (
    b"Authorization, Content-Encoding, Content-Type, X-API-Key, X-API-Key-ID, X-API-Key-Secret, "
    b"X-TelemetryFlow-Key-ID, X-TelemetryFlow-Key-Secret, X-Tenant-Id, X-Workspace-Id"
)


def response(
    status: int, body: bytes, *, encoding: Encoding, keep_alive: bool = True, extra: bytes = b""
) -> bytes:
    """Status line, headers and *body*; *extra* are header lines."""
    return b"%bContent-Type: %b\r\nContent-Length: %d\r\n%b%b\r\n%b" % (
        _STATUS_LINE_OF[status],
        CONTENT_TYPE_OF[encoding],
        len(body),
        extra,
        b"" if keep_alive else _CLOSE,
        body,
    )


def succeeded(
    signal: Signal, encoding: Encoding, answer: Answer, *, keep_alive: bool, extra: bytes
) -> bytes:
    """200 with the Export response; *extra* are header lines."""
    if answer is FULL_SUCCESS and keep_alive and not extra:
        return _FULL_SUCCESS[encoding]
    body = encoded_answer(signal, encoding, answer)
    return response(HTTPStatus.OK, body, encoding=encoding, keep_alive=keep_alive, extra=extra)


def refused(refusal: Refusal, *, encoding: Encoding, keep_alive: bool, extra: bytes = b"") -> bytes:
    """A google.rpc.Status with the headers that belong to its HTTP status."""
    status = refusal.http_status
    seconds = retry_after(refusal)
    if seconds is not None:
        extra += b"Retry-After: %d\r\n" % seconds
    if status == HTTPStatus.UNAUTHORIZED:
        extra += b'WWW-Authenticate: Bearer realm="otlp"\r\n'
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        extra += b"Allow: POST\r\n"
    body = status_json(refusal) if encoding is Encoding.JSON else status_protobuf(refusal)
    return response(status, body, encoding=encoding, keep_alive=keep_alive, extra=extra)


def health(reason: str | None, *, keep_alive: bool) -> bytes:
    """200 when *reason* is None, else 503 with the reason."""
    body = {"status": "ok"} if reason is None else {"status": "unavailable", "reason": reason}
    status = HTTPStatus.OK if reason is None else HTTPStatus.SERVICE_UNAVAILABLE
    return response(status, orjson.dumps(body), encoding=Encoding.JSON, keep_alive=keep_alive)


def without_body(answer: bytes) -> bytes:
    """The same response to a HEAD request."""
    return answer[: answer.index(b"\r\n\r\n") + 4]


def cors_lines(origin: bytes) -> bytes:
    """The header lines that let a page of *origin*, which was configured, read the answer."""
    return b"Access-Control-Allow-Origin: %b\r\nVary: Origin\r\n" % origin


def preflight(origin: bytes, *, keep_alive: bool) -> bytes:
    """The answer to a CORS preflight from a configured origin."""
    return b"%b%bAccess-Control-Allow-Methods: POST\r\n%b%b\r\n" % (
        _STATUS_LINE_OF[HTTPStatus.NO_CONTENT],
        cors_lines(origin),
        b"Access-Control-Allow-Headers: %b\r\nAccess-Control-Max-Age: 600\r\n" % _ALLOWED_HEADERS,
        b"" if keep_alive else _CLOSE,
    )


_FULL_SUCCESS: Final = {
    Encoding.PROTOBUF: response(200, b"", encoding=Encoding.PROTOBUF),
    Encoding.JSON: response(200, b"{}", encoding=Encoding.JSON),
}
