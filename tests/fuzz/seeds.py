"""Writes the seeds of the corpus: `python -m tests.fuzz.seeds`.

Small whole requests and directed edge cases of the wire format and of JSON, from which the fuzzer
starts. What it found itself lies beside them under the hash of its content.
"""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from google.protobuf import text_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.attacks import frames
from tests.attacks.http1 import ABUSES, SMUGGLING
from tests.attacks.http2 import FLOODS

CORPUS: Final = Path(__file__).parent / "corpus"
DATA: Final = Path(__file__).parents[1] / "unit" / "ingest" / "codec" / "data"
REQUEST_OF_SIGNAL: Final[dict[str, Any]] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}
SEPARATOR: Final = b"\xfe\xed\xfa\xce"
NOW_NS: Final = 1_700_000_000_000_000_000
YEAR_NS: Final = 365 * 86_400 * 1_000_000_000

Seeds = Iterator[tuple[str, bytes]]


def field(number: int, wire_type: int, payload: bytes) -> bytes:
    """A field with its tag; a length is put before what is length-delimited."""
    tag = varint(number << 3 | wire_type)
    return tag + (varint(len(payload)) if wire_type == 2 else b"") + payload


def varint(value: int) -> bytes:
    groups = []
    while True:
        groups.append(value & 0x7F)
        value >>= 7
        if not value:
            return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def nested(*numbers: int, payload: bytes) -> bytes:
    """Length-delimited fields of these numbers, each inside the one before."""
    for number in reversed(numbers):
        payload = field(number, 2, payload)
    return payload


def wire_seeds(item: tuple[int, ...], attributes: int) -> Seeds:
    """Edge cases of the wire format; *item* leads to a span, a record or a data point."""

    def attribute(value: bytes, key: bytes = b"k") -> bytes:
        return nested(*item, attributes, payload=field(1, 2, key) + field(2, 2, value))

    deep = b""
    for _ in range(33):
        deep = nested(5, 1, payload=deep)
    lists = b""
    for _ in range(32):
        lists = nested(6, 1, 2, payload=lists)
    yield "empty", b""
    yield "value-unset", attribute(b"")
    yield "value-text", attribute(field(1, 2, b"text"))
    yield "value-not-utf8", attribute(field(1, 2, b"a\xff\xe2\x82b\xed\xa0\x80\xf0\x9f"), b"\xc3(")
    yield "value-bool", attribute(field(2, 0, b"\x02"))
    yield "value-int-min", attribute(field(3, 0, varint(1 << 63)))
    yield "value-double", attribute(field(4, 1, b"\x9a\x99\x99\x99\x99\x99\xb9\x3f"))
    yield "value-nan", attribute(field(4, 1, b"\x00\x00\x00\x00\x00\x00\xf8\x7f"))
    yield "value-tiny", attribute(field(4, 1, b"\x01" + b"\x00" * 7))
    yield "value-bytes", attribute(field(7, 2, b"\x00\xff\xfe"))
    yield "value-strindex", attribute(field(8, 0, b"\x05"))
    yield "value-deep-33", attribute(deep)
    yield "value-lists-32", attribute(lists)
    yield "value-list-escapes", attribute(nested(5, 1, 1, payload=b'"<>&\\\n\x01\xe2\x80\xa8\xff'))
    yield "value-merged", attribute(field(5, 2, field(1, 2, b"")) * 2 + field(6, 2, b""))
    yield "keys-equal", attribute(field(1, 2, b"1")) + attribute(field(1, 2, b"2"))
    yield (
        "keys-many",
        nested(
            *item,
            payload=b"".join(
                field(attributes, 2, field(1, 2, f"{number:x}".encode())) for number in range(300)
            ),
        ),
    )
    unknown = field(1000, 0, b"\x01") + field(1001, 1, b"8" * 8) + field(1002, 5, b"4" * 4)
    group = b"\xc3\x3e" + unknown + b"\xcb\x3e\xcc\x3e" + b"\xc4\x3e"
    yield "unknown", nested(*item, payload=unknown + group)
    yield "group-open", nested(*item, payload=b"\xc3\x3e")
    yield "group-stray", nested(*item, payload=b"\xc4\x3e")
    yield "groups-101", b"\xc3\x3e" * 101 + b"\xc4\x3e" * 101
    yield "tag-zero", nested(*item, payload=b"\x00\x01")
    yield "wire-type-7", nested(*item, payload=b"\x0f")
    yield "varint-11", nested(*item, payload=b"\x30" + b"\x80" * 10 + b"\x01")
    yield "length-beyond", nested(*item, payload=b"\x0a\x7f")
    yield "length-huge", nested(*item, payload=b"\x0a\xff\xff\xff\xff\x0f")
    yield "length-padded", b"\x0a\x82\x80\x80\x80\x00\x12\x00"
    for name in ("tenant", "workspace"):
        for value in (b"acme", b"umbrella", b"shop"):
            pair = field(1, 2, f"telemetryflow.{name}.id".encode()) + nested(2, 1, payload=value)
            resource = nested(1, 1, payload=pair)
            yield f"{name}-{value.decode()}", field(1, 2, resource + nested(*item[1:], payload=b""))
    yield "wrong-types", nested(*item, payload=b"".join(field(n, 0, b"\x01") for n in range(1, 17)))


def requests_of(signal: str) -> Iterator[tuple[str, Any]]:
    """Whole requests: the documented example, and variations of its ids and times."""
    request_class = REQUEST_OF_SIGNAL[signal]
    example = text_format.Parse((DATA / f"{signal}.txtpb").read_text(), request_class())
    yield "example", example
    for name, time_ns in (
        ("time-zero", 0),
        ("time-1999", 900_000_000_000_000_000),
        ("time-old", NOW_NS - YEAR_NS),
        ("time-ahead", NOW_NS + YEAR_NS),
        ("time-max", 2**64 - 1),
    ):
        yield name, changed(signal, example, time_ns=time_ns)
    yield "ids-zero", changed(signal, example, identity=lambda old: bytes(len(old)))
    yield "ids-short", changed(signal, example, identity=lambda old: old[1:])
    yield "ids-empty", changed(signal, example, identity=lambda _: b"")


def changed(signal: str, example: Any, *, time_ns: int | None = None, identity: Any = None) -> Any:
    """A copy of the request whose times or ids are others, wherever they stand."""
    request = REQUEST_OF_SIGNAL[signal]()
    request.CopyFrom(example)
    left = [request]
    while left:
        message = left.pop()
        for descriptor, value in message.ListFields():
            if descriptor.message_type:
                left.extend(value if descriptor.is_repeated else [value])
            elif time_ns is not None and descriptor.name.endswith("time_unix_nano"):
                setattr(message, descriptor.name, time_ns)
            elif identity is not None and descriptor.name.endswith(("trace_id", "span_id")):
                setattr(message, descriptor.name, identity(value))
    return request


def encoder_seeds(signal: str) -> Seeds:
    item, attributes = {
        "traces": ((1, 2, 2), 9),
        "logs": ((1, 2, 2), 6),
        "metrics": ((1, 2, 2, 5, 1), 7),
    }[signal]
    bodies = {name: request.SerializeToString() for name, request in requests_of(signal)}
    for name, body in (*bodies.items(), *wire_seeds(item, attributes)):
        yield name, b"\x00" + body
    example = bodies["example"]
    for options in range(1, 32):
        yield f"options-{options:02}", bytes([options]) + SEPARATOR.join([example] * 3)
    mixed = [example, bodies["time-old"], example[:-5], bodies["time-ahead"], b"\x0a\x00"]
    yield "mixed", b"\x02" + SEPARATOR.join(mixed)


JSON_SEEDS: Final[dict[str, str]] = {
    "empty": "",
    "object": "{}",
    "deep": "[" * 70,
    "unknown": '{"x":[{"y":[1,-2.5e-3,"\\u00e9\\n",null,true,false,{}]}],"z":{"a":{"b":[[]]}}}',
    "escapes": (
        '{"resourceSpans":[{"schemaUrl":"\\ud83d\\ude00\\ud800x\\udc00\\u0000\\"\\\\\\/\\b"}]}'
    ),
    "escaped-key": '{"resource\\u0053pans":[{"schemaUrl":"a"}]}',
    "twice": (
        '{"resourceSpans":[{"schemaUrl":"a","resource":{},"schemaUrl":"bb","scopeSpans":[{}],'
        '"resource":{"attributes":[]},"schemaUrl":null}],"resourceSpans":[{},{}]}'
    ),
    "nulls": (
        '{"resourceSpans":[{"resource":null,"scopeSpans":[{"spans":[{"traceId":null,"kind":null,'
        '"attributes":[{"key":"k","value":{"arrayValue":{"values":[null,{}]}}}]}]}]}]}'
    ),
    "ids": (
        '{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"zz","spanId":"0A0b","parentSpanId":'
        '"","links":[{"traceId":"\\u0030\\u0031","spanId":"W47/95gDgQM="}]}]}]}]}'
    ),
    "base64": (
        '{"resourceSpans":[{"resource":{"attributes":[{"value":{"bytesValue":"-_8="}},{"value":'
        '{"bytesValue":"A*=="}},{"value":{"bytesValue":"\\u0041A"}}]}}]}'
    ),
    "integers": (
        '{"resourceSpans":[{"scopeSpans":[{"spans":[{"flags":"4294967295","kind":-1,'
        '"startTimeUnixNano":"18446744073709551615","endTimeUnixNano":1.70e18,'
        '"attributes":[{"value":{"intValue":-9223372036854775808}}]}]}]}]}'
    ),
    "integer-bad": '{"resourceSpans":[{"scopeSpans":[{"spans":[{"flags":"0x10"}]}]}]}',
    "not-utf8": '{"resourceSpans":[{"schemaUrl":"\udcff"}]}',
    "wrong-type": '{"resourceSpans":[{"resource":{"attributes":{}}}]}',
}


def json_seeds() -> Seeds:
    for name, text in JSON_SEEDS.items():
        yield name, b"0" + text.encode("utf-8", "surrogateescape")
    for place, signal in enumerate(REQUEST_OF_SIGNAL):
        for suffix in ("", "_as_strings"):
            body = (DATA / f"{signal}{suffix}.json").read_bytes()
            compact = b"".join(line.strip() for line in body.splitlines())
            yield f"{signal}{suffix}", str(place).encode() + compact


def http1_seeds() -> Seeds:
    """Requests of every kind, then what abuses them, short; cut into reads of 8 bytes."""
    head = b"POST /v1/traces HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-protobuf\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    body = head + b"Content-Length: 3\r\n\r\nabc"
    packed = gzip.compress(b"abc" * 9, mtime=0)
    requests = {
        "body": body,
        "several": body * 3,
        "chunked": chunked + b"3\r\nabc\r\n1;x=y\r\nd\r\n0\r\nX: y\r\n\r\n" + body,
        "gzip": head
        + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
        + packed,
        "large": head + b"Content-Length: 1500\r\n\r\n" + b"x" * 1_500 + body,
        "upgrade": head
        + b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 3\r\n\r\nabc"
        + body,
        "expect": head + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        "health": b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n" * 2 + b"HEAD /livez HTTP/1.0\r\n\r\n",
        "json": body.replace(b"x-protobuf", b"json; charset=utf-8").replace(b"/v1/", b"/v2/"),
        "refused": b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n" * 3 + body,
    }
    requests |= {name: abuse.payload(30, chunked) for name, abuse in ABUSES.items()}
    requests |= {name: head + line + b"\r\nabc" + body for name, line in SMUGGLING.items()}
    for name, sent in requests.items():
        yield name, b"\x07" + sent


def http2_seeds() -> Seeds:
    """Calls of every kind, then floods, short; cut into reads of 64 bytes."""
    block = frames.header_block(authorization="")
    health = frames.header_block({":path": "/grpc.health.v1.Health/Watch"})
    packed = gzip.compress(b"abc" * 9, mtime=0)
    first = frames.headers(1, block)
    call = first + frames.data(1, b"\0\0\0\0\3abc", end=True)
    calls = {
        "call": call,
        "pieces": first + frames.data(1, b"\0\0\0") + frames.data(1, b"\0\3abc", end=True),
        "trailers": first
        + frames.data(1, b"\0\0\0\0\1a")
        + frames.headers(1, b"\0\1x\1y", end=True),
        "gzip": frames.headers(1, frames.header_block({"grpc-encoding": "gzip"}))
        + frames.data(1, b"\1" + len(packed).to_bytes(4, "big") + packed, end=True),
        "reset": call + frames.headers(3, block) + frames.reset(3),
        "health": frames.headers(1, health) + frames.data(1, bytes(5), end=True),
        "two": call + frames.headers(3, block) + frames.data(3, b"\0\0\0\0\1z", end=True),
        "late": frames.headers(1, frames.header_block({"grpc-timeout": "1n"})),
        "not_grpc": frames.headers(
            1, frames.header_block({"content-type": "text/plain"}), end=True
        ),
        "goaway": call + frames.frame(7, bytes(8)),
    }
    calls |= {name: flood.payload(10, block) for name, flood in FLOODS.items()}
    for name, sent in calls.items():
        yield name, b"\x3f" + frames.opening() + sent


def seeds_of(target: str) -> Seeds:
    """The seeds of a target."""
    others = {"json": json_seeds, "http1": http1_seeds, "http2": http2_seeds}
    return others[target]() if target in others else encoder_seeds(target)


def main() -> None:
    for target in (*REQUEST_OF_SIGNAL, "json", "http1", "http2"):
        directory = CORPUS / target
        directory.mkdir(parents=True, exist_ok=True)
        for old in directory.glob("seed-*"):
            old.unlink()
        for name, content in seeds_of(target):
            (directory / f"seed-{name}").write_bytes(content)


if __name__ == "__main__":
    main()
