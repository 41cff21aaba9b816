"""Group commit: one thread that makes everything that waits durable in one transaction.

An operation is any change of the log. Those that arrive while a transaction is under way wait for
the next one, so the load itself decides how many share the cost of reaching the disk.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ingest.embedded_log.database import WAL_BYTES_KEPT
from ingest.embedded_log.files import LogFiles
from ingest.embedded_log.layout import Damaged
from ingest.embedded_log.limits import Limits
from ingest.embedded_log.retention import delete_step
from ingest.embedded_log.salvage import Loss, salvage
from ingest.embedded_log.store import NewRecord, Store
from ingest.metrics import LOG_APPENDS_REFUSED, LOG_BYTES
from shared.errors import Invalid, Unavailable

logger = logging.getLogger(__name__)

CHECKPOINT_BYTES: Final = 16 * 2**20
_REPAIR_RETRY_SECONDS: Final = 0.25
_SIZE_STEPS_MAX: Final = 8


@dataclass(slots=True)
class Operation:
    """A change to make: *apply* runs inside a transaction, its result goes to the future.

    `bytes` is 0 for what is not an append; only appends are refused for want of room.
    """

    apply: Callable[[Store], Any]
    bytes: int
    future: "asyncio.Future[Any]"


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong, and the stamp of the generation where it was met."""

    what: str
    stamp: bytes


class Committer:
    """Owns the connection that writes, in a thread of its own, from `start` to `close`.

    *changed* is called in the event loop after each transaction.
    """

    def __init__(self, path: Path, limits: Limits, changed: Callable[[], None]) -> None:
        self.losses: list[Loss] = []
        self._path = path
        self._limits = limits
        self._changed = changed
        self._files = LogFiles(path)
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Operation] = deque()
        self._bytes_waiting = 0
        self._wake = threading.Condition()
        self._closing = False
        self._damage: Damage | None = None
        self._identity = ""
        # Why the last append was refused; None once one was made durable again.
        self.trouble: str | None = None
        self._store: Store | None = None
        self._bytes_since_checkpoint = 0
        self._maintain_at = 0.0
        self._thread = threading.Thread(target=self._run, name="log-committer", daemon=True)

    @property
    def identity(self) -> str:
        """Identity of the generation that was last open."""
        return self._identity

    def open(self, partitions: dict[str, int]) -> None:
        """Opens or makes the log, repairs it if it must, starts the thread. Blocks.

        Raises Unavailable.
        """
        try:
            self._open_or_repair(partitions)
        except (Damaged, OSError) as error:
            raise Unavailable(f"the log cannot be opened: {error}") from error
        self._thread.start()

    def _open_or_repair(self, partitions: dict[str, int]) -> None:
        try:
            self._open_topics(partitions)
        except Damaged as damage:
            self.report_damage(str(damage), self._files.stamp())
            self._repair()
            self._open_topics(partitions)

    def _open_topics(self, partitions: dict[str, int]) -> None:
        with self._files.locked(self._limits.lock_wait_seconds):
            store = self._open_store()
            with store.transaction():
                store.add_topics(partitions)

    def submit(self, operation: Operation) -> None:
        """Queues an operation, in the event loop. Raises Unavailable."""
        with self._wake:
            reason = self._refusal(operation)
            if reason:
                LOG_APPENDS_REFUSED.labels(reason).inc()
                raise Unavailable(f"the log takes nothing now: {reason}")
            self._waiting.append(operation)
            self._bytes_waiting += operation.bytes
            self._wake.notify()

    def _refusal(self, operation: Operation) -> str:
        if self._closing:
            return "closing"
        if self._damage is not None:
            return "damage"
        over = self._bytes_waiting + operation.bytes > self._limits.pending_bytes_max
        return "pending" if over and self._waiting else ""

    def report_damage(self, what: str, stamp: bytes) -> None:
        """Damage was met in the generation of *stamp*: repair it before anything else."""
        with self._wake:
            self._damage = self._damage or Damage(what, stamp)
            self._wake.notify()

    def _met(self, damage: Damaged) -> None:
        stamp = self._store.stamp if self._store else self._files.stamp()
        self.report_damage(str(damage), stamp)

    def close(self) -> None:
        """Makes what waits durable, then ends the thread and closes the file. Blocks."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()
        self._close_store()
        self._files.close()

    # --- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            batch = self._next_batch()
            if batch:
                self._make_durable(batch)
            if self._damage is not None:
                self._repair_or_wait()
            elif not batch and self._closing:
                return
            self._maintain()

    def _next_batch(self) -> list[Operation]:
        """What waits, within the limits of a batch; empty when it is time for something else."""
        with self._wake:
            if not self._waiting and not self._closing and self._damage is None:
                self._wake.wait(max(0.0, self._maintain_at - time.monotonic()))
            batch: list[Operation] = []
            size = 0
            if self._damage is not None:
                return batch
            while self._waiting and len(batch) < self._limits.batch_operations_max:
                size += self._waiting[0].bytes
                if batch and size > self._limits.batch_bytes_max:
                    break
                batch.append(self._waiting.popleft())
            self._bytes_waiting -= sum(operation.bytes for operation in batch)
            return batch

    def _make_durable(self, batch: list[Operation]) -> None:
        try:
            with self._files.locked(self._limits.lock_wait_seconds):
                store = self._current_store()
                batch = self._refuse_for_room(store, batch)
                with store.transaction():
                    results = [_result_of(operation, store) for operation in batch]
        except Damaged as damage:
            self._met(damage)
            self._refuse(batch, "damage", f"the log is damaged and will be repaired: {damage}")
        except (Unavailable, OSError) as error:
            self._refuse(batch, "unavailable", str(error))
        except Exception as error:  # a defect must not end the thread that all wait for
            logger.critical("A transaction of the log failed", exc_info=error)
            self._refuse(batch, "defect", "the log failed")
        else:
            self._answer(batch, results)
            self._checkpoint(store, sum(operation.bytes for operation in batch))

    def _refuse_for_room(self, store: Store, batch: list[Operation]) -> list[Operation]:
        """Refuses appends there is no room for; returns what may go on."""
        size = sum(operation.bytes for operation in batch)
        reason = self._want_of_room(store, size) if size else ""
        if not reason:
            return batch
        appends = [operation for operation in batch if operation.bytes]
        self._refuse(appends, reason, f"the log has no room: {reason}")
        return [operation for operation in batch if not operation.bytes]

    def _want_of_room(self, store: Store, size: int) -> str:
        if self._files.bytes_free() - size < self._limits.bytes_free_min:
            return "disk_full"
        for _ in range(_SIZE_STEPS_MAX):
            if store.bytes_used() + size <= self._limits.retention_bytes:
                return ""
            if not delete_step(store, self._limits, bytes_wanted=size):
                break
        return "size"

    def _answer(self, batch: Sequence[Operation], results: Sequence[Any]) -> None:
        if any(operation.bytes for operation in batch):
            self.trouble = None
        pairs = list(zip(batch, results, strict=True))

        def answer() -> None:
            for operation, result in pairs:
                if operation.future.done():
                    continue
                if isinstance(result, Invalid):
                    operation.future.set_exception(result)
                else:
                    operation.future.set_result(result)
            self._changed()

        self._in_loop(answer)

    def _refuse(self, batch: Sequence[Operation], reason: str, message: str) -> None:
        appends = sum(1 for each in batch if each.bytes)
        LOG_APPENDS_REFUSED.labels(reason).inc(appends)
        if appends:
            self.trouble = message

        def refuse() -> None:
            for operation in batch:
                if not operation.future.done():
                    operation.future.set_exception(Unavailable(message))

        self._in_loop(refuse)

    def _in_loop(self, call: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    def _checkpoint(self, store: Store, size: int) -> None:
        """Behind the answer, so that no append waits for it."""
        self._bytes_since_checkpoint += size
        if self._bytes_since_checkpoint < CHECKPOINT_BYTES:
            return
        self._bytes_since_checkpoint = 0
        try:
            if store.checkpoint() > WAL_BYTES_KEPT:
                # Others append all the time: only with the lock can the WAL begin at its front.
                with self._files.locked(self._limits.lock_wait_seconds):
                    store.restart_wal()
        except Unavailable as error:
            logger.warning("The log could not be checkpointed, its -wal file grows: %s", error)
        except Damaged as damage:
            self._met(damage)

    def _maintain(self) -> None:
        if time.monotonic() < self._maintain_at or self._closing:
            return
        more = False
        try:
            with self._files.locked(self._limits.lock_wait_seconds):
                store = self._current_store()
                more = delete_step(store, self._limits)
                self._files.put_aside_unused(self._files.generation())
                self._files.sync_marks()
                LOG_BYTES.set(store.bytes_used())
        except Damaged as damage:
            self._met(damage)
        except (Unavailable, OSError) as error:
            logger.warning("Retention of the log waits: %s", error)
        except Exception as error:  # as above
            logger.critical("Retention of the log failed", exc_info=error)
        self._maintain_at = time.monotonic() + (0 if more else self._limits.maintenance_seconds)

    # --- the connection ------------------------------------------------------------------------

    def _current_store(self) -> Store:
        if self._store is None or not self._store.current():
            return self._open_store()
        return self._store

    def _open_store(self) -> Store:
        self._close_store()
        self._store = Store.open(self._files)
        self._identity = self._store.identity
        return self._store

    def _close_store(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def _repair_or_wait(self) -> None:
        with self._wake:
            refused = list(self._waiting)
            self._waiting.clear()
            self._bytes_waiting = 0
        self._refuse(refused, "damage", "the log is damaged and will be repaired")
        try:
            self._repair()
        except (Unavailable, Damaged, OSError) as error:
            logger.error("The damaged log cannot be repaired yet: %s", error)
            if not self._closing:
                with self._wake:
                    self._wake.wait(_REPAIR_RETRY_SECONDS)
            else:
                self._damage = None

    def _repair(self) -> None:
        """Moves to the next generation, made by us or by another process. Blocks."""
        damage = self._damage
        self._close_store()
        with self._files.locked(self._limits.lock_wait_seconds):
            if damage is not None and damage.stamp == self._files.stamp():
                self.losses += salvage(self._files, damage.what)
            self._open_store()
            self._files.put_aside_unused(self._files.generation())
        self._damage = None


def _result_of(operation: Operation, store: Store) -> object:
    """The result, or the Invalid that an operation raises before it changes anything."""
    try:
        return operation.apply(store)
    except Invalid as refusal:
        return refusal


def append_operation(
    place: tuple[str, int],
    records: Sequence[NewRecord],
    future: "asyncio.Future[list[int]]",
) -> Operation:
    """An append of all of *records* to a (topic, partition); its result are the offsets."""
    size = sum(len(record.value) + len(record.headers) + 1 for record in records)

    def apply(store: Store) -> list[int]:
        return store.append(*place, records, time.time_ns() // 1_000_000)

    return Operation(apply, size, future)
