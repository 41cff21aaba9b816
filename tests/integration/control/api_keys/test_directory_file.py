"""The file of a gateway's directory, when the disk does not take it."""

import asyncio
from pathlib import Path

import pytest

from ingest import directory_follower
from tests.control.product import Running
from tests.integration.control.api_keys.test_directory import NEW, Gate, serving, until


async def test_a_file_that_cannot_be_written_is_left_alone_for_a_while_and_then_written(
    product: Running,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(directory_follower, "SAVE_RETRY_SECONDS", 0.5)
    ada = await product.registered("ada@example.com")
    made = (await ada.post("/api-keys", NEW)).json
    async with serving(product), Gate(product, tmp_path / "a") as gate:
        # Nothing can take the place of a folder.
        (gate.path / "in the way").mkdir(parents=True)
        await until(lambda: gate.says(made) == made["key"]["tenantId"])
        await until(lambda: "stays as it was" in caplog.text)
        await asyncio.sleep(0.2)
        assert caplog.text.count("stays as it was") == 1
        (gate.path / "in the way").rmdir()
        gate.path.rmdir()
        await until(gate.path.is_file)
