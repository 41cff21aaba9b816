"""A receiver of the named transport over a gateway that does nothing; prints its port.

    python -m benchmarks.micro.receiver_server http|grpc|grpcio

It ends when its standard input does.
"""

import asyncio
import sys

import uvloop

from ingest.admission import MemoryBudget
from ingest.credentials import Credentials
from ingest.directory import Principal
from ingest.exports import FULL_SUCCESS, Answer, Encoding
from ingest.receivers.grpc import GrpcReceiver
from ingest.receivers.grpc_grpcio import GrpcioReceiver
from ingest.receivers.http import HttpReceiver
from ingest.receivers.limits import Limits
from ingest.signals import Signal

RECEIVERS = {"http": HttpReceiver, "grpc": GrpcReceiver, "grpcio": GrpcioReceiver}
PRINCIPAL = Principal("acme", 30)


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


async def serve(name: str) -> None:
    """Serve until standard input ends."""
    receiver = RECEIVERS[name](NoGateway(), "127.0.0.1", 0, limits=Limits())
    await receiver.start()
    print(receiver.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await receiver.drain(1)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
