"""Signing in: the password, the second factor, and staying in."""

import asyncio
import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

from control.auth.commands.kit import Kit, SignedIn, mfa_context
from control.auth.domain import CROWD_MAX, Account, Refresh, judge_refresh
from control.auth.events import AccountLocked, AuthLoginFailed
from control.auth.repository import AuthRepositories, Crowd, Failures
from shared.caller import Caller
from shared.errors import Forbidden, RateLimited, TelemetryFlowError, Unauthenticated
from shared.messaging.commands import ANYBODY, Command, CommandHandlers, Handler
from shared.messaging.events import utc_now
from shared.postgres.scope import PLATFORM
from shared.security import totp
from shared.security.opaque_tokens import OpaqueKind, digest, new_token
from shared.security.tokens import TokenKind

DEVICE_TRUSTED: Final = timedelta(days=90)
# One text for an unknown address, a wrong password and a person who may not in.
REFUSAL: Final = "the e-mail address or the password is wrong"
USED_REFUSAL: Final = "sign in again: this took too long, or was done before"
WRONG_CODE: Final = "the code is wrong, or was used before"


@dataclass(frozen=True, slots=True)
class SecondFactorWanted:
    """The password was right; *temporary_token* goes with the code, within five minutes."""

    temporary_token: str


@dataclass(frozen=True, kw_only=True)
class SignIn(Command[SignedIn | SecondFactorWanted]):
    """With a password, and the token of a device that is trusted."""

    email: str
    password: str
    device_token: str | None = None


async def sign_in(command: SignIn, by: Caller, kit: Kit) -> SignedIn | SecondFactorWanted:
    """A session, or the wish for a second factor; Unauthenticated in one text and one time."""
    await kit.tokens.keep_current()
    async with kit.turns.of(command.email, by.ip_address):
        return await _sign_in(command, by, kit)


async def _sign_in(command: SignIn, by: Caller, kit: Kit) -> SignedIn | SecondFactorWanted:
    now = utc_now()
    account = await _admit(command, by, kit, now)
    if account is None or account.password_hash is None:
        await kit.hasher.verify_nobody(command.password)
        raise Unauthenticated(REFUSAL)
    known_hash = account.password_hash
    if not await kit.hasher.verify(command.password, known_hash):
        await _record_failure(kit, account, "password")
        raise Unauthenticated(REFUSAL)
    rehashed = None
    if kit.hasher.needs_rehash(known_hash):
        rehashed = await kit.hasher.hash(command.password)
    async with kit.work.begin(PLATFORM) as auth:
        account = await auth.accounts.get(account.id)
        if account.password_hash != known_hash or not await auth.accounts.may_enter(account.id):
            raise Unauthenticated(REFUSAL)
        if account.email_verified_at is None:
            raise Forbidden("confirm your e-mail address first: open the link in the mail")
        account.password_hash = rehashed or known_hash
        await auth.attempts.forget(command.email, by.ip_address)
        has_mfa = False
        if account.has_mfa:
            has_mfa = await _is_trusted(auth, account, command.device_token)
            if not has_mfa:
                await auth.accounts.save(account)
                return SecondFactorWanted(kit.tokens.issue_mfa(user_id=account.id, now=now))
            account.mfa_succeeded("trusted_device")
        return await kit.open_session(auth, account, by, has_mfa=has_mfa, now=now)


async def _admit(command: SignIn, by: Caller, kit: Kit, now: datetime) -> Account | None:
    """The account, if there is one; RateLimited, known or not, after too many attempts.

    The attempt is counted before the password is judged: of many in parallel none slips through.
    """
    async with kit.work.begin(PLATFORM) as auth:
        # Always the account first, then its attempts: two sign-ins never wait for each other.
        account = await auth.accounts.by_email(command.email)
        failures = await auth.attempts.count(
            command.email,
            by.ip_address,
            now=now,
            attempts_max=kit.settings.account_lockout_attempts,
            lockout=kit.lockout,
        )
        crowd = None
        if failures.locked_until is None:
            crowd = await auth.attempts.count_everywhere(command.email, now=now)
        if account is not None:
            if failures.is_new:
                _tell_lockout(account, kit)
            if crowd is not None and crowd.count == CROWD_MAX + 1:
                account.suspect("guessing")
            if crowd is not None and await auth.sessions.were_there(account.id, by.ip_address):
                crowd = None
            auth.events += account.release_events()
    # After the commit: the attempt counts.
    _require_open(failures, crowd, now)
    return account


def _tell_lockout(account: Account, kit: Kit) -> None:
    minutes = math.ceil(kit.settings.account_lockout_duration / 60)
    account.record(
        AccountLocked(
            aggregate_id=account.id, organization_id=account.organization_id, minutes=minutes
        )
    )


def _require_open(failures: Failures, crowd: Crowd | None, now: datetime) -> None:
    ends_at = failures.locked_until
    if ends_at is None and crowd is not None and crowd.count > CROWD_MAX:
        ends_at = crowd.ends_at
    if ends_at is not None:
        seconds = max(1.0, (ends_at - now).total_seconds())
        minutes = math.ceil(seconds / 60)
        raise RateLimited(
            f"too many sign-ins failed: wait {minutes} min, or reset the password",
            retry_after_seconds=seconds,
        )


async def _record_failure(kit: Kit, account: Account, reason: str) -> None:
    async with kit.work.begin(PLATFORM) as auth:
        await auth.accounts.record(
            AuthLoginFailed(
                aggregate_id=account.id, organization_id=account.organization_id, reason=reason
            )
        )


async def _is_trusted(auth: AuthRepositories, account: Account, token: str | None) -> bool:
    return token is not None and await auth.accounts.is_trusted(account.id, digest(token))


@dataclass(frozen=True, kw_only=True)
class GiveSecondFactor(Command[SignedIn]):
    """The code of the app, or a recovery code, after the password."""

    temporary_token: str
    code: str
    is_recovery_code: bool = False
    trust_device: bool = False


async def give_second_factor(command: GiveSecondFactor, by: Caller, kit: Kit) -> SignedIn:
    """A session; Unauthenticated for a wrong code, RateLimited after three of them."""
    now = utc_now()
    claims = await kit.tokens.read(command.temporary_token, TokenKind.MFA)
    refusal: TelemetryFlowError
    async with kit.work.begin(PLATFORM) as auth:
        account = await auth.accounts.find(UUID(claims.subject))
        if account is None or not await auth.accounts.may_enter(account.id):
            raise Unauthenticated(REFUSAL)
        if not account.knew_password_at(claims.issued_at):
            raise Unauthenticated(USED_REFUSAL)
        account.require_mfa_open(now=now)
        if await proved(
            auth, account, command.code, kit, now=now, is_recovery_code=command.is_recovery_code
        ):
            # Rolls back: a code that came with a used token was not used.
            if not await auth.accounts.use_token(claims.token_id, claims.expires_at):
                raise Unauthenticated(USED_REFUSAL)
            device_token = None
            if command.trust_device:
                device_token = new_token(OpaqueKind.TRUSTED_DEVICE)
                await auth.accounts.trust_device(
                    account.id, digest(device_token), by.user_agent[:200], now + DEVICE_TRUSTED
                )
            pair = await kit.open_session(auth, account, by, has_mfa=True, now=now)
            return SignedIn(
                pair.access_token, pair.refresh_token, pair.expires_in_seconds, device_token
            )
        account.mfa_failed(now=now)
        account.record(
            AuthLoginFailed(
                aggregate_id=account.id,
                organization_id=account.organization_id,
                reason="second factor",
            )
        )
        await auth.accounts.save(account)
        refusal = Unauthenticated(WRONG_CODE)
    # After the commit: the failure counts.
    raise refusal


async def proved(
    auth: AuthRepositories,
    account: Account,
    code: str,
    kit: Kit,
    *,
    now: datetime,
    is_recovery_code: bool,
) -> bool:
    """Whether *code* is a good second factor; it is good once."""
    if is_recovery_code:
        if account.recovery_salt is None:
            return False
        code_digest = await asyncio.to_thread(totp.digest, code, salt=account.recovery_salt)
        if not await auth.accounts.use_recovery_code(account.id, code_digest):
            return False
        account.mfa_succeeded("recovery_code")
        return True
    step = step_of(account, code, kit, now)
    if step is None:
        return False
    account.mfa_succeeded("totp", step=step)
    return True


def step_of(account: Account, code: str, kit: Kit, now: datetime) -> int | None:
    """The step that a code of the app is for; None when it is wrong or was used."""
    if account.mfa_secret is None:
        return None
    secret = kit.box.decrypt(account.mfa_secret, context=mfa_context(account.id)).decode()
    return totp.step_of(
        secret,
        code,
        now=now,
        window=kit.settings.mfa_window,
        last_step=account.mfa_last_step,
    )


@dataclass(frozen=True, kw_only=True)
class RefreshSession(Command[SignedIn]):
    """A new pair of tokens for the refresh token of the last one."""

    refresh_token: str


async def refresh_session(command: RefreshSession, _by: Caller, kit: Kit) -> SignedIn:
    """The next pair; a token that was used before ends its session (RFC 9700, 4.14)."""
    now = utc_now()
    await kit.tokens.keep_current()
    shown_digest = digest(command.refresh_token)
    async with kit.work.begin(PLATFORM) as auth:
        owner = await auth.sessions.owner_of(shown_digest)
        account = None if owner is None else await auth.accounts.find(owner)
        shown = await auth.sessions.shown(shown_digest)
        if shown is not None and account is not None:
            verdict = judge_refresh(
                used_at=shown.used_at,
                ended_at=shown.ended_at,
                expires_at=shown.expires_at,
                now=now,
            )
            may_enter = await auth.accounts.may_enter(account.id)
            if verdict in (Refresh.ROTATE, Refresh.REPEAT) and may_enter:
                expires_at = min(now + kit.refresh_life, shown.ends_at_latest)
                await auth.sessions.use(
                    shown_digest, shown.session_id, now=now, expires_at=expires_at
                )
                return await kit.pair(
                    auth, account, shown.session_id, has_mfa=shown.has_mfa, now=now
                )
            if verdict is Refresh.REUSED:
                await auth.sessions.end(shown.session_id, account.id, "refresh token reused")
                account.suspect("refresh_token_reused")
                auth.events += account.release_events()
    # After the commit: the session has ended.
    raise Unauthenticated("sign in again: this refresh token is not good any more")


def handlers(kit: Kit) -> CommandHandlers:
    """Who carries out what, and the permission that this needs."""
    return {
        SignIn: Handler(partial(sign_in, kit=kit), ANYBODY),
        GiveSecondFactor: Handler(partial(give_second_factor, kit=kit), ANYBODY),
        RefreshSession: Handler(partial(refresh_session, kit=kit), ANYBODY),
    }
