"""What core tells the other contexts."""

from dataclasses import dataclass
from uuid import UUID

from shared.messaging.events import Event, Updated


@dataclass(frozen=True, kw_only=True)
class RegionCreated(Event):
    """A region exists."""

    name: str
    code: str


@dataclass(frozen=True, kw_only=True)
class RegionUpdated(Updated):
    """A region has other properties."""


@dataclass(frozen=True, kw_only=True)
class RegionDeleted(Event):
    """A region that nobody used is gone."""


@dataclass(frozen=True, kw_only=True)
class OrganizationCreated(Event):
    """An organization exists."""

    name: str
    slug: str


@dataclass(frozen=True, kw_only=True)
class OrganizationUpdated(Updated):
    """An organization has other properties, or was switched on or off."""


@dataclass(frozen=True, kw_only=True)
class OrganizationDeleted(Event):
    """An organization is set aside, until it is restored or purged."""


@dataclass(frozen=True, kw_only=True)
class OrganizationRestored(Event):
    """An organization that was set aside is back."""


@dataclass(frozen=True, kw_only=True)
class WorkspaceCreated(Event):
    """A workspace exists."""

    name: str
    slug: str


@dataclass(frozen=True, kw_only=True)
class WorkspaceUpdated(Updated):
    """A workspace has other properties, or was switched on or off."""


@dataclass(frozen=True, kw_only=True)
class WorkspaceDeleted(Event):
    """A workspace is set aside, until it is restored or purged."""


@dataclass(frozen=True, kw_only=True)
class WorkspaceRestored(Event):
    """A workspace that was set aside is back."""


@dataclass(frozen=True, kw_only=True)
class TenantCreated(Event):
    """A tenant exists: its id is *tenant_id*."""

    workspace_id: UUID
    name: str
    slug: str


@dataclass(frozen=True, kw_only=True)
class TenantUpdated(Updated):
    """A tenant has other properties, or was switched on or off."""


@dataclass(frozen=True, kw_only=True)
class TenantDeleted(Event):
    """A tenant is set aside, until it is restored or purged."""


@dataclass(frozen=True, kw_only=True)
class TenantRestored(Event):
    """A tenant that was set aside is back."""


@dataclass(frozen=True, kw_only=True)
class OrganizationPurged(Event):
    """An organization is gone for good, with all that belonged to it."""


@dataclass(frozen=True, kw_only=True)
class WorkspacePurged(Event):
    """A workspace is gone for good, with its tenants."""


@dataclass(frozen=True, kw_only=True)
class TenantPurged(Event):
    """A tenant is gone for good: others delete what they keep of it."""


@dataclass(frozen=True, kw_only=True)
class UserCreated(Event):
    """A person belongs to the organization."""

    email: str
    first_name: str
    last_name: str


@dataclass(frozen=True, kw_only=True)
class UserUpdated(Updated):
    """A person has another name, address, language…"""

    email: str


@dataclass(frozen=True, kw_only=True)
class UserStatusChanged(Event):
    """A person was activated or deactivated."""

    is_active: bool


@dataclass(frozen=True, kw_only=True)
class UserDeleted(Event):
    """A person is set aside, until restored or purged."""

    email: str


@dataclass(frozen=True, kw_only=True)
class UserRestored(Event):
    """A person who was set aside is back."""

    email: str


@dataclass(frozen=True, kw_only=True)
class UserPurged(Event):
    """A person is gone for good."""


@dataclass(frozen=True, kw_only=True)
class UserInvited(Event):
    """A person is asked to join; the mail with the link is still to be sent."""

    invitation_id: UUID
    sent_count: int
    email: str
    first_name: str
    invited_by: str
    organization_name: str


@dataclass(frozen=True, kw_only=True)
class InvitationRevoked(Event):
    """The link of an invitation is no longer good."""

    user_id: UUID
    email: str


@dataclass(frozen=True, kw_only=True)
class InvitationAccepted(Event):
    """A person who was invited has joined."""

    user_id: UUID


@dataclass(frozen=True, kw_only=True)
class RoleAssignedToUser(Event):
    """A person has a role, in all tenants or in one."""

    role_id: UUID
    role_name: str
    in_tenant_id: UUID | None


@dataclass(frozen=True, kw_only=True)
class RoleRevokedFromUser(Event):
    """A person no longer has a role."""

    role_id: UUID
    role_name: str
    in_tenant_id: UUID | None


@dataclass(frozen=True, kw_only=True)
class PermissionGranted(Event):
    """A person has a permission of their own, beside those of roles."""

    permission: str


@dataclass(frozen=True, kw_only=True)
class PermissionRevoked(Event):
    """A person no longer has a permission of their own."""

    permission: str


@dataclass(frozen=True, kw_only=True)
class RoleCreated(Event):
    """An organization has a role of its own making."""

    name: str
    level: int


@dataclass(frozen=True, kw_only=True)
class RoleUpdated(Updated):
    """A role has another name or description."""


@dataclass(frozen=True, kw_only=True)
class RolePermissionChanged(Event):
    """A role allows other things than before."""

    added: list[str]
    removed: list[str]


@dataclass(frozen=True, kw_only=True)
class RoleDeleted(Event):
    """A role is gone, and so is what it allowed."""

    name: str


@dataclass(frozen=True, kw_only=True)
class GroupCreated(Event):
    """A group exists."""

    name: str


@dataclass(frozen=True, kw_only=True)
class GroupUpdated(Updated):
    """A group has another name, other members or other roles."""


@dataclass(frozen=True, kw_only=True)
class GroupDeleted(Event):
    """A group is gone, and so is what its roles allowed."""

    name: str


@dataclass(frozen=True, kw_only=True)
class DemoReset(Event):
    """The demo organization was purged, and begins anew under another id."""


EVENTS: tuple[type[Event], ...] = (
    RegionCreated,
    RegionUpdated,
    RegionDeleted,
    OrganizationCreated,
    OrganizationUpdated,
    OrganizationDeleted,
    OrganizationRestored,
    WorkspaceCreated,
    WorkspaceUpdated,
    WorkspaceDeleted,
    WorkspaceRestored,
    TenantCreated,
    TenantUpdated,
    TenantDeleted,
    TenantRestored,
    OrganizationPurged,
    WorkspacePurged,
    TenantPurged,
    UserCreated,
    UserUpdated,
    UserStatusChanged,
    UserDeleted,
    UserRestored,
    UserPurged,
    UserInvited,
    InvitationRevoked,
    InvitationAccepted,
    RoleAssignedToUser,
    RoleRevokedFromUser,
    PermissionGranted,
    PermissionRevoked,
    RoleCreated,
    RoleUpdated,
    RolePermissionChanged,
    RoleDeleted,
    GroupCreated,
    GroupUpdated,
    GroupDeleted,
    DemoReset,
)
