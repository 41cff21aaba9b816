"""What several commands of core check before they change anything."""

from collections.abc import Iterable
from uuid import UUID

from control.core.domain.roles import Role
from shared.caller import Caller
from shared.errors import Forbidden, Invalid, NotFound


def organization_for(by: Caller, wanted: UUID | None) -> UUID:
    """The organization that a new thing belongs to: the caller's own, unless they run the platform.

    NotFound for somebody else's, so that nobody learns that it exists.
    """
    if wanted is None:
        if by.organization_id is None:
            raise Invalid("say of which organization", field="organizationId")
        return by.organization_id
    if wanted != by.organization_id and not by.is_platform:
        raise NotFound("no such organization")
    return wanted


def require_grantable(by: Caller, roles: Iterable[Role]) -> None:
    """Forbidden, unless the caller holds all that *roles* allow, and is as strong."""
    for role in roles:
        if by.is_platform:
            continue
        missing = sorted(role.permissions - by.permissions)
        if role.level < by.tier or missing:
            lacking = f", such as {missing[0]}" if missing else ""
            raise Forbidden(f"the role {role.name} allows more than you may yourself{lacking}")


def require_held(by: Caller, permissions: Iterable[str]) -> None:
    """Forbidden, unless the caller holds all of *permissions*."""
    if by.is_platform:
        return
    if missing := sorted(frozenset(permissions) - by.permissions):
        raise Forbidden(f"you cannot give what you do not have: {missing[0]}")


def require_not_stronger(by: Caller, level: int) -> None:
    """Forbidden, when the person at *level* is stronger than the caller."""
    if not by.is_platform and level < by.tier:
        raise Forbidden("this person may do more than you: ask an administrator")


def require_of_organization(role: Role, organization_id: UUID) -> None:
    """NotFound, for a role of another organization's making."""
    if role.organization_id not in (None, organization_id):
        raise NotFound("no such role")
