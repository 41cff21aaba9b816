"""Routes of API keys."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from control.api_keys.commands import keys as commands
from control.api_keys.domain.keys import (
    GRACE_MINUTES_DEFAULT,
    GRACE_MINUTES_MAX,
    LIFE_DAYS_DEFAULT,
    LIFE_DAYS_MAX,
    NETWORKS_MAX,
    PERMISSIONS,
    PRESETS,
    Scope,
    Status,
)
from control.api_keys.domain.limits import RATE_MAX, Rates
from control.api_keys.queries import keys as queries
from control.api_keys.queries.keys import ApiKeyView, KeyWithSecret
from shared.errors import Invalid
from shared.http.call import Call
from shared.http.models import Body, Description, Name, Page, PageQuery, Text, View
from shared.http.routes import Routes

routes = Routes(
    "API keys", "Keys that exporters send with, of the tenant or workspace you work in."
)

Network = Annotated[Text, Field(max_length=50, examples=["203.0.113.0/24"])]
PermissionName = Annotated[Text, Field(max_length=50, examples=["traces:write"])]


class ApiKeyQuery(PageQuery):
    """A page of keys."""

    SORTS: ClassVar[Sequence[str]] = ("createdAt", "updatedAt", "name", "expiresAt")

    status: Status | None = None
    scope: Scope | None = None


class RatesBody(Body):
    """What one gateway process takes, all of it: null is no limit here."""

    requests_per_minute: int | None = Field(None, ge=1, le=RATE_MAX)
    items_per_second: int | None = Field(None, ge=1, le=RATE_MAX)
    bytes_per_second: int | None = Field(None, ge=1, le=RATE_MAX)

    def rates(self) -> Rates:
        """As commands take them."""
        return Rates(**dict(self))


class NewApiKey(Body):
    """A key to be."""

    scope: Scope = Field(
        "tenant",
        description="`workspace`: it writes for every tenant of the workspace that you work in, "
        "and needs that you may do so yourself in the whole organization",
    )
    name: Name = Field(examples=["Collectors in Jakarta"])
    description: Description = ""
    preset: Literal["ingestionOnly", "readOnly", "fullAccess"] | None = Field(
        None, description="instead of permissions; by default `ingestionOnly`"
    )
    permissions: list[PermissionName] | None = Field(
        None, min_length=1, max_length=len(PERMISSIONS), description="instead of a preset"
    )
    allowed_networks: list[Network] = Field(
        [], max_length=NETWORKS_MAX, description="from where it may be used; empty: from anywhere"
    )
    limits: RatesBody | None = None
    expires_in_days: int = Field(LIFE_DAYS_DEFAULT, ge=1, le=LIFE_DAYS_MAX)


class ApiKeyChange(Body):
    """What shall be different; what a key allows never changes: make another one."""

    name: Name | None = None
    description: Description | None = None
    allowed_networks: list[Network] | None = Field(None, max_length=NETWORKS_MAX)
    limits: RatesBody | None = Field(None, description="replaces those that it has")


class Rotation(Body):
    """How long the old key goes on working."""

    grace_period_minutes: int = Field(GRACE_MINUTES_DEFAULT, ge=0, le=GRACE_MINUTES_MAX)


class Preset(View):
    """A set of permissions under a name."""

    name: str = Field(examples=["ingestionOnly"])
    permissions: list[str]
    is_allowed: bool = Field(description="whether you may make a key with it")


class PresetList(View):
    """All presets."""

    data: list[Preset]


@routes.get("/api-keys", permission="api-keys:read", query=ApiKeyQuery, answer=Page[ApiKeyView])
async def list_api_keys(call: Call, query: ApiKeyQuery) -> Page[ApiKeyView]:
    """List the keys that write for the tenant you work in: its own, and those of its workspace."""
    async with call.read() as connection:
        return await queries.list_api_keys(
            connection,
            commands.place_of(call.caller),
            query,
            status=query.status,
            scope=query.scope,
        )


@routes.get("/api-key-presets", permission="api-keys:read", answer=PresetList)
async def list_api_key_presets(call: Call) -> PresetList:
    """List what keys are made for, and what they then allow."""
    return PresetList(
        data=[
            Preset(name=name, permissions=list(names), is_allowed=all(map(call.caller.may, names)))
            for name, names in PRESETS.items()
        ]
    )


@routes.post(
    "/api-keys",
    permission="api-keys:write",
    body=NewApiKey,
    answer=KeyWithSecret,
    status=201,
    has_secret=True,
)
async def create_api_key(call: Call, body: NewApiKey) -> KeyWithSecret:
    """Create a key; it allows nothing that you may not yourself. The secret is shown only here."""
    if body.preset is not None and body.permissions is not None:
        raise Invalid("give either a preset or permissions", field="permissions")
    made = await call.execute(
        commands.CreateApiKey(
            scope=body.scope,
            name=body.name,
            description=body.description,
            permissions=body.permissions or PRESETS[body.preset or "ingestionOnly"],
            allowed_networks=body.allowed_networks,
            limits=body.limits.rates() if body.limits else Rates(),
            expires_in_days=body.expires_in_days,
        )
    )
    return await _with_secret(call, made)


@routes.get("/api-keys/{id}", permission="api-keys:read", answer=ApiKeyView, is_versioned=True)
async def get_api_key(call: Call) -> ApiKeyView:
    """Get a key."""
    async with call.read() as connection:
        return await queries.get_api_key(connection, call.id(), commands.place_of(call.caller))


@routes.patch(
    "/api-keys/{id}",
    permission="api-keys:write",
    body=ApiKeyChange,
    answer=ApiKeyView,
    is_versioned=True,
)
async def change_api_key(call: Call, body: ApiKeyChange) -> ApiKeyView:
    """Change what a key is called, from where it may be used, or how much; only what is given."""
    values = dict(body) | {"limits": body.limits.rates() if body.limits else None}
    await call.execute(
        commands.ChangeApiKey(id=call.id(), expected_version=call.expected_version, **values)
    )
    return await get_api_key(call)


@routes.post(
    "/api-keys/{id}/rotate",
    permission="api-keys:write",
    body=Rotation,
    answer=KeyWithSecret,
    status=201,
    has_secret=True,
)
async def rotate_api_key(call: Call, body: Rotation) -> KeyWithSecret:
    """Replace a key by a new one; the old one goes on working until the grace is over."""
    made = await call.execute(
        commands.RotateApiKey(
            id=call.id(),
            grace=timedelta(minutes=body.grace_period_minutes),
        )
    )
    return await _with_secret(call, made)


@routes.post(
    "/api-keys/{id}/revoke",
    permission="api-keys:write",
    answer=ApiKeyView,
    is_versioned=True,
)
async def revoke_api_key(call: Call) -> ApiKeyView:
    """Revoke a key: every gateway refuses it within a second."""
    await delete_api_key(call)
    return await get_api_key(call)


@routes.delete("/api-keys/{id}", permission="api-keys:write", is_versioned=True)
async def delete_api_key(call: Call) -> None:
    """Revoke a key; it stays in the list, so that what it did can be told."""
    await call.execute(commands.RevokeApiKey(id=call.id(), expected_version=call.expected_version))


async def _with_secret(call: Call, made: commands.NewKey) -> KeyWithSecret:
    async with call.read() as connection:
        key = await queries.get_api_key(connection, made.id, commands.place_of(call.caller))
    return KeyWithSecret(
        key=key,
        secret=made.secret,
        otlp_headers=f"authorization=Bearer%20{key.key_id}:{made.secret}",
    )
