"""A receiver of the named transport over a part of the gateway; prints its port.

    python -m benchmarks.capacity.receiver http|grpc|grpcio nothing|decode|reference|gateway

What is behind the receiver: nothing at all; the codec alone, whose blocks are thrown away; the
codec's twin in plain Python; or the real gateway over a log that swallows all. It ends when its
standard input does.
"""

import asyncio
import sys
import time
from collections.abc import Sequence

import uvloop

from benchmarks.no_gateway import PRINCIPAL, NoGateway
from ingest.admission import MemoryBudget
from ingest.batcher import Batcher, BlockLimits
from ingest.codec import Encoder
from ingest.codec.reference import Encoder as ReferenceEncoder
from ingest.compression import compression
from ingest.credentials import Credentials
from ingest.directory import Directory, keyless_tenant
from ingest.exports import FULL_SUCCESS, Answer, Encoding, Exporter
from ingest.gateway import Gateway
from ingest.ledger.counts import GatewayCounts
from ingest.log import Headers
from ingest.receivers.grpc import GrpcReceiver
from ingest.receivers.grpc_grpcio import GrpcioReceiver
from ingest.receivers.http import HttpReceiver
from ingest.receivers.limits import Limits
from ingest.signals import Signal
from shared.security.peppers import Peppers
from shared.settings import Settings
from tests.fakes import MemoryLog

RECEIVERS = {"http": HttpReceiver, "grpc": GrpcReceiver, "grpcio": GrpcioReceiver}
PEPPERS = Peppers.from_text("a pepper of a benchmark")
# As the gateway fills its blocks under load.
ROWS_A_BLOCK = 4_000


class OnlyCodec(NoGateway):
    """Implements Exporter: decodes into blocks and throws them away."""

    def __init__(self, encoder: type[Encoder] | type[ReferenceEncoder]) -> None:
        super().__init__()
        self._encoders = {signal: encoder(signal.value, retention_days=30) for signal in Signal}

    async def export(
        self,
        signal: Signal,
        credentials: Credentials,  # noqa: ARG002
        encoding: Encoding,  # noqa: ARG002
        body: bytes,
    ) -> Answer:
        encoder = self._encoders[signal]
        encoder.append(body, tenant=PRINCIPAL.tenant_id, received_ns=time.time_ns())
        if encoder.rows >= ROWS_A_BLOCK:
            encoder.close()
        return FULL_SUCCESS


class SwallowingLog(MemoryLog):
    """Takes every record and keeps none."""

    async def append_many(
        self,
        topic: str,  # noqa: ARG002
        partition: int,  # noqa: ARG002
        records: Sequence[tuple[bytes, Headers]],
    ) -> list[int]:
        return [-1] * len(records)


def real_gateway(log: SwallowingLog) -> Gateway:
    """A gateway as `telemetryflow ingest` makes it on one machine, for clients without a key."""
    settings = Settings.from_env({})
    tenant = keyless_tenant(embedded=True, host="127.0.0.1")
    directory = Directory(peppers=PEPPERS, keyless_tenant=tenant)
    limits = BlockLimits(
        bytes_max=settings.ingest_block_bytes_max,
        rows_max=settings.ingest_block_rows_max,
        wait_ms=settings.ingest_block_wait_ms,
    )
    return Gateway(
        directory=directory,
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
    )


def exporter_of(name: str) -> Exporter:
    """What stands behind the receiver."""
    if name == "nothing":
        return NoGateway()
    if name == "gateway":
        return real_gateway(SwallowingLog())
    return OnlyCodec(ReferenceEncoder if name == "reference" else Encoder)


async def serve(transport: str, exporter: str) -> None:
    """Serve until standard input ends."""
    gateway = exporter_of(exporter)
    receiver = RECEIVERS[transport](gateway, "127.0.0.1", 0, limits=Limits())
    await receiver.start()
    print(receiver.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await receiver.drain(1)
    if isinstance(gateway, Gateway):
        await gateway.close()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], sys.argv[2]))
