"""A receiver of the named transport over a part of what the gateway does; prints its port.

    python -m benchmarks.capacity.receiver http|grpc|grpcio nothing|decode|reference

What is behind the receiver: nothing at all; the codec alone, whose blocks are thrown away; or the
codec's twin in plain Python. It ends when its standard input does.
"""

import asyncio
import sys
import time

import uvloop

from benchmarks.no_gateway import PRINCIPAL, NoGateway
from ingest.codec import Encoder
from ingest.codec.reference import Encoder as ReferenceEncoder
from ingest.exports import FULL_SUCCESS, Answer, Encoding, Exporter
from ingest.receivers.grpc import GrpcReceiver
from ingest.receivers.grpc_grpcio import GrpcioReceiver
from ingest.receivers.http import HttpReceiver
from ingest.receivers.limits import Limits
from ingest.signals import Signal
from shared.security.credentials import Credentials

RECEIVERS = {"http": HttpReceiver, "grpc": GrpcReceiver, "grpcio": GrpcioReceiver}
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


def exporter_of(name: str) -> Exporter:
    """What stands behind the receiver."""
    if name == "nothing":
        return NoGateway()
    return OnlyCodec(ReferenceEncoder if name == "reference" else Encoder)


async def serve(transport: str, exporter: str) -> None:
    """Serve until standard input ends."""
    receiver = RECEIVERS[transport](exporter_of(exporter), "127.0.0.1", 0, limits=Limits())
    await receiver.start()
    print(receiver.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await receiver.drain(1)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], sys.argv[2]))
