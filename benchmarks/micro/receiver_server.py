"""A receiver of the named transport over a gateway; prints its port, and at its end its blocks.

    python -m benchmarks.micro.receiver_server http|grpc|grpcio nothing|gateway

`nothing` is a gateway that does nothing; `gateway` is the real one, over a log that swallows all.
It ends when its standard input does.
"""

import asyncio
import sys
import time
from collections.abc import Sequence

import uvloop

from benchmarks.micro.receiver_client import KEY_ID, SECRET
from benchmarks.payloads import NOW_NS
from ingest.admission import Admission, MemoryBudget
from ingest.batcher import Batcher, BlockLimits
from ingest.compression import compression
from ingest.credentials import Credentials
from ingest.directory import Directory, Principal
from ingest.exports import FULL_SUCCESS, Answer, Encoding, Exporter
from ingest.gateway import Gateway
from ingest.ledger.counts import GatewayCounts
from ingest.log import Headers
from ingest.receivers.grpc import GrpcReceiver
from ingest.receivers.grpc_grpcio import GrpcioReceiver
from ingest.receivers.http import HttpReceiver
from ingest.receivers.limits import Limits
from ingest.records import rows_of
from ingest.signals import Signal
from shared.directory import new_tenant
from shared.directory.directory_pb2 import Key
from shared.security.peppers import Peppers
from shared.settings import Settings
from tests.fakes import MemoryLog

RECEIVERS = {"http": HttpReceiver, "grpc": GrpcReceiver, "grpcio": GrpcioReceiver}
PRINCIPAL = Principal("acme", 30)
PEPPERS = Peppers.from_text("a pepper of a benchmark")


class NoGateway:
    """Implements Exporter and does nothing."""

    def __init__(self) -> None:
        self.budget = MemoryBudget(bytes_max=256 << 20)

    def authenticate(self, credentials: Credentials, signal: Signal) -> Principal:  # noqa: ARG002
        return PRINCIPAL

    async def export(
        self,
        signal: Signal,  # noqa: ARG002
        credentials: Credentials,  # noqa: ARG002
        encoding: Encoding,  # noqa: ARG002
        body: bytes,  # noqa: ARG002
    ) -> Answer:
        return FULL_SUCCESS

    def ready(self) -> str | None:
        return None


class SwallowingLog(MemoryLog):
    """Takes every record and keeps none."""

    blocks = 0
    rows = 0

    async def append_many(
        self,
        topic: str,  # noqa: ARG002
        partition: int,  # noqa: ARG002
        records: Sequence[tuple[bytes, Headers]],
    ) -> list[int]:
        self.blocks += len(records)
        self.rows += sum(rows_of(headers) for _value, headers in records)
        return [-1] * len(records)


def real_gateway(log: SwallowingLog) -> Gateway:
    """A gateway as `telemetryflow ingest` makes it, which knows the key of the clients."""
    settings = Settings.from_env({})
    directory = Directory(peppers=PEPPERS)
    directory.state.put_tenant(new_tenant("acme", dict.fromkeys(map(str, Signal), 30)))
    key = Key(
        id=KEY_ID,
        tenant="acme",
        secret_hash=PEPPERS.hash(SECRET),
        pepper_id=PEPPERS.current_id,
        permissions=[f"{signal}:write" for signal in Signal],
        works_until=int(time.time()) + 86_400,
    )
    directory.state.put_key(key)
    limits = BlockLimits(
        bytes_max=settings.ingest_block_bytes_max,
        rows_max=settings.ingest_block_rows_max,
        wait_ms=settings.ingest_block_wait_ms,
    )
    return Gateway(
        directory=directory,
        # The limits of other keys do not get into a benchmark's way.
        admission=Admission(key_requests_per_minute=0, unix_clock=directory.now),
        batcher=Batcher(
            log,
            lanes=settings.ingest_lanes,
            limits=limits,
            compress=compression(settings.ingest_compression),
        ),
        budget=MemoryBudget(bytes_max=settings.ingest_memory_bytes_max),
        counts=GatewayCounts(log),
        request_seed=1,
        retry_window_seconds=settings.log_retry_window_seconds,
        # The times in the payloads are of then.
        clock_ns=lambda: NOW_NS,
    )


async def serve(transport: str, exporter: str) -> None:
    """Serve until standard input ends."""
    log = SwallowingLog()
    gateway: Exporter = real_gateway(log) if exporter == "gateway" else NoGateway()
    receiver = RECEIVERS[transport](gateway, "127.0.0.1", 0, limits=Limits())
    await receiver.start()
    print(receiver.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await receiver.drain(1)
    if isinstance(gateway, Gateway):
        await gateway.close()
    print(log.blocks, log.rows)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], sys.argv[2]))
