"""Ordering a job within the transaction that wants it."""

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson
from opentelemetry.propagate import inject

from shared.errors import Invalid
from shared.postgres.connection import Connection
from shared.queue.queues import QUEUES

PAYLOAD_BYTES_MAX: Final = 65_536


@dataclass(frozen=True, slots=True)
class Job:
    """What a handler gets, maybe twice: it must bear that. *attempt* counts from 1."""

    id: int
    queue: str
    name: str
    data: dict[str, Any]
    tenant_id: UUID | None
    attempt: int
    trace: dict[str, str]


async def enqueue(
    connection: Connection,
    queue: str,
    name: str,
    data: dict[str, Any],
    *,
    tenant_id: UUID | None = None,
    dedupe_key: str | None = None,
    delay_seconds: float = 0.0,
) -> int | None:
    """Order the job *name*; its id, or None when one with the same key waits or runs already.

    It exists when the transaction of *connection* commits. *data* holds no secrets.
    """
    trace: dict[str, str] = {}
    inject(trace)
    payload = orjson.dumps(
        {"name": name, "data": data, "tenantId": tenant_id, "trace": trace},
    )
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise Invalid(f"the data of a job is larger than {PAYLOAD_BYTES_MAX} bytes")
    job_id: int | None = await connection.fetchval(
        """
        WITH made AS (
          INSERT INTO pgqueuer (priority, entrypoint, payload, execute_after, dedupe_key, status)
          VALUES ($1, $2, $3, now() + $4 * interval '1 second', $5, 'queued')
          ON CONFLICT (dedupe_key) WHERE status IN ('queued', 'picked') AND dedupe_key IS NOT NULL
          DO NOTHING
          RETURNING id, entrypoint, priority)
        INSERT INTO pgqueuer_log (job_id, status, entrypoint, priority)
        SELECT id, 'queued', entrypoint, priority FROM made RETURNING job_id
        """,
        QUEUES[queue].priority,
        queue,
        payload,
        delay_seconds,
        dedupe_key,
    )
    return job_id


def decoded(job_id: int, queue: str, payload: bytes | None, attempts: int) -> Job:
    """The job as it was ordered; Invalid when it was not ordered by `enqueue`."""
    try:
        document = orjson.loads(payload or b"")
        tenant_id = document["tenantId"]
        return Job(
            id=job_id,
            queue=queue,
            name=document["name"],
            data=document["data"],
            tenant_id=UUID(tenant_id) if tenant_id else None,
            attempt=attempts + 1,
            trace=document["trace"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid("the payload of the job cannot be read") from error
