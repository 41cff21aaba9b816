"""An operator replays dead letters, and the command dies in the middle."""

import asyncio
from pathlib import Path
from typing import Final

import pytest

from ingest.app import open_log
from ingest.dead_letters import bury
from ingest.log import Record
from shared.faults import CRASH_VARIABLE
from shared.settings import Settings
from tests.chaos.kafka_products import kafka_settings
from tests.e2e.processes import Product
from tests.integration.ingest.stored_blocks import logs_request, records_of

LETTERS: Final = 3


async def set_aside(settings: Settings) -> None:
    """Good records as dead letters, as if the cause was mended since."""
    log = await open_log(settings)
    try:
        for number in range(LETTERS):
            ((value, headers),) = records_of(
                "logs", logs_request([f"letter {number}"]), tenant="default"
            )
            record = Record("otlp.logs.v1", 0, number, 1, value, headers)
            await bury(log, record, "tf_logs", "refused", "a test")
    finally:
        await log.close()


@pytest.mark.parametrize("log", ["embedded", "kafka"])
def test_F56_a_replay_that_is_killed_and_repeated_stores_each_letter_once(
    log: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    settings = kafka_settings(request.getfixturevalue("kafka")) if log == "kafka" else {}
    with Product(tmp_path, settings) as product:
        product.stop("ingest")
        product.stop("writer")
        asyncio.run(set_aside(Settings.from_env(product.settings)))
        assert product.command("dlq", "list").count("otlp.logs.v1/0@") == LETTERS
        crashing = {CRASH_VARIABLE: "dead_letters.after_insert_before_commit:2"}
        killed = product.run("dlq", "replay", settings=crashing)
        assert killed.returncode == -9
        assert "2 dead letters stored" in product.command("dlq", "replay")
        assert "0 dead letters stored" in product.command("dlq", "replay")
        assert "There are no dead letters" in product.command("dlq", "list")
        bodies = [row["Body"] for row in product.rows("SELECT Body FROM tf_logs ORDER BY Body")]
        assert bodies == [f"letter {number}" for number in range(LETTERS)]
