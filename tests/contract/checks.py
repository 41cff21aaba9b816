"""The checks of the OTLP contract: what the specification says, and what we do.

`says` quotes in short: OTLP's own words where it has any (MUST, SHOULD, MAY), else the standard
that OTLP builds on (proto3, gRPC, HTTP), else "-": then it is a promise of ours. `changed` gives
the reason where we do not do what one might expect.
"""

from typing import Final, NamedTuple


class Check(NamedTuple):
    """One line of docs/otlp-contract.md."""

    says: str
    we: str
    changed: str = ""


# Tests that prove a check and are named for something else.
ALSO: Final = {
    "C057": ("tests/chaos/test_gateway_crashes.py",),
    "C109": ("tests/e2e/test_sdks.py",),
}

CHECKS: Final[dict[str, Check]] = {
    "C001": Check("default ports 4317 and 4318", "so, by `INGEST_GRPC_PORT`, `INGEST_HTTP_PORT`"),
    "C002": Check(
        "POST /v1/traces, /v1/metrics, /v1/logs", "also /v2/… and /api/v2/otlp/…; profiles: 404"
    ),
    "C003": Check("the services `opentelemetry.proto.collector.*.v1`", "so; unary"),
    "C004": Check("SHOULD take both encodings on one port and path", "by Content-Type"),
    "C005": Check("clients SHOULD keep connections alive", "served as long as they are used"),
    "C006": Check(
        "SHOULD support concurrent calls", "64 at once and more, over one connection too"
    ),
    "C007": Check("POST only (HTTP: Allow)", "405 with `Allow: POST` and a Status"),
    "C008": Check("4xx MUST carry a Status", "404 in the request's encoding, else in JSON"),
    "C009": Check("HTTP/2 MAY be used", "an offer to upgrade is ignored: nothing is smuggled"),
    "C010": Check("-", "CORS for configured origins only, never with credentials"),
    "C011": Check("-", "a key in the URL is refused with 401, and is in no log"),
    "C012": Check("100-continue (HTTP)", "answered; too large is refused before a byte is read"),
    "C013": Check("MUST support none and gzip", "so; zstd too, but for the engine grpcio"),
    "C014": Check("codings are case-insensitive (HTTP)", "identity, empty, GZIP, x-gzip are taken"),
    "C015": Check("-", "an unknown or repeated coding is 415, never taken as plain"),
    "C016": Check("bad data MUST be 400", "corrupt gzip is 400"),
    "C017": Check("bad data MUST be 400", "gzip cut short is 400, nothing of it is kept"),
    "C018": Check("a gzip body has members (RFC 1952)", "up to 1 024; garbage behind them is 400"),
    "C019": Check("bad data MUST be 400", "a wrong CRC or length is 400"),
    "C020": Check("an empty request SHOULD succeed", "empty gzip is 400; empty protobuf succeeds"),
    "C021": Check(
        "UNIMPLEMENTED (gRPC)",
        "UNIMPLEMENTED; the connection survives",
        "grpcio answers INTERNAL for names that it has never heard of",
    ),
    "C022": Check(
        "MAY gzip the response",
        "never compressed",
        "an answer most often has 0 bytes, and at most 4 KB: that is not worth it",
    ),
    "C023": Check("MUST limit bodies; 413", "exact to the byte, whole and in chunks; 413 is read"),
    "C024": Check("MUST limit them after decompression, too", "the same limit, the same 413"),
    "C025": Check("RESOURCE_EXHAUSTED, not retryable", "without RetryInfo"),
    "C026": Check("limits MAY be configured", "`INGEST_BODY_BYTES_MAX` for both engines, 64 MiB"),
    "C027": Check("-", "one budget for all bodies in flight; beyond it 503 or UNAVAILABLE"),
    "C028": Check("-", "a message has at most 1 000 characters, so that an answer always fits"),
    "C029": Check(
        "framing by Content-Length (HTTP)", "bytes behind it are another request, or 400"
    ),
    "C030": Check("both lengths MUST be refused (HTTP)", "400, and the connection is closed"),
    "C031": Check("success MUST leave partial_success unset", "no bytes in protobuf, `{}` in JSON"),
    "C032": Check("an empty request SHOULD succeed", "so; nothing is stored"),
    "C033": Check("empty envelopes MAY be ignored", "so, with success"),
    "C034": Check("MUST tell the number of rejected items", "exact, with reason and what to do"),
    "C035": Check("of metrics it is data points", "so, also within one metric"),
    "C036": Check("partial success is 200", "all items rejected is still 200, not 400"),
    "C037": Check("a warning MUST have rejected 0 and a message", "clocks, repaired text, repeats"),
    "C038": Check("-", "partial_success is never set and empty"),
    "C039": Check("int64 is a decimal string (proto3 JSON)", 'rejectedSpans is "2"'),
    "C040": Check("-", "answered only once the accepted part is durable"),
    "C041": Check("-", "rates: 429 or RESOURCE_EXHAUSTED with RetryInfo, as a whole request"),
    "C042": Check(
        "codes by kind of failure", "one table; SDKs retry what passes, and nothing else"
    ),
    "C043": Check("clients retry 429, 502, 503, 504 only", "what passes by itself is never 500"),
    "C044": Check("bad data MUST be 400; BadRequest SHOULD be told", "with the path of the field"),
    "C045": Check(
        "4xx and 5xx MUST carry a Status", "in the request's encoding; 411, 414, 431 too"
    ),
    "C046": Check("Status.message SHOULD be for developers", "and tells nothing of the inside"),
    "C047": Check(
        "4xx MUST carry a Status", "an unknown Content-Type is 415 with a Status in JSON"
    ),
    "C048": Check("media types have parameters (HTTP)", "tolerated, in any case of letters"),
    "C049": Check("MUST answer in the request's Content-Type", "so; application/protobuf is 415"),
    "C050": Check("overload SHOULD be 429 or 503, UNAVAILABLE", "503 with Retry-After, RetryInfo"),
    "C051": Check("RESOURCE_EXHAUSTED is retryable with RetryInfo only", "so for rates"),
    "C052": Check("retry_delay SHOULD fit", "above 0, jittered by a fifth, at most 30 s"),
    "C053": Check("Retry-After MAY be sent", "whole seconds, at least 1"),
    "C054": Check("-", "a defect of ours is 503 or UNAVAILABLE with a fixed text"),
    "C055": Check(
        "DEADLINE_EXCEEDED (gRPC)", "the waiting ends, what is on its way goes on; no leak"
    ),
    "C056": Check("-", "a client that leaves holds nothing back, and nothing of it is kept"),
    "C057": Check("a client SHOULD send again", "a repeat is recognised and stored once"),
    "C058": Check("-", "401 before a byte of the body is read, over both engines too"),
    "C060": Check("proto3", "random requests equal a decoder of protobuf's own, field by field"),
    "C061": Check("proto3", "damaged requests are judged as protobuf judges them"),
    "C062": Check("unknown fields are ignored", "of all wire types, balanced groups too"),
    "C063": Check("bad data MUST be 400", "what is not protobuf is 400, nothing of it is kept"),
    "C064": Check("-", "values nest 32 levels, unknown groups 100; deeper is 400"),
    "C065": Check("a wrong wire type is unknown (proto3)", "so"),
    "C066": Check("the last counts, messages merge (proto3)", "so"),
    "C067": Check(
        "text MUST be UTF-8 (proto3)",
        "bad bytes become U+FFFD; counted and told as a warning",
        "one bad byte must not cost a batch",
    ),
    "C068": Check("packed and not (proto3)", "both are taken"),
    "C069": Check("proto3", "any number but 0 is true; NaN, -0.0 and infinities are kept"),
    "C070": Check(
        "-",
        "exact or refused, never wrapped; a broken clock is replaced by the time of receipt",
        "a point with time 0 is kept under the time of receipt instead of refused",
    ),
    "C071": Check(
        "ids have 16 and 8 bytes",
        "else the span is refused; a log record is kept, uncorrelated",
    ),
    "C072": Check("reserved fields", "passed over; string indices are empty, with a warning"),
    "C073": Check("all kinds of values everywhere", "kept, also empty, nested and bytes"),
    "C074": Check("keys MUST be unique", "the last counts; misfit buckets cost the point"),
    "C075": Check("-", "fuzzed under AddressSanitizer; the corpus is kept and replayed"),
    "C076": Check("-", "memory grows with the request, by a bounded factor"),
    "C077": Check("-", "time grows in proportion to the request"),
    "C080": Check("the protocol's examples", "the same as their twins in protobuf"),
    "C081": Check(
        "ids are hex, in any case of letters",
        "base64 and wrong lengths cost the item",
        "a link with a bad id is kept, its id as it came or `ff`: it is not worth a span",
    ),
    "C082": Check("names in lowerCamelCase only", "snake_case is unknown, and so ignored"),
    "C083": Check("unknown members MUST be ignored", "at every level; they must be JSON, though"),
    "C084": Check("enums are integers", "a name is 400; an unknown number is unspecified"),
    "C085": Check(
        "64 bits as numbers or strings", "every digit kept; 1e3 and 5.0 are whole numbers"
    ),
    "C086": Check("NaN and infinities as strings (proto3 JSON)", "bare words are 400"),
    "C087": Check("base64, either alphabet, padded or not (proto3 JSON)", "anything else is 400"),
    "C088": Check("-", "of members with one name the last counts, as in protobuf"),
    "C089": Check("JSON is UTF-8 (RFC 8259)", "else 400; lone surrogates become U+FFFD"),
    "C090": Check("-", "64 levels; deeper, or numbers without end, is 400"),
    "C091": Check(
        "-", "bombs are refused in time and memory of their size; large bodies in threads"
    ),
    "C092": Check("bad data MUST be 400", "anything but one object is 400; `{}` succeeds"),
    "C093": Check("-", "of the members of a oneof the last counts, as in protobuf"),
    "C094": Check("bad data MUST be 400; BadRequest SHOULD be told", "with the path of the field"),
    "C095": Check("proto3 JSON", "lowerCamelCase, unset fields left out, int64 as strings"),
    "C096": Check("one schema for all encodings", "the same request gives the same rows"),
    "C100": Check("keepalive (gRPC)", "100 pings between two calls; beyond them too_many_pings"),
    "C101": Check("-", "128 streams for a connection: more wait, none fails"),
    "C102": Check("-", "a connection ends after 30 minutes, without a failed call"),
    "C103": Check("-", "16 KiB and 100 fields of metadata, else RESOURCE_EXHAUSTED"),
    "C104": Check("grpc.health.v1", "Check and Watch; serving only while the log takes data"),
    "C105": Check("-", "all kinds of credentials in metadata and headers; two keys are refused"),
    "C106": Check(
        "one message to a call (gRPC)",
        "else INTERNAL; the process lives",
        "grpcio ignores a cut message behind a whole one, and unknown bits of the flag",
    ),
    "C107": Check("-", "TLS 1.2 and later, ALPN h2, client certificates where wanted"),
    "C108": Check(
        "-", "gRPC-Web and other types are 415", "grpcio does not look at the Content-Type"
    ),
    "C109": Check("-", "SDKs of Python and JavaScript, and an agent: every row is compared"),
    "C110": Check("-", "what the receiver tests of the Collector ask is part of this suite"),
    "C111": Check("old and new versions interoperate", "deprecated fields are passed over"),
    "C112": Check("one schema for all encodings", "same tenant, same rows; items count, not bytes"),
}
