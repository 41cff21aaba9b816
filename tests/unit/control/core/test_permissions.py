"""The role model as data: the documented matrix, and what must hold of it."""

import pytest

from control.core.domain.permissions import (
    ADMINISTRATOR,
    AREAS,
    DEMO,
    DEVELOPER,
    PERMISSIONS,
    SUPER_ADMINISTRATOR,
    TIERS,
    VIEWER,
)


def test_every_tier_allows_only_what_there_is() -> None:
    for tier in TIERS:
        assert tier.permissions <= PERMISSIONS.keys(), tier.name


def test_a_stronger_tier_allows_all_that_a_weaker_one_does() -> None:
    assert VIEWER.permissions <= DEVELOPER.permissions
    assert DEVELOPER.permissions <= ADMINISTRATOR.permissions
    assert ADMINISTRATOR.permissions < SUPER_ADMINISTRATOR.permissions
    assert DEMO.permissions <= DEVELOPER.permissions


def test_developers_viewers_and_demo_delete_and_export_nothing() -> None:
    for tier in (DEVELOPER, VIEWER, DEMO):
        for name in tier.permissions:
            assert not name.endswith((":delete", ":export", ":acknowledge")), (tier.name, name)


def test_viewers_read_and_run_checks() -> None:
    actions = {name.partition(":")[2] for name in VIEWER.permissions}

    assert actions == {"read", "check"}


@pytest.mark.parametrize("area", ["platform", "cache", "queue"])
def test_the_platform_is_for_super_administrators_alone(area: str) -> None:
    for tier in TIERS[1:]:
        assert not any(name.startswith(f"{area}:") for name in tier.permissions), tier.name


def test_ids_are_the_same_everywhere_and_different_from_each_other() -> None:
    ids = [permission.id for permission in PERMISSIONS.values()] + [tier.id for tier in TIERS]

    assert len(set(ids)) == len(ids)
    assert str(PERMISSIONS["user:read"].id) == str(PERMISSIONS["user:read"].id)
    assert len(PERMISSIONS) == sum(len(actions) for actions in AREAS.values())
