"""The fuzz targets of the encoder, one for each signal.

An input is one byte of options, then up to REQUESTS_MAX requests with SEPARATOR between them. They
go into one encoder as the gateway does it: a request that does not fit is appended again behind a
close. `Malformed` is a good answer; anything else that is raised, a broken promise of the encoder,
or (with *compare*) any difference from the reference codec is a finding.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple

from ingest.codec.cardinality import Guard
from ingest.codec.encoder import Encoder
from ingest.codec.resources import resources_of
from ingest.codec.results import Appended, Block, BlockFull, Malformed

SEPARATOR: Final = b"\xfe\xed\xfa\xce"
REQUESTS_MAX: Final = 5
RECEIVED_NS: Final = 1_700_000_000_000_000_000
TENANTS: Final = ("acme", "umbrella", "")
WORKSPACE: Final = "shop"
# The two lowest bits of the options choose the rows, the next two the bytes, then the days and
# whether there is a guard.
BLOCK_ROWS_MAX: Final = (65_536, 1, 3, 64)
BLOCK_BYTES_MAX: Final = (8_000_000, 2_048, 16_384, 400)
RETENTION_DAYS: Final = (30, 20_000)
LIMITS_BITS: Final = 15
NO_LIMITS: Final = 16
GUARDED: Final = 32
OPTIONS: Final = 64
GUARD: Final = {"series_max": 2, "keys_max": 6}
ENCODERS_MAX: Final = 2 * OPTIONS


class Outcome(NamedTuple):
    """What an encoder made of an input: an answer for each request, and every block."""

    answers: list[object]
    blocks: list[tuple[object, ...]]


def options_of(data: bytes) -> int:
    """The options of an input."""
    return data[0] % OPTIONS if data else 0


def requests_of(data: bytes) -> list[bytes]:
    """The requests of an input."""
    return data[1:].split(SEPARATOR, REQUESTS_MAX - 1)


def check_of(signal: str) -> Callable[..., None]:
    """The target of that signal."""

    def check(data: bytes, *, compare: bool) -> None:
        try:
            outcome = encode(Encoder, signal, data, guard_of(Guard, data))
            check_refusals(signal, data, outcome)
            check_resources(signal, data)
        except AssertionError:
            open_encoder.cache_clear()  # what is open now belongs to no input
            raise
        # Where blocks are cut at a limit is each twin's own affair; what is in them is not.
        if compare and options_of(data) & LIMITS_BITS == 0:
            from ingest.codec import reference
            from ingest.codec.reference import cardinality

            guard = guard_of(cardinality.Guard, data)
            expected = encode(reference.Encoder, signal, data, guard)
            if outcome != expected:
                raise AssertionError(difference(outcome, expected))

    return check


@lru_cache(maxsize=ENCODERS_MAX)
def open_encoder(encoder_class: Any, signal: str, options: int) -> Any:
    """An encoder with these options, used again for every input: opening one costs far more than a
    small request, and a closed encoder is as good as a new one."""
    return encoder_class(
        signal,
        retention_days=RETENTION_DAYS[options >> 4 & 1],
        block_bytes_max=BLOCK_BYTES_MAX[options >> 2 & 3],
        block_rows_max=BLOCK_ROWS_MAX[options & 3],
    )


def guard_of(guard_class: Any, data: bytes) -> Any:
    """A new guard, when the options of the input want one."""
    return guard_class(**GUARD) if options_of(data) & GUARDED else None


def encode(encoder_class: Any, signal: str, data: bytes, guard: Any) -> Outcome:
    """Encodes the input, checking what the encoder promises along the way."""
    encoder = open_encoder(encoder_class, signal, options_of(data))
    outcome = Outcome([], [])
    rows_open = 0
    for number, body in enumerate(requests_of(data)):
        tenant = TENANTS[number % len(TENANTS)]
        try:
            answer = append(encoder, body, tenant, guard)
        except BlockFull:
            outcome.answers.append("full")
            close(encoder, rows_open, outcome)
            rows_open = 0
            answer = append(encoder, body, tenant, guard)
        outcome.answers.append(answer)
        rows_open = encoder.rows
    close(encoder, rows_open, outcome)
    return outcome


def append(encoder: Any, body: bytes, tenant: str, guard: Any = None) -> object:
    """What `append` answers, as plain values; a refused request must leave the encoder alone."""
    rows = encoder.rows
    try:
        appended: Appended = encoder.append(
            body, tenant=tenant, workspace=WORKSPACE, received_ns=RECEIVED_NS, guard=guard
        )
    except (Malformed, BlockFull) as error:
        if encoder.rows != rows:
            raise AssertionError(f"{rows} rows became {encoder.rows}") from error
        if isinstance(error, BlockFull):
            raise
        return "malformed"
    if encoder.rows - rows != appended.accepted:
        raise AssertionError(f"{appended.accepted} accepted, {rows} to {encoder.rows} rows")
    if sum(span.rows for span in appended.spans) != appended.accepted:
        raise AssertionError(f"{appended.accepted} accepted, spans {appended.spans}")
    return (
        appended.accepted,
        appended.guarded,
        sorted(appended.rejected.items()),
        sorted(appended.warnings.items()),
        tuple(sorted(tuple(span) for span in appended.spans)),
        appended.samples,
    )


def check_refusals(signal: str, data: bytes, outcome: Outcome) -> None:
    """Holds that a refused request leaves no trace in any block."""
    refused = "malformed" in outcome.answers or "full" in outcome.answers
    if refused and outcome.blocks != blocks_of_accepted(signal, data, outcome.answers):
        raise AssertionError(f"a refused request left a trace: {outcome.answers}")


def check_resources(signal: str, data: bytes) -> None:
    """Holds that the resources of a request, each alone, are it: its items, and its warnings."""
    for body in requests_of(data):
        try:
            places = resources_of(signal, body)
        except Malformed:
            places = None
        encoder = open_encoder(Encoder, signal, NO_LIMITS)
        whole = append(encoder, body, TENANTS[0])
        encoder.close()
        if (places is None) != (whole == "malformed"):
            raise AssertionError(f"resources {places} of what is {whole}")
        if places is None or whole == "malformed":
            continue
        parts = b"".join(body[first:end] for _tenant, first, end in places)
        alone = append(encoder, parts, TENANTS[0])
        encoder.close()
        if whole != alone:
            raise AssertionError(f"{alone} in pieces, {whole} as a whole")


def blocks_of_accepted(signal: str, data: bytes, answers: list[object]) -> list[tuple[object, ...]]:
    """The blocks of an encoder that never sees the requests which another one refused."""
    encoder = open_encoder(Encoder, signal, options_of(data))
    guard = guard_of(Guard, data)
    outcome = Outcome([], [])
    requests = enumerate(requests_of(data))
    for answer in answers:
        if answer == "full":
            close(encoder, encoder.rows, outcome)
            continue
        number, body = next(requests)
        if answer != "malformed":
            append(encoder, body, TENANTS[number % len(TENANTS)], guard)
    close(encoder, encoder.rows, outcome)
    return outcome.blocks


def close(encoder: Any, rows_open: int, outcome: Outcome) -> None:
    """Closes the encoder into the outcome."""
    blocks: list[Block] = encoder.close()
    if sum(block.rows for block in blocks) != rows_open:
        raise AssertionError(f"{rows_open} rows were open, {[block.rows for block in blocks]} came")
    if encoder.rows:
        raise AssertionError(f"{encoder.rows} rows behind a close")
    outcome.blocks.extend(
        (b.table, b.part, b.rows, b.time_min_ns, b.time_max_ns, bytes(b.native)) for b in blocks
    )


def difference(outcome: Outcome, expected: Outcome) -> str:
    """The first thing in which the encoder differs from the reference."""
    for got, wanted in zip(outcome.answers, expected.answers, strict=False):
        if got != wanted:
            return f"answered {got}, the reference {wanted}"
    for block, other in zip(outcome.blocks, expected.blocks, strict=False):
        if block[:-1] != other[:-1]:
            return f"block {block[:-1]}, of the reference {other[:-1]}"
        if block != other:
            return f"block {block[:-1]} has other bytes than the reference's"
    return (
        f"{len(outcome.answers)} answers and {len(outcome.blocks)} blocks, of the reference "
        f"{len(expected.answers)} and {len(expected.blocks)}"
    )
