"""Routes of the audit trail."""

from typing import Literal
from uuid import UUID

from aiohttp import web
from pydantic import Field

from control.audit import reports
from control.audit.domain import PLATFORM_ID
from control.audit.events import AuditLogsExported
from control.audit.queries import AuditFilter, AuditLogPage, AuditLogView, Trail
from control.audit.reports import ReportQuery, ReportView
from shared.errors import TooLarge
from shared.http.call import Call
from shared.http.models import Page, Query, View
from shared.http.routes import Routes
from shared.messaging.commands import SIGNED_IN
from shared.postgres.outbox import append_to_outbox
from shared.postgres.scope import PLATFORM
from shared.spreadsheets import csv_of

routes = Routes("Audit", "Who did what; entries are only ever added.")

# More at once is for the archive: narrow the time.
EXPORTED_MAX = 10_000


class ExportFilter(AuditFilter):
    """Which entries, and as what."""

    format: Literal["csv", "json"] = Field("csv", description="JSON: an array of entries")


class ReportFormat(Query):
    """As what."""

    format: Literal["csv", "json"] = "json"


class AuditLogList(View):
    """Entries, all of them."""

    data: list[AuditLogView]


@routes.get("/audit-logs", permission="audit:read", query=AuditFilter, answer=AuditLogPage)
async def list_audit_logs(call: Call, query: AuditFilter) -> AuditLogPage:
    """List what was done in your organization, the newest first."""
    async with call.read() as connection:
        return await call.service(Trail).page(
            connection, query, organization_id=_organization_of(call)
        )


@routes.get(
    "/audit-logs/export",
    permission="audit:export",
    query=ExportFilter,
    answer=AuditLogList,
    other_content_types=("text/csv",),
    errors=(413,),
)
async def export_audit_logs(call: Call, query: ExportFilter) -> web.Response:
    """Take entries out as a file, CSV (safe in spreadsheets) or JSON; at most 10 000 at once."""
    async with call.read() as connection:
        found = await call.service(Trail).find(
            connection, query, organization_id=_organization_of(call), limit=EXPORTED_MAX
        )
    if found.total > EXPORTED_MAX:
        raise TooLarge(f"more than {EXPORTED_MAX} entries: narrow them with startDate and endDate")
    await _note_export(call, query, found.total)
    headers = {
        "Content-Disposition": f'attachment; filename="audit-logs.{query.format}"',
        "Cache-Control": "no-store",
    }
    if query.format == "json":
        body = AuditLogList(data=found.entries).model_dump_json(by_alias=True).encode()
        return web.Response(body=body, headers=headers, content_type="application/json")
    columns = [field.alias or name for name, field in AuditLogView.model_fields.items()]
    body = csv_of(columns, (one.model_dump(mode="json", by_alias=True) for one in found.entries))
    return web.Response(body=body, headers=headers, content_type="text/csv", charset="utf-8")


@routes.get(
    "/audit-logs/reports", permission="audit:read", query=ReportQuery, answer=Page[ReportView]
)
async def list_audit_reports(call: Call, query: ReportQuery) -> Page[ReportView]:
    """List the monthly reports of your organization."""
    async with call.read() as connection:
        return await reports.list_reports(connection, query, organization_id=_organization_of(call))


@routes.get(
    "/audit-logs/reports/{id}",
    permission="audit:read",
    query=ReportFormat,
    answer=ReportView,
    other_content_types=("text/csv",),
)
async def get_audit_report(call: Call, query: ReportFormat) -> ReportView | web.Response:
    """Get the report of a month, as JSON or CSV."""
    async with call.read() as connection:
        report = await reports.get_report(connection, call.id())
    if query.format == "json":
        return report
    headers = {
        "Content-Disposition": f'attachment; filename="audit-{report.month:%Y-%m}.csv"',
        "Cache-Control": "no-store",
    }
    body = reports.csv_of_report(report)
    return web.Response(body=body, headers=headers, content_type="text/csv", charset="utf-8")


@routes.get("/audit-logs/{id}", permission="audit:read", answer=AuditLogView)
async def get_audit_log(call: Call) -> AuditLogView:
    """Get one entry."""
    async with call.read() as connection:
        return await call.service(Trail).entry(
            connection, call.id(), organization_id=_organization_of(call)
        )


@routes.get("/me/audit-logs", permission=SIGNED_IN, query=AuditFilter, answer=AuditLogPage)
async def list_own_audit_logs(call: Call, query: AuditFilter) -> AuditLogPage:
    """List what you did yourself."""
    own = query.model_copy(update={"user_id": call.own_id})
    async with call.read() as connection:
        return await call.service(Trail).page(
            connection, own, organization_id=_organization_of(call)
        )


async def _note_export(call: Call, query: ExportFilter, entries: int) -> None:
    """What leaves the trail is in the trail, before it leaves."""
    filters = query.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    event = AuditLogsExported(
        # Of the organization as a whole; of the platform's people, of all of them.
        aggregate_id=_organization_of(call) or PLATFORM_ID,
        organization_id=call.caller.organization_id,
        format=query.format,
        entries=entries,
        filters={name: str(value) for name, value in filters.items() if name != "format"},
    )
    async with call.services.database.begin(PLATFORM) as connection:
        await append_to_outbox(connection, [event])


def _organization_of(call: Call) -> UUID | None:
    """Whoever runs the platform sees all organizations."""
    return None if call.caller.is_platform else call.caller.organization_id
