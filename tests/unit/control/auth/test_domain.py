"""Accounts and refresh tokens: what holds whatever happens in whatever order."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from control.auth.domain import (
    MFA_FAILURES_MAX,
    MFA_LOCK,
    REFRESH_GRACE,
    Account,
    Refresh,
    judge_refresh,
    unsettled_reason,
)
from control.auth.events import (
    EmailVerified,
    InvitationRedeemed,
    PasswordChanged,
    VerificationRequested,
)
from shared.errors import Conflict, RateLimited
from shared.messaging.events import Event

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
TIMES = st.timedeltas(timedelta(days=-300), timedelta(days=300)).map(lambda span: NOW + span)


def account(**values: object) -> Account:
    return Account(organization_id=uuid4(), email="ada@example.com", **values)  # type: ignore[arg-type]


def kinds(events: list[Event]) -> list[type[Event]]:
    return [type(event) for event in events]


@given(used_at=st.none() | TIMES, ended_at=st.none() | TIMES, expires_at=TIMES, now=TIMES)
def test_S13_a_refresh_token_has_exactly_one_fate(
    used_at: datetime | None, ended_at: datetime | None, expires_at: datetime, now: datetime
) -> None:
    verdict = judge_refresh(used_at=used_at, ended_at=ended_at, expires_at=expires_at, now=now)

    is_over = ended_at is not None or now >= expires_at
    assert (verdict is Refresh.ENDED) == is_over
    if not is_over:
        assert (verdict is Refresh.ROTATE) == (used_at is None)
        is_late = used_at is not None and now - used_at > REFRESH_GRACE
        assert (verdict is Refresh.REUSED) == is_late


class SessionMachine(RuleBasedStateMachine):
    """One session whose tokens are shown in any order, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.ended_at: datetime | None = None
        self.expires_at = NOW + timedelta(days=7)
        self.used: list[datetime | None] = [None]
        self.was_reused = False

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(data=st.data())
    def show(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.used) - 1))
        used_at = self.used[number]
        verdict = judge_refresh(
            used_at=used_at, ended_at=self.ended_at, expires_at=self.expires_at, now=self.now
        )
        if verdict in (Refresh.ROTATE, Refresh.REPEAT):
            self.used[number] = used_at or self.now
            self.used.append(None)
        elif verdict is Refresh.REUSED:
            self.was_reused = True
            self.ended_at = self.now

    @precondition(lambda self: self.ended_at is None)
    @rule()
    def sign_out(self) -> None:
        self.ended_at = self.now

    @invariant()
    def an_ended_session_gives_no_tokens(self) -> None:
        if self.ended_at is not None:
            assert {
                judge_refresh(
                    used_at=used_at,
                    ended_at=self.ended_at,
                    expires_at=self.expires_at,
                    now=self.now,
                )
                for used_at in self.used
            } == {Refresh.ENDED}

    @invariant()
    def reuse_ends_the_session(self) -> None:
        assert not self.was_reused or self.ended_at is not None


TestSession = SessionMachine.TestCase


@given(st.lists(st.booleans(), max_size=30))
def test_S17_never_more_than_three_wrong_codes_in_a_row_are_judged(codes: list[bool]) -> None:
    someone = account()
    in_a_row = 0
    for is_right in codes:
        try:
            someone.require_mfa_open(now=NOW)
        except RateLimited:
            assert in_a_row == MFA_FAILURES_MAX
            return
        if is_right:
            someone.mfa_succeeded("totp", step=1)
            in_a_row = 0
        else:
            someone.mfa_failed(now=NOW)
            in_a_row += 1
        assert in_a_row <= MFA_FAILURES_MAX


def test_S17_the_way_of_the_second_factor_opens_again_after_its_lock() -> None:
    someone = account()
    for _ in range(MFA_FAILURES_MAX):
        someone.mfa_failed(now=NOW)

    with pytest.raises(RateLimited) as refusal:
        someone.require_mfa_open(now=NOW)
    someone.require_mfa_open(now=NOW + MFA_LOCK)

    assert refusal.value.retry_after_seconds == MFA_LOCK.total_seconds()


def test_a_second_factor_is_switched_on_once_and_off_once() -> None:
    someone = account()
    someone.begin_mfa(b"secret")
    assert not someone.has_mfa
    someone.enable_mfa(7, now=NOW)

    with pytest.raises(Conflict):
        someone.enable_mfa(8, now=NOW)
    with pytest.raises(Conflict):
        someone.begin_mfa(b"another")
    someone.disable_mfa()
    with pytest.raises(Conflict):
        someone.disable_mfa()

    assert (someone.mfa_secret, someone.mfa_last_step, someone.recovery_salt) == (None, None, None)


@given(
    must_change=st.booleans(),
    changed_at=st.none() | TIMES,
    now=TIMES,
    days=st.integers(0, 3_650),
)
def test_a_password_is_to_be_changed_when_it_was_given_or_is_old(
    must_change: bool, changed_at: datetime | None, now: datetime, days: int
) -> None:
    reason = unsettled_reason(must_change, changed_at, now=now, expiry_days=days)

    is_old = days > 0 and changed_at is not None and now - changed_at > timedelta(days=days)
    assert bool(reason) == (must_change or is_old)


def test_G15_an_invitation_is_redeemed_once_and_proves_the_address() -> None:
    someone = account()
    invitation_id = uuid4()

    someone.redeem_invitation(invitation_id, now=NOW)
    someone.set_password("hash", now=NOW)

    assert someone.email_verified_at == NOW
    assert kinds(someone.release_events()) == [EmailVerified, InvitationRedeemed]
    with pytest.raises(Conflict):
        someone.redeem_invitation(invitation_id, now=NOW)


def test_the_first_password_is_no_change() -> None:
    someone = account()

    someone.set_password("first", now=NOW)
    assert kinds(someone.release_events()) == []
    someone.set_password("second", now=NOW, by_reset=True)

    assert kinds(someone.release_events()) == [PasswordChanged]


def test_another_address_is_to_be_verified_anew() -> None:
    someone = account(password_hash="hash", email_verified_at=NOW)

    someone.move_to("ada@example.com")
    assert someone.email_verified_at == NOW
    someone.move_to("lovelace@example.com")

    assert someone.email_verified_at is None
    assert kinds(someone.release_events()) == [VerificationRequested]


def test_who_was_invited_and_moved_gets_no_mail_to_verify() -> None:
    someone = account()

    someone.move_to("lovelace@example.com")

    assert kinds(someone.release_events()) == []


@given(TIMES, st.timedeltas(timedelta(seconds=-600), timedelta(seconds=600)))
def test_a_sign_in_that_began_before_the_password_changed_is_not_finished(
    changed_at: datetime, later: timedelta
) -> None:
    issued_at = (changed_at + later).replace(microsecond=0)

    knew = account(password_changed_at=changed_at).knew_password_at(issued_at)

    assert knew == (issued_at >= changed_at.replace(microsecond=0))
    assert account().knew_password_at(issued_at)
