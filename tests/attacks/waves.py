"""The attacks at full size: each goes on for so many seconds and counts what was answered."""

import asyncio
import gzip
import itertools
import re
import socket
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from backports import zstd

from tests.attacks.frames import data, farewell_in, frame, header_block, headers, opening
from tests.attacks.gateway import ACK, SETTINGS, WINDOW_UPDATE, Ports
from tests.attacks.http1 import ABUSES, SMUGGLING
from tests.attacks.http2 import FLOODS
from tests.contract.raw_http import post

# As many clients as this attack at once, from addresses of their own (all of 127.0.0.0/8 is ours).
ATTACKERS: Final = 40
CLIENTS_PER_ADDRESS: Final = 100
# Connections of which nobody reads the answers: each fills its buffers first.
UNREAD: Final = 100
CONNECT_SECONDS_MAX: Final = 5.0
READ_BYTES: Final = 1 << 16
READ_SECONDS_MAX: Final = 3.0
BOMB_BYTES: Final = 1 << 30
INITIAL_WINDOW_SIZE: Final = 4

Answers = Counter[str]
_addresses = itertools.count()


class Wave(NamedTuple):
    """An attack; *run(ports, seconds)* counts what was answered."""

    size: str
    limit: str
    run: Callable[[Ports, float], Awaitable[Answers]]
    seconds: float = 6.0


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection from an address that few others have."""
    number = next(_addresses) // CLIENTS_PER_ADDRESS
    source = f"127.0.{1 + number // 250 % 250}.{1 + number % 250}"
    async with asyncio.timeout(CONNECT_SECONDS_MAX):
        return await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))


async def answered(
    port: int, payload: bytes, told_by: Callable[[bytes], str], seconds_max: float
) -> str:
    """What a connection is answered to *payload*."""
    received = b""
    writer = None
    ended = "open"
    try:
        reader, writer = await connect(port)
        writer.write(payload)
        async with asyncio.timeout(seconds_max):
            while piece := await reader.read(READ_BYTES):
                received = (
                    (received + piece)[-READ_BYTES:]
                    if len(received) > READ_BYTES
                    else (received + piece)
                )
        ended = "closed"
    except TimeoutError:
        pass
    except OSError as error:
        ended = "closed" if received else type(error).__name__
    finally:
        if writer is not None:
            writer.transport.abort()
    return told_by(received) or ended


def goaway(received: bytes) -> str:
    with suppress(Exception):
        code = farewell_in(received)
        return f"GOAWAY {code}" if code else ""
    return ""


def status(received: bytes) -> str:
    """The last one; the texts of errors speak of HTTP/1.1, too."""
    found = re.findall(rb"HTTP/1\.1 (\d{3}) ", received)
    return found[-1].decode() if found else ""


async def again_and_again(
    port: int, payloads: Sequence[bytes], told_by: Callable[[bytes], str], seconds: float
) -> Answers:
    """Forty clients that send one of *payloads*, and the next as soon as they are cut off."""
    answers: Answers = Counter()
    end = time.monotonic() + seconds
    in_turn = itertools.cycle(payloads)

    async def attack() -> None:
        while (left := end - time.monotonic()) > 0:
            seconds_max = min(left, READ_SECONDS_MAX)
            answers[await answered(port, next(in_turn), told_by, seconds_max)] += 1

    await asyncio.gather(*(attack() for _ in range(ATTACKERS)))
    return answers


def flood(name: str, frames: int) -> Wave:
    one = FLOODS[name]
    payload = opening() + one.payload(frames, header_block())
    size = f"{ATTACKERS} x {frames:,} frames, again and again"
    return Wave(
        size,
        one.limit,
        lambda ports, seconds: again_and_again(ports.grpc, (payload,), goaway, seconds),
    )


def abuse(name: str, size: int) -> Wave:
    one = ABUSES[name]
    head = post(length=None, headers={"Transfer-Encoding": "chunked"}, authorization=None)
    payload = one.payload(size, head)
    text = f"{ATTACKERS} x {len(payload) / 1e6:.1f} MB, again and again"
    return Wave(
        text,
        one.limit,
        lambda ports, seconds: again_and_again(ports.http, (payload,), status, seconds),
    )


def smuggling() -> Wave:
    """Lying, repeated and obscured lengths, each with a request behind it."""
    head = post(length=None, authorization=None)[:-2]
    hidden = post(b"", authorization=None)
    payloads = [head + form + b"\r\nx" + hidden for form in SMUGGLING.values()]
    return Wave(
        f"{ATTACKERS} x {len(payloads)} forms, again and again",
        "RFC 9112 6.3 and 11.2",
        lambda ports, seconds: again_and_again(ports.http, payloads, status, seconds),
    )


async def unread(ports: Ports, seconds: float) -> Answers:
    """Connections that ask without end and read no answer, over a window of a few KiB."""
    answers: Answers = Counter()
    end = time.monotonic() + seconds
    requests = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" * 500
    loop = asyncio.get_running_loop()

    async def ask() -> None:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.setblocking(False)
            try:
                await loop.sock_connect(client, ("127.0.0.1", ports.http))
                async with asyncio.timeout(end - time.monotonic()):
                    while True:
                        await loop.sock_sendall(client, requests)
            except TimeoutError:
                answers["still open"] += 1
            except OSError as error:
                answers[f"closed ({type(error).__name__})"] += 1

    await asyncio.gather(*(ask() for _ in range(UNREAD)))
    return answers


async def held(port: int, count: int, hello: bytes, drip: bytes | None, seconds: float) -> Answers:
    """*count* connections at once that say *hello* and then *drip* once a second.

    With None to drip, they shut their side of the connection behind *hello*.
    """
    answers: Answers = Counter()
    end = time.monotonic() + seconds
    told_by = goaway if hello.startswith(b"PRI") else status

    async def hold() -> None:
        received = b""
        writer = None
        try:
            reader, writer = await connect(port)
            writer.write(hello)
            if drip is None:
                writer.write_eof()
            while time.monotonic() < end:
                with suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        piece = await reader.read(READ_BYTES)
                        if not piece:
                            break
                        received += piece
                        continue
                if drip:
                    writer.write(drip)
            else:
                answers[told_by(received) or "still open"] += 1
                return
            answers[told_by(received) or "closed"] += 1
        except (OSError, TimeoutError) as error:
            answers[told_by(received) or f"closed ({type(error).__name__})"] += 1
        finally:
            if writer is not None:
                writer.transport.abort()

    await asyncio.gather(*(hold() for _ in range(count)))
    return answers


def holding(  # noqa: PLR0917  (a row of a table)
    transport: str, count: int, hello: bytes, drip: bytes | None, limit: str, seconds: float
) -> Wave:
    return Wave(
        f"{count:,} connections",
        limit,
        lambda ports, left: held(getattr(ports, transport), count, hello, drip, left),
        seconds,
    )


def bombs(transport: str, name: str, *, nested: bool = False) -> Wave:
    zeros = bytes(1 << 20)
    compressor = gzip.compress if name == "gzip" else zstd.compress
    # Members of a mebibyte each, one after the other: 64 MiB are inflated at most.
    bomb = compressor(zeros) * (BOMB_BYTES >> 20)
    if nested:
        bomb = compressor(bomb)
    if transport == "http":
        payload = post(bomb, headers={"Content-Encoding": name}, authorization=None)
        told_by = status
    else:
        message = b"\x01" + len(bomb).to_bytes(4, "big") + bomb
        block = header_block({"grpc-encoding": name})
        payload = opening() + frame(SETTINGS, flags=ACK) + headers(1, block)
        payload += b"".join(
            data(1, message[at : at + 16_384], end=at + 16_384 >= len(message))
            for at in range(0, len(message), 16_384)
        )
        told_by = grpc_status
    return Wave(
        f"{ATTACKERS} x {len(bomb) / 1e3:,.0f} KB that become 1 GiB",
        "body_bytes_max, INGEST_MEMORY_BYTES_MAX",
        lambda ports, seconds: again_and_again(
            getattr(ports, transport), (payload,), told_by, seconds
        ),
    )


def grpc_status(received: bytes) -> str:
    """grpc-status of the last trailers, where they are short enough to be found as text."""
    at = received.rfind(b"grpc-status")
    if at >= 0:
        return f"grpc-status {received[at + 12 : at + 14].decode('latin-1').strip()}"
    return goaway(received)


async def handshakes(ports: Ports, seconds: float) -> Answers:
    """New TLS connections as fast as they come, each ended once it is made."""
    answers: Answers = Counter()
    end = time.monotonic() + seconds
    client = ssl.create_default_context(cafile=ports.authority)
    client.check_hostname = False

    async def shake() -> None:
        while time.monotonic() < end:
            try:
                async with asyncio.timeout(CONNECT_SECONDS_MAX):
                    _, writer = await asyncio.open_connection("127.0.0.1", ports.http, ssl=client)
                writer.transport.abort()
                answers["made"] += 1
            except (OSError, TimeoutError) as error:
                answers[type(error).__name__] += 1

    await asyncio.gather(*(shake() for _ in range(ATTACKERS)))
    return answers


_HEAD: Final = b"POST /v1/traces HTTP/1.1\r\nHost: a\r\n"
_CALL: Final = headers(1, header_block())

WAVES: Final[dict[str, Wave]] = {
    **{f"http2_{name}": flood(name, one.frames * 4) for name, one in FLOODS.items()},
    "http2_10000_streams": flood("streams", 10_000),
    **{f"http1_{name}": abuse(name, one.size * 4) for name, one in ABUSES.items()},
    "http1_smuggling": smuggling(),
    "http_gzip_bombs": bombs("http", "gzip"),
    "http_nested_gzip_bombs": bombs("http", "gzip", nested=True),
    "http_zstd_bombs": bombs("http", "zstd"),
    "grpc_gzip_bombs": bombs("grpc", "gzip"),
    "grpc_zstd_bombs": bombs("grpc", "zstd"),
    "http_slow_heads": holding("http", 500, _HEAD, b"X: y\r\n", "header_seconds", 14),
    "http_slow_bodies": holding(
        "http",
        500,
        post(length=1_000_000, authorization=None),
        b"x",
        "body_grace_seconds, body_bytes_per_second_min",
        14,
    ),
    "grpc_slow_bodies": holding(
        "grpc",
        500,
        opening() + _CALL + data(1, b"\0" + (1_000_000).to_bytes(4, "big")),
        data(1, b"x"),
        "body_grace_seconds, body_bytes_per_second_min",
        14,
    ),
    "http_half_closed": holding(
        "http",
        500,
        post(length=1_000_000, authorization=None) + b"x",
        None,
        "none is needed: a request that cannot be finished ends its connection",
        6,
    ),
    "http_unread_answers": Wave(f"{UNREAD} connections", "write_stalled_seconds", unread, 45),
    "http_silent": holding("http", 500, b"", b"", "header_seconds", 14),
    "grpc_silent": holding("grpc", 500, b"", b"", "header_seconds", 14),
    "grpc_zero_windows": holding(
        "grpc",
        500,
        opening({INITIAL_WINDOW_SIZE: 0}) + _CALL + data(1, bytes(5), end=True),
        frame(WINDOW_UPDATE, b"\0\0\0\1"),
        "write_stalled_seconds",
        35,
    ),
    "http_5000_idle": holding(
        "http", 5_000, post(b"", authorization=None), b"", "connections_max", 12
    ),
    "grpc_5000_idle": holding("grpc", 5_000, opening() + _CALL, b"", "connections_max", 12),
}
TLS_WAVES: Final[dict[str, Wave]] = {
    "tls_handshakes": Wave(
        f"{ATTACKERS} clients, again and again", "tls_handshakes_per_second_max", handshakes, 8
    ),
    "tls_silent": holding("http", 500, b"", b"", "tls_handshake_seconds", 14),
}
