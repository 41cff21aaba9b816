"""Our gateway in this process, with both gRPC engines and HTTP over one log: fast, and all real.

What arrived is read from the log: decoded blocks are exactly what the writer forwards.
"""

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from backports import zstd

from ingest.admission import Admission
from ingest.batcher import Batcher, BlockLimits
from ingest.codec.reference.native import Reader
from ingest.compression import compression
from ingest.directory import Directory
from ingest.embedded_log import EmbeddedLog
from ingest.gateway import Gateway
from ingest.ledger.counts import GatewayCounts
from ingest.memory_budget import MemoryBudget
from ingest.receivers.grpc import GrpcReceiver
from ingest.receivers.grpc_grpcio import GrpcioReceiver
from ingest.receivers.http import HttpReceiver
from ingest.receivers.limits import Limits
from ingest.signals import TOPIC_OF_SIGNAL, Signal
from shared.security.peppers import Peppers
from tests.contract.otlp.endpoint import HTTP, Endpoint, Item, items_of
from tests.directory_states import add_key, state_of

TENANT: Final = "acme"
LIMIT_BYTES: Final = 1 << 20
START_SECONDS_MAX: Final = 30
_LIMITS: Final = Limits(body_bytes_max=LIMIT_BYTES, connections_per_address_max=1_000)
_Result = TypeVar("_Result")


class OwnProduct:
    """A context manager; gives Arrivals and the Endpoint."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gateway")
        self._rows: dict[Signal, list[Any]] = {signal: [] for signal in Signal}
        self._read_to = dict.fromkeys(Signal, 0)
        peppers = Peppers.from_text("p" * 32)
        self._directory = Directory(peppers=peppers)
        self._directory.state = state_of(TENANT)
        key, secret = add_key(self._directory.state, peppers, TENANT)
        self.credentials = {"Authorization": f"Bearer {key.id}:{secret}"}

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Does *work* on the event loop of the gateway."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_SECONDS_MAX)

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self._start())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS_MAX)
        self._loop.close()

    async def _start(self) -> None:
        partitions = dict.fromkeys(TOPIC_OF_SIGNAL.values(), 1)
        self.log = await EmbeddedLog.open(self._folder / "log.db", partitions=partitions)
        self.gateway = Gateway(
            directory=self._directory,
            admission=Admission(key_requests_per_minute=0, unix_clock=self._directory.now),
            batcher=Batcher(
                self.log,
                lanes=1,
                limits=BlockLimits(bytes_max=8 << 20, rows_max=65_536, wait_ms=1),
                compress=compression("zstd"),
            ),
            budget=MemoryBudget(bytes_max=64 << 20),
            counts=GatewayCounts(self.log),
            request_seed=7,
        )
        arguments = (self.gateway, "127.0.0.1", 0)
        self.http = HttpReceiver(*arguments, limits=_LIMITS)
        self.ngh2 = GrpcReceiver(*arguments, limits=_LIMITS)
        self.grpcio = GrpcioReceiver(*arguments, limits=_LIMITS)
        for receiver in (self.http, self.ngh2, self.grpcio):
            await receiver.start()

    async def _stop(self) -> None:
        for receiver in (self.http, self.ngh2, self.grpcio):
            receiver.stop_accepting()
            await receiver.drain(1)
        await self.gateway.close()
        await self.log.close()
        assert self.gateway.budget.bytes_held == 0

    def endpoint(self) -> Endpoint:
        """Where to send."""
        grpc = {
            "grpc-ngh2": f"127.0.0.1:{self.ngh2.port}",
            "grpc-grpcio": f"127.0.0.1:{self.grpcio.port}",
        }
        return Endpoint(
            http=f"127.0.0.1:{self.http.port}",
            grpc=grpc,
            credentials=self.credentials,
            arrivals=self,
            limits_bytes=dict.fromkeys((*grpc, *HTTP), LIMIT_BYTES),
            is_ours=True,
        )

    def rows(self, signal: Signal) -> list[Any]:
        """Every row of the log so far. What was answered is durable: nothing is waited for."""
        self.run(self._read(signal))
        return self._rows[signal]

    def items(self, signal: Signal, service: str, count: int) -> list[Item]:
        """The items of *service*."""
        return items_of(signal, self.rows(signal), service)

    async def _read(self, signal: Signal) -> None:
        topic = TOPIC_OF_SIGNAL[signal]
        _, end = await self.log.bounds(topic, 0)
        while self._read_to[signal] < end:
            records = await self.log.read(
                topic,
                0,
                self._read_to[signal],
                records_max=10_000,
                bytes_max=64 << 20,
                wait_seconds=0,
            )
            for record in records:
                self._rows[signal] += Reader(zstd.decompress(record.value)).rows()
            self._read_to[signal] = records[-1].offset + 1
