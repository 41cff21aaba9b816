"""Export<Signal>ServiceResponse of the three signals, as protobuf and as JSON.

The three messages have the same numbers: partial_success = 1 { rejected_… = 1, error_message = 2 }.
Full success leaves partial_success unset, so it is no bytes, or `{}`.
"""

from typing import Final

import orjson

from ingest.exports import Answer, Encoding
from ingest.signals import Signal

_REJECTED_NAME: Final = {
    Signal.TRACES: "rejectedSpans",
    Signal.METRICS: "rejectedDataPoints",
    Signal.LOGS: "rejectedLogRecords",
}


def encoded_answer(signal: Signal, encoding: Encoding, answer: Answer) -> bytes:
    """The body of a successful response; JSON has int64 as text and lowerCamelCase names."""
    if encoding is Encoding.JSON:
        return _json(signal, answer)
    return _protobuf(answer)


def _json(signal: Signal, answer: Answer) -> bytes:
    partial: dict[str, str] = {}
    if answer.rejected:
        partial[_REJECTED_NAME[signal]] = str(answer.rejected)
    if answer.message:
        partial["errorMessage"] = answer.message
    return orjson.dumps({"partialSuccess": partial} if partial else {})


def _protobuf(answer: Answer) -> bytes:
    if not answer.rejected and not answer.message:
        return b""
    message = answer.message.encode()
    partial = b"\x08" + _varint(answer.rejected) if answer.rejected else b""
    if message:
        partial += b"\x12" + _varint(len(message)) + message
    return b"\x0a" + _varint(len(partial)) + partial


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
