"""API keys as state machines, without any I/O."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from control.api_keys.domain.keys import (
    GRACE_MINUTES_MAX,
    LIFE_DAYS_MAX,
    NOTICE,
    ApiKey,
    checked_networks,
    expiry_of,
)
from control.api_keys.events import (
    ApiKeyCreated,
    ApiKeyExpired,
    ApiKeyExpiresSoon,
    ApiKeyRevoked,
    ApiKeyRotated,
    ApiKeyUpdated,
)
from shared.errors import Conflict, Invalid
from shared.messaging.events import Event

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


@pytest.mark.parametrize("owners", [{}, {"tenant_id": uuid4(), "workspace_id": uuid4()}])
def test_a_key_belongs_to_a_tenant_or_to_a_workspace(owners: dict[str, UUID]) -> None:
    with pytest.raises(Invalid, match="a tenant or to a workspace"):
        key(**{"tenant_id": None, **owners})


@dataclass
class Model:
    """A key as a person would note it down."""

    owners: tuple[UUID | None, UUID | None]
    life: timedelta
    expires_at: datetime
    ends_at: datetime
    name: str
    status: str = "active"
    is_noticed: bool = False

    def is_usable(self, now: datetime) -> bool:
        return self.status in ("active", "rotated") and now < self.ends_at


class KeysMachine(RuleBasedStateMachine):
    """Keys of tenants and workspaces, each beside a model: what it is, and which times end it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.keys: list[tuple[ApiKey, Model]] = []

    def _add(self, one: ApiKey, life: timedelta, name: str) -> None:
        one.created_at = self.now
        owners = (one.tenant_id, one.workspace_id)
        ends_at = self.now + life
        self.keys.append((one, Model(owners, life, ends_at, ends_at, name)))
        assert [type(event) for event in one.release_events()] == [ApiKeyCreated]

    @initialize(is_of_workspace=st.booleans(), days=st.integers(1, LIFE_DAYS_MAX))
    def begin(self, is_of_workspace: bool, days: int) -> None:
        self.create(is_of_workspace, days)

    @rule(is_of_workspace=st.booleans(), days=st.integers(1, LIFE_DAYS_MAX))
    def create(self, is_of_workspace: bool, days: int) -> None:
        owner = "workspace_id" if is_of_workspace else "tenant_id"
        owners = {"tenant_id": None, "workspace_id": None, owner: uuid4()}
        made = key(**owners, expires_at=expiry_of(days, now=self.now))
        made.created()
        self._add(made, timedelta(days=days), "Collectors")

    @rule(hours=st.integers(1, 60 * 24))
    def pass_time(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule(place=st.integers(0), name=st.sampled_from(("Agents", "Collectors", "x" * 100)))
    def change(self, place: int, name: str) -> None:
        one, model = self.keys[place % len(self.keys)]
        one.change(name=name, description=None, allowed_networks=None, limits=None)
        events = one.release_events()
        assert [type(event) for event in events] == [ApiKeyUpdated] * (name != model.name)
        model.name = name

    @rule(place=st.integers(0), minutes=st.integers(0, GRACE_MINUTES_MAX))
    def rotate(self, place: int, minutes: int) -> None:
        one, model = self.keys[place % len(self.keys)]
        grace = timedelta(minutes=minutes)
        if not (model.status == "active" and self.now < model.ends_at):
            with pytest.raises(Conflict):
                rotated(one, grace, self.now)
            return
        successor = rotated(one, grace, self.now)
        model.status, model.ends_at = "rotated", min(model.ends_at, self.now + grace)
        assert [type(event) for event in one.release_events()] == [ApiKeyRotated]
        assert (one.replaced_by, successor.permissions) == (successor.id, one.permissions)
        assert (successor.tenant_id, successor.workspace_id) == model.owners
        self._add(successor, model.life, successor.name)

    @rule(place=st.integers(0))
    def revoke(self, place: int) -> None:
        one, model = self.keys[place % len(self.keys)]
        if model.status in ("active", "rotated"):
            one.revoke(by=None, now=self.now)
            model.status = "revoked"
            assert [type(event) for event in one.release_events()] == [ApiKeyRevoked]
        else:
            with pytest.raises(Conflict):
                one.revoke(by=None, now=self.now)

    @rule()
    def look_after(self) -> None:
        """What the job does, every few minutes or after days of standing still."""
        for one, model in self.keys:
            expected: list[type[Event]] = []
            if model.status in ("active", "rotated") and self.now >= model.ends_at:
                model.status = "expired"
                expected = [ApiKeyExpired]
            elif (
                model.status == "active"
                and not model.is_noticed
                and model.expires_at - self.now <= NOTICE
            ):
                model.is_noticed = True
                expected = [ApiKeyExpiresSoon]
            assert (one.expire(now=self.now) or one.notice(now=self.now)) is bool(expected)
            assert [type(event) for event in one.release_events()] == expected

    @invariant()
    def each_is_as_its_model_says(self) -> None:
        for one, model in self.keys:
            assert one.is_usable(self.now) is model.is_usable(self.now)
            assert (one.status, one.name) == (model.status, model.name)
            assert (one.tenant_id, one.workspace_id) == model.owners
            assert not one.release_events()


TestKeysMachine = KeysMachine.TestCase
