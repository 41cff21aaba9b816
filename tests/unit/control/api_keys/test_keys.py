"""API keys as state machines, without any I/O."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from control.api_keys.domain.keys import (
    GRACE_MINUTES_MAX,
    NOTICE,
    ApiKey,
    checked_networks,
    expiry_of,
)
from control.api_keys.events import ApiKeyExpired, ApiKeyExpiresSoon, ApiKeyRevoked
from shared.errors import Conflict, Invalid

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LIFE = timedelta(days=100)


def key(**values: Any) -> ApiKey:
    defaults: dict[str, Any] = {
        "organization_id": uuid4(),
        "tenant_id": uuid4(),
        "key_id": f"tfk_{uuid4().hex}",
        "secret_hash": bytes(32),
        "pepper_id": "p",
        "name": "Collectors",
        "permissions": {"traces:write"},
        "created_by": None,
        "expires_at": NOW + LIFE,
        "created_at": NOW,
    }
    return ApiKey(**defaults | values)


def rotated(one: ApiKey, grace: timedelta, now: datetime) -> ApiKey:
    return one.rotate(
        key_id=f"tfk_{uuid4().hex}",
        secret_hash=bytes(32),
        pepper_id="p",
        grace=grace,
        by=None,
        now=now,
    )


def test_a_rotated_key_works_until_its_grace_is_over_and_the_new_one_for_a_whole_life() -> None:
    old = key()
    later = NOW + timedelta(days=90)

    new = rotated(old, timedelta(minutes=30), later)

    assert old.is_usable(later + timedelta(minutes=29))
    assert not old.is_usable(later + timedelta(minutes=30))
    assert (new.name, new.expires_at) == ("Collectors (Rotated)", later + LIFE)
    assert rotated(new, timedelta(0), later).name == "Collectors (Rotated)"


@pytest.mark.parametrize("minutes", [-1, GRACE_MINUTES_MAX + 1])
def test_a_grace_out_of_bounds_is_refused(minutes: int) -> None:
    with pytest.raises(Invalid, match="0 to 1440"):
        rotated(key(), timedelta(minutes=minutes), NOW)


def test_it_is_told_once_that_a_key_expires_soon() -> None:
    one = key()

    assert not one.notice(now=NOW + LIFE - NOTICE - timedelta(seconds=1))
    assert one.notice(now=NOW + LIFE - NOTICE)
    assert not one.notice(now=NOW + LIFE - NOTICE)
    assert [type(event) for event in one.release_events()] == [ApiKeyExpiresSoon]


@pytest.mark.parametrize("permissions", [set(), {"user:write"}, {"api-keys:write"}, {"*:*"}])
def test_S37_a_key_never_allows_what_is_about_people_or_keys(permissions: set[str]) -> None:
    with pytest.raises(Invalid):
        key(permissions=permissions)


@pytest.mark.parametrize(
    "text", ["203.0.113.1/24", "example.com", "", "1.2.3.4/33", "::/129", "010.0.0.1"]
)
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as error:
        checked_networks(["10.0.0.0/8", text])

    assert error.value.field == "allowedNetworks.1"


def test_networks_are_kept_in_one_form() -> None:
    assert checked_networks(["10.1.2.3", "2001:DB8::/32", "10.1.2.3/32"]) == [
        "10.1.2.3/32",
        "2001:db8::/32",
    ]


@pytest.mark.parametrize("days", [0, 731])
def test_a_key_lives_one_to_730_days(days: int) -> None:
    with pytest.raises(Invalid):
        expiry_of(days, now=NOW)


class KeyMachine(RuleBasedStateMachine):
    """A key next to a model of it: what it was, and which times ended it."""

    def __init__(self) -> None:
        super().__init__()
        self.key = key()
        self.now = NOW
        self.model = "active"
        self.ends = NOW + LIFE
        self.ended = 0

    @rule(hours=st.integers(1, 60 * 24))
    def pass_time(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule(minutes=st.integers(0, GRACE_MINUTES_MAX))
    def rotate(self, minutes: int) -> None:
        if self.model == "active" and self.now < self.ends:
            rotated(self.key, timedelta(minutes=minutes), self.now)
            self.model = "rotated"
            self.ends = min(self.ends, self.now + timedelta(minutes=minutes))
        else:
            with pytest.raises(Conflict):
                rotated(self.key, timedelta(minutes=minutes), self.now)

    @rule()
    def revoke(self) -> None:
        if self.model in ("active", "rotated"):
            self.key.revoke(by=None, now=self.now)
            self.model = "revoked"
        else:
            with pytest.raises(Conflict):
                self.key.revoke(by=None, now=self.now)

    @rule()
    def look_after(self) -> None:
        if self.key.expire(now=self.now):
            assert self.model in ("active", "rotated")
            assert self.now >= self.ends
            self.model = "expired"

    @invariant()
    def it_is_usable_as_the_model_says(self) -> None:
        usable = self.model in ("active", "rotated") and self.now < self.ends
        assert self.key.is_usable(self.now) is usable
        assert self.key.status == self.model

    @invariant()
    def it_ends_once(self) -> None:
        events = self.key.release_events()
        self.ended += sum(isinstance(one, ApiKeyRevoked | ApiKeyExpired) for one in events)
        assert self.ended == (self.model in ("revoked", "expired"))


TestKeyMachine = KeyMachine.TestCase
