"""Reads of a tenant's rules for pages of other origins."""

from typing import Final
from uuid import UUID

from pydantic import Field

from shared.cors.matching import HEADERS_DEFAULT, METHODS_DEFAULT
from shared.errors import NotFound
from shared.http.models import Page, PageQuery, Versioned
from shared.postgres.connection import Connection

_COLUMNS: Final = """
    id, version, created_at, updated_at, tenant_id, name, origins, methods, headers, credentials,
    max_age, is_active
"""


class CorsConfigurationView(Versioned):
    """Rules of one tenant."""

    tenant_id: UUID
    name: str = Field(examples=["Web application"])
    origins: list[str] = Field(examples=[["https://app.example.com"]])
    methods: list[str] = Field(examples=[list(METHODS_DEFAULT)])
    headers: list[str] = Field(examples=[list(HEADERS_DEFAULT)])
    credentials: bool
    max_age: int = Field(description="seconds that browsers remember a preflight")
    is_active: bool


async def list_of_tenant(
    connection: Connection, tenant_id: UUID, query: PageQuery
) -> Page[CorsConfigurationView]:
    """A page of a tenant's configurations."""
    rows = await connection.fetch(
        f"""
        SELECT {_COLUMNS}, count(*) OVER () AS total FROM cors_configurations
         WHERE tenant_id = $1 AND ($2::text IS NULL OR name ILIKE $2)
         ORDER BY {query.order_by()} LIMIT $3 OFFSET $4
        """,
        tenant_id,
        query.like(),
        query.limit,
        query.offset,
    )
    return Page[CorsConfigurationView].of_rows(rows, CorsConfigurationView, query)


async def get_of_tenant(
    connection: Connection, configuration_id: UUID, tenant_id: UUID
) -> CorsConfigurationView:
    """One of a tenant's configurations; NotFound when it has no such."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM cors_configurations WHERE id = $1 AND tenant_id = $2",
        configuration_id,
        tenant_id,
    )
    if row is None:
        raise NotFound("no such CORS configuration")
    return CorsConfigurationView.of(row)
