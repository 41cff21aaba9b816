"""Appends to partitions: acks=all, idempotent, in order, with an end in time.

One queue and one producer id per partition. What is queued when the batch before was acknowledged
makes the next batch, so small appends share one. Only one batch of a partition is under way: it is
sent again, unchanged, until a broker has taken it, however often leaders move. A batch that a
broker refuses for good leaves a gap in the sequence, and every later one would be refused with it
(aiokafka issue 1017): then the partition goes on under a new producer id, and whoever waited is
told that the outcome is unknown.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiokafka.errors import (
    DuplicateSequenceNumber,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from ingest.kafka_log.cluster import (
    REQUEST_SECONDS_MAX,
    RETRY_SECONDS,
    Cluster,
    explained,
    raise_for,
)
from ingest.log import Headers
from ingest.metrics import LOG_APPENDS_REFUSED
from shared.errors import TelemetryFlowError, TooLarge, Unavailable
from shared.faults import crash_point

# A partition whose batch is under way for longer is refused at once: clients hear it early, and
# nothing piles up behind a cluster that is down.
STALLED_SECONDS: Final = 2.0
# What may wait behind the batch under way, per partition.
QUEUED_BYTES_MAX: Final = 64 * 1024 * 1024
# Of the largest batch that the topic takes, so much is used: the broker counts its own overhead.
BATCH_SHARE: Final = 0.98
# Stands for the offset of a batch that was appended by an earlier try which nobody remembers.
UNKNOWN_OFFSET: Final = -1
_ACKS_ALL: Final = -1
_NO_TRANSACTION_TIMEOUT_MS: Final = 2**31 - 1

logger = logging.getLogger(__name__)

NewRecord = tuple[bytes, Headers]


@dataclass(slots=True)
class _Append:
    records: Sequence[NewRecord]
    size: int
    offsets: asyncio.Future[list[int]]


@dataclass(frozen=True, slots=True)
class _ProducerId:
    id: int
    epoch: int


class PartitionProducer:
    """The appends of one partition."""

    def __init__(self, cluster: Cluster, topic: str, partition: int, batch_bytes_max: int) -> None:
        self._cluster = cluster
        self._place = (topic, partition)
        self._bytes_max = int(batch_bytes_max * BATCH_SHARE)
        self._queue: deque[_Append] = deque()
        self._queued_bytes = 0
        self._under_way_since: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._producer: _ProducerId | None = None
        self._sequence = 0
        self._closing = False
        self.trouble: str | None = None

    async def append(self, records: Sequence[NewRecord]) -> list[int]:
        """Offsets of *records*, durable on all replicas in sync; in one batch if they fit one.

        Raises TooLarge when one record alone does not, Unavailable when they cannot be appended
        now, or when nobody knows whether they were.
        """
        sizes = [_size_bound(value, headers) for value, headers in records]
        if max(sizes) > self._bytes_max:
            raise TooLarge(f"record of {max(sizes)} bytes; the topic takes {self._bytes_max}")
        if sum(sizes) <= self._bytes_max:
            return await self._append(records, sum(sizes))
        offsets = []
        for record, size in zip(records, sizes, strict=True):
            offsets += await self._append([record], size)
        return offsets

    async def _append(self, records: Sequence[NewRecord], size: int) -> list[int]:
        self._refuse_if_stalled(size)
        offsets: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._queue.append(_Append(records, size, offsets))
        self._queued_bytes += size
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="kafka-producer")
        return await asyncio.shield(offsets)

    async def close(self, seconds_max: float) -> None:
        """Refuse what comes; give what is under way so many seconds."""
        self._closing = True
        if self._task is None:
            return
        await asyncio.wait((self._task,), timeout=seconds_max)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._fail_queued(
            Unavailable("the log was closed; whether the records are in it is unknown")
        )

    def _refuse_if_stalled(self, size: int) -> None:
        if self._closing:
            reason, text = "closing", "the log is closing"
        elif held_up := self.held_up():
            reason, text = "unavailable", held_up
        elif self._queue and self._queued_bytes + size > QUEUED_BYTES_MAX:
            reason, text = "pending", "too much waits for Kafka"
        else:
            return
        LOG_APPENDS_REFUSED.labels(reason).inc()
        raise Unavailable(text)

    def held_up(self) -> str | None:
        """Why nothing more is taken, while a batch has been under way for too long."""
        since = self._under_way_since
        if since is None or time.monotonic() - since < STALLED_SECONDS:
            return None
        return f"Kafka does not take records: {self.trouble or 'a batch is not acknowledged'}"

    async def _run(self) -> None:
        """Send what is queued, batch by batch; ends when nothing is."""
        try:
            while self._queue:
                self._under_way_since = time.monotonic()
                appends = self._next_appends()
                await self._deliver(appends)
        finally:
            self._under_way_since = None

    def _next_appends(self) -> list[_Append]:
        taken: list[_Append] = []
        size = 0
        while self._queue and (not taken or size + self._queue[0].size <= self._bytes_max):
            append = self._queue.popleft()
            size += append.size
            taken.append(append)
        self._queued_bytes -= size
        return taken

    async def _deliver(self, appends: list[_Append]) -> None:
        """One batch, until it is acknowledged or refused for good."""
        try:
            base = await self._produce([record for append in appends for record in append.records])
        except KafkaError as error:
            self._producer = None
            self.trouble = explained(error)
            logger.error("%s/%d refused a batch: %s", *self._place, self.trouble)
            LOG_APPENDS_REFUSED.labels("unavailable").inc(len(appends))
            _fail(appends, _refusal(error))
            return
        except asyncio.CancelledError:
            _fail(appends, Unavailable("the log was closed; whether it has the records is unknown"))
            raise
        self.trouble = None
        for append in appends:
            count = len(append.records)
            known = base != UNKNOWN_OFFSET
            offsets = list(range(base, base + count)) if known else [UNKNOWN_OFFSET] * count
            if not append.offsets.done():
                append.offsets.set_result(offsets)
            base += count if known else 0

    async def _produce(self, records: Sequence[NewRecord]) -> int:
        """The offset of the first record. Raises the KafkaError that does not pass by itself."""
        batch: bytes | None = None
        while True:
            try:
                if batch is None:
                    batch = await self._built(records)
                base = await self._send(batch)
                self._sequence += len(records)
                return base
            except KafkaError as error:
                if not error.retriable:
                    raise
                self.trouble = explained(error)
                await self._cluster.refresh()
            await asyncio.sleep(RETRY_SECONDS)

    async def _built(self, records: Sequence[NewRecord]) -> bytes:
        if self._producer is None:
            self._producer = await self._new_producer()
            self._sequence = 0
        now_ms = time.time_ns() // 1_000_000
        builder = DefaultRecordBatchBuilder(
            2, 0, 0, self._producer.id, self._producer.epoch, self._sequence, 2**30
        )
        for number, (value, headers) in enumerate(records):
            builder.append(number, now_ms, None, value, list(headers))
        return bytes(builder.build())

    async def _new_producer(self) -> _ProducerId:
        answer = await self._cluster.to_any(InitProducerIdRequest(None, _NO_TRANSACTION_TIMEOUT_MS))
        raise_for(answer.error_code)
        return _ProducerId(answer.producer_id, answer.producer_epoch)

    async def _send(self, batch: bytes) -> int:
        topic, partition = self._place
        request = ProduceRequest(
            None, _ACKS_ALL, int(REQUEST_SECONDS_MAX * 1000), [(topic, [(partition, batch)])]
        )
        crash_point("log.before_commit")
        answer = await self._cluster.to_leader(self._place, request, lane=("produce", self._place))
        ((_topic, ((_partition, code, base, *_rest),)),) = answer.topics
        if code == DuplicateSequenceNumber.errno:
            # It is in the log, but further back than the broker remembers: only that is known.
            return UNKNOWN_OFFSET
        raise_for(code, f"{topic}/{partition}")
        crash_point("log.after_commit")
        return int(base)

    def _fail_queued(self, error: Unavailable) -> None:
        _fail(list(self._queue), error)
        self._queue.clear()
        self._queued_bytes = 0


def _fail(appends: Sequence[_Append], error: TelemetryFlowError) -> None:
    for append in appends:
        if not append.offsets.done():
            append.offsets.set_exception(error)


def _refusal(error: KafkaError) -> TelemetryFlowError:
    if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError):
        return TooLarge(f"{explained(error)}; max.message.bytes of the topic was lowered")
    return Unavailable(f"{explained(error)}; send the request again")


def _size_bound(value: bytes, headers: Headers) -> int:
    """At most so many bytes of a batch; at least what the broker counts."""
    # 21: length, attributes, times and offset; 10: two lengths; 5: count of headers.
    return 36 + len(value) + sum(10 + 4 * len(name) + len(text) for name, text in headers)
