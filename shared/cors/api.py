"""Routes of a tenant's rules for pages of other origins."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from shared.cors import commands
from shared.cors.matching import (
    HEADER_CHARACTERS_MAX,
    HEADERS_DEFAULT,
    HEADERS_MAX,
    MAX_AGE_SECONDS_MAX,
    METHODS,
    METHODS_DEFAULT,
    ORIGIN_CHARACTERS_MAX,
    ORIGINS_MAX,
)
from shared.cors.queries import CorsConfigurationView, get_of_tenant, list_of_tenant
from shared.http.call import Call
from shared.http.models import Body, Name, Page, PageQuery, Text
from shared.http.routes import Routes

routes = Routes("CORS", "Which pages of other origins may call this API for a tenant's people.")

Origin = Annotated[
    Text,
    Field(
        max_length=ORIGIN_CHARACTERS_MAX,
        description="`https://host`, `https://host:port`, `https://*.host` or `*`",
        examples=["https://app.example.com"],
    ),
]
Method = Annotated[Text, Field(max_length=16, examples=["GET"])]
Header = Annotated[Text, Field(max_length=HEADER_CHARACTERS_MAX, examples=["Authorization"])]


class CorsConfigurationQuery(PageQuery):
    """A page of CORS configurations."""

    SORTS: ClassVar[Sequence[str]] = ("createdAt", "updatedAt", "name")


class NewCorsConfiguration(Body):
    """Rules to be."""

    name: Name = Field(examples=["Web application"])
    origins: list[Origin] = Field(min_length=1, max_length=ORIGINS_MAX)
    methods: list[Method] = Field(list(METHODS_DEFAULT), min_length=1, max_length=len(METHODS))
    headers: list[Header] = Field(list(HEADERS_DEFAULT), max_length=HEADERS_MAX)
    credentials: bool = Field(False, description="needs origins that are named: not `*`")
    max_age: int = Field(MAX_AGE_SECONDS_MAX, ge=0, le=MAX_AGE_SECONDS_MAX)


class CorsConfigurationChange(Body):
    """What shall be different; lists are given in full."""

    name: Name | None = None
    origins: list[Origin] | None = Field(None, min_length=1, max_length=ORIGINS_MAX)
    methods: list[Method] | None = Field(None, min_length=1, max_length=len(METHODS))
    headers: list[Header] | None = Field(None, max_length=HEADERS_MAX)
    credentials: bool | None = None
    max_age: int | None = Field(None, ge=0, le=MAX_AGE_SECONDS_MAX)


@routes.get(
    "/cors",
    permission="cors:read",
    query=CorsConfigurationQuery,
    answer=Page[CorsConfigurationView],
)
async def list_cors_configurations(
    call: Call, query: CorsConfigurationQuery
) -> Page[CorsConfigurationView]:
    """List the CORS configurations of the tenant that you work in."""
    async with call.read() as connection:
        return await list_of_tenant(connection, commands.tenant_of(call.caller), query)


@routes.post(
    "/cors",
    permission="cors:write",
    body=NewCorsConfiguration,
    answer=CorsConfigurationView,
    status=201,
    is_versioned=True,
)
async def create_cors_configuration(
    call: Call, body: NewCorsConfiguration
) -> CorsConfigurationView:
    """Let pages of other origins call the API for people of the tenant that you work in."""
    made_id = await call.execute(commands.CreateCorsConfiguration(**dict(body)))
    async with call.read() as connection:
        return await get_of_tenant(connection, made_id, commands.tenant_of(call.caller))


@routes.get("/cors/{id}", permission="cors:read", answer=CorsConfigurationView, is_versioned=True)
async def get_cors_configuration(call: Call) -> CorsConfigurationView:
    """Get a CORS configuration."""
    async with call.read() as connection:
        return await get_of_tenant(connection, call.id(), commands.tenant_of(call.caller))


@routes.patch(
    "/cors/{id}",
    permission="cors:write",
    body=CorsConfigurationChange,
    answer=CorsConfigurationView,
    is_versioned=True,
)
async def change_cors_configuration(
    call: Call, body: CorsConfigurationChange
) -> CorsConfigurationView:
    """Change a CORS configuration; only what is given."""
    await call.execute(
        commands.ChangeCorsConfiguration(
            id=call.id(), expected_version=call.expected_version, **dict(body)
        )
    )
    return await get_cors_configuration(call)


@routes.delete("/cors/{id}", permission="cors:delete", is_versioned=True)
async def delete_cors_configuration(call: Call) -> None:
    """Delete a CORS configuration."""
    await call.execute(
        commands.DeleteCorsConfiguration(id=call.id(), expected_version=call.expected_version)
    )


@routes.post(
    "/cors/{id}/activate",
    permission="cors:write",
    answer=CorsConfigurationView,
    is_versioned=True,
)
async def activate_cors_configuration(call: Call) -> CorsConfigurationView:
    """Put a CORS configuration in force again."""
    return await _switched(call, is_active=True)


@routes.post(
    "/cors/{id}/deactivate",
    permission="cors:write",
    answer=CorsConfigurationView,
    is_versioned=True,
)
async def deactivate_cors_configuration(call: Call) -> CorsConfigurationView:
    """Keep a CORS configuration, and allow nothing by it."""
    return await _switched(call, is_active=False)


async def _switched(call: Call, *, is_active: bool) -> CorsConfigurationView:
    await call.execute(
        commands.ChangeCorsConfiguration(
            id=call.id(), expected_version=call.expected_version, is_active=is_active
        )
    )
    return await get_cors_configuration(call)
