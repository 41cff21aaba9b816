"""Bounded decompression and what it holds of the budget."""

import asyncio
import gzip
import random
import tracemalloc
from collections.abc import Callable

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from ingest.memory_budget import MemoryBudget
from ingest.receivers.bodies import PIECE_BYTES, Hold, encoding_named, inflated
from ingest.receivers.limits import Limits
from shared.errors import Invalid, TooLarge, Unavailable, Unsupported

MIB = 1 << 20
COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress}


def hold_of(bytes_max: int = 256 * MIB) -> Hold:
    return Hold(MemoryBudget(bytes_max=bytes_max))


@pytest.mark.parametrize("encoding", COMPRESS)
@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * MIB])
@pytest.mark.parametrize("random_bytes", [False, True])
async def test_what_was_compressed_comes_back(encoding: str, size: int, random_bytes: bool) -> None:
    body = random.Random(1).randbytes(size) if random_bytes else b"x" * size
    hold = hold_of()
    assert await inflated(COMPRESS[encoding](body), encoding, hold, Limits()) == body
    assert hold.held_bytes == size
    hold.release()
    hold.release()
    assert hold.held_bytes == 0


@given(
    st.sampled_from(sorted(COMPRESS)),
    st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    st.integers(0, 400),
    st.integers(0, 255),
)
def test_a_damaged_stream_is_invalid_or_what_it_was(
    encoding: str, members: list[bytes], at: int, flip: int
) -> None:
    stream = bytearray(b"".join(COMPRESS[encoding](member) for member in members))
    stream[at % len(stream)] ^= flip
    try:
        body = asyncio.run(inflated(bytes(stream), encoding, hold_of(), Limits()))
    except Invalid:
        return
    if encoding == "gzip":  # zstd.compress writes no checksum
        assert body == b"".join(members)


@pytest.mark.parametrize("encoding", COMPRESS)
async def test_S01_a_bomb_is_stopped_at_the_limit_in_little_memory(encoding: str) -> None:
    bomb = COMPRESS[encoding](bytes(200 * MIB))
    limits = Limits(body_bytes_max=4 * MIB)
    tracemalloc.start()
    with pytest.raises(TooLarge):
        await inflated(bomb, encoding, hold_of(), limits)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2 * limits.body_bytes_max + 2 * PIECE_BYTES


async def test_L01_a_budget_that_is_used_up_stops_it_too() -> None:
    hold = hold_of(bytes_max=2 * MIB)
    with pytest.raises(Unavailable):
        await inflated(gzip.compress(bytes(8 * MIB)), "gzip", hold, Limits())
    assert hold.held_bytes <= 2 * MIB


async def test_L21_others_get_their_turn_while_a_large_body_inflates() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await inflated(gzip.compress(bytes(8 * MIB)), "gzip", hold_of(), Limits())
    task.cancel()
    assert turns >= 7


def test_C014_C015_encodings_have_names() -> None:
    assert [encoding_named(name) for name in ("", " Identity", "GZip", "x-gzip", "ZSTD ")] == [
        "",
        "",
        "gzip",
        "gzip",
        "zstd",
    ]
    for name in ("br", "gzip,gzip", "deflate", "gzip;q=1"):
        with pytest.raises(Unsupported):
            encoding_named(name)
