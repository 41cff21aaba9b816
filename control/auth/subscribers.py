"""How auth keeps in step with the people of core."""

from collections.abc import Mapping

from control.auth.domain import Account
from control.auth.repository import AuthRepositories
from control.core.events import (
    InvitationRevoked,
    UserDeleted,
    UserInvited,
    UserPurged,
    UserRestored,
    UserStatusChanged,
    UserUpdated,
)
from shared.errors import Invalid
from shared.messaging.events import Envelope, Event, Subscriber, Subscribers
from shared.postgres.connection import Connection
from shared.postgres.outbox import append_to_outbox


async def make_account(envelope: Envelope, connection: Connection) -> None:
    """Who is invited has an account without a password; repeating an invitation changes nothing."""
    event = envelope.event
    if not isinstance(event, UserInvited) or event.organization_id is None:
        raise Invalid("not an invitation")
    auth = AuthRepositories(connection)
    if await auth.accounts.find(event.aggregate_id) is None:
        account = Account(
            id=event.aggregate_id,
            organization_id=event.organization_id,
            email=event.email,
            first_name=event.first_name,
        )
        await auth.accounts.save(account)
    await append_to_outbox(connection, auth.events)


async def move_account(envelope: Envelope, connection: Connection) -> None:
    """Their address changed: they sign in with the new one, once it is verified.

    Links in mails to the old address are no longer good: they would prove the new one.
    """
    event = envelope.event
    if not isinstance(event, UserUpdated) or "email" not in event.changed:
        return
    auth = AuthRepositories(connection)
    account = await auth.accounts.find(event.aggregate_id)
    if account is not None and account.email != event.email:
        account.move_to(event.email)
        await auth.accounts.save(account)
        await auth.mail_tokens.drop(account.id, "verification", "reset", "invitation")
    await append_to_outbox(connection, auth.events)


async def end_sessions(envelope: Envelope, connection: Connection) -> None:
    """Who was deactivated stays out also when they are let in again: they sign in anew."""
    event = envelope.event
    if isinstance(event, UserStatusChanged) and not event.is_active:
        await AuthRepositories(connection).sessions.end_all(event.aggregate_id, "deactivated")


async def close_account(envelope: Envelope, connection: Connection) -> None:
    """Who was deleted cannot sign in, and their address is free."""
    event = envelope.event
    auth = AuthRepositories(connection)
    account = await auth.accounts.find(event.aggregate_id)
    if account is not None:
        account.closed_at = event.occurred_at
        await auth.accounts.save(account)
        await auth.sessions.end_all(account.id, "deleted")


async def open_account(envelope: Envelope, connection: Connection) -> None:
    """Who was restored signs in with the password that they had."""
    auth = AuthRepositories(connection)
    account = await auth.accounts.closed(envelope.event.aggregate_id)
    if account is not None:
        account.closed_at = None
        await auth.accounts.save(account)


async def remove_account(envelope: Envelope, connection: Connection) -> None:
    """Who was purged leaves nothing behind."""
    await AuthRepositories(connection).accounts.remove(envelope.event.aggregate_id)


async def drop_link(envelope: Envelope, connection: Connection) -> None:
    """The link of a revoked invitation is no longer good."""
    event = envelope.event
    if not isinstance(event, InvitationRevoked):
        raise Invalid("not a revoked invitation")
    await AuthRepositories(connection).mail_tokens.drop(event.user_id, "invitation")


def subscribers() -> Subscribers:
    """Who listens to what; the names are kept with each event, and never change."""
    table: dict[type[Event], Mapping[str, Subscriber]] = {
        UserInvited: {"auth.make_account": make_account},
        UserUpdated: {"auth.move_account": move_account},
        UserStatusChanged: {"auth.end_sessions": end_sessions},
        UserDeleted: {"auth.close_account": close_account},
        UserRestored: {"auth.open_account": open_account},
        UserPurged: {"auth.remove_account": remove_account},
        InvitationRevoked: {"auth.drop_link": drop_link},
    }
    return table
