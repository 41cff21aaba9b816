"""Routes of one's own account: password, second factor, sessions, devices."""

from uuid import UUID

from pydantic import Field

from control.auth import queries
from control.auth.api.sign_in import PASSWORD_CHARACTERS_MAX
from control.auth.commands import accounts, sessions
from control.auth.queries import DeviceView, PasswordStatus, SessionView
from shared.caller import EVERYTHING
from shared.http.call import Call
from shared.http.models import Body, Done, Query, Text, View
from shared.http.routes import Routes
from shared.messaging.commands import SIGNED_IN

routes = Routes("Account", "Your own password, second factor, sessions and devices.")


class Me(View):
    """Who you are at this moment, and what you may do in this tenant."""

    user_id: UUID
    email: str
    organization_id: UUID
    workspace_id: UUID | None
    tenant_id: UUID | None = Field(description="choose another with the header X-Tenant-Id")
    session_id: UUID
    tier: int = Field(description="1 is the strongest, 5 the weakest")
    permissions: list[str] = Field(description='"*:*" allows everything')
    mfa_verified: bool
    must_change_password: bool


class LogoutQuery(Query):
    """How far to sign out."""

    everywhere: bool = False


class PasswordChange(Body):
    """The present password and the next."""

    current_password: str = Field(max_length=PASSWORD_CHARACTERS_MAX)
    new_password: str = Field(
        max_length=PASSWORD_CHARACTERS_MAX, examples=["correct-Horse-7-battery"]
    )


class Password(Body):
    """That it is really you."""

    password: str = Field(max_length=PASSWORD_CHARACTERS_MAX)


class Code(Body):
    """A code of the app."""

    code: Text = Field(max_length=64, examples=["123456"])


class PasswordAndCode(Body):
    """Both factors."""

    password: str = Field(max_length=PASSWORD_CHARACTERS_MAX)
    code: Text = Field(max_length=64, examples=["123456"])


class MfaSetup(View):
    """What an authenticator app reads; shown once."""

    secret: str
    provisioning_uri: str
    qr_code: str = Field(description="an SVG image as a data URL")


class RecoveryCodes(View):
    """Each spares the app once; shown once."""

    recovery_codes: list[str]


class SessionList(View):
    """Where you are signed in."""

    data: list[SessionView]


class DeviceList(View):
    """Devices that need not show a second factor."""

    data: list[DeviceView]


@routes.get("/auth/me", permission=SIGNED_IN, answer=Me, is_open_to_unsettled=True)
async def get_me(call: Call) -> Me:
    """Get who you are, and what you may do."""
    caller = call.caller
    permissions = [EVERYTHING] if caller.is_platform else sorted(caller.permissions)
    return Me.model_validate(
        {
            "userId": call.own_id,
            "email": caller.email,
            "organizationId": caller.organization_id,
            "workspaceId": caller.workspace_id,
            "tenantId": caller.tenant_id,
            "sessionId": caller.session_id,
            "tier": caller.tier,
            "permissions": permissions,
            "mfaVerified": caller.has_mfa,
            "mustChangePassword": bool(caller.unsettled),
        }
    )


@routes.post(
    "/auth/logout",
    permission=SIGNED_IN,
    query=LogoutQuery,
    status=204,
    is_open_to_unsettled=True,
)
async def logout(call: Call, query: LogoutQuery) -> None:
    """Sign out here, or everywhere."""
    await call.execute(sessions.SignOut(everywhere=query.everywhere))


@routes.post(
    "/auth/change-password",
    permission=SIGNED_IN,
    body=PasswordChange,
    answer=Done,
    is_open_to_unsettled=True,
    is_sign_in=True,
)
async def change_password(call: Call, body: PasswordChange) -> Done:
    """Choose another password; ends your other sessions."""
    await call.execute(accounts.ChangePassword(**dict(body)))
    return Done(message="the password is changed")


@routes.get(
    "/auth/password/status",
    permission=SIGNED_IN,
    answer=PasswordStatus,
    is_open_to_unsettled=True,
)
async def get_password_status(call: Call) -> PasswordStatus:
    """Get how it stands with your password and second factor."""
    settings = call.services.settings
    return await queries.password_status(
        call.services.database, call.own_id, settings.password_expiry_days
    )


@routes.get("/auth/sessions", permission=SIGNED_IN, answer=SessionList)
async def list_sessions(call: Call) -> SessionList:
    """List where you are signed in."""
    return SessionList(
        data=await queries.list_sessions(
            call.services.database, call.own_id, call.caller.session_id
        )
    )


@routes.delete("/auth/sessions/{id}", permission=SIGNED_IN)
async def end_session(call: Call) -> None:
    """End one of your sessions."""
    await call.execute(sessions.EndSession(session_id=call.id()))


@routes.get("/auth/devices", permission=SIGNED_IN, answer=DeviceList)
async def list_devices(call: Call) -> DeviceList:
    """List devices that need not show a second factor."""
    return DeviceList(data=await queries.list_devices(call.services.database, call.own_id))


@routes.delete("/auth/devices/{id}", permission=SIGNED_IN)
async def distrust_device(call: Call) -> None:
    """Ask a device for the second factor again."""
    await call.execute(sessions.DistrustDevice(device_id=call.id()))


@routes.post(
    "/auth/mfa/setup", permission=SIGNED_IN, body=Password, answer=MfaSetup, is_sign_in=True
)
async def set_up_mfa(call: Call, body: Password) -> MfaSetup:
    """Get a secret for an authenticator app; it is asked for after /auth/mfa/verify."""
    made = await call.execute(sessions.SetUpSecondFactor(password=body.password))
    return MfaSetup(
        secret=made.secret, provisioning_uri=made.provisioning_uri, qr_code=made.qr_code
    )


async def _enable(call: Call, body: Code) -> RecoveryCodes:
    return RecoveryCodes(
        recovery_codes=await call.execute(sessions.EnableSecondFactor(code=body.code))
    )


@routes.post(
    "/auth/mfa/verify", permission=SIGNED_IN, body=Code, answer=RecoveryCodes, is_sign_in=True
)
async def verify_mfa(call: Call, body: Code) -> RecoveryCodes:
    """Give the first code of the app: from now on it is asked for."""
    return await _enable(call, body)


@routes.post(
    "/auth/settings/mfa/enable",
    permission=SIGNED_IN,
    body=Code,
    answer=RecoveryCodes,
    is_sign_in=True,
)
async def enable_mfa(call: Call, body: Code) -> RecoveryCodes:
    """The same as /auth/mfa/verify."""
    return await _enable(call, body)


@routes.post(
    "/auth/settings/mfa/disable",
    permission=SIGNED_IN,
    body=PasswordAndCode,
    answer=Done,
    is_sign_in=True,
)
async def disable_mfa(call: Call, body: PasswordAndCode) -> Done:
    """Ask for no second factor any more; needs both factors."""
    await call.execute(sessions.DisableSecondFactor(**dict(body)))
    return Done(message="the second factor is off")


@routes.post(
    "/auth/settings/mfa/recovery-codes",
    permission=SIGNED_IN,
    body=PasswordAndCode,
    answer=RecoveryCodes,
    is_sign_in=True,
)
async def renew_recovery_codes(call: Call, body: PasswordAndCode) -> RecoveryCodes:
    """Get other recovery codes; those of before are no longer good."""
    return RecoveryCodes(
        recovery_codes=await call.execute(sessions.RenewRecoveryCodes(**dict(body)))
    )


@routes.post("/users/{id}/unlock", permission="user:write", answer=Done)
async def unlock_user(call: Call) -> Done:
    """Lift the lockouts of a person's account."""
    await call.execute(accounts.UnlockAccount(user_id=call.id()))
    return Done(message="they may try again")
