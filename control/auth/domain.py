"""Accounts and sessions: what must always hold; no I/O."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from control.auth.events import (
    EmailVerified,
    InvitationRedeemed,
    MfaDisabled,
    MfaEnabled,
    MfaValidated,
    PasswordChanged,
    PasswordResetRequested,
    SuspiciousActivityDetected,
    VerificationRequested,
)
from shared.domain import Aggregate
from shared.errors import Conflict, RateLimited

MFA_FAILURES_MAX: Final = 3
MFA_LOCK: Final = timedelta(minutes=15)
# Sign-ins of an account over all addresses in a window; beyond, only known addresses may try.
CROWD_MAX: Final = 100
CROWD_WINDOW: Final = timedelta(hours=1)
# Asking again for a mail that was sent just now sends none.
MAIL_PAUSE: Final = timedelta(minutes=1)
# However often a session is refreshed, it ends after this.
SESSION_LONGEST: Final = timedelta(days=30)
# Two tabs that refresh with the same token in the same moment are one person.
REFRESH_GRACE: Final = timedelta(seconds=5)


@dataclass(kw_only=True)
class Account(Aggregate):
    """The credentials of one person; its id is the person's."""

    organization_id: UUID
    email: str
    first_name: str = ""
    last_name: str = ""
    password_hash: str | None = None
    password_changed_at: datetime | None = None
    must_change_password: bool = False
    email_verified_at: datetime | None = None
    mfa_secret: bytes | None = None
    mfa_enabled_at: datetime | None = None
    mfa_last_step: int | None = None
    mfa_failures: int = 0
    mfa_locked_until: datetime | None = None
    recovery_salt: bytes | None = None
    closed_at: datetime | None = None

    @property
    def has_mfa(self) -> bool:
        """Whether a second factor is asked for."""
        return self.mfa_enabled_at is not None

    def set_password(
        self,
        password_hash: str,
        *,
        now: datetime,
        by_reset: bool = False,
        must_change: bool = False,
    ) -> None:
        """Take a password; others are told when it is not the first one."""
        is_first = self.password_hash is None
        self.password_hash = password_hash
        self.password_changed_at = now
        self.must_change_password = must_change
        if not is_first:
            self.record(
                PasswordChanged(
                    aggregate_id=self.id, organization_id=self.organization_id, by_reset=by_reset
                )
            )

    def knew_password_at(self, time: datetime) -> bool:
        """Whether who gave the password at *time* (of whole seconds) gave the present one."""
        changed_at = self.password_changed_at
        return changed_at is None or time >= changed_at.replace(microsecond=0)

    def verify_email(self, *, now: datetime) -> None:
        """Mail reaches them; doing it twice is once."""
        if self.email_verified_at is None:
            self.email_verified_at = now
            self.record(
                EmailVerified(
                    aggregate_id=self.id,
                    organization_id=self.organization_id,
                    email=self.email,
                )
            )

    def redeem_invitation(self, invitation_id: UUID, *, now: datetime) -> None:
        """They came by the link in their mail, so mail reaches them."""
        if self.password_hash is not None:
            raise Conflict("the invitation was accepted already: sign in")
        self.verify_email(now=now)
        self.record(
            InvitationRedeemed(
                aggregate_id=self.id,
                organization_id=self.organization_id,
                invitation_id=invitation_id,
                email=self.email,
            )
        )

    def ask_for_verification(self) -> None:
        """A mail with a link is wanted, unless the address is verified."""
        if self.email_verified_at is None:
            self.record(
                VerificationRequested(
                    aggregate_id=self.id, organization_id=self.organization_id, email=self.email
                )
            )

    def ask_for_reset(self) -> None:
        """A mail with a link to choose another password is wanted."""
        self.record(
            PasswordResetRequested(aggregate_id=self.id, organization_id=self.organization_id)
        )

    def move_to(self, email: str) -> None:
        """Another address, which is not verified yet."""
        if email != self.email:
            self.email = email
            self.email_verified_at = None
            # Who was invited proves the address by the link of the invitation.
            if self.password_hash is not None:
                self.ask_for_verification()

    def begin_mfa(self, encrypted_secret: bytes) -> None:
        """A secret that their app shall read; it counts once they gave a code of it."""
        if self.has_mfa:
            raise Conflict("a second factor is on already: switch it off first")
        self.mfa_secret = encrypted_secret
        self.mfa_last_step = None

    def enable_mfa(self, step: int, *, now: datetime) -> None:
        """Their app works: ask for it from now on."""
        if self.has_mfa:
            raise Conflict("a second factor is on already")
        self.mfa_enabled_at = now
        self.mfa_last_step = step
        self.mfa_failures = 0
        self.record(MfaEnabled(aggregate_id=self.id, organization_id=self.organization_id))

    def disable_mfa(self) -> None:
        """Ask no more."""
        if not self.has_mfa:
            raise Conflict("no second factor is on")
        self.mfa_secret = self.mfa_enabled_at = self.mfa_last_step = self.recovery_salt = None
        self.record(MfaDisabled(aggregate_id=self.id, organization_id=self.organization_id))

    def require_mfa_open(self, *, now: datetime) -> None:
        """RateLimited, while too many wrong codes were given."""
        if self.mfa_locked_until is not None and now < self.mfa_locked_until:
            seconds = (self.mfa_locked_until - now).total_seconds()
            raise RateLimited(
                "too many wrong codes: wait, then try again", retry_after_seconds=seconds
            )

    def mfa_failed(self, *, now: datetime) -> None:
        """A wrong code; the third one closes the way for a while."""
        self.mfa_failures += 1
        if self.mfa_failures >= MFA_FAILURES_MAX:
            self.mfa_failures = 0
            self.mfa_locked_until = now + MFA_LOCK

    def mfa_succeeded(self, method: str, *, step: int | None = None) -> None:
        """A right code, which is good once."""
        self.mfa_failures = 0
        self.mfa_locked_until = None
        if step is not None:
            self.mfa_last_step = step
        self.record(
            MfaValidated(aggregate_id=self.id, organization_id=self.organization_id, method=method)
        )

    def suspect(self, kind: str) -> None:
        """Tell that it may be in other hands."""
        self.record(
            SuspiciousActivityDetected(
                aggregate_id=self.id, organization_id=self.organization_id, kind=kind
            )
        )


def unsettled_reason(
    must_change: bool, changed_at: datetime | None, *, now: datetime, expiry_days: int
) -> str:
    """Why a password must be chosen before anything else; empty when it need not."""
    if must_change:
        return "choose a password of your own first: POST /auth/change-password"
    if expiry_days and changed_at is not None and now > changed_at + timedelta(days=expiry_days):
        return "your password has expired, choose another: POST /auth/change-password"
    return ""


class Refresh(StrEnum):
    """What becomes of a refresh token that somebody shows."""

    ROTATE = "rotate"
    # Seen again within the grace: the same person, in another tab.
    REPEAT = "repeat"
    # Seen again later: one of two holders is a thief.
    REUSED = "reused"
    ENDED = "ended"


def judge_refresh(
    *, used_at: datetime | None, ended_at: datetime | None, expires_at: datetime, now: datetime
) -> Refresh:
    """What becomes of a token of a session with these times."""
    if ended_at is not None or now >= expires_at:
        return Refresh.ENDED
    if used_at is None:
        return Refresh.ROTATE
    return Refresh.REPEAT if now <= used_at + REFRESH_GRACE else Refresh.REUSED
