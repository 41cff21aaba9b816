"""How errors are told: codes, delays, encodings."""

import base64
import json
import math

import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # noqa: F401  (registers)
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from ingest.receivers.statuses import (
    GRPC_CODE_OF,
    HTTP_STATUS_OF,
    MESSAGE_CHARACTERS_MAX,
    DeadlineExceeded,
    grpc_trailers,
    percent_encoded,
    refusal_of,
    retry_after,
    status_json,
    status_protobuf,
)
from shared.errors import (
    Invalid,
    RateLimited,
    TelemetryFlowError,
    TooLarge,
    Unavailable,
)

HTTP_RETRYABLE = {429, 502, 503, 504}
GRPC_CODES = {0, 3, 7, 16, 8, 14, 12, 13, 4, 1, 5}


def example(kind: type[TelemetryFlowError]) -> TelemetryFlowError:
    if issubclass(kind, RateLimited | Unavailable):
        return kind("later", retry_after_seconds=1.0)
    return kind("never")


@pytest.mark.parametrize("kind", list(dict.fromkeys([*HTTP_STATUS_OF, *GRPC_CODE_OF])))
def test_C042_C043_what_may_succeed_later_is_retryable_and_nothing_else_is(
    kind: type[TelemetryFlowError],
) -> None:
    refusal = refusal_of(example(kind))
    temporary = issubclass(kind, RateLimited | Unavailable)
    assert (refusal.http_status in HTTP_RETRYABLE) == temporary
    assert (refusal.retry_seconds is not None) == temporary
    assert (retry_after(refusal) is not None) == temporary
    assert refusal.grpc_code in GRPC_CODES


@given(st.floats(0, 1e6), st.floats(0.8, 1.2))
def test_C052_C053_delays_are_positive_capped_and_whole_seconds_in_http(
    seconds: float, factor: float
) -> None:
    error = Unavailable("full", retry_after_seconds=seconds)
    refusal = refusal_of(error, uniform=lambda _low, _high: factor)
    assert refusal.retry_seconds is not None
    assert 0 < refusal.retry_seconds <= 30
    header = retry_after(refusal)
    assert header is not None
    assert header == max(1, math.ceil(refusal.retry_seconds))


@pytest.mark.parametrize(
    "error",
    [
        Invalid("bad", field="resource_spans[0].x"),
        TooLarge("much"),
        RateLimited("slow", retry_after_seconds=2.5),
        Unavailable("full"),
        DeadlineExceeded("late"),
        ValueError("secret"),
    ],
)
def test_C045_both_encodings_of_a_status_say_the_same(error: Exception) -> None:
    refusal = refusal_of(error, uniform=lambda _low, _high: 1.0)
    from_json = json_format.Parse(status_json(refusal), Status())
    assert Status.FromString(status_protobuf(refusal)) == from_json
    assert "secret" not in json.dumps(status_json(refusal).decode())
    trailers = dict(grpc_trailers(refusal))
    details = base64.b64decode(trailers[b"grpc-status-details-bin"] + b"==")
    assert Status.FromString(details) == from_json


def test_C028_a_message_is_cut_so_that_it_always_fits() -> None:
    refusal = refusal_of(Invalid("x" * 1_000_000))
    assert len(refusal.message) == MESSAGE_CHARACTERS_MAX
    assert len(dict(grpc_trailers(refusal))[b"grpc-status-details-bin"]) < 4_000


def test_a_grpc_message_is_percent_encoded_utf8() -> None:
    assert percent_encoded('a b~!"') == b'a b~!"'
    assert percent_encoded("100 %\n\u00fc") == b"100 %25%0A%C3%BC"


@given(st.text(max_size=60))
def test_a_percent_encoded_message_is_printable_ascii(text: str) -> None:
    assert all(0x20 <= byte <= 0x7E for byte in percent_encoded(text.replace("\ud800", "")))
