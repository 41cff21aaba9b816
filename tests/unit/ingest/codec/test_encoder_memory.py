"""The compiled encoder under load: memory it keeps and takes, time it takes, threads it meets."""

import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from benchmarks.payloads import NOW_NS, SIGNALS, requests
from ingest.codec import Block, Encoder
from tests.unit.ingest.codec.encoder_load import (
    array_value,
    attribute,
    field,
    request_of,
    span_with,
    string_value,
    varint,
)

ROOT: Final = Path(__file__).parents[4]
GROWTH_BYTES_MAX: Final = 4_000_000
# The documented bound on what a request takes, in bytes per byte of it.
AMPLIFICATION_MAX: Final = 12
# The bound where every two bytes become a row of some column group, which is kept in a block.
ROWS_AMPLIFICATION_MAX: Final = 48
SECONDS_MAX: Final = 30
BYTES_MORE_MAX: Final = 1_000_000_000


def measured(load: str, argument: str) -> int:
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.ingest.codec.encoder_load", load, argument],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX * 2,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("signal", SIGNALS)
def test_memory_does_not_grow_over_100_000_requests(signal: str) -> None:
    assert measured("growth", signal) < GROWTH_BYTES_MAX


def test_C076_memory_does_not_grow_over_malformed_requests() -> None:
    assert measured("malformed", "traces") < GROWTH_BYTES_MAX


@pytest.mark.parametrize(
    ("shape", "factor_max"),
    [
        ("empty values", AMPLIFICATION_MAX),
        ("empty spans", AMPLIFICATION_MAX),
        ("empty resources", AMPLIFICATION_MAX),
        ("empty pieces of a resource", AMPLIFICATION_MAX),
        ("empty attributes", ROWS_AMPLIFICATION_MAX),
        ("empty resource attributes", ROWS_AMPLIFICATION_MAX),
        ("empty events", ROWS_AMPLIFICATION_MAX),
        ("empty links", ROWS_AMPLIFICATION_MAX),
    ],
)
def test_C076_a_hostile_request_takes_memory_in_proportion_to_its_size(
    shape: str, factor_max: int
) -> None:
    assert measured("amplification", shape) <= factor_max * 100


def distinct_attributes(count: int) -> bytes:
    return request_of(
        span_with(*(field(9, attribute(b"key%d" % n, string_value(b"v"))) for n in range(count)))
    )


def equal_attributes(count: int) -> bytes:
    return request_of(span_with(field(9, attribute(b"key", string_value(b"v"))) * count))


def attributes_in_falling_order(count: int) -> bytes:
    keys = (b"%08d" % number for number in range(count, 0, -1))
    return request_of(span_with(*(field(9, attribute(key, b"")) for key in keys)))


def attributes_of_events(count: int) -> bytes:
    keys = [field(3, attribute(b"k%d" % number, b"")) for number in range(8)]
    return request_of(span_with(field(11, b"".join(keys)) * (count // 8)))


def spans_of_all_shapes(count: int) -> bytes:
    keys = [b"a%d" % number for number in range(count)]
    return request_of(*(span_with(field(9, attribute(key, b""))) for key in keys))


def resource_in_pieces(count: int) -> bytes:
    pieces = (field(1, field(1, attribute(b"r%d" % n, b""))) for n in range(count))
    return field(1, b"".join(pieces) + field(2, field(2, span_with())))


def value_in_pieces(count: int) -> bytes:
    pieces = field(2, array_value(string_value(b"v"), 1)) * count
    return request_of(span_with(field(9, field(1, b"k") + pieces)))


def value_in_pieces_many_levels_deep(count: int) -> bytes:
    value = array_value(string_value(b"v"), 1) * (count // 16)
    for _level in range(16):
        value = field(5, field(1, value))
    return request_of(span_with(field(9, attribute(b"k", value))))


def lists_of_keys(count: int) -> bytes:
    pairs = b"".join(field(1, attribute(b"%d" % (n * 7919 % count), b"")) for n in range(count))
    return request_of(span_with(field(9, attribute(b"k", field(6, pairs)))))


def text_that_is_not_utf8(count: int) -> bytes:
    return request_of(span_with(field(9, attribute(b"k", string_value(b"\xff" * count * 8)))))


def resources_without_anything(count: int) -> bytes:
    return field(1, field(2, field(2, b""))) * count


def groups_in_groups(count: int) -> bytes:
    start, end = varint(50 << 3 | 3), varint(50 << 3 | 4)
    return request_of(span_with((start * 90 + end * 90) * (count // 90)))


def distinct_words(count: int) -> bytes:
    return request_of(*(span_with(field(5, b"operation %d" % n)) for n in range(count)))


def cpu_seconds(body: bytes) -> float:
    """The least CPU time of a few runs that it takes to append *body* and close."""
    least = float("inf")
    for _run in range(3):
        encoder = Encoder("traces", retention_days=30)
        begin = time.process_time()
        encoder.append(body, tenant="acme", received_ns=NOW_NS)
        encoder.close()
        least = min(least, time.process_time() - begin)
    return least


@pytest.fixture
def _bounded_memory() -> Iterator[None]:
    """What takes memory without end fails the test instead of taking the machine's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (address_bytes() + BYTES_MORE_MAX, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def address_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


@pytest.mark.usefixtures("_bounded_memory")
@pytest.mark.parametrize(
    "shape",
    [
        distinct_attributes,
        equal_attributes,
        attributes_in_falling_order,
        attributes_of_events,
        spans_of_all_shapes,
        resource_in_pieces,
        value_in_pieces,
        value_in_pieces_many_levels_deep,
        lists_of_keys,
        text_that_is_not_utf8,
        resources_without_anything,
        groups_in_groups,
        distinct_words,
    ],
)
def test_C077_time_grows_in_proportion_to_the_request(shape: Callable[[int], bytes]) -> None:
    small, large = shape(12_500), shape(100_000)
    # Eight times as much takes about 8 times as long, or 64 times if something is quadratic. What
    # is too short to be measured well is not a way to keep a server busy.
    seconds = cpu_seconds(large)
    assert seconds < 0.05 or seconds < 24 * cpu_seconds(small)
    assert seconds < 1.0


def test_encoders_of_different_threads_do_not_disturb_each_other() -> None:
    bodies = requests("traces", items=200, count=20)

    def encoded() -> list[bytes]:
        encoder = Encoder("traces", retention_days=30)
        natives: list[bytes] = []
        for body in bodies:
            encoder.append(body, tenant="acme", received_ns=NOW_NS)
            if encoder.rows > 500:
                natives += [block.native for block in encoder.close()]
        return natives

    expected = encoded()
    results: list[list[bytes]] = []
    threads = [
        threading.Thread(target=lambda: results.extend(encoded() for _ in range(10)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS_MAX)
    assert len(results) == 20
    assert all(result == expected for result in results)


def test_two_threads_on_one_encoder_are_told_so_and_lose_nothing() -> None:
    body = requests("traces", items=2_000, count=1)[0]
    encoder = Encoder("traces", retention_days=30, block_bytes_max=500_000_000)
    accepted: list[int] = []
    refusals: list[str] = []
    blocks: list[Block] = []
    deadline = time.monotonic() + SECONDS_MAX

    def append_until_both_met() -> None:
        # A bounded number of blocks, however seldom the two threads meet.
        while len(refusals) < 20 and time.monotonic() < deadline:
            try:
                if encoder.rows > 20_000:
                    blocks.extend(encoder.close())
                accepted.append(encoder.append(body, tenant="acme", received_ns=NOW_NS).accepted)
            except RuntimeError as error:
                refusals.append(str(error))

    threads = [threading.Thread(target=append_until_both_met) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS_MAX * 2)
    blocks.extend(encoder.close())
    assert set(refusals) == {"encoder in use"}
    assert sum(block.rows for block in blocks) == sum(accepted)
