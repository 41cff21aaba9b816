"""Reports of a month: ordered when it is over, made and mailed by the worker, each once."""

from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

from control.audit.checkpoints import Checkpoints
from control.audit.person_keys import PersonKeys
from control.audit.reports import ReportView, csv_of_report, get_report, summary_of
from shared.email import mails
from shared.email.mailer import Mailer
from shared.errors import Invalid
from shared.messaging.events import utc_now
from shared.postgres.connection import Connection
from shared.postgres.database import Database
from shared.postgres.scope import PLATFORM
from shared.queue.jobs import Job, enqueue
from shared.queue.worker import JobHandlers

MAKE_REPORT: Final = "audit.make_report"
MAIL_REPORT: Final = "audit.mail_report"
ORDERED_AT_ONCE: Final = 500
ADMINISTRATORS_MAX: Final = 200


async def order_reports(connection: Connection, *, now: datetime) -> int:
    """Order the reports of the month before *now* that nobody ordered yet; how many.

    Every worker may ask at any time: an organization has one report of a month.
    """
    month = (now.date().replace(day=1) - timedelta(days=1)).replace(day=1)
    ordered = await connection.fetch(
        """
        INSERT INTO audit_reports (organization_id, month)
        SELECT id, $1 FROM organizations
         WHERE deleted_at IS NULL AND created_at < $2
           AND NOT EXISTS (SELECT FROM audit_reports
                 WHERE audit_reports.organization_id = organizations.id AND month = $1)
         ORDER BY id LIMIT $3
            ON CONFLICT DO NOTHING RETURNING id
        """,
        month,
        now.replace(day=1, hour=0, minute=0, second=0, microsecond=0),
        ORDERED_AT_ONCE,
    )
    for row in ordered:
        await enqueue(connection, "aggregation", MAKE_REPORT, {"reportId": str(row["id"])})
    return len(ordered)


async def make_report(
    job: Job, database: Database, keys: PersonKeys, checkpoints: Checkpoints
) -> None:
    """Make it, and order the mails to the organization's administrators."""
    report_id = UUID(job.data["reportId"])
    signed = [one async for one in checkpoints.read()]
    async with database.snapshot(PLATFORM) as connection:
        report = await get_report(connection, report_id)
        if report.made_at is not None:
            return
        summary = await summary_of(
            connection, report.organization_id, report.month, checkpoints=signed, keys=keys
        )
    async with database.begin(PLATFORM) as connection:
        status = await connection.execute(
            "UPDATE audit_reports SET summary = $2, made_at = $3 WHERE id = $1 AND summary IS NULL",
            report_id,
            summary.model_dump(mode="json"),
            utc_now(),
        )
        if status != "UPDATE 1":
            return
        administrators = await connection.fetch(
            "SELECT user_id FROM administrators WHERE organization_id = $1 AND level <= 2 LIMIT $2",
            report.organization_id,
            ADMINISTRATORS_MAX,
        )
        for row in administrators:
            await enqueue(
                connection,
                "notification",
                MAIL_REPORT,
                {"reportId": str(report_id), "userId": str(row["user_id"])},
                dedupe_key=f"report {report_id} {row['user_id']}",
            )


async def mail_report(job: Job, database: Database, mailer: Mailer, app_url: str) -> None:
    """Send it to one administrator; who is gone gets none."""
    async with database.read(PLATFORM) as connection:
        report = await get_report(connection, UUID(job.data["reportId"]))
        row = await connection.fetchrow(
            """
            SELECT users.email, organizations.name AS organization
              FROM users JOIN organizations ON organizations.id = users.organization_id
             WHERE users.id = $1 AND users.is_active AND users.deleted_at IS NULL
            """,
            UUID(job.data["userId"]),
        )
    if row is None:
        return
    await mailer.send(
        mails.audit_report(
            row["email"],
            organization=row["organization"],
            month=f"{report.month:%B %Y}",
            facts=_facts(report),
            table=mails.Attachment(f"audit-{report.month:%Y-%m}.csv", csv_of_report(report)),
            url=app_url.rstrip("/"),
            key=f"{report.id} {job.data['userId']}",
        )
    )


def job_handlers(
    database: Database,
    keys: PersonKeys,
    checkpoints: Checkpoints,
    mailer: Mailer,
    app_url: str,
) -> JobHandlers:
    """Who makes and who sends them."""
    return {
        MAKE_REPORT: partial(make_report, database=database, keys=keys, checkpoints=checkpoints),
        MAIL_REPORT: partial(mail_report, database=database, mailer=mailer, app_url=app_url),
    }


def _facts(report: ReportView) -> list[tuple[str, str]]:
    summary = report.summary
    if summary is None:
        raise Invalid("the report is not made yet")
    whole = f"{summary.verified_entries} entries verified, nothing was altered"
    return [
        ("Entries", str(summary.entries)),
        ("People who did something", str(summary.people)),
        ("Sign-ins", str(summary.sign_ins)),
        ("Failed sign-ins", str(summary.failed_sign_ins)),
        ("Attempts that were refused", str(summary.denied)),
        ("Changes of API keys", str(summary.key_changes)),
        ("The trail", whole if summary.is_unaltered else "; ".join(summary.findings)),
    ]
