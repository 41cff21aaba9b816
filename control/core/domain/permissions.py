"""The role model as data: every permission, and the matrix of the five tiers.

A permission is `resource:action`. A cell of the matrix lists actions of one area for one tier; `*`
means all actions that the area has.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid5

_NAMESPACE: Final = UUID("6f0e9c52-5f3b-4f57-9a57-2f5e5d0d3a11")

# Area → its actions. Order is that of the documentation.
AREAS: Final[dict[str, tuple[str, ...]]] = {
    "platform": ("read", "write"),
    "organization": ("read", "write", "delete"),
    "region": ("read", "write", "delete"),
    "workspace": ("read", "write", "delete"),
    "tenant": ("read", "write", "delete"),
    "user": ("read", "write", "delete"),
    "group": ("read", "write", "delete"),
    "role": ("read", "write", "delete"),
    "permission": ("read", "write"),
    "api-keys": ("read", "write"),
    "metrics": ("read", "write", "delete", "export"),
    "logs": ("read", "write", "delete", "export"),
    "traces": ("read", "write", "delete", "export"),
    "dashboards": ("read", "write", "delete"),
    "alerts": ("read", "write", "delete", "acknowledge"),
    "agents": ("read", "write", "delete", "register"),
    "monitors": ("read", "write", "delete", "check"),
    "status-pages": ("read", "write", "delete"),
    "queries": ("read", "write", "delete"),
    "export": ("read", "write"),
    "retention": ("read", "write"),
    "sso": ("read", "write", "delete"),
    "subscription": ("read", "write"),
    "audit": ("read", "export"),
    "cors": ("read", "write", "delete"),
    "cache": ("read", "write"),
    "queue": ("read", "write"),
    # new contexts go above this line: areas
}

# What belongs to an organization as a whole: a role in one tenant allows nothing here but seeing.
OF_ORGANIZATION: Final = frozenset(
    {
        *("platform", "organization", "region", "workspace", "tenant", "user", "group", "role"),
        *("permission", "sso", "subscription", "cache", "queue"),
    }
)

_MEANING: Final = {
    "read": "see",
    "write": "create and change",
    "delete": "delete",
    "export": "take out as files",
    "acknowledge": "acknowledge",
    "register": "register",
    "check": "run by hand",
}


@dataclass(frozen=True, slots=True)
class Permission:
    """One permission; its id follows from its name, so that it is the same everywhere."""

    resource: str
    action: str

    @property
    def name(self) -> str:
        """As routes and tokens name it."""
        return f"{self.resource}:{self.action}"

    @property
    def id(self) -> UUID:
        """Its identity in the API."""
        return uuid5(_NAMESPACE, self.name)

    @property
    def description(self) -> str:
        """For people who choose."""
        return f"{_MEANING[self.action].capitalize()} {self.resource.replace('-', ' ')}"


@dataclass(frozen=True, slots=True)
class Tier:
    """A role that comes with the product; level 1 is the strongest."""

    level: int
    name: str
    description: str
    areas: dict[str, str]

    @property
    def id(self) -> UUID:
        """Its identity in the API."""
        return uuid5(_NAMESPACE, f"tier {self.level}")

    @property
    def permissions(self) -> frozenset[str]:
        """What it allows, in full."""
        return frozenset(
            f"{area}:{action}"
            for area, actions in self.areas.items()
            for action in (AREAS[area] if actions == "*" else actions.split())
        )


_TELEMETRY: Final = ("metrics", "logs", "traces")
_OF_PLATFORM: Final = ("platform", "cache", "queue")

SUPER_ADMINISTRATOR: Final = Tier(
    level=1,
    name="Super Administrator",
    description="Everything, in all organizations",
    areas=dict.fromkeys(AREAS, "*"),
)
ADMINISTRATOR: Final = Tier(
    level=2,
    name="Administrator",
    description="Everything within one organization",
    areas={area: "*" for area in AREAS if area not in _OF_PLATFORM}
    | {"organization": "read write", "region": "read", "permission": "read"},
)
DEVELOPER: Final = Tier(
    level=3,
    name="Developer",
    description="Works with telemetry, dashboards and alerts; deletes nothing",
    areas={
        "organization": "read",
        "region": "read",
        "workspace": "read write",
        "tenant": "read write",
        "user": "read write",
        "group": "read",
        "role": "read",
        "permission": "read",
        "api-keys": "read write",
        **dict.fromkeys(_TELEMETRY, "read write"),
        "dashboards": "read write",
        "alerts": "read write",
        "agents": "read write register",
        "monitors": "read write check",
        "status-pages": "read write",
        "queries": "read write",
        "retention": "read",
        "subscription": "read",
        "audit": "read",
        # new contexts go above this line: developers
    },
)
_SEEN_BY_ALL: Final = (
    *("organization", "region", "workspace", "tenant", "user", "group", "role", "permission"),
    *_TELEMETRY,
    *("dashboards", "alerts", "agents", "status-pages", "queries", "audit"),
    # new contexts go above this line: seen by all
)
VIEWER: Final = Tier(
    level=4,
    name="Viewer",
    description="Sees, and runs uptime checks",
    areas={**dict.fromkeys(_SEEN_BY_ALL, "read"), "monitors": "read check"},
)
DEMO: Final = Tier(
    level=5,
    name="Demo",
    description="A developer within the demo organization, which is wiped every six hours",
    areas={
        area: actions
        for area, actions in DEVELOPER.areas.items()
        if area not in ("api-keys", "retention", "subscription")
    },
)
TIERS: Final = (SUPER_ADMINISTRATOR, ADMINISTRATOR, DEVELOPER, VIEWER, DEMO)

PERMISSIONS: Final = {
    permission.name: permission
    for permission in (
        Permission(area, action) for area, actions in AREAS.items() for action in actions
    )
}
PERMISSION_OF_ID: Final = {permission.id: permission for permission in PERMISSIONS.values()}


def counts_in_tenant(name: str) -> bool:
    """Whether a permission that is held in one tenant alone means anything there."""
    area, _, action = name.partition(":")
    return area not in OF_ORGANIZATION or action == "read"
