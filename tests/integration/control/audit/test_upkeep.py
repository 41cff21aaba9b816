"""What the worker does for the trail again and again, as one pass of it."""

import base64

from control.app import ENCRYPTION_KEY_FILE, open_control
from control.audit.person_keys import PersonKeys
from control.housekeeping import look_after_trail
from shared.messaging.events import utc_now
from shared.postgres.scope import PLATFORM
from shared.security.secret_box import SecretBox
from tests.control.product import Running
from tests.integration.control.audit.test_reports import next_month

NEW_KEY = "k2:" + base64.b64encode(b"2" * 32).decode()


async def test_one_pass_makes_reports_and_a_checkpoint(product: Running) -> None:
    ada = await product.registered("ada@example.com")
    await product.work()

    await look_after_trail(product.control, now=next_month())
    await product.work()

    assert (await ada.get("/audit-logs/reports")).json["data"]
    (checkpoints,) = (product.control.settings.data_dir / "audit").glob("*.jsonl")
    assert checkpoints.stat().st_size


async def test_keys_of_people_move_to_a_new_encryption_key_and_open_what_they_sealed(
    product: Running,
) -> None:
    await product.registered("ada@example.com")
    await product.work()
    settings = product.control.settings
    file = settings.data_dir / ENCRYPTION_KEY_FILE
    file.write_text(f"{NEW_KEY},{file.read_text()}")
    async with open_control(settings) as control:
        await look_after_trail(control, now=utc_now())
        async with control.database.read(PLATFORM) as connection:
            rows = await connection.fetch(
                "SELECT organization_id, person_id FROM audit_person_keys"
            )
            people = [(row["organization_id"], row["person_id"]) for row in rows]
            without_old = PersonKeys(SecretBox.from_text(NEW_KEY))
            opened = await without_old.of(connection, people)

    assert len(opened) == len(people) > 0
