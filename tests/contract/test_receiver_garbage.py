"""Damaged requests: whatever comes, the receiver goes on, says nothing of itself, holds nothing."""

import asyncio
import gzip
import logging
import random

import pytest

from ingest.receivers.limits import Limits
from tests.contract.raw_grpc import RawGrpc, framed, grpc_server
from tests.contract.raw_http import chunked, http_server, post
from tests.streams import cut

ROUNDS = 150
SEED = 20_261_123
LIMITS = Limits(
    header_seconds=0.3,
    body_grace_seconds=0.3,
    idle_seconds=0.3,
    tick_seconds=0.02,
    linger_seconds=0.1,
)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """*data* with a few bytes changed, left out, doubled, or its end cut off."""
    damaged_data = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(damaged_data))
        match chance.randrange(4):
            case 0:
                damaged_data[at] = chance.randrange(256)
            case 1:
                del damaged_data[at : at + chance.randint(1, 9)]
            case 2:
                damaged_data[at:at] = damaged_data[at : at + chance.randint(1, 40)]
            case _:
                del damaged_data[max(1, at) :]
        if not damaged_data:
            return b"x"
    return bytes(damaged_data)


async def poke(port: int, data: bytes) -> None:
    """Send *data* in two parts and read until the server closes or has nothing to say."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    half = len(data) // 2
    try:
        writer.write(data[:half])
        await asyncio.sleep(0)
        writer.write(data[half:])
        writer.write_eof()
        async with asyncio.timeout(5):
            await reader.read()
    except ConnectionError:
        pass
    finally:
        await cut(writer)


async def test_S05_damaged_http_requests_leave_the_receiver_whole(
    caplog: pytest.LogCaptureFixture,
) -> None:
    chance = random.Random(SEED)
    samples = [
        post(b"x" * 100) * 3,
        post(b"x" * 20_000),
        post(gzip.compress(b"x" * 5_000), headers={"Content-Encoding": "gzip"}),
        post(chunked([b"abc", b"d" * 300]), headers={"Transfer-Encoding": "chunked"}, length=None),
        post(b"{}", headers={"Upgrade": "h2c", "Connection": "Upgrade"}),
        post(b"x", headers={"Expect": "100-continue"}),
    ]
    with caplog.at_level(logging.ERROR):
        async with http_server(limits=LIMITS) as server:
            port = server.receiver.port
            for _ in range(ROUNDS // 10):
                pokes = [damaged(chance.choice(samples), chance) for _ in range(10)]
                await asyncio.gather(*(poke(port, data) for data in pokes))
            assert (await server.once(post(b"good"))).status == 200
    assert caplog.records == []


async def test_S02_damaged_grpc_bytes_leave_the_receiver_whole(
    caplog: pytest.LogCaptureFixture,
) -> None:
    chance = random.Random(SEED)
    with caplog.at_level(logging.ERROR):
        async with grpc_server(limits=LIMITS) as server:
            async with server.raw() as raw:
                for size in (3, 300, 30_000):
                    raw.session.send_data(raw.open(), framed(bytes(size)), end_stream=True)
                sample = raw.session.data_to_send()
            for _ in range(ROUNDS // 10):
                pokes = [damaged(sample, chance) for _ in range(10)]
                await asyncio.gather(*(poke(server.receiver.port, data) for data in pokes))
            async with server.raw() as raw:
                assert (await good_call(raw))["grpc-status"] == "0"
    assert caplog.records == []


async def good_call(raw: RawGrpc) -> dict[str, str]:
    return await raw.call(framed(b"good"))
