"""The map of the product: every bounded context, its number, and whom it may depend on.

A dependency means: it may subscribe to that context's events, and use what the composition root
hands it of that context. `telemetryflow modules` prints this; import contracts and tests hold it.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final


@dataclass(frozen=True, slots=True)
class Context:
    """A bounded context: a folder of `control/`."""

    number: int
    name: str
    sentence: str
    depends_on: tuple[int, ...] = ()

    @property
    def is_built(self) -> bool:
        """Whether its folder is there."""
        return find_spec(f"control.{self.name}") is not None


CONTEXTS: Final = (
    Context(100, "core", "Regions, organizations, workspaces, tenants, people, roles."),
    Context(200, "auth", "Sign-in, sessions, passwords, second factors.", (100,)),
    Context(300, "api_keys", "Keys that exporters send with.", (100,)),
    Context(400, "telemetry", "Reading metrics, logs and traces.", (200,)),
    Context(500, "monitoring", "Uptime monitors and health checks.", (200,)),
    Context(600, "alerts", "Alert rules, incidents, notifications.", (200, 400, 500)),
    Context(700, "sso", "Single sign-on with an organization's own identity provider.", (200,)),
    Context(800, "audit", "Who did what, provably unaltered.", (200,)),
    Context(900, "dashboard", "Dashboards and their widgets.", (200, 400)),
    Context(1000, "subscription", "Plans, usage, invoices.", (100,)),
    Context(1100, "agents", "Collectors and agents in the field.", (200,)),
    Context(1200, "status_page", "Public status pages.", (200, 500, 600)),
    Context(1300, "export", "Data taken out as files.", (200, 400)),
    Context(1400, "query_builder", "Queries built by hand, saved and shared.", (200,)),
    Context(1500, "retention_policy", "How long data is kept.", (400,)),
    # new contexts go above this line: contexts
)
