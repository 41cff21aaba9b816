"""Reads of API keys: what the API shows, which is never a secret or its hash."""

from datetime import datetime
from typing import Any, Final, Self
from uuid import UUID

from pydantic import Field

from control.api_keys.domain.keys import Place, Scope, Status
from shared.errors import NotFound
from shared.http.models import Page, PageQuery, Versioned, View
from shared.postgres.connection import Connection

# Of a key whose time is over, before the next look of the job that marks it.
_STATUS: Final = """
    CASE WHEN status IN ('active', 'rotated') AND least(expires_at, grace_ends_at) <= now()
         THEN 'expired' ELSE status END
"""
_COLUMNS: Final = f"""
    id, version, created_at, updated_at, tenant_id, workspace_id,
    CASE WHEN workspace_id IS NULL THEN 'tenant' ELSE 'workspace' END AS scope, key_id, name,
    description, permissions, allowed_networks, {_STATUS} AS status, created_by, expires_at,
    grace_ends_at, replaced_by, revoked_at,
    (SELECT last_used_at FROM api_key_uses
      WHERE api_key_uses.key_id = api_keys.key_id
        AND api_key_uses.organization_id = api_keys.organization_id) AS last_used_at,
    (SELECT coalesce(sum(items), 0)::bigint FROM usage_days
      WHERE usage_days.tenant_id IN (
              SELECT tenants.id FROM tenants
               WHERE tenants.id = api_keys.tenant_id
                  OR tenants.workspace_id = api_keys.workspace_id)
        AND usage_days.key_id = api_keys.key_id
        AND day > (now() AT TIME ZONE 'UTC')::date - 30) AS recent_items,
    requests_per_minute, items_per_second, bytes_per_second
"""


class RatesView(View):
    """What one gateway process takes with a key; null: as its tenant may."""

    requests_per_minute: int | None = Field(
        description="null: the gateway's THROTTLE_INGESTION_LIMIT, 1 000 by default"
    )
    items_per_second: int | None
    bytes_per_second: int | None


class ApiKeyView(Versioned):
    """A key without its secret."""

    scope: Scope = Field(description="what it writes for: one tenant, or all of a workspace")
    tenant_id: UUID | None = Field(description="of a key of a tenant")
    workspace_id: UUID | None = Field(description="of a key of a workspace")
    key_id: str = Field(
        description="what clients send beside the secret",
        examples=["tfk_0123456789abcdef0123456789abcdef"],
    )
    name: str = Field(examples=["Collectors in Jakarta"])
    description: str
    permissions: list[str] = Field(examples=[["metrics:write", "logs:write", "traces:write"]])
    allowed_networks: list[str] = Field(description="empty: from anywhere")
    limits: RatesView
    status: Status
    created_by: UUID | None
    expires_at: datetime
    grace_ends_at: datetime | None = Field(description="until when a rotated key works")
    replaced_by: UUID | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(
        description="when data that came with it was stored, or it last read; to the minute, a "
        "minute or so late"
    )
    recent_items: int = Field(
        description="spans, points and log records stored with it in the last 30 days",
        examples=[120_000],
    )

    @classmethod
    def of(cls, row: Any) -> Self:
        """From a row whose columns are named like the fields, those of the limits too."""
        return cls.model_validate(dict(row) | {"limits": dict(row)})


class KeyWithSecret(View):
    """A key that was just made; the secret is shown only here."""

    key: ApiKeyView
    secret: str = Field(description="`tfs_` + 64 hex; the last 8 are the CRC-32 of those before")
    otlp_headers: str = Field(
        description="the value of OTEL_EXPORTER_OTLP_HEADERS for an OpenTelemetry SDK",
        examples=["authorization=Bearer%20tfk_…:tfs_…"],
    )


async def list_api_keys(
    connection: Connection,
    place: Place,
    query: PageQuery,
    *,
    status: str | None,
    scope: str | None,
) -> Page[ApiKeyView]:
    """A page of the keys that write for a tenant: its own, and those of its workspace."""
    rows = await connection.fetch(
        f"""
        SELECT {_COLUMNS}, count(*) OVER () AS total FROM api_keys
         WHERE (tenant_id = $1 OR workspace_id = $2)
           AND ($3::text IS NULL OR name ILIKE $3 OR key_id ILIKE $3)
           AND ($4::text IS NULL OR ({_STATUS}) = $4)
           AND ($5::text IS NULL OR (workspace_id IS NOT NULL) = ($5 = 'workspace'))
         ORDER BY {query.order_by()} LIMIT $6 OFFSET $7
        """,
        *place,
        query.like(),
        status,
        scope,
        query.limit,
        query.offset,
    )
    return Page[ApiKeyView].of_rows(rows, ApiKeyView, query)


async def get_api_key(connection: Connection, key_id: UUID, place: Place) -> ApiKeyView:
    """One of the keys that write for a tenant; NotFound when there is no such."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM api_keys WHERE id = $1 AND (tenant_id = $2 OR workspace_id = $3)",
        key_id,
        *place,
    )
    if row is None:
        raise NotFound("no such API key")
    return ApiKeyView.of(row)
