"""Routes of queues, for who runs the platform."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from shared.errors import NotFound
from shared.http.call import Call
from shared.http.models import Body, Done, Page, PageQuery, View
from shared.http.routes import Routes
from shared.platform.events import note_maintenance
from shared.queue import administration
from shared.queue.administration import FailedJob, QueueView

routes = Routes("Queues", "Background jobs: what waits, what failed, pausing and trying again.")

OLDER_THAN_SECONDS_MAX = 365 * 86_400


class QueueList(View):
    """All queues."""

    data: list[QueueView]


class FailedQuery(PageQuery):
    """A page of failed jobs, the newest first."""

    SORTS: ClassVar[Sequence[str]] = ("createdAt",)


class Cleaning(Body):
    """Which jobs to delete."""

    state: Literal["waiting", "failed"]
    older_than_seconds: int = Field(0, ge=0, le=OLDER_THAN_SECONDS_MAX)


class Cleaned(View):
    """How many jobs were deleted."""

    deleted: int


@routes.get("/admin/queues", permission="queue:read", answer=QueueList)
async def list_queues(call: Call) -> QueueList:
    """List queues and how they stand."""
    async with call.read() as connection:
        return QueueList(data=await administration.list_queues(connection))


@routes.get("/admin/queues/{name}/stats", permission="queue:read", answer=QueueView)
async def get_queue_stats(call: Call) -> QueueView:
    """Get how one queue stands."""
    async with call.read() as connection:
        return (await administration.list_queues(connection, only=call.text("name")))[0]


@routes.post("/admin/queues/{name}/pause", permission="queue:write", answer=Done)
async def pause_queue(call: Call) -> Done:
    """Take no more jobs from a queue; those that run are finished."""
    async with call.write() as connection:
        await administration.pause(connection, call.text("name"), call.caller.user_id)
        await note_maintenance(connection, "queue.pause", call.text("name"))
    return Done(message="the queue is paused, on all workers within two seconds")


@routes.post("/admin/queues/{name}/resume", permission="queue:write", answer=Done)
async def resume_queue(call: Call) -> Done:
    """Take jobs from a queue again."""
    async with call.write() as connection:
        await administration.resume(connection, call.text("name"))
        await note_maintenance(connection, "queue.resume", call.text("name"))
    return Done(message="the queue goes on")


@routes.post("/admin/queues/{name}/clean", permission="queue:write", body=Cleaning, answer=Cleaned)
async def clean_queue(call: Call, body: Cleaning) -> Cleaned:
    """Delete jobs that wait, or that failed."""
    async with call.write() as connection:
        deleted = await administration.clean(
            connection, call.text("name"), body.state, body.older_than_seconds
        )
        await note_maintenance(connection, f"queue.clean {body.state}", call.text("name"))
    return Cleaned(deleted=deleted)


@routes.get(
    "/admin/queues/{name}/failed",
    permission="queue:read",
    query=FailedQuery,
    answer=Page[FailedJob],
)
async def list_failed_jobs(call: Call, query: FailedQuery) -> Page[FailedJob]:
    """List jobs that were given up."""
    async with call.read() as connection:
        return await administration.failed(connection, call.text("name"), query)


@routes.post("/admin/queues/{name}/retry/{job_number}", permission="queue:write", answer=Done)
async def retry_job(call: Call) -> Done:
    """Try a job again that was given up."""
    text = call.text("job_number")
    if not text.isdecimal() or len(text) > 18:
        raise NotFound("no such failed job")
    async with call.write() as connection:
        await administration.retry(connection, call.text("name"), int(text))
        await note_maintenance(connection, "queue.retry", f"{call.text('name')}/{text}")
    return Done(message="the job waits for a worker")
