"""Accounts: how they come to be, their passwords, and what the links in mails do."""

from dataclasses import dataclass
from functools import partial
from uuid import UUID, uuid4

from control.auth.commands.kit import Kit
from control.auth.domain import Account
from control.auth.events import AccountRegistered, AccountUnlocked, RegistrationRepeated
from control.auth.repository import AuthRepositories
from shared.caller import Caller
from shared.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from shared.messaging.commands import ANYBODY, SIGNED_IN, Command, CommandHandlers, Handler
from shared.messaging.events import utc_now
from shared.postgres.scope import PLATFORM
from shared.security.opaque_tokens import digest

LINK_REFUSAL = "the link is not good any more: ask for a new mail"


@dataclass(frozen=True, kw_only=True)
class Register(Command[None]):
    """A person who comes by themselves, with an organization of their own."""

    email: str
    password: str
    first_name: str
    last_name: str
    organization_name: str


async def register(command: Register, _by: Caller, kit: Kit) -> None:
    """The same for a known address, whose owner gets a mail: nobody learns who is here."""
    if kit.settings.auth_registration != "open":
        raise Forbidden("registration is closed here: ask an administrator for an invitation")
    now = utc_now()
    email = command.email.strip().lower()
    account = Account(
        id=uuid4(),
        organization_id=uuid4(),
        email=email,
        first_name=command.first_name,
        last_name=command.last_name,
    )
    password_hash = await kit.checked_hash(command.password, account=account, former=[])
    account.password_hash = password_hash
    account.password_changed_at = now
    try:
        await _store(account, command, kit)
    except Conflict:
        # Somebody else registered with the address in this very moment: they hear nothing either.
        return


async def _store(account: Account, command: Register, kit: Kit) -> None:
    email = account.email
    async with kit.work.begin(PLATFORM) as auth:
        known = await auth.accounts.by_email(email)
        if known is not None:
            await auth.accounts.record(
                RegistrationRepeated(
                    aggregate_id=known.id, organization_id=known.organization_id, email=email
                )
            )
            return
        account.record(
            AccountRegistered(
                aggregate_id=account.id,
                organization_id=account.organization_id,
                email=email,
                first_name=command.first_name,
                last_name=command.last_name,
                organization_name=command.organization_name,
            )
        )
        account.ask_for_verification()
        await auth.accounts.save(account)
        await _remember(auth, account, kit)


@dataclass(frozen=True, kw_only=True)
class VerifyEmail(Command[None]):
    """The link in the mail was opened."""

    token: str


async def verify_email(command: VerifyEmail, _by: Caller, kit: Kit) -> None:
    """Once; Invalid for a link that is used, old or not ours."""
    async with kit.work.begin(PLATFORM) as auth:
        account, _ = await _account_of(auth, "verification", command.token)
        account.verify_email(now=utc_now())
        await auth.accounts.save(account)


@dataclass(frozen=True, kw_only=True)
class SendVerificationAgain(Command[None]):
    """Another mail to verify the address."""

    email: str


async def send_verification_again(command: SendVerificationAgain, _by: Caller, kit: Kit) -> None:
    """The same for an unknown address."""
    async with kit.work.begin(PLATFORM) as auth:
        account = await auth.accounts.by_email(command.email)
        if account is not None and await _may_get_mail(auth, account, "verification"):
            account.ask_for_verification()
            await auth.accounts.save(account)


@dataclass(frozen=True, kw_only=True)
class AskForReset(Command[None]):
    """A person forgot the password."""

    email: str


async def ask_for_reset(command: AskForReset, _by: Caller, kit: Kit) -> None:
    """The same for an unknown address."""
    async with kit.work.begin(PLATFORM) as auth:
        account = await auth.accounts.by_email(command.email)
        if account is not None and await _may_get_mail(auth, account, "reset"):
            account.ask_for_reset()
            await auth.accounts.save(account)


@dataclass(frozen=True, kw_only=True)
class ResetPassword(Command[None]):
    """Another password, by the link in the mail."""

    token: str
    password: str


async def reset_password(command: ResetPassword, _by: Caller, kit: Kit) -> None:
    """Ends all sessions and lifts lockouts; a second factor is still asked for."""
    async with kit.work.begin(PLATFORM) as auth:
        account, _ = await _account_of(auth, "reset", command.token)
        await _set_password(auth, account, command.password, kit, by_reset=True)
        # The mail reached them, which is what verification asks.
        account.verify_email(now=utc_now())
        await auth.accounts.save(account)
        await auth.sessions.end_all(account.id, "password reset")
        await auth.attempts.forget_all(account.email)


@dataclass(frozen=True, kw_only=True)
class AcceptInvitation(Command[None]):
    """A person who was invited chooses a password."""

    token: str
    password: str


async def accept_invitation(command: AcceptInvitation, _by: Caller, kit: Kit) -> None:
    """They may sign in after it; Invalid for a link that is used, old or revoked."""
    async with kit.work.begin(PLATFORM) as auth:
        account, invitation_id = await _account_of(auth, "invitation", command.token)
        if invitation_id is None:
            raise Invalid(LINK_REFUSAL, field="token")
        account.redeem_invitation(invitation_id, now=utc_now())
        await _set_password(auth, account, command.password, kit, by_reset=False)
        await auth.accounts.save(account)


@dataclass(frozen=True, kw_only=True)
class ChangePassword(Command[None]):
    """Another password, by who knows the present one."""

    current_password: str
    new_password: str


async def change_password(command: ChangePassword, by: Caller, kit: Kit) -> None:
    """Ends all other sessions."""
    async with kit.work.begin(PLATFORM) as auth:
        account = await auth.accounts.get(own_id(by))
        await require_password(account, command.current_password, kit)
        await _set_password(
            auth, account, command.new_password, kit, by_reset=False, field="newPassword"
        )
        await auth.accounts.save(account)
        await auth.sessions.end_all(account.id, "password changed", but=by.session_id)


@dataclass(frozen=True, kw_only=True)
class UnlockAccount(Command[None]):
    """Lift the lockouts of all addresses, and of the second factor."""

    user_id: UUID


async def unlock_account(command: UnlockAccount, by: Caller, kit: Kit) -> None:
    """NotFound for people of another organization."""
    async with kit.work.begin(PLATFORM) as auth:
        account = await auth.accounts.get(command.user_id)
        if not by.is_platform and account.organization_id != by.organization_id:
            raise NotFound("no such account")
        account.mfa_locked_until = None
        account.mfa_failures = 0
        account.record(
            AccountUnlocked(aggregate_id=account.id, organization_id=account.organization_id)
        )
        await auth.attempts.forget_all(account.email)
        await auth.accounts.save(account)


async def require_password(account: Account, password: str, kit: Kit) -> None:
    """Invalid, unless it is theirs."""
    if account.password_hash is None or not await kit.hasher.verify(
        password, account.password_hash
    ):
        raise Invalid("this is not your password", field="currentPassword")


async def _set_password(
    auth: AuthRepositories,
    account: Account,
    password: str,
    kit: Kit,
    *,
    by_reset: bool,
    field: str = "password",
) -> None:
    former = await auth.accounts.former_passwords(account.id, kit.settings.password_history)
    if account.password_hash is not None and account.password_hash not in former:
        former.append(account.password_hash)
    password_hash = await kit.checked_hash(password, account=account, former=former, field=field)
    account.set_password(password_hash, now=utc_now(), by_reset=by_reset)
    await _remember(auth, account, kit)


async def _remember(auth: AuthRepositories, account: Account, kit: Kit) -> None:
    if account.password_hash is not None:
        await auth.accounts.remember_password(
            account.id, account.password_hash, kit.settings.password_history
        )


async def _may_get_mail(auth: AuthRepositories, account: Account, kind: str) -> bool:
    """Whether they joined, and no such mail is on its way: nobody floods somebody else."""
    is_late = not await auth.mail_tokens.was_sent_lately(kind, account.id, now=utc_now())
    return account.password_hash is not None and is_late


async def _account_of(auth: AuthRepositories, kind: str, token: str) -> tuple[Account, UUID | None]:
    taken = await auth.mail_tokens.take(kind, digest(token))
    account = None if taken is None else await auth.accounts.find(taken[0])
    if taken is None or account is None:
        raise Invalid(LINK_REFUSAL, field="token")
    return account, taken[1]


def own_id(by: Caller) -> UUID:
    """The id of the account of who calls."""
    if by.user_id is None:
        raise Unauthenticated("sign in first")
    return by.user_id


def handlers(kit: Kit) -> CommandHandlers:
    """Who carries out what, and the permission that this needs."""
    return {
        Register: Handler(partial(register, kit=kit), ANYBODY),
        VerifyEmail: Handler(partial(verify_email, kit=kit), ANYBODY),
        SendVerificationAgain: Handler(partial(send_verification_again, kit=kit), ANYBODY),
        AskForReset: Handler(partial(ask_for_reset, kit=kit), ANYBODY),
        ResetPassword: Handler(partial(reset_password, kit=kit), ANYBODY),
        AcceptInvitation: Handler(partial(accept_invitation, kit=kit), ANYBODY),
        ChangePassword: Handler(partial(change_password, kit=kit), SIGNED_IN),
        UnlockAccount: Handler(partial(unlock_account, kit=kit), "user:write"),
    }
