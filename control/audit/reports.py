"""Monthly reports: what happened in an organization, in numbers, and whether its trail is whole."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import UUID

from pydantic import Field

from control.audit.checkpoints import Checkpoint
from control.audit.person_keys import PersonKeys
from control.audit.verification import Verdict, verify
from shared.errors import NotFound
from shared.http.models import Page, PageQuery, View
from shared.postgres.connection import Connection
from shared.spreadsheets import csv_of

# Kinds of actions are some hundred; more would be a defect of the trail.
ACTIONS_MAX: Final = 1_000
FINDINGS_SHOWN_MAX: Final = 10


class ActionCount(View):
    """How often something was done."""

    action: str = Field(examples=["auth.login"])
    result: str = Field(examples=["success"])
    count: int


class ReportSummary(View):
    """What happened in the month."""

    entries: int
    people: int = Field(description="who did something")
    sign_ins: int
    failed_sign_ins: int
    denied: int = Field(description="attempts that were refused, those left out of the trail too")
    key_changes: int
    is_unaltered: bool = Field(description="what verifying the chain found")
    verified_entries: int
    findings: list[str] = Field(description="what is wrong with the chain, the first of it")
    actions: list[ActionCount]


class ReportView(View):
    """The report of a month."""

    id: UUID
    organization_id: UUID
    month: date = Field(description="its first day")
    made_at: datetime | None = Field(description="null: it is being made")
    summary: ReportSummary | None


class ReportQuery(PageQuery):
    """A page of reports, the newest first."""

    SORTS = ("month",)

    sort: str = Field("-month", max_length=64, examples=["-month"])


async def list_reports(
    connection: Connection, query: ReportQuery, *, organization_id: UUID | None
) -> Page[ReportView]:
    """Of one organization, or of all that the caller may see."""
    rows = await connection.fetch(
        f"""
        SELECT *, count(*) OVER () AS total FROM audit_reports
         WHERE $1::uuid IS NULL OR organization_id = $1
         ORDER BY {query.order_by()} LIMIT $2 OFFSET $3
        """,  # noqa: S608 - names of our own
        organization_id,
        query.limit,
        query.offset,
    )
    return Page[ReportView].of_rows(rows, ReportView, query)


async def get_report(connection: Connection, report_id: UUID) -> ReportView:
    """One report; NotFound when the caller may see no such."""
    row = await connection.fetchrow("SELECT * FROM audit_reports WHERE id = $1", report_id)
    if row is None:
        raise NotFound("no such report")
    return ReportView.of(row)


async def summary_of(
    connection: Connection,
    organization_id: UUID,
    month: date,
    *,
    checkpoints: list[Checkpoint],
    keys: PersonKeys,
) -> ReportSummary:
    """Count what happened in *month*, and look through what PostgreSQL holds of the chain."""
    rows = await connection.fetch(
        """
        SELECT action, result, count(*) AS count,
               coalesce(sum((metadata ->> 'left_out')::bigint), 0) AS left_out
          FROM audit_logs
         WHERE organization_id = $1 AND occurred_at >= $2 AND occurred_at < $3
         GROUP BY action, result ORDER BY action, result LIMIT $4
        """,
        organization_id,
        *bounds_of(month),
        ACTIONS_MAX,
    )
    people = await connection.fetchval(
        """
        SELECT count(DISTINCT user_id) FROM audit_logs
         WHERE organization_id = $1 AND occurred_at >= $2 AND occurred_at < $3
        """,
        organization_id,
        *bounds_of(month),
    )
    verdict = await verify(connection, checkpoints, keys=keys, archive=None, only=organization_id)

    def counted(*beginnings: str) -> int:
        return sum(row["count"] for row in rows if row["action"].startswith(beginnings))

    denied = ("security.access_denied", "security.rate_limit_exceeded")
    # An entry that stands for those left out is none itself.
    left_out = sum(row["left_out"] for row in rows if row["action"] in denied)
    return ReportSummary(
        entries=sum(row["count"] for row in rows),
        people=people,
        sign_ins=counted("auth.login") - counted("auth.login_failed"),
        failed_sign_ins=counted("auth.login_failed"),
        denied=counted(*denied) + int(left_out),
        key_changes=counted("api_key."),
        **_verified(verdict),
        actions=[ActionCount.of(row) for row in rows],
    )


def csv_of_report(report: ReportView) -> bytes:
    """The report as a table that is safe in spreadsheets."""
    return csv_of(["subject", "result", "count"], list(_lines(report)))


def bounds_of(month: date) -> tuple[datetime, datetime]:
    """The first moment of a month, and that of the next one (UTC)."""
    following = date(month.year + month.month // 12, month.month % 12 + 1, 1)
    return (
        datetime(month.year, month.month, 1, tzinfo=UTC),
        datetime(following.year, following.month, 1, tzinfo=UTC),
    )


def _verified(verdict: Verdict) -> dict[str, Any]:
    return {
        "is_unaltered": not verdict.findings,
        "verified_entries": verdict.entries,
        "findings": [
            f"entry {one.sequence}: {one.what}" for one in verdict.findings[:FINDINGS_SHOWN_MAX]
        ],
    }


def _lines(report: ReportView) -> Iterator[dict[str, Any]]:
    if report.summary is None:
        return
    summary = report.summary
    for name in ("entries", "people", "sign_ins", "failed_sign_ins", "denied", "key_changes"):
        yield {"subject": name.replace("_", " "), "result": "", "count": getattr(summary, name)}
    result = "unaltered" if summary.is_unaltered else "; ".join(summary.findings)
    yield {"subject": "verification", "result": result, "count": summary.verified_entries}
    for one in summary.actions:
        yield {"subject": one.action, "result": one.result, "count": one.count}
