"""The queues, as data."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue: what it carries, how fast, and how often it tries.

    *workers* jobs run at a time, over all processes; *rate_per_second* are begun by one process.
    After a failure the next attempt comes *backoff_seconds* later, doubled each time; after
    *attempts* of them the job is held until somebody looks at it.
    """

    name: str
    sentence: str
    priority: int
    workers: int
    rate_per_second: int
    attempts: int
    backoff_seconds: float


# pgqueuer takes the highest number first; 4 is CRITICAL and reserved.
HIGH, MEDIUM, LOW = 3, 2, 1

QUEUES: Final = {
    queue.name: queue
    for queue in (
        Queue(
            name="alert-evaluation",
            sentence="Judges alert rules.",
            priority=HIGH,
            workers=5,
            rate_per_second=100,
            attempts=3,
            backoff_seconds=2,
        ),
        Queue(
            name="aggregation",
            sentence="Sums telemetry up by the hour and the day.",
            priority=MEDIUM,
            workers=3,
            rate_per_second=50,
            attempts=3,
            backoff_seconds=5,
        ),
        Queue(
            name="cleanup",
            sentence="Deletes what nobody needs any more.",
            priority=LOW,
            workers=2,
            rate_per_second=10,
            attempts=2,
            backoff_seconds=10,
        ),
        Queue(
            name="notification",
            sentence="Sends mails and messages.",
            priority=MEDIUM,
            workers=5,
            rate_per_second=100,
            attempts=5,
            backoff_seconds=3,
        ),
    )
}
