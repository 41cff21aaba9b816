"""Whose rows a transaction may see."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Scope:
    """A tenant's rows, an organization's, or those of all the platform."""

    organization_id: UUID | None = None
    tenant_id: UUID | None = None
    is_platform: bool = False


PLATFORM: Final = Scope(is_platform=True)
