"""Region → Organization → Workspace → Tenant."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import orjson

from control.core.domain.values import checked_name, checked_slug
from control.core.events import (
    OrganizationCreated,
    OrganizationDeleted,
    OrganizationPurged,
    OrganizationRestored,
    OrganizationUpdated,
    RegionCreated,
    RegionDeleted,
    RegionUpdated,
    TenantCreated,
    TenantDeleted,
    TenantPurged,
    TenantRestored,
    TenantUpdated,
    WorkspaceCreated,
    WorkspaceDeleted,
    WorkspacePurged,
    WorkspaceRestored,
    WorkspaceUpdated,
)
from shared.domain import Aggregate
from shared.errors import Conflict, Invalid
from shared.messaging.events import Changes, Event

DESCRIPTION_CHARACTERS_MAX: Final = 1_000
SETTINGS_BYTES_MAX: Final = 16_384
# What was deleted can be restored for so long, and is purged after it.
RESTORABLE_DAYS: Final = 90


@dataclass(kw_only=True)
class Place(Aggregate):
    """What the four have in common: a name, and being active or not."""

    name: str
    is_active: bool = True

    def change(self, **values: Any) -> Changes:
        """Take the values that are given (not None) and differ; what changed."""
        given = {name: value for name, value in values.items() if value is not None}
        checked = {name: self._checked(name, value) for name, value in given.items()}
        changes = self.take(checked)
        if changes:
            self.record(self._updated(changes))
        return changes

    def activate(self) -> None:
        """Let people use it again."""
        self._switch(is_active=True)

    def deactivate(self) -> None:
        """Keep it, but let nobody use it."""
        self._switch(is_active=False)

    def _switch(self, *, is_active: bool) -> None:
        if changes := self.take({"is_active": is_active}):
            self.record(self._updated(changes))

    def _checked(self, name: str, value: Any) -> Any:
        match name:
            case "name":
                return checked_name(value)
            case "slug" | "code":
                return checked_slug(value, name)
            case "description" if len(value) > DESCRIPTION_CHARACTERS_MAX:
                raise Invalid(f"at most {DESCRIPTION_CHARACTERS_MAX} characters", field=name)
            case "settings" | "datasource_config":
                return checked_settings(value, name)
        return value

    def _updated(self, changes: Changes) -> Event:
        raise NotImplementedError


@dataclass(kw_only=True)
class Erasable(Place):
    """What is set aside when it is deleted, and can be restored for a while."""

    deleted_at: datetime | None = None

    def delete(self, *, now: datetime) -> None:
        """Set it aside; deleting it twice is once."""
        if self.deleted_at is None:
            self.deleted_at = now
            self.record(self._deleted())

    def restore(self, *, now: datetime) -> None:
        """Take it back; Conflict when it was deleted too long ago."""
        if self.deleted_at is None:
            return
        if now > self.deleted_at + timedelta(days=RESTORABLE_DAYS):
            raise Conflict(f"it was deleted more than {RESTORABLE_DAYS} days ago")
        self.deleted_at = None
        self.record(self._restored())

    def require_deleted(self) -> None:
        """Conflict, unless it was deleted before: a purge is the second step."""
        if self.deleted_at is None:
            raise Conflict("delete it first: a purge is for what was deleted")

    def _deleted(self) -> Event:
        raise NotImplementedError

    def _restored(self) -> Event:
        raise NotImplementedError


def checked_settings(value: dict[str, Any], field_name: str = "settings") -> dict[str, Any]:
    """A JSON object of bounded size."""
    if len(orjson.dumps(value)) > SETTINGS_BYTES_MAX:
        raise Invalid(f"at most {SETTINGS_BYTES_MAX} bytes of JSON", field=field_name)
    return value


@dataclass(kw_only=True)
class Region(Place):
    """Where data lives, such as eu-central-1."""

    code: str
    description: str = ""
    data_location: str = ""

    @classmethod
    def create(cls, *, name: str, code: str, description: str, data_location: str) -> "Region":
        """A new region; its code is unique."""
        region = cls(
            name=checked_name(name),
            code=checked_slug(code, "code"),
            description=description,
            data_location=data_location,
        )
        region.record(RegionCreated(aggregate_id=region.id, name=region.name, code=region.code))
        return region

    def delete(self) -> None:
        """Goes at once: nothing may refer to it."""
        self.record(RegionDeleted(aggregate_id=self.id))

    def _updated(self, changes: Changes) -> Event:
        return RegionUpdated(aggregate_id=self.id, changes=changes)


@dataclass(kw_only=True)
class Organization(Erasable):
    """A company: its people, its bill, its sign-on."""

    region_id: UUID
    slug: str
    settings: dict[str, Any] = field(default_factory=dict)
    is_demo: bool = False

    @classmethod
    def create(
        cls,
        *,
        region_id: UUID,
        name: str,
        slug: str,
        is_demo: bool = False,
        id: UUID | None = None,  # noqa: A002 - the field's name
    ) -> "Organization":
        """A new organization; its slug is unique."""
        organization = cls(
            region_id=region_id,
            name=checked_name(name),
            slug=checked_slug(slug),
            is_demo=is_demo,
            id=id or uuid4(),
        )
        organization.record(
            OrganizationCreated(
                aggregate_id=organization.id,
                organization_id=organization.id,
                name=organization.name,
                slug=organization.slug,
            )
        )
        return organization

    def purge(self) -> None:
        """Tell the others to delete what they keep of it."""
        self.require_deleted()
        self.record(OrganizationPurged(aggregate_id=self.id, organization_id=self.id))

    def _updated(self, changes: Changes) -> Event:
        return OrganizationUpdated(aggregate_id=self.id, organization_id=self.id, changes=changes)

    def _deleted(self) -> Event:
        return OrganizationDeleted(aggregate_id=self.id, organization_id=self.id)

    def _restored(self) -> Event:
        return OrganizationRestored(aggregate_id=self.id, organization_id=self.id)


@dataclass(kw_only=True)
class Workspace(Erasable):
    """A team or a project of an organization."""

    organization_id: UUID
    slug: str
    description: str = ""
    datasource_config: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def create(
        cls, *, organization_id: UUID, name: str, slug: str, description: str = ""
    ) -> "Workspace":
        """A new workspace; its slug is unique within the organization."""
        workspace = cls(
            organization_id=organization_id,
            name=checked_name(name),
            slug=checked_slug(slug),
            description=description,
        )
        workspace.record(
            WorkspaceCreated(
                aggregate_id=workspace.id,
                organization_id=organization_id,
                name=workspace.name,
                slug=workspace.slug,
            )
        )
        return workspace

    def purge(self) -> None:
        """Tell the others to delete what they keep of it."""
        self.require_deleted()
        self.record(WorkspacePurged(aggregate_id=self.id, organization_id=self.organization_id))

    def _updated(self, changes: Changes) -> Event:
        return WorkspaceUpdated(
            aggregate_id=self.id, organization_id=self.organization_id, changes=changes
        )

    def _deleted(self) -> Event:
        return WorkspaceDeleted(aggregate_id=self.id, organization_id=self.organization_id)

    def _restored(self) -> Event:
        return WorkspaceRestored(aggregate_id=self.id, organization_id=self.organization_id)


@dataclass(kw_only=True)
class Tenant(Erasable):
    """An environment of a workspace, such as production: telemetry belongs to exactly one."""

    organization_id: UUID
    workspace_id: UUID
    slug: str
    domain: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def create(
        cls, *, organization_id: UUID, workspace_id: UUID, name: str, slug: str, domain: str = ""
    ) -> "Tenant":
        """A new tenant; its slug is unique within the workspace."""
        tenant = cls(
            organization_id=organization_id,
            workspace_id=workspace_id,
            name=checked_name(name),
            slug=checked_slug(slug),
            domain=domain,
        )
        tenant.record(
            TenantCreated(
                aggregate_id=tenant.id,
                organization_id=organization_id,
                tenant_id=tenant.id,
                workspace_id=workspace_id,
                name=tenant.name,
                slug=tenant.slug,
            )
        )
        return tenant

    def purge(self) -> None:
        """Tell the others to delete what they keep of it."""
        self.require_deleted()
        self.record(
            TenantPurged(
                aggregate_id=self.id, organization_id=self.organization_id, tenant_id=self.id
            )
        )

    def _updated(self, changes: Changes) -> Event:
        return TenantUpdated(
            aggregate_id=self.id,
            organization_id=self.organization_id,
            tenant_id=self.id,
            changes=changes,
        )

    def _deleted(self) -> Event:
        return TenantDeleted(
            aggregate_id=self.id, organization_id=self.organization_id, tenant_id=self.id
        )

    def _restored(self) -> Event:
        return TenantRestored(
            aggregate_id=self.id, organization_id=self.organization_id, tenant_id=self.id
        )
