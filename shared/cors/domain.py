"""A tenant's rules for pages of other origins, and what they tell others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shared.changes import changes_of
from shared.cors.matching import HEADERS_DEFAULT, MAX_AGE_SECONDS_MAX, METHODS_DEFAULT, CorsRules
from shared.domain import Aggregate
from shared.errors import Invalid
from shared.messaging.events import Event, Updated

NAME_CHARACTERS_MAX: Final = 100


@dataclass(frozen=True, kw_only=True)
class CORSConfigCreated(Event):
    """A tenant lets pages of other origins call the API."""

    name: str
    origins: list[str]


@dataclass(frozen=True, kw_only=True)
class CORSConfigUpdated(Updated):
    """A configuration says something else, or was switched on or off."""


@dataclass(frozen=True, kw_only=True)
class CORSConfigDeleted(Event):
    """A configuration is gone."""

    name: str


EVENTS: Final = (CORSConfigCreated, CORSConfigUpdated, CORSConfigDeleted)


@dataclass(kw_only=True)
class CorsConfiguration(Aggregate):
    """Rules under a name; *max_age* in seconds is how long browsers remember a preflight."""

    organization_id: UUID
    tenant_id: UUID
    name: str
    origins: Sequence[str]
    methods: Sequence[str] = METHODS_DEFAULT
    headers: Sequence[str] = HEADERS_DEFAULT
    credentials: bool = False
    max_age: int = MAX_AGE_SECONDS_MAX
    is_active: bool = True

    def __post_init__(self) -> None:
        """Bring rules into the form that is compared; Invalid names the field that is wrong."""
        self._check()

    @property
    def rules(self) -> CorsRules:
        """What is compared with requests."""
        return CorsRules(
            self.origins,
            self.methods,
            self.headers,
            credentials=self.credentials,
            max_age_seconds=self.max_age,
        )

    def created(self) -> None:
        """Tell that it is new."""
        self.record(
            CORSConfigCreated(
                aggregate_id=self.id,
                organization_id=self.organization_id,
                tenant_id=self.tenant_id,
                name=self.name,
                origins=list(self.origins),
            )
        )

    def change(self, **values: object) -> None:
        """Take the values that are not None, by the name of their field."""
        before = {name: getattr(self, name) for name in values}
        for name, value in values.items():
            if value is not None:
                setattr(self, name, value)
        self._check()
        if changes := changes_of(before, {name: getattr(self, name) for name in before}):
            self.record(
                CORSConfigUpdated(
                    aggregate_id=self.id,
                    organization_id=self.organization_id,
                    tenant_id=self.tenant_id,
                    changes=changes,
                )
            )

    def delete(self) -> None:
        """Let it go."""
        self.record(
            CORSConfigDeleted(
                aggregate_id=self.id,
                organization_id=self.organization_id,
                tenant_id=self.tenant_id,
                name=self.name,
            )
        )

    def _check(self) -> None:
        if not 0 < len(self.name.strip()) <= NAME_CHARACTERS_MAX:
            raise Invalid(f"a name has 1 to {NAME_CHARACTERS_MAX} characters", field="name")
        rules = self.rules
        self.origins, self.methods, self.headers = (
            list(rules.origins),
            list(rules.methods),
            list(rules.headers),
        )
