"""Reads by offset, and where partitions begin and end.

A read is one fetch that does not wait; whoever waits for a record is woken by one look at the ends
of all awaited partitions, a few times a second. There is no position to keep and so none to lose.
"""

import asyncio
import logging
from typing import Final

from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest

from ingest.kafka_log.batches import Damaged, batches
from ingest.kafka_log.cluster import Cluster, raise_for
from ingest.kafka_log.protocol import EpochEndRequest
from ingest.log import Record
from ingest.metrics import LOG_DAMAGED_RECORDS
from shared.errors import Unavailable

# How often the ends of awaited partitions are looked at.
POLL_SECONDS: Final = 0.05
# A batch that cannot be read may have been damaged on the wire: so many more fetches before it
# counts as damaged on the disk.
VAIN_FETCHES_MAX: Final = 2
# Fetched beyond the values asked for: headers of records and batches.
_FETCH_BYTES_MIN: Final = 64 * 1024
_LATEST: Final = -1
_EARLIEST: Final = -2
_NO_REPLICA: Final = -1
_UNKNOWN_EPOCH: Final = -1

logger = logging.getLogger(__name__)

Place = tuple[str, int]


class Reader:
    """Reads partitions of one cluster."""

    def __init__(self, cluster: Cluster, *, topic_prefix: str = "") -> None:
        self._cluster = cluster
        self._prefix = topic_prefix
        self._awaited: dict[Place, list[tuple[int, asyncio.Event]]] = {}
        self._poller: asyncio.Task[None] | None = None

    async def read(
        self, place: Place, offset: int, *, records_max: int, bytes_max: int
    ) -> tuple[list[Record], int]:
        """Records at or behind *offset* as `TelemetryLog.read`, and the offset to go on at."""
        topic, partition = place[0].removeprefix(self._prefix), place[1]
        vain_fetches = 0
        while True:
            fetched, end = await self._fetch(place, offset, bytes_max)
            records: list[Record] = []
            try:
                for batch in batches(fetched):
                    if batch.next_offset <= offset:
                        continue
                    damaged = batch
                    # The end in the answer may be older than the records in it.
                    found = batch.records(topic, partition)
                    records += [one for one in found if one.offset >= offset]
                    offset = batch.next_offset
            except Damaged as error:
                if not records and vain_fetches >= VAIN_FETCHES_MAX:
                    _report_damaged(place, damaged.base_offset, damaged.next_offset, error)
                    offset = damaged.next_offset
                    vain_fetches = 0
            if records:
                return _within(records, records_max, bytes_max), offset
            if offset >= end:
                return [], offset
            if not fetched and vain_fetches >= VAIN_FETCHES_MAX:
                raise Unavailable(f"{place[0]}/{place[1]}: no records come at offset {offset}")
            vain_fetches += 1

    async def bounds(self, place: Place) -> tuple[int, int]:
        """First offset that is retained, and the one that the next record will get."""

        async def ask() -> tuple[int, int]:
            first = await self._offset_at(place, _EARLIEST)
            return first, await self._offset_at(place, _LATEST)

        return await self._cluster.patiently(ask)

    async def epoch_end(self, place: Place, epoch: int) -> int | None:
        """Where the records of *epoch* and before end; None when it is not known there."""

        async def ask() -> int | None:
            answer = await self._cluster.to_leader(
                place, EpochEndRequest(*place, epoch), lane="ends"
            )
            ((_topic, ((code, _partition, found, end),)),) = answer.topics
            raise_for(code)
            return None if found == _UNKNOWN_EPOCH or end < 0 else int(end)

        return await self._cluster.patiently(ask)

    async def wait(self, place: Place, offset: int, seconds: float) -> None:
        """Returns when there may be a record at or behind *offset*, or the time is over."""
        woken = asyncio.Event()
        waiting = (offset, woken)
        self._awaited.setdefault(place, []).append(waiting)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="kafka-ends")
        try:
            async with asyncio.timeout(seconds):
                await woken.wait()
        except TimeoutError:
            pass
        finally:
            waiters = self._awaited[place]
            waiters.remove(waiting)
            if not waiters:
                del self._awaited[place]

    async def close(self) -> None:
        """Wake up whoever waits."""
        for waiters in self._awaited.values():
            for _offset, woken in waiters:
                woken.set()
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)

    async def _fetch(self, place: Place, offset: int, bytes_max: int) -> tuple[bytes, int]:
        """Batches from the one that holds *offset*, and the end of what may be read."""
        topic, partition = place
        size = max(bytes_max, _FETCH_BYTES_MIN)
        request = FetchRequest(0, 0, size, 0, [(topic, [(partition, offset, size)])])

        async def ask() -> tuple[bytes, int] | None:
            answer = await self._cluster.to_leader(place, request, lane="fetch")
            ((_topic, ((_partition, code, end, *_more, fetched),)),) = answer.topics
            if code == OffsetOutOfRangeError.errno:
                return None
            raise_for(code)
            return fetched or b"", end

        found = await self._cluster.patiently(ask)
        if found is not None:
            return found
        first, _end = await self.bounds(place)
        if offset >= first:
            return b"", offset
        return await self._fetch(place, first, bytes_max)

    async def _offset_at(self, place: Place, time: int) -> int:
        topic, partition = place
        request = OffsetRequest(_NO_REPLICA, 0, [(topic, [(partition, time)])])
        answer = await self._cluster.to_leader(place, request, lane="ends")
        ((_topic, ((_partition, code, _time, offset),)),) = answer.topics
        raise_for(code)
        return int(offset)

    async def _poll(self) -> None:
        """Ends when nobody waits any more."""
        while self._awaited:
            try:
                for node, places in self._cluster.leaders(list(self._awaited)).items():
                    await self._wake(node, places)
            except KafkaError as error:
                logger.debug("the ends of partitions are not known now: %s", error)
                await self._cluster.refresh()
            await asyncio.sleep(POLL_SECONDS)

    async def _wake(self, node: int, places: list[Place]) -> None:
        partitions: dict[str, list[tuple[int, int]]] = {}
        for topic, partition in places:
            partitions.setdefault(topic, []).append((partition, _LATEST))
        request = OffsetRequest(_NO_REPLICA, 0, list(partitions.items()))
        answer = await self._cluster.to_broker(node, request, lane="ends")
        for topic, found in answer.topics:
            for partition, code, _time, end in found:
                for offset, woken in self._awaited.get((topic, partition), ()):
                    # An error is the reader's to find out: its next fetch meets it.
                    if code or end > offset:
                        woken.set()


def _within(records: list[Record], records_max: int, bytes_max: int) -> list[Record]:
    """The first of *records* up to the limits, at least one."""
    size = 0
    for count, record in enumerate(records[:records_max]):
        size += len(record.value)
        if count and size > bytes_max:
            return records[:count]
    return records[:records_max]


def _report_damaged(place: Place, first: int, end: int, error: Damaged) -> None:
    logger.error(
        "%s/%d: the records from offset %d to %d are damaged and are left out: %s",
        *(*place, first, end - 1, error),
    )
    LOG_DAMAGED_RECORDS.inc(end - first)
