"""Reads of the audit trail: the last months from PostgreSQL, what is older from the archive."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import orjson
from pydantic import Field

from control.audit import archive_search
from control.audit.archive import Archive
from control.audit.person_keys import PersonKeys
from control.audit.personal import opened, people_of
from shared.errors import Invalid, NotFound
from shared.http.models import Page, PageMeta, PageQuery, Text, View
from shared.postgres.connection import Connection

HOT, ARCHIVED = "postgresql", "archive"
METADATA_CHARACTERS_MAX: Final = 2_000
_WHERE: Final = """
     WHERE ($1::uuid IS NULL OR organization_id = $1)
       AND ($2::text IS NULL OR action = $2)
       AND ($3::uuid IS NULL OR user_id = $3)
       AND ($4::text IS NULL OR resource_type = $4)
       AND ($5::uuid IS NULL OR resource_id = $5)
       AND ($6::timestamptz IS NULL OR occurred_at >= $6)
       AND ($7::timestamptz IS NULL OR occurred_at < $7)
       AND ($8::bytea[] IS NULL OR ip_index = ANY($8))
       AND ($9::text IS NULL OR result = $9)
       AND ($10::text IS NULL OR action ILIKE $10 OR email_index = ANY($11::bytea[]))
       AND ($12::jsonb IS NULL OR metadata @> $12)
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
    email: str | None = Field(description="null: unknown, or erased, like the three below")
    ip_address: str | None
    user_agent: str | None
    details: dict[str, Any] | None
    digest: str = Field(description="SHA-256 over this entry and the digest before, hex")
    source: str = Field(description="what answered: postgresql or archive", examples=[HOT])


class AuditLogPage(Page[AuditLogView]):
    """One page of the trail."""

    sources: list[str] = Field(
        description="what was searched: the archive too, when startDate is older than what "
        "PostgreSQL holds",
        examples=[[HOT]],
    )


class AuditFilter(PageQuery):
    """Which entries, the newest first."""

    SORTS = ("occurredAt",)

    sort: str = Field("-occurredAt", max_length=64, examples=["-occurredAt"])
    search: Text | None = Field(
        None, max_length=200, description="part of an action, or a whole e-mail address"
    )
    action: Text | None = Field(None, max_length=100, examples=["auth.login"])
    user_id: UUID | None = None
    resource_type: Text | None = Field(None, max_length=50, examples=["user"])
    resource_id: UUID | None = None
    start_date: datetime | None = Field(None, description="from this moment on")
    end_date: datetime | None = Field(None, description="before this moment")
    ip_address: Text | None = Field(None, max_length=50)
    result: Text | None = Field(None, max_length=10, examples=["failure"])
    metadata: Text | None = Field(
        None,
        max_length=METADATA_CHARACTERS_MAX,
        description="a JSON object that the metadata contains",
        examples=['{"name":"checkout"}'],
    )

    def contained(self) -> dict[str, Any] | None:
        """The metadata that is looked for."""
        if self.metadata is None:
            return None
        try:
            document = orjson.loads(self.metadata)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            raise Invalid('give a JSON object, such as {"name":"checkout"}', field="metadata")
        return document


@dataclass(frozen=True, slots=True)
class Found:
    """Entries in order, how many there are in all, and where they were looked for."""

    entries: list[AuditLogView]
    total: int
    sources: list[str]


class Trail:
    """The whole trail, wherever it is kept."""

    def __init__(self, keys: PersonKeys, archive: Archive) -> None:
        self._keys = keys
        self._archive = archive

    async def page(
        self, connection: Connection, query: AuditFilter, *, organization_id: UUID | None
    ) -> AuditLogPage:
        """Of one organization, or of all that the caller may see."""
        found = await self.find(
            connection,
            query,
            organization_id=organization_id,
            limit=query.limit,
            offset=query.offset,
        )
        return AuditLogPage(
            data=found.entries,
            sources=found.sources,
            meta=PageMeta(
                page=query.page,
                limit=query.limit,
                total=found.total,
                total_pages=-(-found.total // query.limit),
            ),
        )

    async def find(
        self,
        connection: Connection,
        query: AuditFilter,
        *,
        organization_id: UUID | None,
        limit: int,
        offset: int = 0,
    ) -> Found:
        """At most *limit* entries behind *offset*; Unavailable while the archive is away."""
        values = await self._values(connection, query, organization_id)
        sources = [HOT]
        if await _is_older(connection, query.start_date):
            sources.append(ARCHIVED)
        if not query.sort.startswith("-"):
            sources.reverse()
        entries: list[AuditLogView] = []
        total = 0
        for source in sources:
            left = limit - len(entries)
            skipped = max(0, offset - total)
            if source == HOT:
                count, rows = await _hot(connection, query, values, left, skipped)
            else:
                search = archive_search.Search(*values)
                count, rows = await search.rows(
                    self._archive, order=query.order_by(), limit=left, offset=skipped
                )
            entries += await self._views(connection, rows, source)
            total += count
        return Found(entries, total, sources)

    async def entry(
        self, connection: Connection, entry_id: UUID, *, organization_id: UUID | None
    ) -> AuditLogView:
        """One entry; NotFound when the caller may see no such."""
        row: Any = await connection.fetchrow("SELECT * FROM audit_logs WHERE id = $1", entry_id)
        source = HOT
        if row is None and await connection.fetchval("SELECT EXISTS (SELECT FROM audit_prunings)"):
            source = ARCHIVED
            row = await archive_search.entry(
                self._archive, entry_id, organization_id=organization_id
            )
        if row is None:
            raise NotFound("no such entry of the audit trail")
        return (await self._views(connection, [row], source))[0]

    async def _views(
        self, connection: Connection, rows: Sequence[Any], source: str
    ) -> list[AuditLogView]:
        keys = await self._keys.of(connection, [one for row in rows for one in people_of(row)])
        return [_view(row, *opened(row, keys), source) for row in rows]

    async def _values(
        self, connection: Connection, query: AuditFilter, organization_id: UUID | None
    ) -> tuple[Any, ...]:
        addresses = emails = None
        if query.ip_address is not None:
            addresses = await self._keys.indexes(
                connection, "ip_address", query.ip_address, organization_id=organization_id
            )
        if query.search is not None and "@" in query.search:
            emails = await self._keys.indexes(
                connection, "email", query.search, organization_id=organization_id
            )
        return (
            organization_id,
            query.action,
            query.user_id,
            query.resource_type,
            query.resource_id,
            _with_zone(query.start_date),
            _with_zone(query.end_date),
            addresses,
            query.result,
            query.like(),
            emails,
            query.contained(),
        )


async def _hot(
    connection: Connection, query: AuditFilter, values: tuple[Any, ...], limit: int, offset: int
) -> tuple[int, Sequence[Any]]:
    count = await connection.fetchval(f"SELECT count(*) FROM audit_logs {_WHERE}", *values)
    rows: Sequence[Any] = ()
    if limit and offset < count:
        rows = await connection.fetch(
            f"SELECT * FROM audit_logs {_WHERE} ORDER BY {query.order_by()} LIMIT $13 OFFSET $14",
            *values,
            limit,
            offset,
        )
    return count, rows


async def _is_older(connection: Connection, start: datetime | None) -> bool:
    """Whether some of what is asked for is in the archive alone."""
    if start is None:
        return False
    month = await connection.fetchval("SELECT max(month) FROM audit_prunings")
    if month is None:
        return False
    following = (month + timedelta(days=32)).replace(day=1)
    pruned_until = datetime(following.year, following.month, 1, tzinfo=UTC)
    return (_with_zone(start) or start) < pruned_until


def _with_zone(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment


def _view(
    row: Any, actor: dict[str, Any] | None, subject: dict[str, Any] | None, source: str
) -> AuditLogView:
    known = {name: row[name] for name in AuditLogView.model_fields if name in row.keys()}  # noqa: SIM118 - records look like tuples
    details = {**(subject or {}), **(actor or {}).get("details", {})}
    return AuditLogView(
        **known | {"digest": row["digest"].hex()},
        email=(actor or {}).get("email") or None,
        ip_address=(actor or {}).get("ip_address") or None,
        user_agent=(actor or {}).get("user_agent") or None,
        details=details.get("details", details) or None,
        source=source,
    )
