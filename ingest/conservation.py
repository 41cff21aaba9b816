"""Nothing is lost: rows appended = stored + dead-lettered + repeated + in flight, while running.

All numbers come from the log: what was appended, what the writer has not passed yet, and what the
writer noted with its commits. They survive restarts and crashes, like the data.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from ingest import metrics
from ingest.log import CountingLog, TelemetryLog
from ingest.partition_writer import WRITER_GROUP
from ingest.plans import Progress, from_metadata
from ingest.signals import TOPIC_OF_SIGNAL
from shared.errors import TelemetryFlowError

CHECK_SECONDS: Final = 5.0
_TRIES_MAX: Final = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Balance:
    """The rows of one topic."""

    appended: int
    stored: int
    dead: int
    repeated: int
    in_flight: int
    age_seconds: float

    @property
    def difference(self) -> int:
        """Rows that are nowhere, or (negative) twice."""
        return self.appended - self.stored - self.dead - self.repeated - self.in_flight


async def balance(log: CountingLog, topic: str) -> Balance | None:
    """The balance of *topic*; None when it changed too fast to be read at one moment."""
    for _try in range(_TRIES_MAX):
        before = await _state(log, topic)
        backlog = await log.backlog(WRITER_GROUP, topic)
        if before == await _state(log, topic):
            appended, progress = before
            return Balance(
                appended=appended,
                stored=sum(one.stored for _offset, one in progress),
                dead=sum(one.dead for _offset, one in progress),
                repeated=sum(one.repeated for _offset, one in progress),
                in_flight=backlog.rows or 0,
                age_seconds=backlog.age_seconds,
            )
    return None


async def watch_log(log: TelemetryLog) -> None:
    """Keep the metrics of the backlog, and of the balance if the log counts, until cancelled."""
    if isinstance(log, CountingLog):
        await _watch_balance(log)
    while True:
        for topic in TOPIC_OF_SIGNAL.values():
            try:
                found = await log.backlog(WRITER_GROUP, topic)
            except TelemetryFlowError as error:
                logger.warning("the backlog of %s is not known now: %s", topic, error)
            else:
                metrics.BACKLOG_RECORDS.labels(topic).set(found.records)
                metrics.BACKLOG_AGE_SECONDS.labels(topic).set(found.age_seconds)
        await asyncio.sleep(CHECK_SECONDS)


async def _watch_balance(log: CountingLog) -> None:
    while True:
        for topic in TOPIC_OF_SIGNAL.values():
            try:
                found = await balance(log, topic)
            except TelemetryFlowError as error:
                logger.warning("the rows of %s cannot be counted now: %s", topic, error)
            else:
                if found is not None:
                    _show(topic, found)
        await asyncio.sleep(CHECK_SECONDS)


async def _state(log: CountingLog, topic: str) -> tuple[int, list[tuple[int, Progress]]]:
    appended = 0
    progress = []
    for partition in range(await log.partitions(topic)):
        appended += (await log.totals(topic, partition)).rows
        committed = await log.committed(WRITER_GROUP, topic, partition)
        if committed is not None:
            noted = from_metadata(committed.offset, committed.metadata)
            progress.append((committed.offset, noted.progress))
    return appended, progress


def _show(topic: str, found: Balance) -> None:
    metrics.ROWS_APPENDED.labels(topic).set(found.appended)
    metrics.ROWS_STORED.labels(topic).set(found.stored)
    metrics.ROWS_DEAD_LETTERED.labels(topic).set(found.dead)
    metrics.ROWS_REPEATED.labels(topic).set(found.repeated)
    metrics.ROWS_IN_FLIGHT.labels(topic).set(found.in_flight)
    metrics.BACKLOG_AGE_SECONDS.labels(topic).set(found.age_seconds)
    metrics.CONSERVATION_DIFFERENCE.labels(topic).set(found.difference)
