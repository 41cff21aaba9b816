"""The embedded log as the port asks for it: asyncio in front, two threads behind.

One thread makes changes durable (`committer`), one reads. Other processes' appends are noticed by
asking SQLite for its change count a few dozen times a second, only while somebody waits.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from ingest.embedded_log.committer import Committer, Operation, append_operation
from ingest.embedded_log.files import LogFiles
from ingest.embedded_log.layout import OFFSET_MASK, Damaged, pack_headers
from ingest.embedded_log.limits import Limits
from ingest.embedded_log.salvage import Loss
from ingest.embedded_log.store import NewRecord, Read, Store
from ingest.log import Backlog, Committed, Headers, Record, Totals, WholeLog
from ingest.metrics import LOG_APPEND_SECONDS, LOG_DAMAGED_RECORDS
from ingest.records import rows_of
from shared.errors import Invalid, TooLarge, Unavailable

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")


class EmbeddedLog:
    """A `CountingLog` in one SQLite file, made by `EmbeddedLog.open`."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.damaged_records = 0
        self._limits = limits
        self._path = path
        self._committer = Committer(path, limits, self._changed)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="log-reader")
        self._files = LogFiles(path)
        self._store: Store | None = None
        self._wake = asyncio.Event()
        self._waiting = 0
        self._poller: asyncio.Task[None] | None = None
        self._closing = False

    @classmethod
    async def open(
        cls,
        path: Path | str,
        *,
        partitions: Mapping[str, int] | None = None,
        limits: Limits | None = None,
    ) -> "EmbeddedLog":
        """Opens the log at *path*, makes it if there is none, repairs it if it is damaged.

        *partitions* gives the number of partitions of topics that do not exist yet (default 1); an
        existing topic keeps the number it has. Raises Unavailable.
        """
        log = cls(Path(path), limits or Limits())
        try:
            await asyncio.to_thread(log._committer.open, dict(partitions or {}))
        except BaseException:
            await log.close()
            raise
        return log

    @property
    def identity(self) -> str:
        """See the port; changes when the log was repaired."""
        return self._committer.identity

    @property
    def losses(self) -> list[Loss]:
        """What this process found lost when it repaired the log."""
        return self._committer.losses

    async def append(self, topic: str, partition: int, value: bytes, headers: Headers) -> int:
        """See the port."""
        return (await self.append_many(topic, partition, [(value, headers)]))[0]

    async def append_many(
        self, topic: str, partition: int, records: Sequence[tuple[bytes, Headers]]
    ) -> list[int]:
        """See the port."""
        if not records:
            return []
        new = [self._new_record(value, headers) for value, headers in records]
        started = time.perf_counter()
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._committer.submit(append_operation((topic, partition), new, future))
        offsets = await future
        LOG_APPEND_SECONDS.observe(time.perf_counter() - started)
        return offsets

    def _new_record(self, value: bytes, headers: Headers) -> NewRecord:
        packed = pack_headers(headers)
        size = len(packed) + len(value)
        if size > self._limits.value_bytes_max:
            raise TooLarge(f"record of {size} bytes, at most {self._limits.value_bytes_max}")
        return NewRecord(packed, rows_of(headers), value)

    async def read(
        self,
        topic: str,
        partition: int,
        from_offset: int,
        *,
        records_max: int,
        bytes_max: int,
        wait_seconds: float,
    ) -> list[Record]:
        """See the port. A damaged record is also moved to the table `damaged`."""
        place = (topic, partition)
        deadline = time.monotonic() + wait_seconds
        while True:
            wake = self._wake
            found = await self._in_reader(Store.read, place, from_offset, records_max, bytes_max)
            await self._set_aside(place, found)
            from_offset = found.next_offset
            remaining = deadline - time.monotonic()
            if found.records or (remaining <= 0 and not found.damaged):
                return found.records
            if not found.damaged:
                await self._changes(wake, remaining)

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """See the port."""
        return await self._in_reader(Store.bounds, topic, partition)

    async def partitions(self, topic: str) -> int:
        """See the port; 1 for a topic that does not exist yet."""
        return max(1, await self._in_reader(Store.partitions, topic))

    async def incarnation(self, topic: str) -> str:
        """See the port: topics of this log come and go with it, and with all that is committed."""
        return topic

    async def epoch_end(self, topic: str, partition: int, epoch: int) -> int | None:  # noqa: ARG002
        """See the port: this log has one epoch, since it never uses an offset again."""
        _first, end = await self.bounds(topic, partition)
        return end

    async def join(self, group: str, topics: Sequence[str]) -> WholeLog:  # noqa: ARG002
        """See the port: one writer process writes everything."""
        return WholeLog(
            [
                (topic, partition)
                for topic in topics
                for partition in range(await self.partitions(topic))
            ]
        )

    def held_up(self, topic: str, partition: int) -> str | None:  # noqa: ARG002
        """See the port: each append finds out quickly."""
        return None

    def trouble(self) -> str | None:
        """See the port."""
        return self._committer.trouble

    async def commit(
        self, group: str, topic: str, partition: int, offset: int, metadata: str = ""
    ) -> None:
        """See the port."""
        if not 0 <= offset <= OFFSET_MASK:
            raise Invalid(f"cannot commit offset {offset}")
        place = (topic, partition)
        await self._change(lambda store: store.commit(group, place, offset, metadata))

    async def committed(self, group: str, topic: str, partition: int) -> Committed | None:
        """See the port."""
        return await self._in_reader(Store.committed, group, topic, partition)

    async def totals(self, topic: str, partition: int) -> Totals:
        """See the port."""
        return await self._in_reader(Store.totals, topic, partition)

    async def backlog(self, group: str, topic: str) -> Backlog:
        """See the port."""
        now_ms = time.time_ns() // 1_000_000
        return await self._in_reader(Store.backlog, group, topic, now_ms)

    async def bytes_used(self) -> int:
        """Bytes that records take in the file; free pages are not counted."""
        return await self._in_reader(Store.bytes_used)

    async def close(self) -> None:
        """See the port."""
        if self._closing:
            return
        self._closing = True
        self._changed()
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)
        await asyncio.to_thread(self._reader.shutdown)
        if self._store is not None:
            self._store.close()
        self._files.close()
        await asyncio.to_thread(self._committer.close)

    # --- changes -------------------------------------------------------------------------------

    async def _change(self, apply: Callable[[Store], object]) -> object:
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._committer.submit(Operation(apply, 0, future))
        return await future

    async def _set_aside(self, place: tuple[str, int], found: Read) -> None:
        for identifier in found.damaged:
            offset = identifier & OFFSET_MASK
            logger.error("Damaged record of topic %s partition %d: offset %d", *place, offset)
            now_ms = time.time_ns() // 1_000_000
            move = partial(Store.set_aside, identifier=identifier, now_ms=now_ms)
            try:
                moved = await self._change(move)
            except Unavailable as error:
                logger.warning("It cannot be set aside now, it is only left out: %s", error)
                continue
            self.damaged_records += bool(moved)
            LOG_DAMAGED_RECORDS.inc(int(bool(moved)))

    # --- reading -------------------------------------------------------------------------------

    async def _in_reader(self, read: Callable[..., _Result], *arguments: object) -> _Result:
        if self._closing:
            raise Unavailable("the log is closing")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, self._read, read, arguments)

    def _read(self, read: Callable[..., _Result], arguments: tuple[object, ...]) -> _Result:
        """Runs in the reader's thread."""
        stamp = self._files.stamp()
        try:
            return read(self._current_store(), *arguments)
        except Damaged as damage:
            self._committer.report_damage(str(damage), self._store.stamp if self._store else stamp)
            raise Unavailable(f"the log is damaged and will be repaired: {damage}") from damage
        except OSError as error:
            raise Unavailable(f"the log cannot be read: {error}") from error

    def _current_store(self) -> Store:
        if self._store is not None and self._store.current():
            return self._store
        with self._files.locked(self._limits.lock_wait_seconds):
            if self._store is not None:
                self._store.close()
                self._store = None
            self._store = Store.open(self._files)
        return self._store

    def _changed(self) -> None:
        wake, self._wake = self._wake, asyncio.Event()
        wake.set()

    async def _changes(self, wake: asyncio.Event, wait_seconds: float) -> None:
        """Waits for a change of the log by whatever process, or until the time is over."""
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll(), name="log-poll")
        self._waiting += 1
        try:
            async with asyncio.timeout(wait_seconds):
                await wake.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1

    async def _poll(self) -> None:
        """Ends when nobody waits any more."""
        last = b""
        try:
            while self._waiting or not last:
                version = await self._in_reader(Store.version)
                if version != last:
                    last = version
                    self._changed()
                await asyncio.sleep(self._limits.poll_seconds)
        except Unavailable:  # whoever waits reads again, and meets the same error
            self._changed()
        finally:
            self._poller = None
