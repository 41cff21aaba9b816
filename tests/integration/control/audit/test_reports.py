"""The monthly report: made once, mailed to administrators, shown to their organization alone."""

import csv
import io
from datetime import UTC, datetime
from typing import Any

from control.audit.jobs import order_reports
from shared.messaging.events import utc_now
from shared.postgres.scope import PLATFORM
from tests.control.product import Running


def next_month() -> datetime:
    now = utc_now()
    return datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)


async def order(product: Running, now: datetime) -> int:
    async with product.control.database.begin(PLATFORM) as connection:
        return await order_reports(connection, now=now)


async def test_an_organization_gets_one_report_of_a_month_with_what_happened(
    product: Running,
) -> None:
    ada = await product.registered("ada@example.com")
    eve = await product.registered("eve@example.com")
    await ada.post("/api-keys", {"name": "one"})
    await product.sign_in("ada@example.com", "wrong")
    viewer = await ada.post("/users", {"email": "v@example.com", "firstName": "V", "lastName": "V"})
    assert viewer.status == 201
    await product.work()

    ordered = await order(product, next_month()), await order(product, next_month())
    await product.work()

    assert ordered[0] >= 2
    assert ordered[1] == 0
    (report,) = (await ada.get("/audit-logs/reports")).json["data"]
    summary = report["summary"]
    assert report["month"] == f"{utc_now():%Y-%m}-01"
    assert summary["isUnaltered"] is True
    assert summary["keyChanges"] == 1
    assert (summary["signIns"], summary["failedSignIns"]) == (1, 1)
    assert {"action": "user.created", "result": "success", "count": 2} in summary["actions"]
    assert summary["entries"] == sum(one["count"] for one in summary["actions"])
    (mail,) = [one for one in product.mails("ada@example.com") if "report" in one["Subject"]]
    assert not [one for one in product.mails("v@example.com") if "report" in one["Subject"]]
    assert "nothing was altered" in mail.get_body(("plain",)).get_content()
    (table,) = mail.iter_attachments()
    assert ["user.created", "success", "2"] in rows_of(table.get_content())
    one = await ada.get(f"/audit-logs/reports/{report['id']}?format=csv")
    assert rows_of(one.text) == rows_of(table.get_content())
    assert (await ada.get(f"/audit-logs/reports/{report['id']}")).json == report
    assert (await eve.get(f"/audit-logs/reports/{report['id']}")).status == 404
    assert [one["id"] for one in (await eve.get("/audit-logs/reports")).json["data"]] != [
        report["id"]
    ]


async def test_a_report_tells_of_a_trail_that_was_altered(product: Running) -> None:
    ada = await product.registered("ada@example.com")
    await product.work()
    async with product.control.database.read(PLATFORM) as connection:
        await product.control.audit.checkpoints.write(connection, now=utc_now())
    path = next((product.control.settings.data_dir / "audit").glob("*.jsonl"))
    (organization,) = (await ada.get("/organizations")).json["data"]
    assert organization["id"] in path.read_text()
    path.write_text(path.read_text().replace(organization["id"], "0" * 8 + organization["id"][8:]))
    await order(product, next_month())
    await product.work()

    (report,) = (await ada.get("/audit-logs/reports")).json["data"]

    assert report["summary"]["isUnaltered"] is False
    assert "is not signed by this product" in report["summary"]["findings"][0]


async def test_nobody_gets_a_report_of_a_month_before_their_time(product: Running) -> None:
    await product.registered("ada@example.com")

    assert await order(product, utc_now()) == 0


def rows_of(text: str) -> list[Any]:
    return list(csv.reader(io.StringIO(text.replace("\r\n", "\n"))))
