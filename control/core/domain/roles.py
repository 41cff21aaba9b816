"""Roles and groups: permissions under a name, and people who have the same."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from control.core.domain.permissions import PERMISSIONS
from control.core.domain.tenancy import DESCRIPTION_CHARACTERS_MAX
from control.core.domain.values import checked_name
from control.core.events import (
    GroupCreated,
    GroupDeleted,
    GroupUpdated,
    RoleCreated,
    RoleDeleted,
    RolePermissionChanged,
    RoleUpdated,
)
from shared.domain import Aggregate
from shared.errors import Forbidden, Invalid

LEVEL_OF_ADMINISTRATORS: Final = 2
LEVEL_OF_THE_WEAKEST: Final = 5


@dataclass(kw_only=True)
class Role(Aggregate):
    """Permissions under a name; those of the system are the same for all and never change."""

    organization_id: UUID | None
    name: str
    level: int
    description: str = ""
    is_system: bool = False
    permissions: frozenset[str] = frozenset()

    @classmethod
    def create(
        cls,
        *,
        organization_id: UUID,
        name: str,
        description: str,
        level: int,
        permissions: Iterable[str],
    ) -> "Role":
        """A role of one organization."""
        role = cls(
            organization_id=organization_id,
            name=checked_name(name),
            description=description,
            level=_checked_level(level),
            permissions=checked_permissions(permissions),
        )
        role.record(
            RoleCreated(
                aggregate_id=role.id,
                organization_id=organization_id,
                name=role.name,
                level=level,
            )
        )
        return role

    def change(
        self,
        *,
        name: str | None,
        description: str | None,
        level: int | None,
        permissions: Iterable[str] | None,
    ) -> None:
        """Take what is given; Forbidden for a role of the system."""
        self._require_own()
        values = {
            "name": None if name is None else checked_name(name),
            "description": description,
            "level": None if level is None else _checked_level(level),
        }
        if changes := self.take(values):
            self.record(
                RoleUpdated(
                    aggregate_id=self.id, organization_id=self.organization_id, changes=changes
                )
            )
        if permissions is not None:
            self._allow(checked_permissions(permissions))

    def delete(self) -> None:
        """Let it go, and what it allowed; Forbidden for a role of the system."""
        self._require_own()
        self.record(
            RoleDeleted(aggregate_id=self.id, organization_id=self.organization_id, name=self.name)
        )

    def _allow(self, permissions: frozenset[str]) -> None:
        added, removed = permissions - self.permissions, self.permissions - permissions
        self.permissions = permissions
        if added or removed:
            self.record(
                RolePermissionChanged(
                    aggregate_id=self.id,
                    organization_id=self.organization_id,
                    added=sorted(added),
                    removed=sorted(removed),
                )
            )

    def _require_own(self) -> None:
        if self.is_system:
            raise Forbidden("roles of the system stay as they are: make a role of your own")


def _checked_level(level: int) -> int:
    if not LEVEL_OF_ADMINISTRATORS <= level <= LEVEL_OF_THE_WEAKEST:
        raise Invalid("give a level from 2 (strongest) to 5", field="level")
    return level


def checked_permissions(names: Iterable[str]) -> frozenset[str]:
    """Known permissions; Invalid names the one that is not."""
    permissions = frozenset(names)
    if unknown := sorted(permissions - PERMISSIONS.keys()):
        raise Invalid(f"unknown: {unknown[0]}; GET /permissions lists all", field="permissions")
    return permissions


@dataclass(kw_only=True)
class Group(Aggregate):
    """People who have the same roles."""

    organization_id: UUID
    name: str
    description: str = ""
    user_ids: set[UUID] = field(default_factory=set)
    role_ids: set[UUID] = field(default_factory=set)

    @classmethod
    def create(cls, *, organization_id: UUID, name: str, description: str) -> "Group":
        """A group without people and roles yet."""
        group = cls(
            organization_id=organization_id, name=checked_name(name), description=description
        )
        group.record(
            GroupCreated(aggregate_id=group.id, organization_id=organization_id, name=group.name)
        )
        return group

    def change(
        self,
        *,
        name: str | None = None,
        description: str | None = None,
        user_ids: set[UUID] | None = None,
        role_ids: set[UUID] | None = None,
    ) -> None:
        """Take what is given."""
        if description is not None and len(description) > DESCRIPTION_CHARACTERS_MAX:
            raise Invalid(f"at most {DESCRIPTION_CHARACTERS_MAX} characters", field="description")
        values = {
            "name": None if name is None else checked_name(name),
            "description": description,
            "user_ids": user_ids,
            "role_ids": role_ids,
        }
        if changes := self.take(values):
            self.record(
                GroupUpdated(
                    aggregate_id=self.id, organization_id=self.organization_id, changes=changes
                )
            )

    def delete(self) -> None:
        """Let it go, and what its roles allowed."""
        self.record(
            GroupDeleted(aggregate_id=self.id, organization_id=self.organization_id, name=self.name)
        )
