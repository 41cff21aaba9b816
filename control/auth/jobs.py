"""Mails about accounts: ordered by events, made and sent by the worker.

The link in a mail is made when the mail is sent, and only its digest is kept: neither the event nor
the job holds a secret. A mail that is sent again carries a new link, and the old one ends.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from control.auth.commands.kit import Kit
from control.auth.domain import Account
from control.auth.events import (
    AccountLocked,
    AuthLogin,
    EmailVerified,
    MfaDisabled,
    MfaEnabled,
    PasswordChanged,
    PasswordResetRequested,
    RegistrationRepeated,
    SuspiciousActivityDetected,
    VerificationRequested,
)
from control.core.events import UserInvited
from shared.email import mails
from shared.email.mailer import Mailer
from shared.email.mails import Mail
from shared.errors import Invalid, Unavailable
from shared.messaging.events import Envelope, Event, Subscriber, Subscribers, utc_now
from shared.postgres.connection import Connection
from shared.postgres.scope import PLATFORM
from shared.queue.jobs import Job, enqueue
from shared.queue.worker import JobHandlers
from shared.security.opaque_tokens import OpaqueKind, digest, new_token

SEND_ACCOUNT_MAIL: Final = "auth.send_account_mail"
VERIFICATION: Final = timedelta(hours=24)
RESET: Final = timedelta(hours=1)
INVITATION: Final = timedelta(days=7)

# The events that a mail follows.
_MAILED: Final[tuple[type[Event], ...]] = (
    VerificationRequested,
    EmailVerified,
    RegistrationRepeated,
    UserInvited,
    PasswordResetRequested,
    PasswordChanged,
    AccountLocked,
    AuthLogin,
    MfaEnabled,
    MfaDisabled,
    SuspiciousActivityDetected,
)


async def order_mail(envelope: Envelope, connection: Connection) -> None:
    """Order the mail that follows an event; what it needs to know is in the event."""
    event = envelope.event
    if isinstance(event, AuthLogin) and not event.is_new_address:
        return
    await enqueue(
        connection,
        "notification",
        SEND_ACCOUNT_MAIL,
        {
            "event": event.type,
            "eventId": str(event.event_id),
            "accountId": str(event.aggregate_id),
            "occurredAt": event.occurred_at.isoformat(),
            "payload": event.payload(),
            "ipAddress": envelope.context.get("ipAddress") or "",
            "userAgent": envelope.context.get("userAgent") or "",
        },
        dedupe_key=f"mail {event.event_id}",
    )


async def send_account_mail(job: Job, kit: Kit, mailer: Mailer) -> None:
    """Make the mail, with its link if it has one, and send it; accounts that are gone get none."""
    data = job.data
    account_id = UUID(data["accountId"])
    async with kit.work.begin(PLATFORM) as auth:
        account = await auth.accounts.find(account_id)
        if account is None:
            if data["event"] == "UserInvited" and not await auth.accounts.closed(account_id):
                raise Unavailable("the account of the invited person is still to be made")
            return
        mail = None
        if data["event"] in _LINKS:
            kind, opaque, life = _LINKS[data["event"]]
            if kind == "verification" and account.email_verified_at is not None:
                return
            if kind == "invitation" and account.password_hash is not None:
                return
            token = new_token(opaque)
            subject = data["payload"].get("invitation_id")
            await auth.mail_tokens.replace(
                kind,
                account.id,
                digest(token),
                expires_at=utc_now() + life,
                subject_id=UUID(subject) if subject else None,
            )
            mail = _mail_with_link(data, account, kit, token)
    await mailer.send(mail or _notice(data, account, kit))


_LINKS: Final = {
    "VerificationRequested": ("verification", OpaqueKind.EMAIL_VERIFICATION, VERIFICATION),
    "PasswordResetRequested": ("reset", OpaqueKind.PASSWORD_RESET, RESET),
    "UserInvited": ("invitation", OpaqueKind.INVITATION, INVITATION),
}


_SUSPICIONS: Final = {
    "refresh_token_reused": "A token of one of your sessions was used by two devices.",
    "guessing": "Many sign-ins to your account failed, from many addresses.",
}


def _mail_with_link(data: Mapping[str, Any], account: Account, kit: Kit, token: str) -> Mail:
    # The part after # never reaches a server's log.
    app_url = kit.settings.app_url.rstrip("/")
    key = f"{data['eventId']} {digest(token).hex()[:16]}"
    payload = data["payload"]
    match data["event"]:
        case "VerificationRequested":
            return mails.verification(
                account.email,
                first_name=account.first_name,
                url=f"{app_url}/verify-email#token={token}",
                hours=int(VERIFICATION.total_seconds() // 3_600),
                key=key,
            )
        case "PasswordResetRequested":
            return mails.password_reset(
                account.email,
                url=f"{app_url}/reset-password#token={token}",
                minutes=int(RESET.total_seconds() // 60),
                key=key,
            )
        case _:
            return mails.invitation(
                account.email,
                first_name=payload["first_name"],
                by=payload["invited_by"],
                organization=payload["organization_name"],
                url=f"{app_url}/accept-invitation#token={token}",
                days=INVITATION.days,
                key=key,
            )


def _notice(data: Mapping[str, Any], account: Account, kit: Kit) -> Mail:
    """A mail without a secret: the owner shall know what happened."""
    settings = kit.settings
    app_url = settings.app_url.rstrip("/")
    to, key = account.email, str(data["eventId"])
    when = f"{datetime.fromisoformat(data['occurredAt']):%Y-%m-%d %H:%M} UTC"
    address = data["ipAddress"] or "an unknown address"
    forgot = f"{app_url}/forgot-password"
    support = settings.support_email
    notices: dict[str, Callable[[], Mail]] = {
        "EmailVerified": lambda: mails.welcome(
            to, first_name=account.first_name, url=app_url, key=key
        ),
        "RegistrationRepeated": lambda: mails.already_registered(to, url=app_url, key=key),
        "PasswordChanged": lambda: mails.password_changed(
            to, when=when, address=address, url=forgot, key=key
        ),
        "AccountLocked": lambda: mails.account_locked(
            to, minutes=data["payload"]["minutes"], address=address, support=support, key=key
        ),
        "AuthLogin": lambda: mails.sign_in_from_new_address(
            to,
            when=when,
            address=address,
            agent=data["userAgent"],
            url=forgot,
            key=key,
        ),
        "MfaEnabled": lambda: mails.second_factor_changed(
            to, is_on=True, when=when, support=support, key=key
        ),
        "MfaDisabled": lambda: mails.second_factor_changed(
            to, is_on=False, when=when, support=support, key=key
        ),
        "SuspiciousActivityDetected": lambda: mails.suspicious_activity(
            to,
            what=_SUSPICIONS[data["payload"]["kind"]],
            when=when,
            url=forgot,
            key=key,
        ),
    }
    make = notices.get(data["event"])
    if make is None:
        raise Invalid(f"there is no mail about {data['event']}")
    return make()


def subscribers() -> Subscribers:
    """Who orders mails."""
    order: Subscriber = order_mail
    return {event: {"auth.order_mail": order} for event in _MAILED}


def job_handlers(kit: Kit, mailer: Mailer) -> JobHandlers:
    """Who sends them."""
    return {SEND_ACCOUNT_MAIL: partial(send_account_mail, kit=kit, mailer=mailer)}
