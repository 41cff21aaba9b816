"""What auth tells the other contexts; never a secret."""

from dataclasses import dataclass
from uuid import UUID

from shared.messaging.events import Event


@dataclass(frozen=True, kw_only=True)
class AccountRegistered(Event):
    """A person registered; their organization and they themselves are still to be made."""

    email: str
    first_name: str
    last_name: str
    organization_name: str


@dataclass(frozen=True, kw_only=True)
class RegistrationRepeated(Event):
    """Somebody registered with the address of an account: its owner is told, nobody else."""

    email: str


@dataclass(frozen=True, kw_only=True)
class VerificationRequested(Event):
    """A mail with a link to verify the address is wanted."""

    email: str


@dataclass(frozen=True, kw_only=True)
class EmailVerified(Event):
    """A person proved that mail to the address reaches them."""

    email: str


@dataclass(frozen=True, kw_only=True)
class InvitationRedeemed(Event):
    """A person who was invited chose a password."""

    invitation_id: UUID
    email: str


@dataclass(frozen=True, kw_only=True)
class AuthLogin(Event):
    """A person signed in."""

    session_id: UUID
    has_mfa: bool
    is_new_address: bool


@dataclass(frozen=True, kw_only=True)
class AuthLoginFailed(Event):
    """A sign-in to an account failed; *reason* is for the audit trail alone."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class AuthLogout(Event):
    """A person signed out, here or everywhere."""

    everywhere: bool


@dataclass(frozen=True, kw_only=True)
class AccountLocked(Event):
    """Too many sign-ins failed from one address, which is locked out for a while."""

    minutes: int


@dataclass(frozen=True, kw_only=True)
class AccountUnlocked(Event):
    """An administrator lifted all lockouts of an account."""


@dataclass(frozen=True, kw_only=True)
class MfaValidated(Event):
    """A second factor was given; *method* is totp, recovery_code or trusted_device."""

    method: str


@dataclass(frozen=True, kw_only=True)
class MfaEnabled(Event):
    """An account asks for a second factor from now on."""


@dataclass(frozen=True, kw_only=True)
class MfaDisabled(Event):
    """An account no longer asks for a second factor."""


@dataclass(frozen=True, kw_only=True)
class PasswordResetRequested(Event):
    """A mail with a link to choose another password is wanted."""


@dataclass(frozen=True, kw_only=True)
class PasswordChanged(Event):
    """An account has another password; *by_reset* tells how."""

    by_reset: bool


@dataclass(frozen=True, kw_only=True)
class RecoveryCodesRenewed(Event):
    """An account has other recovery codes; those of before are no longer good."""


@dataclass(frozen=True, kw_only=True)
class DeviceDistrusted(Event):
    """A person's device is asked for the second factor again."""

    device_id: UUID


@dataclass(frozen=True, kw_only=True)
class SessionRevoked(Event):
    """A person ended one of their sessions."""

    session_id: UUID


@dataclass(frozen=True, kw_only=True)
class SuspiciousActivityDetected(Event):
    """An account may be in other hands, such as after a refresh token was used twice."""

    kind: str


EVENTS: tuple[type[Event], ...] = (
    AccountRegistered,
    RegistrationRepeated,
    VerificationRequested,
    EmailVerified,
    InvitationRedeemed,
    AuthLogin,
    AuthLoginFailed,
    AuthLogout,
    AccountLocked,
    AccountUnlocked,
    MfaValidated,
    MfaEnabled,
    MfaDisabled,
    PasswordResetRequested,
    PasswordChanged,
    RecoveryCodesRenewed,
    DeviceDistrusted,
    SessionRevoked,
    SuspiciousActivityDetected,
)
