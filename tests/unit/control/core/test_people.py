"""People, roles and invitations: what must always hold."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.core.domain.people import (
    INVITATION_DAYS,
    INVITATION_MAILS_MAX,
    Assignment,
    Invitation,
    User,
)
from control.core.domain.permissions import ADMINISTRATOR, PERMISSIONS
from control.core.domain.roles import Role
from control.core.domain.tenancy import RESTORABLE_DAYS, Organization, Workspace
from control.core.domain.values import Email, checked_name, slug_of
from shared.errors import Conflict, Forbidden, Invalid, NotFound, Stale

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def user() -> User:
    made = User.create(
        organization_id=uuid4(), email="a@example.com", first_name="A", last_name="B"
    )
    made.release_events()
    return made


def role(*permissions: str) -> Role:
    return Role.create(
        organization_id=uuid4(), name="R", description="", level=4, permissions=permissions
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a@b",
        "@example.com",
        "a@example..com",
        "a@-example.com",
        "a b@example.com",
        "a@exa mple.com",
        "a@example.com\nBcc: x@y.z",
        "a..b@example.com",
        f"{'x' * 65}@example.com",
        f"a@{'x' * 250}.com",
        '"a"@example.com',
        "a@[127.0.0.1]",
    ],
)
def test_S57_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        Email(text)


def test_addresses_are_the_same_in_any_case() -> None:
    assert Email(" Ada.L+x@Example.COM ") == Email("ada.l+x@example.com")


@given(st.text(max_size=200))
def test_a_name_is_one_printable_line_or_refused(text: str) -> None:
    try:
        name = checked_name(text)
    except Invalid:
        return
    assert name == name.strip()
    assert name.isprintable()
    assert 1 <= len(name) <= 100


@given(st.text(max_size=200))
def test_every_name_has_a_slug_that_is_one(text: str) -> None:
    Workspace.create(organization_id=uuid4(), name="x", slug=slug_of(text))


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(sorted(PERMISSIONS))), max_size=40))
def test_taking_away_never_gives(steps: list[tuple[bool, str]]) -> None:
    person = user()
    for gives, permission in steps:
        before = set(person.grants)
        try:
            person.grant(permission) if gives else person.revoke(permission)
        except (Conflict, NotFound):
            assert person.grants == before
            continue
        assert person.grants == (before | {permission} if gives else before - {permission})


def test_a_role_is_given_once_for_each_tenant() -> None:
    person, given_role, tenant = user(), role("user:read"), uuid4()
    person.assign_role(given_role, Assignment(given_role.id), now=NOW)
    person.assign_role(given_role, Assignment(given_role.id, tenant), now=NOW)

    with pytest.raises(Conflict):
        person.assign_role(given_role, Assignment(given_role.id, tenant), now=NOW)
    with pytest.raises(Invalid):
        person.assign_role(given_role, Assignment(given_role.id, uuid4(), NOW), now=NOW)
    person.revoke_role(given_role, tenant)
    assert [one.tenant_id for one in person.assignments] == [None]
    with pytest.raises(NotFound):
        person.revoke_role(given_role, tenant)


def test_roles_of_the_system_stay_as_they_are() -> None:
    system = Role(
        organization_id=None,
        name="Administrator",
        level=2,
        is_system=True,
        permissions=ADMINISTRATOR.permissions,
    )

    with pytest.raises(Forbidden):
        system.change(name="Mine", description=None, level=None, permissions=None)
    with pytest.raises(Forbidden):
        system.delete()


def test_unknown_permissions_are_named() -> None:
    with pytest.raises(Invalid, match="nothing:read"):
        role("user:read", "nothing:read")


def test_another_address_is_not_verified_by_the_link_for_the_old_one() -> None:
    person = user()
    person.verify_email("a@example.com")
    person.change(email="b@example.com")
    person.verify_email("a@example.com")

    assert not person.is_email_verified


def test_what_was_deleted_comes_back_for_ninety_days() -> None:
    organization = Organization.create(region_id=uuid4(), name="O", slug="o")
    with pytest.raises(Conflict):
        organization.require_deleted()
    organization.delete(now=NOW)
    organization.delete(now=NOW + timedelta(days=50))
    with pytest.raises(Conflict):
        organization.restore(now=NOW + timedelta(days=RESTORABLE_DAYS, seconds=1))
    organization.restore(now=NOW + timedelta(days=RESTORABLE_DAYS))

    assert organization.deleted_at is None


def test_an_edit_of_another_version_is_stale() -> None:
    person = user()
    person.version = 3
    person.require_version(None)
    person.require_version(3)
    with pytest.raises(Stale):
        person.require_version(2)


def test_an_invitation_is_accepted_once_and_in_time() -> None:
    def invitation() -> Invitation:
        return Invitation.create(user(), invited_by=None, by_name="", organization="O", now=NOW)

    late, accepted, revoked, repeated = (invitation() for _ in range(4))
    with pytest.raises(Conflict):
        late.accept(now=NOW + timedelta(days=INVITATION_DAYS, seconds=1))
    accepted.accept(now=NOW)
    with pytest.raises(Conflict):
        accepted.revoke(now=NOW)
    revoked.revoke(now=NOW)
    with pytest.raises(Conflict):
        revoked.accept(now=NOW)
    for _ in range(INVITATION_MAILS_MAX - 1):
        repeated.send_again(first_name="A", by_name="", organization="O", now=NOW)
    with pytest.raises(Conflict):
        repeated.send_again(first_name="A", by_name="", organization="O", now=NOW)
