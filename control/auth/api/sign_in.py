"""Routes of signing in, registering, and the links in mails; open to everybody."""

from pydantic import Field

from control.auth.commands import accounts, sign_in
from control.auth.commands.kit import SignedIn
from control.auth.commands.sign_in import SecondFactorWanted
from control.auth.tokens import Tokens
from shared.http.call import Answer, Call
from shared.http.models import Body, Done, Name, Text, View
from shared.http.routes import Routes
from shared.messaging.commands import ANYBODY
from shared.security.timing import lasting_steps_of

# Far more than what known and unknown addresses differ by.
STEP_SECONDS = 0.05

routes = Routes("Sign-in", "Signing in, registering, and what links in mails lead to.")

PASSWORD_CHARACTERS_MAX = 1_024
TOKEN_CHARACTERS_MAX = 8_192
JWKS_SECONDS = 300


class Credentials(Body):
    """Who signs in."""

    email: Text = Field(max_length=254, examples=["ada@example.com"])
    password: str = Field(max_length=PASSWORD_CHARACTERS_MAX, examples=["correct-Horse-7-battery"])
    device_token: Text | None = Field(
        None, max_length=200, description="of a trusted device: spares the second factor"
    )


class LoginAnswer(View):
    """The tokens of a session, or the wish for a second factor."""

    mfa_required: bool
    access_token: str | None = Field(default=None, description="goes with every request, as Bearer")
    refresh_token: str | None = Field(default=None, description="good once, for the next pair")
    token_type: str | None = Field(default=None, examples=["Bearer"])
    expires_in: int | None = Field(default=None, description="seconds", examples=[900])
    temp_token: str | None = Field(
        default=None, description="goes with the code to /auth/mfa/validate"
    )
    device_token: str | None = Field(
        default=None, description="keep it on a device that is trusted"
    )


class Registration(Body):
    """A person who comes by themselves."""

    email: Text = Field(
        max_length=254,
        pattern=r"^[^@\s]+@[^@\s.]+(\.[^@\s.]+)+$",
        examples=["ada@example.com"],
    )
    password: str = Field(max_length=PASSWORD_CHARACTERS_MAX, examples=["correct-Horse-7-battery"])
    first_name: Name = Field(examples=["Ada"])
    last_name: Name = Field(examples=["Lovelace"])
    organization_name: Name | None = Field(None, examples=["Example Inc."])


class MailToken(Body):
    """What the link in a mail carries."""

    token: Text = Field(max_length=200)


class Address(Body):
    """An address of mail."""

    email: Text = Field(max_length=254, examples=["ada@example.com"])


class NewPassword(Body):
    """What the link in a mail carries, and a password."""

    token: Text = Field(max_length=200)
    password: str = Field(max_length=PASSWORD_CHARACTERS_MAX, examples=["correct-Horse-7-battery"])


class SecondFactor(Body):
    """A code after the password."""

    temp_token: Text = Field(max_length=TOKEN_CHARACTERS_MAX)
    code: Text = Field(max_length=64, examples=["123456"])
    is_recovery_code: bool = False
    trust_device: bool = Field(False, description="spare this device the code for 90 days")


class RefreshBody(Body):
    """The refresh token of the last pair."""

    refresh_token: Text = Field(max_length=200)


def _shown(result: SignedIn | SecondFactorWanted) -> LoginAnswer:
    if isinstance(result, SecondFactorWanted):
        return LoginAnswer(mfa_required=True, temp_token=result.temporary_token)
    return LoginAnswer(
        mfa_required=False,
        access_token=result.access_token,
        refresh_token=result.refresh_token,
        token_type="Bearer",  # noqa: S106 - a word of RFC 6750
        expires_in=result.expires_in_seconds,
        device_token=result.device_token,
    )


@routes.post(
    "/auth/login",
    permission=ANYBODY,
    body=Credentials,
    answer=LoginAnswer,
    is_sign_in=True,
    errors=(401, 403),
)
async def login(call: Call, body: Credentials) -> LoginAnswer:
    """Sign in with a password."""
    async with lasting_steps_of(STEP_SECONDS):
        return _shown(await call.execute(sign_in.SignIn(**dict(body))))


@routes.post(
    "/auth/mfa/validate",
    permission=ANYBODY,
    body=SecondFactor,
    answer=LoginAnswer,
    is_sign_in=True,
    errors=(401,),
)
async def validate_second_factor(call: Call, body: SecondFactor) -> LoginAnswer:
    """Give the code of the authenticator app, or a recovery code."""
    command = sign_in.GiveSecondFactor(
        temporary_token=body.temp_token,
        code=body.code,
        is_recovery_code=body.is_recovery_code,
        trust_device=body.trust_device,
    )
    pair = await call.execute(command)
    return _shown(pair)


@routes.post(
    "/auth/refresh",
    permission=ANYBODY,
    body=RefreshBody,
    answer=LoginAnswer,
    is_sign_in=True,
    errors=(401,),
)
async def refresh(call: Call, body: RefreshBody) -> LoginAnswer:
    """Get the next pair of tokens; a token that was used before ends the session."""
    pair = await call.execute(sign_in.RefreshSession(refresh_token=body.refresh_token))
    return _shown(pair)


@routes.post(
    "/auth/register",
    permission=ANYBODY,
    body=Registration,
    answer=Done,
    status=201,
    is_sign_in=True,
    errors=(403,),
)
async def register(call: Call, body: Registration) -> Done:
    """Register, with an organization of your own; a mail tells how to go on."""
    name = body.organization_name or f"{body.first_name} {body.last_name}"[:100]
    async with lasting_steps_of(STEP_SECONDS):
        await call.execute(accounts.Register(**dict(body) | {"organization_name": name}))
    return Done(message="if the address is new here, a mail with a link is on its way to it")


@routes.post("/auth/verify-email", permission=ANYBODY, body=MailToken, answer=Done, is_sign_in=True)
async def verify_email(call: Call, body: MailToken) -> Done:
    """Prove that mail reaches you, by the link in it."""
    await call.execute(accounts.VerifyEmail(token=body.token))
    return Done(message="the address is confirmed: sign in")


@routes.post(
    "/auth/resend-verification",
    permission=ANYBODY,
    body=Address,
    answer=Done,
    status=202,
    is_sign_in=True,
)
async def resend_verification(call: Call, body: Address) -> Done:
    """Get another mail to confirm the address."""
    async with lasting_steps_of(STEP_SECONDS):
        await call.execute(accounts.SendVerificationAgain(email=body.email))
    return Done(message="if the address waits to be confirmed, a mail is on its way to it")


@routes.post(
    "/auth/forgot-password",
    permission=ANYBODY,
    body=Address,
    answer=Done,
    status=202,
    is_sign_in=True,
)
async def forgot_password(call: Call, body: Address) -> Done:
    """Get a mail to choose another password."""
    async with lasting_steps_of(STEP_SECONDS):
        await call.execute(accounts.AskForReset(email=body.email))
    return Done(message="if the address is known here, a mail with a link is on its way to it")


@routes.post(
    "/auth/reset-password", permission=ANYBODY, body=NewPassword, answer=Done, is_sign_in=True
)
async def reset_password(call: Call, body: NewPassword) -> Done:
    """Choose another password, by the link in the mail; ends all sessions."""
    await call.execute(accounts.ResetPassword(**dict(body)))
    return Done(message="the password is changed: sign in")


@routes.post(
    "/auth/accept-invitation",
    permission=ANYBODY,
    body=NewPassword,
    answer=Done,
    is_sign_in=True,
    errors=(409,),
)
async def accept_invitation(call: Call, body: NewPassword) -> Done:
    """Join by the link in the mail, and choose a password."""
    await call.execute(accounts.AcceptInvitation(**dict(body)))
    return Done(message="welcome: sign in")


class KeySet(View):
    """Public keys, as RFC 7517 describes them."""

    keys: list[dict[str, str]]


@routes.get("/.well-known/jwks.json", permission=ANYBODY, answer=KeySet, is_prefixed=False)
async def get_jwks(call: Call) -> Answer:
    """Get the public keys that sign access tokens; none when a shared secret does."""
    keys = call.service(Tokens).jwks()["keys"]
    return Answer(
        KeySet.model_validate({"keys": keys}), {"Cache-Control": f"max-age={JWKS_SECONDS}"}
    )
