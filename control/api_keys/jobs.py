"""What time does to keys: they expire, and their owners are told a week before."""

from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

from control.api_keys.events import ApiKeyExpiresSoon
from control.api_keys.repository.keys import ApiKeys
from shared.email import mails
from shared.email.mailer import Mailer
from shared.errors import Invalid
from shared.messaging.events import Envelope, Subscribers
from shared.postgres.connection import Connection
from shared.postgres.database import Database, UnitOfWork
from shared.postgres.scope import PLATFORM
from shared.queue.jobs import Job, enqueue
from shared.queue.worker import JobHandlers

SEND_EXPIRY_NOTICE: Final = "api_keys.send_expiry_notice"
KEYS_AT_ONCE_MAX: Final = 500


async def look_after_keys(work: UnitOfWork[ApiKeys], *, now: datetime) -> int:
    """Mark what has expired, and have told what will; how many keys."""
    async with work.begin(PLATFORM) as keys:
        due = await keys.due(now, KEYS_AT_ONCE_MAX)
        changed = [key for key in due if key.expire(now=now) or key.notice(now=now)]
        await keys.save(changed)
    return len(changed)


async def order_notice(envelope: Envelope, connection: Connection) -> None:
    """Order the mail to who made the key."""
    event = envelope.event
    if not isinstance(event, ApiKeyExpiresSoon):
        raise Invalid("not a key that expires soon")
    if event.created_by is None:
        return
    data = {
        "userId": str(event.created_by),
        "name": event.name,
        "keyId": event.key_id,
        "expiresAt": f"{event.expires_at:%Y-%m-%d %H:%M} UTC",
        "eventId": str(event.event_id),
    }
    await enqueue(
        connection,
        "notification",
        SEND_EXPIRY_NOTICE,
        data,
        tenant_id=event.tenant_id,
        dedupe_key=f"mail {event.event_id}",
    )


async def send_expiry_notice(job: Job, database: Database, mailer: Mailer, app_url: str) -> None:
    """Send it; who is gone gets none."""
    async with database.read(PLATFORM) as connection:
        to = await connection.fetchval(
            "SELECT email FROM users WHERE id = $1 AND is_active AND deleted_at IS NULL",
            UUID(job.data["userId"]),
        )
    if to is None:
        return
    await mailer.send(
        mails.api_key_expires(
            to,
            name=job.data["name"],
            key_id=job.data["keyId"],
            when=job.data["expiresAt"],
            url=app_url.rstrip("/"),
            key=job.data["eventId"],
        )
    )


def subscribers() -> Subscribers:
    """Who orders mails."""
    return {ApiKeyExpiresSoon: {"api_keys.order_notice": order_notice}}


def job_handlers(database: Database, mailer: Mailer, app_url: str) -> JobHandlers:
    """Who sends them."""
    return {
        SEND_EXPIRY_NOTICE: partial(
            send_expiry_notice, database=database, mailer=mailer, app_url=app_url
        )
    }
