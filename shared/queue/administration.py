"""What administrators see of queues, and do with them."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from shared.errors import NotFound
from shared.http.models import Page, PageMeta, PageQuery, View
from shared.postgres.connection import Connection
from shared.queue.jobs import decoded
from shared.queue.queues import QUEUES


class QueueView(View):
    """A queue and how it stands."""

    queue_name: str = Field(examples=["notification"])
    description: str
    workers: int
    rate_per_second: int
    attempts: int
    backoff_seconds: float
    is_paused: bool
    waiting: int
    active: int
    delayed: int
    failed: int = Field(description="held until somebody retries or cleans them")
    completed: int = Field(description="within the last hour")
    total: int


class FailedJob(View):
    """A job that was given up."""

    id: int
    name: str
    data: dict[str, object]
    created_at: datetime
    attempts: int
    error: str | None


async def list_queues(connection: Connection, only: str | None = None) -> list[QueueView]:
    """All queues, or one; NotFound for an unknown one."""
    if only is not None and only not in QUEUES:
        raise NotFound("no such queue")
    rows = await connection.fetch(
        """
        SELECT entrypoint,
               count(*) FILTER (WHERE status = 'queued' AND execute_after <= now()) AS waiting,
               count(*) FILTER (WHERE status = 'queued' AND execute_after > now()) AS delayed,
               count(*) FILTER (WHERE status = 'picked') AS active,
               count(*) FILTER (WHERE status = 'failed') AS failed
          FROM pgqueuer GROUP BY entrypoint
        """
    )
    counts = {row["entrypoint"]: row for row in rows}
    done = {
        row["entrypoint"]: row["completed"]
        for row in await connection.fetch(
            """
            SELECT entrypoint, count(*) AS completed FROM pgqueuer_log
             WHERE status = 'successful' AND created > now() - interval '1 hour'
             GROUP BY entrypoint
            """
        )
    }
    paused = {row["queue"] for row in await connection.fetch("SELECT queue FROM queue_pauses")}
    found = []
    for queue in QUEUES.values():
        if only is not None and queue.name != only:
            continue
        states = ("waiting", "active", "delayed", "failed")
        count = {
            state: counts[queue.name][state] if queue.name in counts else 0 for state in states
        }
        found.append(
            QueueView(
                queue_name=queue.name,
                description=queue.sentence,
                workers=queue.workers,
                rate_per_second=queue.rate_per_second,
                attempts=queue.attempts,
                backoff_seconds=queue.backoff_seconds,
                is_paused=queue.name in paused,
                completed=done.get(queue.name, 0),
                total=sum(count.values()),
                **count,
            )
        )
    return found


async def pause(connection: Connection, queue: str, by: UUID | None) -> None:
    """Take no more jobs from a queue; those that run are finished."""
    _require(queue)
    await connection.execute(
        "INSERT INTO queue_pauses (queue, paused_by) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        queue,
        by,
    )


async def resume(connection: Connection, queue: str) -> None:
    """Take jobs again."""
    _require(queue)
    await connection.execute("DELETE FROM queue_pauses WHERE queue = $1", queue)


async def clean(
    connection: Connection, queue: str, state: Literal["waiting", "failed"], older_than: int
) -> int:
    """Delete jobs that are older than so many seconds; how many."""
    _require(queue)
    status = await connection.execute(
        """
        DELETE FROM pgqueuer WHERE entrypoint = $1 AND status = $2::text::pgqueuer_status
           AND created < now() - $3 * interval '1 second'
        """,
        queue,
        "queued" if state == "waiting" else "failed",
        older_than,
    )
    return int(status.split()[-1])


async def failed(connection: Connection, queue: str, query: PageQuery) -> Page[FailedJob]:
    """Jobs that were given up, the newest first."""
    _require(queue)
    rows = await connection.fetch(
        """
        SELECT id, payload, created, attempts, count(*) OVER () AS total,
               (SELECT traceback ->> 'exception_message' FROM pgqueuer_log
                 WHERE job_id = pgqueuer.id AND traceback IS NOT NULL
                 ORDER BY created DESC LIMIT 1) AS error
          FROM pgqueuer WHERE entrypoint = $1 AND status = 'failed'
         ORDER BY id DESC LIMIT $2 OFFSET $3
        """,
        queue,
        query.limit,
        query.offset,
    )
    jobs = []
    for row in rows:
        job = decoded(row["id"], queue, row["payload"], row["attempts"])
        jobs.append(
            FailedJob(
                id=job.id,
                name=job.name,
                data=job.data,
                created_at=row["created"],
                attempts=job.attempt,
                error=row["error"],
            )
        )
    total = rows[0]["total"] if rows else 0
    meta = PageMeta(
        page=query.page, limit=query.limit, total=total, total_pages=-(-total // query.limit)
    )
    return Page[FailedJob](data=jobs, meta=meta)


async def retry(connection: Connection, queue: str, job_id: int) -> None:
    """Try a job again that was given up; NotFound when there is no such."""
    _require(queue)
    status = await connection.execute(
        """
        UPDATE pgqueuer SET status = 'queued', attempts = 0, execute_after = now(), updated = now()
         WHERE id = $1 AND entrypoint = $2 AND status = 'failed'
        """,
        job_id,
        queue,
    )
    if status != "UPDATE 1":
        raise NotFound("no such failed job")


def _require(queue: str) -> None:
    if queue not in QUEUES:
        raise NotFound("no such queue")
