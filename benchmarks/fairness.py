"""What one tenant at 100 times its limit does to another: p99 of the good one, alone and beside it.

    python -m benchmarks.fairness [--rounds 3] [--seconds 5] [--allowed 10] [--times 100]
        [--unlimited]

A gateway with the embedded log in a process of its own; the good tenant sends 50 requests of 20
spans a second, the other one sends 100 times the requests a second that it is allowed. --unlimited
takes that limit away: what is left then are shares of memory, and a gateway has one core.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path
from typing import Final

import psutil
import uvloop

from benchmarks.capacity.bodies import UNKNOWN_FIELD
from benchmarks.payloads import NOW_NS, requests
from ingest.admission import Admission
from ingest.app import open_embedded_log
from ingest.batcher import Batcher, BlockLimits
from ingest.compression import compression
from ingest.directory import Directory
from ingest.gateway import Gateway
from ingest.ledger.counts import GatewayCounts
from ingest.memory_budget import MemoryBudget
from ingest.receivers.http import HttpReceiver
from ingest.receivers.limits import Limits as ReceiverLimits
from shared.directory.directory_pb2 import Limits
from shared.security.peppers import Peppers
from shared.settings import Settings
from tests.directory_states import add_key, state_of

GOOD_REQUESTS_PER_SECOND: Final = 50
SPANS: Final = 20
CONNECTIONS: Final = 64
ANSWER_SECONDS_MAX: Final = 10


async def serve(folder: str, allowed: int) -> None:
    """A gateway with both tenants, until standard input ends; prints port and credentials.

    The flooding tenant's key allows *allowed* requests a second; 0 is no limit.
    """
    settings = Settings(telemetryflow_data_dir=folder)
    log = await open_embedded_log(settings)
    peppers = Peppers.from_text("a pepper of a benchmark")
    directory = Directory(peppers=peppers)
    directory.state = state_of("good", "flood")
    plenty = Limits(requests_per_minute=1_000_000_000)
    of_flood = Limits(requests_per_minute=60 * allowed) if allowed else plenty
    good, good_secret = add_key(directory.state, peppers, "good", limits=plenty)
    flood, flood_secret = add_key(directory.state, peppers, "flood", limits=of_flood)
    gateway = Gateway(
        directory=directory,
        admission=Admission(key_requests_per_minute=0, unix_clock=directory.now),
        batcher=Batcher(
            log,
            lanes=1,
            limits=BlockLimits(
                bytes_max=settings.ingest_block_bytes_max,
                rows_max=settings.ingest_block_rows_max,
                wait_ms=settings.ingest_block_wait_ms,
            ),
            compress=compression(settings.ingest_compression),
        ),
        budget=MemoryBudget(bytes_max=settings.ingest_memory_bytes_max),
        counts=GatewayCounts(log),
        request_seed=1,
        clock_ns=lambda: NOW_NS,
    )
    receiver = HttpReceiver(gateway, "127.0.0.1", 0, limits=ReceiverLimits())
    await receiver.start()
    print(receiver.port, f"{good.id}:{good_secret}", f"{flood.id}:{flood_secret}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await receiver.drain(1)
    await gateway.close()
    await log.close()


class Sender:
    """Sends at a fixed rate, whatever comes back; keeps how long each answer took, by status."""

    def __init__(self, port: int, credentials: str) -> None:
        self.seconds_of: dict[int, list[float]] = {}
        self._port = port
        self._credentials = credentials
        self._bodies = cycle(requests("traces", items=SPANS, count=100))
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._in_flight = 0

    async def run(self, rate: float, seconds: float) -> None:
        """Send for *seconds*; what finds all connections busy is not sent."""
        begun, sent = time.perf_counter(), 0
        async with asyncio.TaskGroup() as group:
            while (now := time.perf_counter() - begun) < seconds:
                while sent < now * rate:
                    sent += 1
                    if self._in_flight < CONNECTIONS:
                        self._in_flight += 1
                        group.create_task(self._send())
                await asyncio.sleep(0.002)
        for _, writer in self._free:
            writer.close()
        self._free.clear()

    async def _send(self) -> None:
        # Never the same twice: repeats are answered without any work.
        body = next(self._bodies) + UNKNOWN_FIELD + os.urandom(8)
        begun = time.perf_counter()
        reader, writer = (
            self._free.pop()
            if self._free
            else await asyncio.open_connection("127.0.0.1", self._port)
        )
        writer.write(
            b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n"
            b"Content-Type: application/x-protobuf\r\nContent-Length: %d\r\n\r\n%b"
            % (self._credentials.encode(), len(body), body)
        )
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                head = await reader.readuntil(b"\r\n\r\n")
                _, _, rest = head.lower().partition(b"content-length: ")
                await reader.readexactly(int(rest.partition(b"\r\n")[0]))
        finally:
            self._in_flight -= 1
        self.seconds_of.setdefault(int(head[9:12]), []).append(time.perf_counter() - begun)
        if b"connection: close" in head.lower():
            writer.close()
        else:
            self._free.append((reader, writer))


async def flood(port: int, credentials: str, rate: float) -> None:
    """Send as the flooding tenant, for as many seconds as each line of standard input says."""
    sender = Sender(port, credentials)
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        await sender.run(rate, float(line))
        counts = {status: len(seconds) for status, seconds in sender.seconds_of.items()}
        print(f"the other tenant's answers by status: {counts}", flush=True)


async def measure(options: argparse.Namespace, port: int, good: str, bad: str) -> None:
    """Alone and beside the flood in turn, so that what else the machine does hits both."""
    kinds = {"alone": Sender(port, good), "beside": Sender(port, good)}
    noise = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.fairness", "--flood", str(port), bad),
        str(options.allowed * options.times),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert noise.stdin is not None
    assert noise.stdout is not None
    await noise.stdout.readline()
    await Sender(port, good).run(GOOD_REQUESTS_PER_SECOND, 1)
    for (kind, sender), _ in zip(cycle(kinds.items()), range(2 * options.rounds), strict=False):
        if kind == "beside":
            noise.stdin.write(b"%f\n" % (options.seconds + 1))
            await asyncio.sleep(1)
        await sender.run(GOOD_REQUESTS_PER_SECOND, options.seconds)
        if kind == "beside":
            print((await noise.stdout.readline()).decode(), end="")
    noise.stdin.close()
    await noise.wait()
    tails = {}
    for kind, sender in kinds.items():
        taken = sender.seconds_of.pop(200)
        cuts = statistics.quantiles(taken, n=100)
        tails[kind] = cuts[98]
        print(
            f"good tenant {kind}: {len(taken)} requests, p50 {cuts[49] * 1e3:.1f} ms, "
            f"p99 {cuts[98] * 1e3:.1f} ms; others {sum(map(len, sender.seconds_of.values()))}"
        )
    print(
        f"p99 beside a tenant at {options.times} x / alone: {tails['beside'] / tails['alone']:.2f}"
    )


def main() -> None:
    """Start the gateway, measure, end it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--allowed", type=int, default=10)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--unlimited", action="store_true")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--flood", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve(options.serve, 0 if options.unlimited else options.allowed))
        return
    if options.flood:
        port, credentials, rate = options.flood
        uvloop.run(flood(int(port), credentials, float(rate)))
        return
    with tempfile.TemporaryDirectory(prefix="telemetryflow-fairness-") as folder:
        command = [sys.executable, "-m", "benchmarks.fairness", "--serve", str(Path(folder))]
        command += ["--allowed", str(options.allowed)]
        command += ["--unlimited"] if options.unlimited else []
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdout is not None
            port, good, bad = server.stdout.readline().split()
            uvloop.run(measure(options, int(port), good, bad))
            used = psutil.Process(server.pid).cpu_times()
            print(f"the gateway used {used.user + used.system:.1f} s of CPU")
            server.communicate(timeout=30)


if __name__ == "__main__":
    main()
