"""What commands of auth work with."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from control.auth.domain import Account
from control.auth.events import AuthLogin
from control.auth.repository import AuthRepositories
from control.auth.tokens import Tokens, seconds_of
from control.auth.turns import Turns
from shared.caller import Caller
from shared.errors import Invalid
from shared.postgres.database import UnitOfWork
from shared.security.opaque_tokens import OpaqueKind, digest, new_token
from shared.security.password_policy import PasswordPolicy
from shared.security.passwords import PasswordHasher
from shared.security.secret_box import SecretBox
from shared.settings import Settings

Work = UnitOfWork[AuthRepositories]


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What a client needs to go on: both tokens are secrets."""

    access_token: str
    refresh_token: str
    expires_in_seconds: int
    # A device that need not show a second factor again; only when it asked for that.
    device_token: str | None = None


@dataclass(frozen=True)
class Kit:
    """Passwords, tokens and secrets, and where they are kept."""

    work: Work
    hasher: PasswordHasher
    policy: PasswordPolicy
    box: SecretBox
    tokens: Tokens
    settings: Settings
    turns: Turns = field(default_factory=Turns)

    @property
    def refresh_life(self) -> timedelta:
        """How long a session lives without being refreshed."""
        text = self.settings.refresh_token_expiration
        return timedelta(seconds=seconds_of("REFRESH_TOKEN_EXPIRATION", text))

    @property
    def lockout(self) -> timedelta:
        """How long an address is locked out."""
        return timedelta(seconds=self.settings.account_lockout_duration)

    async def checked_hash(
        self, password: str, *, account: Account, former: list[str], field: str = "password"
    ) -> str:
        """The hash of a password that may be taken; Invalid says what is wrong with it."""
        about = [account.email, account.first_name, account.last_name]
        if faults := self.policy.violations(password, about):
            raise Invalid(" ".join(faults), field=field)
        for known in former:
            if await self.hasher.verify(password, known):
                count = self.settings.password_history
                raise Invalid(f"Choose one that is not among your last {count}.", field=field)
        return await self.hasher.hash(password)

    async def open_session(
        self, auth: AuthRepositories, account: Account, by: Caller, *, has_mfa: bool, now: datetime
    ) -> SignedIn:
        """A new session of *account*, with its first pair of tokens."""
        session_id, is_new = await auth.sessions.open(
            account.id,
            ip_address=by.ip_address,
            user_agent=by.user_agent,
            has_mfa=has_mfa,
            expires_at=now + self.refresh_life,
            now=now,
        )
        account.record(
            AuthLogin(
                aggregate_id=account.id,
                organization_id=account.organization_id,
                session_id=session_id,
                has_mfa=has_mfa,
                is_new_address=is_new,
            )
        )
        await auth.accounts.save(account)
        return await self.pair(auth, account, session_id, has_mfa=has_mfa, now=now)

    async def pair(
        self,
        auth: AuthRepositories,
        account: Account,
        session_id: UUID,
        *,
        has_mfa: bool,
        now: datetime,
    ) -> SignedIn:
        """Another pair of tokens of a session."""
        refresh_token = new_token(OpaqueKind.REFRESH)
        await auth.sessions.add_refresh_token(session_id, digest(refresh_token))
        return SignedIn(
            access_token=self.tokens.issue_access(
                user_id=account.id,
                session_id=session_id,
                organization_id=account.organization_id,
                email=account.email,
                has_mfa=has_mfa,
                now=now,
            ),
            refresh_token=refresh_token,
            expires_in_seconds=self.tokens.access_seconds,
        )


def mfa_context(account_id: UUID) -> str:
    """What the encrypted secret of a second factor is bound to."""
    return f"platform|accounts|mfa_secret|{account_id}"
