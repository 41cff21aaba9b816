"""People, the roles that they have, and how they come in."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from control.core.domain.roles import Role
from control.core.domain.tenancy import RESTORABLE_DAYS
from control.core.domain.values import Email, checked_language, checked_name, checked_timezone
from control.core.events import (
    InvitationAccepted,
    InvitationRevoked,
    PermissionGranted,
    PermissionRevoked,
    RoleAssignedToUser,
    RoleRevokedFromUser,
    UserCreated,
    UserDeleted,
    UserInvited,
    UserPurged,
    UserRestored,
    UserStatusChanged,
    UserUpdated,
)
from shared.domain import Aggregate
from shared.errors import Conflict, Invalid, NotFound

INVITATION_DAYS: Final = 7
INVITATION_MAILS_MAX: Final = 10
ROLES_OF_USER_MAX: Final = 50
AVATAR_CHARACTERS_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class Assignment:
    """A role that a person has: in all tenants, or in one; for good, or until a time."""

    role_id: UUID
    tenant_id: UUID | None = None
    expires_at: datetime | None = None


@dataclass(kw_only=True)
class User(Aggregate):
    """A person of one organization."""

    organization_id: UUID
    email: str
    first_name: str
    last_name: str
    tenant_id: UUID | None = None
    avatar_url: str = ""
    timezone: str = "UTC"
    language: str = "en"
    is_active: bool = True
    is_email_verified: bool = False
    deleted_at: datetime | None = None
    assignments: list[Assignment] = field(default_factory=list)
    grants: set[str] = field(default_factory=set)

    @classmethod
    def create(
        cls,
        *,
        organization_id: UUID,
        email: str,
        first_name: str,
        last_name: str,
        tenant_id: UUID | None = None,
        **options: Any,
    ) -> "User":
        """A new person; the address of mail is unique."""
        user = cls(
            organization_id=organization_id,
            email=Email(email).address,
            first_name=checked_name(first_name, "firstName"),
            last_name=checked_name(last_name, "lastName"),
            tenant_id=tenant_id,
            **options,
        )
        user.record(
            UserCreated(
                aggregate_id=user.id,
                organization_id=organization_id,
                email=user.email,
                first_name=user.first_name,
                last_name=user.last_name,
            )
        )
        return user

    def change(self, **values: Any) -> None:
        """Take the values that are given (not None) and differ."""
        given = {name: value for name, value in values.items() if value is not None}
        changes = self.take({name: _checked_of_user(name, one) for name, one in given.items()})
        if "email" in changes:
            # The new address is not known to be theirs.
            self.is_email_verified = False
        if changes:
            self.record(
                UserUpdated(
                    aggregate_id=self.id,
                    organization_id=self.organization_id,
                    email=self.email,
                    changes=changes,
                )
            )

    def verify_email(self, address: str) -> None:
        """They proved that mail to *address* reaches them, which counts while it is theirs."""
        if address == self.email and not self.is_email_verified:
            self.is_email_verified = True

    def switch(self, *, is_active: bool) -> None:
        """Let them in, or keep them out."""
        if self.is_active != is_active:
            self.is_active = is_active
            self.record(
                UserStatusChanged(
                    aggregate_id=self.id,
                    organization_id=self.organization_id,
                    is_active=is_active,
                )
            )

    def delete(self, *, now: datetime) -> None:
        """Set them aside."""
        if self.deleted_at is None:
            self.deleted_at = now
            self.record(
                UserDeleted(
                    aggregate_id=self.id, organization_id=self.organization_id, email=self.email
                )
            )

    def restore(self, *, now: datetime) -> None:
        """Take them back; Conflict when they were deleted too long ago."""
        if self.deleted_at is None:
            return
        if now > self.deleted_at + timedelta(days=RESTORABLE_DAYS):
            raise Conflict(f"they were deleted more than {RESTORABLE_DAYS} days ago")
        self.deleted_at = None
        self.record(
            UserRestored(
                aggregate_id=self.id, organization_id=self.organization_id, email=self.email
            )
        )

    def purge(self) -> None:
        """Tell the others to forget them."""
        if self.deleted_at is None:
            raise Conflict("delete them first: a purge is for what was deleted")
        self.record(UserPurged(aggregate_id=self.id, organization_id=self.organization_id))

    def assign_role(self, role: Role, assignment: Assignment, *, now: datetime) -> None:
        """Give them *role*; Conflict when they have it there already."""
        if any(
            (one.role_id, one.tenant_id) == (assignment.role_id, assignment.tenant_id)
            for one in self.assignments
        ):
            raise Conflict(f"they have the role {role.name} already")
        if len(self.assignments) >= ROLES_OF_USER_MAX:
            raise Conflict(f"a person has at most {ROLES_OF_USER_MAX} roles: use a group")
        if assignment.expires_at is not None and assignment.expires_at <= now:
            raise Invalid("lies in the past", field="expiresAt")
        self.assignments.append(assignment)
        self.record(
            RoleAssignedToUser(
                aggregate_id=self.id,
                organization_id=self.organization_id,
                role_id=role.id,
                role_name=role.name,
                in_tenant_id=assignment.tenant_id,
            )
        )

    def revoke_role(self, role: Role, tenant_id: UUID | None) -> None:
        """Take *role* away again; NotFound when they do not have it there."""
        left = [
            one for one in self.assignments if (one.role_id, one.tenant_id) != (role.id, tenant_id)
        ]
        if len(left) == len(self.assignments):
            raise NotFound("they do not have this role")
        self.assignments = left
        self.record(
            RoleRevokedFromUser(
                aggregate_id=self.id,
                organization_id=self.organization_id,
                role_id=role.id,
                role_name=role.name,
                in_tenant_id=tenant_id,
            )
        )

    def grant(self, permission: str) -> None:
        """Give them one permission beside their roles; Conflict when they have it so already."""
        if permission in self.grants:
            raise Conflict(f"they were granted {permission} already")
        self.grants.add(permission)
        self.record(
            PermissionGranted(
                aggregate_id=self.id, organization_id=self.organization_id, permission=permission
            )
        )

    def revoke(self, permission: str) -> None:
        """Take a permission of their own away; NotFound when they have it from roles or not."""
        if permission not in self.grants:
            raise NotFound("they were not granted this permission")
        self.grants.remove(permission)
        self.record(
            PermissionRevoked(
                aggregate_id=self.id, organization_id=self.organization_id, permission=permission
            )
        )


def _checked_of_user(name: str, value: Any) -> Any:
    match name:
        case "email":
            return Email(value).address
        case "first_name":
            return checked_name(value, "firstName")
        case "last_name":
            return checked_name(value, "lastName")
        case "timezone":
            return checked_timezone(value)
        case "language":
            return checked_language(value)
        case "avatar_url" if value and not (
            value.startswith("https://") and len(value) <= AVATAR_CHARACTERS_MAX
        ):
            raise Invalid("give an https address", field="avatarUrl")
    return value


@dataclass(kw_only=True)
class Invitation(Aggregate):
    """That a person is asked to join; the link in the mail is good for a week."""

    organization_id: UUID
    user_id: UUID
    email: str
    invited_by: UUID | None
    expires_at: datetime
    sent_count: int = 1
    accepted_at: datetime | None = None
    revoked_at: datetime | None = None

    @classmethod
    def create(
        cls, user: User, *, invited_by: UUID | None, by_name: str, organization: str, now: datetime
    ) -> "Invitation":
        """Ask *user* to join."""
        invitation = cls(
            organization_id=user.organization_id,
            user_id=user.id,
            email=user.email,
            invited_by=invited_by,
            expires_at=now + timedelta(days=INVITATION_DAYS),
        )
        invitation._send(user.first_name, by_name, organization)
        return invitation

    def send_again(
        self, *, first_name: str, by_name: str, organization: str, now: datetime
    ) -> None:
        """Another mail; the links of those before are no longer good."""
        self._require_open()
        if self.sent_count >= INVITATION_MAILS_MAX:
            raise Conflict(f"{INVITATION_MAILS_MAX} mails were sent: revoke it and invite anew")
        self.sent_count += 1
        self.expires_at = now + timedelta(days=INVITATION_DAYS)
        self._send(first_name, by_name, organization)

    def accept(self, *, now: datetime) -> None:
        """They joined; Conflict when the invitation is no longer open, or too old."""
        self._require_open()
        if now > self.expires_at:
            raise Conflict("the invitation has expired: ask for a new one")
        self.accepted_at = now
        self.record(
            InvitationAccepted(
                aggregate_id=self.id, organization_id=self.organization_id, user_id=self.user_id
            )
        )

    def revoke(self, *, now: datetime) -> None:
        """Its link is no longer good."""
        self._require_open()
        self.revoked_at = now
        self.record(
            InvitationRevoked(
                aggregate_id=self.id,
                organization_id=self.organization_id,
                user_id=self.user_id,
                email=self.email,
            )
        )

    def _send(self, first_name: str, by_name: str, organization: str) -> None:
        self.record(
            UserInvited(
                aggregate_id=self.user_id,
                organization_id=self.organization_id,
                invitation_id=self.id,
                sent_count=self.sent_count,
                email=self.email,
                first_name=first_name,
                invited_by=by_name,
                organization_name=organization,
            )
        )

    def _require_open(self) -> None:
        if self.accepted_at is not None:
            raise Conflict("the invitation was accepted already")
        if self.revoked_at is not None:
            raise Conflict("the invitation was revoked")
