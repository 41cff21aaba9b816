"""Breaks the OTLP contract in one place after another: python -m tests.mutants.contract.

The suite must notice each. All take some minutes; a few run with the other tests.
"""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.mutants.breaking import ROOT, TESTS_FAILED, Mutant, copy_of_source, outcome_of_mutant

_SUITE: Final = "tests/contract/otlp"
_RECEIVERS: Final = tuple(
    f"tests/contract/test_otlp_{kind}.py" for kind in ("http", "http_limits", "grpc", "grpc_frames")
)
# Without the fixtures of the rest of the product, which take longer to import than these tests.
_ALONE: Final = "--confcutdir=tests/contract"


def _mutant(
    name: str, file: str, text: str, replacement: str, *, receivers: bool = False
) -> Mutant:
    """The first word of *name* is the check whose tests must notice: those of the suite, or with
    *receivers* those of receivers alone."""
    check = name.split(" ", 1)[0]
    paths = _RECEIVERS
    if not receivers:
        paths = tuple(f"{_SUITE}/{path.name}" for path in sorted((ROOT / _SUITE).glob("test_*.py")))
    chosen = [path for path in paths if f"_{check}_" in (ROOT / path).read_text()]
    return Mutant(name, file, text, replacement, (_ALONE, "-k", check, *chosen))


_ANSWERS: Final = "ingest/receivers/answers.py"
_STATUSES: Final = "ingest/receivers/statuses.py"
_RESPONSES: Final = "ingest/receivers/http_responses.py"
_REQUESTS: Final = "ingest/receivers/http_requests.py"
_BODIES: Final = "ingest/receivers/bodies.py"
_CALLS: Final = "ingest/receivers/grpc_calls.py"
_GRPCIO: Final = "ingest/receivers/grpc_grpcio.py"
_GATEWAY: Final = "ingest/gateway.py"
_SCHEMA: Final = "ingest/codec/json_schema.py"

CONTRACT_MUTANTS: Final = (
    _mutant(
        "C031 an empty partial_success in protobuf",
        _ANSWERS,
        '        return b""\n',
        '        return b"\\x0a\\x00"\n',
    ),
    _mutant(
        "C031 an empty partial_success in JSON",
        _RESPONSES,
        'Encoding.JSON: response(200, b"{}", encoding=Encoding.JSON)',
        "Encoding.JSON: response(200, b'{\"partialSuccess\":{}}', encoding=Encoding.JSON)",
    ),
    _mutant("C039 a count as a number", _ANSWERS, "str(answer.rejected)", "answer.rejected"),
    _mutant(
        "C039 the field of another signal", _ANSWERS, '"rejectedLogRecords"', '"rejectedSpans"'
    ),
    _mutant(
        "C034 one item too many in protobuf",
        _ANSWERS,
        "_varint(answer.rejected) if",
        "_varint(answer.rejected + 1) if",
    ),
    _mutant("C044 bad data with another status", _STATUSES, "Invalid: 400,", "Invalid: 422,"),
    _mutant(
        "C058 a bad key is forbidden", _STATUSES, "Unauthenticated: 401,", "Unauthenticated: 403,"
    ),
    _mutant(
        "C051 RateLimited without RetryInfo",
        _STATUSES,
        "if isinstance(error, Unavailable | RateLimited):",
        "if isinstance(error, Unavailable):",
        receivers=True,
    ),
    _mutant(
        "C052 delays without jitter",
        _STATUSES,
        "uniform(1 - RETRY_JITTER, 1 + RETRY_JITTER)",
        "uniform(1, 1)",
        receivers=True,
    ),
    _mutant(
        "C053 Retry-After of 0 seconds",
        _STATUSES,
        "max(1, math.ceil(refusal.retry_seconds))",
        "math.floor(refusal.retry_seconds)",
        receivers=True,
    ),
    _mutant(
        "C054 a defect told with its text",
        _STATUSES,
        "return Refusal(503, Code.UNAVAILABLE, UNEXPECTED,",
        "return Refusal(503, Code.UNAVAILABLE, str(error),",
        receivers=True,
    ),
    _mutant(
        "C043 a defect told as 500",
        _STATUSES,
        "return Refusal(503, Code.UNAVAILABLE, UNEXPECTED,",
        "return Refusal(500, Code.UNAVAILABLE, UNEXPECTED,",
        receivers=True,
    ),
    _mutant(
        "C044 bad data without BadRequest",
        _STATUSES,
        "        status.details.append(_packed(BadRequest(field_violations=[violation])))\n",
        "        del violation\n",
    ),
    _mutant(
        "C042 overload told as INTERNAL",
        _STATUSES,
        "Unavailable: Code.UNAVAILABLE,",
        "Unavailable: Code.INTERNAL,",
        receivers=True,
    ),
    _mutant(
        "C025 too large told as bad data",
        _STATUSES,
        "    TooLarge: Code.RESOURCE_EXHAUSTED,",
        "    TooLarge: Code.INVALID_ARGUMENT,",
    ),
    _mutant(
        "C015 an unknown coding told as a failure",
        _STATUSES,
        "Unsupported: 415,",
        "Unsupported: 500,",
    ),
    _mutant("C007 no Allow header", _RESPONSES, 'extra += b"Allow: POST\\r\\n"', "pass"),
    _mutant(
        "C058 no WWW-Authenticate",
        _RESPONSES,
        "extra += b'WWW-Authenticate: Bearer realm=\"otlp\"\\r\\n'",
        "pass",
    ),
    _mutant(
        "C045 the body of an error is always JSON",
        _RESPONSES,
        "status_json(refusal) if encoding is Encoding.JSON else status_protobuf(refusal)",
        "status_json(refusal)",
    ),
    _mutant(
        "C049 another content type",
        _RESPONSES,
        'Encoding.PROTOBUF: b"application/x-protobuf"',
        'Encoding.PROTOBUF: b"application/protobuf"',
    ),
    _mutant(
        "C023 the limit is one less",
        _REQUESTS,
        "if length > limits.body_bytes_max:",
        "if length >= limits.body_bytes_max:",
    ),
    _mutant(
        "C047 no content type is protobuf",
        _REQUESTS,
        "    if encoding is None:\n",
        "    encoding = encoding or Encoding.PROTOBUF\n    if encoding is None:\n",
    ),
    _mutant(
        "C048 content types by the letter",
        _REQUESTS,
        'content_type.partition(b";")[0].strip().lower()',
        "content_type",
    ),
    _mutant(
        "C011 a key in the URL is taken",
        _REQUESTS,
        "if _KEY_IN_QUERY.search(query):",
        "if not query:",
    ),
    _mutant(
        "C030 other transfer codings are taken",
        _REQUESTS,
        'if transfer_encoding.strip().lower() != b"chunked":',
        "if not transfer_encoding:",
        receivers=True,
    ),
    _mutant(
        "C019 the CRC of gzip is ignored",
        _BODIES,
        '        raise Invalid("the body is not valid gzip: it is corrupt or followed by garbage")'
        " from None",
        "        return",
    ),
    _mutant(
        "C017 gzip cut short is taken",
        _BODIES,
        'raise Invalid("the compressed body is cut short")',
        "return",
    ),
    _mutant(
        "C024 no limit after decompression",
        _BODIES,
        "if size_bytes > limits.body_bytes_max:",
        "if size_bytes < 0:",
    ),
    _mutant(
        "C018 one member too many",
        _BODIES,
        "for _ in range(limits.compressed_members_max):",
        "for _ in range(limits.compressed_members_max + 1):",
    ),
    _mutant(
        "C015 the first of several codings",
        _BODIES,
        "_NAMES.get(name.strip().lower())",
        '_NAMES.get(name.partition(",")[0].strip().lower())',
    ),
    _mutant(
        "C014 codings by the letter",
        _BODIES,
        "_NAMES.get(name.strip().lower())",
        "_NAMES.get(name.strip())",
    ),
    _mutant(
        "C025 the limit of gRPC is one less",
        _CALLS,
        "if self._length > self._limits.body_bytes_max:",
        "if self._length >= self._limits.body_bytes_max:",
    ),
    _mutant(
        "C106 unknown flags are taken",
        _CALLS,
        "if self._flag > 1:",
        "if self._flag > 2:",
        receivers=True,
    ),
    _mutant(
        "C103 metadata without a limit",
        _CALLS,
        "if size_bytes > limits.metadata_bytes_max or len(headers) > limits.headers_max:",
        "if len(headers) > limits.headers_max:",
        receivers=True,
    ),
    _mutant(
        "C108 other content types are gRPC",
        _CALLS,
        'return None if content_type in _CONTENT_TYPES else ((b":status", b"415"),)',
        "return None",
        receivers=True,
    ),
    _mutant(
        "C058 the key is checked after the message",
        "ingest/receivers/grpc.py",
        "                principal = self._gateway.authenticate(head.credentials, head.signal)\n"
        "                tenant = principal.tenant_id\n"
        "                self._charged = self._charged or self._listener.charge(self, principal)\n",
        "                pass\n",
        receivers=True,
    ),
    _mutant(
        "C058 grpcio checks the key after the message",
        _GRPCIO,
        "            hold.tenant = self._gateway.authenticate(credentials, signal).tenant_id\n",
        "",
        receivers=True,
    ),
    _mutant(
        "C106 the first of several messages",
        _GRPCIO,
        '        raise Broken("the call has more than one message")',
        "        return body",
        receivers=True,
    ),
    _mutant(
        "C044 grpcio without details",
        _GRPCIO,
        "trailing_metadata=((DETAILS_TRAILER.decode(), status_protobuf(refusal)),),",
        "trailing_metadata=(),",
    ),
    _mutant(
        "C036 all rejected is a failure",
        _GATEWAY,
        "                answer = answer_of(signal, appended, notice) if appended else _REPEATED\n",
        "                if appended and not appended.accepted:\n"
        '                    raise Unavailable("all refused")\n'
        "                answer = answer_of(signal, appended, notice) if appended else _REPEATED\n",
    ),
    _mutant(
        "C034 reasons counted instead of items",
        _GATEWAY,
        "rejected = sum(appended.rejected.values())",
        "rejected = len(appended.rejected)",
    ),
    _mutant(
        "C037 a repeat without a warning",
        _GATEWAY,
        "answer_of(signal, appended, notice) if appended else _REPEATED",
        "answer_of(signal, appended, notice) if appended else FULL_SUCCESS",
    ),
    _mutant(
        "C037 a repeat is stored again",
        _GATEWAY,
        "if not await self._recent.claim(identity):",
        "if not await self._recent.claim(identity) and not identity:",
    ),
    _mutant(
        "C081 ids in base64",
        _SCHEMA,
        'Field("traceId", 1, "id"),\n        Field("spanId", 2, "id"),\n'
        '        Field("traceState", 3, "string"),\n        Field("parentSpanId"',
        'Field("traceId", 1, "base64"),\n        Field("spanId", 2, "id"),\n'
        '        Field("traceState", 3, "string"),\n        Field("parentSpanId"',
    ),
    _mutant(
        "C085 whole numbers as doubles",
        _SCHEMA,
        'Field("intValue", 3, "int64")',
        'Field("intValue", 3, "double")',
    ),
    _mutant(
        "C087 bytes as text",
        _SCHEMA,
        'Field("bytesValue", 7, "base64")',
        'Field("bytesValue", 7, "string")',
    ),
    _mutant(
        "C082 names in snake_case",
        _SCHEMA,
        '_many("resourceSpans", 1, "ResourceSpans")',
        '_many("resource_spans", 1, "ResourceSpans")',
    ),
)


def _try(mutants: Sequence[Mutant]) -> list[str]:
    """The names of those that nobody noticed; all on one copy of the source."""
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of_source(Path(folder))
        for mutant in mutants:
            noticed = outcome_of_mutant(copy, mutant).returncode == TESTS_FAILED
            print(f"{'noticed' if noticed else 'MISSED '}  {mutant.name}", flush=True)
            missed += [] if noticed else [mutant.name]
    return missed


def main() -> int:
    """Tries all mutants, one at a time on each core; 0 when each was noticed."""
    begun = time.monotonic()
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as threads:
        parts = [CONTRACT_MUTANTS[first::cores] for first in range(cores)]
        missed = [name for names in threads.map(_try, parts) for name in names]
    seconds = time.monotonic() - begun
    print(f"{len(CONTRACT_MUTANTS) - len(missed)} of {len(CONTRACT_MUTANTS)}, {seconds:.0f} s")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
