"""Sessions, devices and second factors of the person who calls."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

from control.auth.commands.accounts import own_id, require_password
from control.auth.commands.kit import Kit, mfa_context
from control.auth.commands.sign_in import WRONG_CODE, proved, step_of
from control.auth.domain import Account
from control.auth.events import AuthLogout, DeviceDistrusted, RecoveryCodesRenewed, SessionRevoked
from control.auth.repository import AuthRepositories
from shared.caller import Caller
from shared.errors import Forbidden, Invalid, NotFound
from shared.messaging.commands import SIGNED_IN, Command, CommandHandlers, Handler
from shared.messaging.events import utc_now
from shared.postgres.scope import PLATFORM
from shared.security import totp

SALT_BYTES: Final = 16

Act = Callable[[AuthRepositories, Account], Awaitable[list[str]]]


@dataclass(frozen=True, kw_only=True)
class SignOut(Command[None]):
    """End this session, or all."""

    everywhere: bool = False


async def sign_out(command: SignOut, by: Caller, kit: Kit) -> None:
    """The tokens of the session are refused from the next request on."""
    async with kit.work.begin(PLATFORM) as auth:
        account = await auth.accounts.get(own_id(by))
        if command.everywhere:
            await auth.sessions.end_all(account.id, "signed out everywhere")
        elif by.session_id is not None:
            await auth.sessions.end(by.session_id, account.id, "signed out")
        await auth.accounts.record(
            AuthLogout(
                aggregate_id=account.id,
                organization_id=account.organization_id,
                everywhere=command.everywhere,
            )
        )


@dataclass(frozen=True, kw_only=True)
class EndSession(Command[None]):
    """End another of one's own sessions."""

    session_id: UUID


async def end_session(command: EndSession, by: Caller, kit: Kit) -> None:
    """NotFound for anybody else's."""
    async with kit.work.begin(PLATFORM) as auth:
        account = await auth.accounts.get(own_id(by))
        if not await auth.sessions.end(command.session_id, account.id, "ended by its owner"):
            raise NotFound("no such session")
        await auth.accounts.record(
            SessionRevoked(
                aggregate_id=account.id,
                organization_id=account.organization_id,
                session_id=command.session_id,
            )
        )


@dataclass(frozen=True, kw_only=True)
class DistrustDevice(Command[None]):
    """Ask a device for the second factor again."""

    device_id: UUID


async def distrust_device(command: DistrustDevice, by: Caller, kit: Kit) -> None:
    """NotFound for anybody else's."""
    async with kit.work.begin(PLATFORM) as auth:
        account = await auth.accounts.get(own_id(by))
        if not await auth.accounts.distrust(account.id, command.device_id):
            raise NotFound("no such device")
        await auth.accounts.record(
            DeviceDistrusted(
                aggregate_id=account.id,
                organization_id=account.organization_id,
                device_id=command.device_id,
            )
        )


@dataclass(frozen=True, slots=True)
class NewSecondFactor:
    """What an authenticator app reads; shown once."""

    secret: str
    provisioning_uri: str
    qr_code: str


@dataclass(frozen=True, kw_only=True)
class SetUpSecondFactor(Command[NewSecondFactor]):
    """Make a secret for an authenticator app."""

    password: str


async def set_up_second_factor(command: SetUpSecondFactor, by: Caller, kit: Kit) -> NewSecondFactor:
    """It is asked for once `EnableSecondFactor` gave a code of it."""
    secret = totp.new_secret()
    async with kit.work.begin(PLATFORM) as auth:
        account = await auth.accounts.get(own_id(by))
        await require_password(account, command.password, kit)
        account.begin_mfa(kit.box.encrypt(secret.encode(), context=mfa_context(account.id)))
        await auth.accounts.save(account)
    uri = totp.provisioning_uri(secret, account=account.email, issuer=kit.settings.mfa_issuer)
    return NewSecondFactor(secret, uri, totp.qr_data_url(uri))


@dataclass(frozen=True, kw_only=True)
class EnableSecondFactor(Command[list[str]]):
    """The first code of the app."""

    code: str


async def enable_second_factor(command: EnableSecondFactor, by: Caller, kit: Kit) -> list[str]:
    """Recovery codes, shown once; all other sessions end, since they came without it."""
    now = utc_now()
    async with kit.work.begin(PLATFORM) as auth:
        account = await auth.accounts.get(own_id(by))
        account.require_mfa_open(now=now)
        if account.mfa_secret is None:
            raise Forbidden("set a second factor up first: POST /auth/mfa/setup")
        step = step_of(account, command.code, kit, now)
        if step is not None:
            account.enable_mfa(step, now=now)
            codes = await _new_codes(auth, account)
            await auth.accounts.save(account)
            await auth.sessions.end_all(account.id, "second factor enabled", but=by.session_id)
            return codes
        account.mfa_failed(now=now)
        await auth.accounts.save(account)
    raise Invalid(WRONG_CODE, field="code")


@dataclass(frozen=True, kw_only=True)
class DisableSecondFactor(Command[None]):
    """Ask for no second factor any more."""

    password: str
    code: str


async def disable_second_factor(command: DisableSecondFactor, by: Caller, kit: Kit) -> None:
    """Needs both factors; devices are no longer trusted."""
    await _with_both(command.password, command.code, by, kit, _disable)


async def _disable(auth: AuthRepositories, account: Account) -> list[str]:
    account.disable_mfa()
    await auth.accounts.set_recovery_codes(account.id, [])
    await auth.accounts.distrust(account.id)
    return []


@dataclass(frozen=True, kw_only=True)
class RenewRecoveryCodes(Command[list[str]]):
    """Other recovery codes; those of before are no longer good."""

    password: str
    code: str


async def renew_recovery_codes(command: RenewRecoveryCodes, by: Caller, kit: Kit) -> list[str]:
    """Ten of them, shown once."""
    return await _with_both(command.password, command.code, by, kit, _renewed_codes)


async def _renewed_codes(auth: AuthRepositories, account: Account) -> list[str]:
    await auth.accounts.record(
        RecoveryCodesRenewed(aggregate_id=account.id, organization_id=account.organization_id)
    )
    return await _new_codes(auth, account)


async def _with_both(password: str, code: str, by: Caller, kit: Kit, act: Act) -> list[str]:
    """Carry *act* out for who gave the password, and a code of the app or a recovery code."""
    now = utc_now()
    async with kit.work.begin(PLATFORM) as auth:
        account = await auth.accounts.get(own_id(by))
        account.require_mfa_open(now=now)
        await require_password(account, password, kit)
        # Codes of apps are digits alone. Who lost the app must be able to switch it off.
        is_recovery_code = not code.replace(" ", "").isdecimal()
        if await proved(auth, account, code, kit, now=now, is_recovery_code=is_recovery_code):
            done = await act(auth, account)
            await auth.accounts.save(account)
            return done
        account.mfa_failed(now=now)
        await auth.accounts.save(account)
    raise Invalid(WRONG_CODE, field="code")


async def _new_codes(auth: AuthRepositories, account: Account) -> list[str]:
    codes = totp.new_recovery_codes()
    salt = secrets.token_bytes(SALT_BYTES)
    account.recovery_salt = salt
    digests = await asyncio.to_thread(lambda: [totp.digest(code, salt=salt) for code in codes])
    await auth.accounts.set_recovery_codes(account.id, digests)
    return codes


def handlers(kit: Kit) -> CommandHandlers:
    """Who carries out what, and the permission that this needs."""
    return {
        SignOut: Handler(partial(sign_out, kit=kit), SIGNED_IN),
        EndSession: Handler(partial(end_session, kit=kit), SIGNED_IN),
        DistrustDevice: Handler(partial(distrust_device, kit=kit), SIGNED_IN),
        SetUpSecondFactor: Handler(partial(set_up_second_factor, kit=kit), SIGNED_IN),
        EnableSecondFactor: Handler(partial(enable_second_factor, kit=kit), SIGNED_IN),
        DisableSecondFactor: Handler(partial(disable_second_factor, kit=kit), SIGNED_IN),
        RenewRecoveryCodes: Handler(partial(renew_recovery_codes, kit=kit), SIGNED_IN),
    }
