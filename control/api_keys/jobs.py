"""What time does to keys and quotas: they come to their end, and people are told before."""

from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

from control.api_keys.events import (
    ApiKeyExpiresSoon,
    IngestionQuotaNearlyUsed,
    IngestionQuotaRefused,
    IngestionQuotaUsedUp,
)
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
SEND_QUOTA_NOTICE: Final = "api_keys.send_quota_notice"
KEYS_AT_ONCE_MAX: Final = 500
# Tiers 1 and 2 administer an organization; more than so many of them are not told.
ADMINISTRATOR_LEVEL_MAX: Final = 2
MAILS_MAX: Final = 20


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
    to = await _address_of(database, UUID(job.data["userId"]))
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


async def order_quota_notices(envelope: Envelope, connection: Connection) -> None:
    """Order a mail to each of the organization's administrators."""
    event = envelope.event
    if not isinstance(event, IngestionQuotaNearlyUsed):
        raise Invalid("not about a quota")
    people = await connection.fetch(
        """
        SELECT user_id FROM administrators WHERE organization_id = $1 AND level <= $2
         ORDER BY level, user_id LIMIT $3
        """,
        event.organization_id,
        ADMINISTRATOR_LEVEL_MAX,
        MAILS_MAX,
    )
    for person in people:
        data = {
            "userId": str(person["user_id"]),
            "kind": event.type,
            "signal": event.signal,
            "itemsUsed": event.items_used,
            "itemsMax": event.items_max,
            "graceEndsAt": f"{event.grace_ends_at:%Y-%m-%d %H:%M} UTC"
            if event.grace_ends_at
            else "",
            "key": f"{event.event_id} {person['user_id']}",
        }
        await enqueue(
            connection,
            "notification",
            SEND_QUOTA_NOTICE,
            data,
            dedupe_key=f"mail {data['key']}",
        )


async def send_quota_notice(job: Job, database: Database, mailer: Mailer, app_url: str) -> None:
    """Send it; who is gone gets none."""
    to = await _address_of(database, UUID(job.data["userId"]))
    if to is None:
        return
    values = {
        "signal": job.data["signal"],
        "used": job.data["itemsUsed"],
        "most": job.data["itemsMax"],
        "url": app_url.rstrip("/"),
        "key": job.data["key"],
    }
    if job.data["kind"] == IngestionQuotaUsedUp.__name__:
        mail = mails.quota_used_up(to, until=job.data["graceEndsAt"], **values)
    elif job.data["kind"] == IngestionQuotaRefused.__name__:
        mail = mails.quota_refused(to, **values)
    else:
        mail = mails.quota_nearly_used(to, **values)
    await mailer.send(mail)


async def _address_of(database: Database, user_id: UUID) -> str | None:
    async with database.read(PLATFORM) as connection:
        address: str | None = await connection.fetchval(
            "SELECT email FROM users WHERE id = $1 AND is_active AND deleted_at IS NULL", user_id
        )
    return address


def subscribers() -> Subscribers:
    """Who orders mails."""
    to_administrators = {"api_keys.order_quota_notices": order_quota_notices}
    return {
        ApiKeyExpiresSoon: {"api_keys.order_notice": order_notice},
        IngestionQuotaNearlyUsed: to_administrators,
        IngestionQuotaUsedUp: to_administrators,
        IngestionQuotaRefused: to_administrators,
    }


def job_handlers(database: Database, mailer: Mailer, app_url: str) -> JobHandlers:
    """Who sends them."""
    return {
        name: partial(send, database=database, mailer=mailer, app_url=app_url)
        for name, send in (
            (SEND_EXPIRY_NOTICE, send_expiry_notice),
            (SEND_QUOTA_NOTICE, send_quota_notice),
        )
    }
