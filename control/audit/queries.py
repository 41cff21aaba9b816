"""Reads of the audit trail."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pydantic import Field

from shared.errors import NotFound
from shared.http.models import Page, PageQuery, View
from shared.postgres.connection import Connection

_COLUMNS: Final = """
    audit_logs.id, audit_logs.organization_id, sequence, occurred_at, tenant_id, user_id, actor,
    action, result, resource_type, resource_id, request_id, session_id, metadata,
    email, ip_address, user_agent, details, encode(digest, 'hex') AS digest
"""
_FROM: Final = """
      FROM audit_logs LEFT JOIN audit_personal ON audit_personal.id = audit_logs.id
     WHERE ($1::uuid IS NULL OR audit_logs.organization_id = $1)
       AND ($2::text IS NULL OR action = $2)
       AND ($3::uuid IS NULL OR user_id = $3)
       AND ($4::text IS NULL OR resource_type = $4)
       AND ($5::uuid IS NULL OR resource_id = $5)
       AND ($6::timestamptz IS NULL OR occurred_at >= $6)
       AND ($7::timestamptz IS NULL OR occurred_at < $7)
       AND ($8::text IS NULL OR ip_address = $8)
       AND ($9::text IS NULL OR result = $9)
       AND ($10::text IS NULL OR action ILIKE $10 OR email ILIKE $10)
"""


class AuditLogView(View):
    """What somebody did, or tried."""

    id: UUID
    organization_id: UUID = Field(description="nil: of the platform")
    sequence: int = Field(description="its place in the organization's chain, from 1 on")
    occurred_at: datetime
    tenant_id: UUID | None
    user_id: UUID | None
    actor: str = Field(examples=["user"])
    action: str = Field(examples=["api_key.created"])
    result: str = Field(examples=["success"])
    resource_type: str = Field(examples=["api_key"])
    resource_id: UUID
    request_id: str
    session_id: str
    metadata: dict[str, Any]
    email: str | None = Field(description="null: erased, like the three below")
    ip_address: str | None
    user_agent: str | None
    details: dict[str, Any] | None
    digest: str = Field(description="SHA-256 over this entry and the digest before, hex")


class AuditFilter(PageQuery):
    """Which entries, the newest first."""

    SORTS = ("occurredAt",)

    sort: str = Field("-occurredAt", max_length=64, examples=["-occurredAt"])
    action: str | None = Field(None, max_length=100, examples=["auth.login"])
    user_id: UUID | None = None
    resource_type: str | None = Field(None, max_length=50, examples=["user"])
    resource_id: UUID | None = None
    start_date: datetime | None = Field(None, description="from this moment on")
    end_date: datetime | None = Field(None, description="before this moment")
    ip_address: str | None = Field(None, max_length=50)
    result: str | None = Field(None, max_length=10, examples=["failure"])


async def list_audit_logs(
    connection: Connection, query: AuditFilter, *, organization_id: UUID | None
) -> Page[AuditLogView]:
    """Of one organization, or of all that the caller may see."""
    rows = await connection.fetch(
        f"""
        SELECT {_COLUMNS}, count(*) OVER () AS total {_FROM}
         ORDER BY {query.order_by()} LIMIT $11 OFFSET $12
        """,
        *_values(query, organization_id),
        query.limit,
        query.offset,
    )
    return Page[AuditLogView].of_rows(rows, AuditLogView, query)


async def all_audit_logs(
    connection: Connection, query: AuditFilter, *, organization_id: UUID | None, limit: int
) -> AsyncIterator[AuditLogView]:
    """The same without pages, at most *limit*."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} {_FROM} ORDER BY {query.order_by()} LIMIT $11",
        *_values(query, organization_id),
        limit,
    )
    for row in rows:
        yield AuditLogView.of(row)


async def get_audit_log(connection: Connection, entry_id: UUID) -> AuditLogView:
    """One entry; NotFound when the caller may see no such."""
    row = await connection.fetchrow(
        f"""
        SELECT {_COLUMNS} FROM audit_logs
          LEFT JOIN audit_personal ON audit_personal.id = audit_logs.id WHERE audit_logs.id = $1
        """,
        entry_id,
    )
    if row is None:
        raise NotFound("no such entry of the audit trail")
    return AuditLogView.of(row)


def _values(query: AuditFilter, organization_id: UUID | None) -> tuple[Any, ...]:
    return (
        organization_id,
        query.action,
        query.user_id,
        query.resource_type,
        query.resource_id,
        query.start_date,
        query.end_date,
        query.ip_address,
        query.result,
        query.like(),
    )
