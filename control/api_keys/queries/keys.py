"""Reads of API keys: what the API shows, which is never a secret or its hash."""

from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from pydantic import Field

from shared.errors import NotFound
from shared.http.models import Page, PageQuery, Versioned, View
from shared.postgres.connection import Connection

# Of a key whose time is over, before the next look of the job that marks it.
_STATUS: Final = """
    CASE WHEN status IN ('active', 'rotated') AND least(expires_at, grace_ends_at) <= now()
         THEN 'expired' ELSE status END
"""
_COLUMNS: Final = f"""
    id, version, created_at, updated_at, tenant_id, key_id, name, description, permissions,
    allowed_networks, {_STATUS} AS status, created_by, expires_at, grace_ends_at, replaced_by,
    revoked_at,
    (SELECT last_used_at FROM api_key_uses WHERE api_key_uses.key_id = api_keys.key_id
        AND api_key_uses.tenant_id = api_keys.tenant_id) AS last_used_at,
    (SELECT coalesce(sum(items), 0)::bigint FROM usage_days
      WHERE usage_days.tenant_id = api_keys.tenant_id AND usage_days.key_id = api_keys.key_id
        AND day > (now() AT TIME ZONE 'UTC')::date - 30) AS recent_items
"""

Status = Literal["active", "rotated", "revoked", "expired"]


class ApiKeyView(Versioned):
    """A key without its secret."""

    tenant_id: UUID
    key_id: str = Field(
        description="what clients send beside the secret",
        examples=["tfk_0123456789abcdef0123456789abcdef"],
    )
    name: str = Field(examples=["Collectors in Jakarta"])
    description: str
    permissions: list[str] = Field(examples=[["metrics:write", "logs:write", "traces:write"]])
    allowed_networks: list[str] = Field(description="empty: from anywhere")
    status: Status
    created_by: UUID | None
    expires_at: datetime
    grace_ends_at: datetime | None = Field(description="until when a rotated key works")
    replaced_by: UUID | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(
        description="when data that came with it was stored, to the minute, a minute or so late"
    )
    recent_items: int = Field(
        description="spans, points and log records stored with it in the last 30 days",
        examples=[120_000],
    )


class KeyWithSecret(View):
    """A key that was just made; the secret is shown only here."""

    key: ApiKeyView
    secret: str = Field(description="`tfs_` + 64 hex; the last 8 are the CRC-32 of those before")
    otlp_headers: str = Field(
        description="the value of OTEL_EXPORTER_OTLP_HEADERS for an OpenTelemetry SDK",
        examples=["authorization=Bearer%20tfk_…:tfs_…"],
    )


async def list_api_keys(
    connection: Connection, tenant_id: UUID, query: PageQuery, *, status: str | None
) -> Page[ApiKeyView]:
    """A page of a tenant's keys."""
    rows = await connection.fetch(
        f"""
        SELECT {_COLUMNS}, count(*) OVER () AS total FROM api_keys
         WHERE tenant_id = $1 AND ($2::text IS NULL OR name ILIKE $2 OR key_id ILIKE $2)
           AND ($3::text IS NULL OR ({_STATUS}) = $3)
         ORDER BY {query.order_by()} LIMIT $4 OFFSET $5
        """,
        tenant_id,
        query.like(),
        status,
        query.limit,
        query.offset,
    )
    return Page[ApiKeyView].of_rows(rows, ApiKeyView, query)


async def get_api_key(connection: Connection, key_id: UUID, tenant_id: UUID) -> ApiKeyView:
    """One of a tenant's keys; NotFound when it has no such."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM api_keys WHERE id = $1 AND tenant_id = $2", key_id, tenant_id
    )
    if row is None:
        raise NotFound("no such API key")
    return ApiKeyView.of(row)
