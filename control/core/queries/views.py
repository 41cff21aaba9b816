"""Read models of core: what the API shows."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from shared.http.models import Versioned, View


class RegionView(Versioned):
    """Where data lives."""

    name: str = Field(examples=["Asia Pacific (Jakarta)"])
    code: str = Field(examples=["aps3"])
    description: str
    data_location: str
    is_active: bool


class OrganizationView(Versioned):
    """A company."""

    region_id: UUID
    name: str = Field(examples=["Example Inc."])
    slug: str = Field(examples=["example"])
    settings: dict[str, Any]
    is_active: bool
    is_demo: bool
    deleted_at: datetime | None


class WorkspaceView(Versioned):
    """A team or a project."""

    organization_id: UUID
    name: str = Field(examples=["Shop"])
    slug: str = Field(examples=["shop"])
    description: str
    datasource_config: dict[str, Any]
    is_active: bool
    deleted_at: datetime | None


class TenantView(Versioned):
    """An environment that telemetry belongs to."""

    organization_id: UUID
    workspace_id: UUID
    name: str = Field(examples=["Production"])
    slug: str = Field(examples=["production"])
    domain: str
    settings: dict[str, Any]
    is_active: bool
    deleted_at: datetime | None


class AssignmentView(View):
    """A role that a person has."""

    role_id: UUID
    name: str = Field(examples=["Developer"])
    level: int = Field(description="1 is the strongest tier, 5 the weakest")
    tenant_id: UUID | None = Field(description="null: in all tenants")
    assigned_at: datetime
    expires_at: datetime | None


class UserView(Versioned):
    """A person of an organization."""

    organization_id: UUID
    tenant_id: UUID | None = Field(description="the tenant that they start in")
    email: str = Field(examples=["ada@example.com"])
    first_name: str = Field(examples=["Ada"])
    last_name: str = Field(examples=["Lovelace"])
    avatar_url: str
    timezone: str = Field(examples=["Europe/London"])
    language: str = Field(examples=["en"])
    is_active: bool
    is_email_verified: bool
    is_invited: bool = Field(description="asked to join, and did not yet")
    last_login_at: datetime | None
    deleted_at: datetime | None
    roles: list[AssignmentView]


class PermissionView(View):
    """One thing that can be allowed."""

    id: UUID
    name: str = Field(examples=["dashboards:write"])
    resource: str
    action: str
    description: str


class PermissionSource(View):
    """Where a permission of a person comes from."""

    kind: Literal["role", "group", "grant"]
    role_id: UUID | None
    role_name: str | None
    group_id: UUID | None
    group_name: str | None
    tenant_id: UUID | None = Field(description="null: in all tenants")
    expires_at: datetime | None


class EffectivePermission(View):
    """A permission that a person has, and every reason why."""

    id: UUID
    name: str
    sources: list[PermissionSource]


class EffectivePermissions(View):
    """All that a person may do."""

    user_id: UUID
    data: list[EffectivePermission]


class RoleView(Versioned):
    """Permissions under a name."""

    organization_id: UUID | None = Field(description="null: a role of the system")
    name: str
    description: str
    level: int = Field(description="1 is the strongest tier, 5 the weakest")
    is_system: bool
    permissions: list[str] = Field(examples=[["dashboards:read", "dashboards:write"]])
    user_count: int = Field(description="people of your organization who have it directly")


class GroupView(Versioned):
    """People who have the same roles."""

    organization_id: UUID
    name: str
    description: str
    user_ids: list[UUID]
    role_ids: list[UUID]


class InvitationView(Versioned):
    """That a person was asked to join."""

    organization_id: UUID
    user_id: UUID
    email: str
    invited_by: UUID | None
    sent_count: int
    status: Literal["pending", "accepted", "revoked", "expired"]
    expires_at: datetime
    accepted_at: datetime | None
    revoked_at: datetime | None
