"""The description of the API: valid, and kept by the API in every answer."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from shared.http.openapi import openapi
from shared.postgres.database import Database
from shared.settings import Settings
from tests.control.core_api import MODULES, core_application, serving
from tests.control.people import seed

EXAMPLES_MAX = 15


def document() -> dict[str, Any]:
    return openapi(MODULES, Settings())


def test_the_description_is_valid_OpenAPI_3_1() -> None:
    OpenAPIV31SpecValidator(document()).validate()


def test_every_operation_tells_its_permission_and_its_errors() -> None:
    for path, operations in document()["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert operation["x-permission"], where
            assert {"400", "401", "403", "429", "500", "503"} <= operation["responses"].keys(), (
                where
            )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("tier", [1, 4])
async def test_S11_what_is_described_is_what_is_answered(
    database: Database, tier: int, tmp_path: Path
) -> None:
    """Schemathesis makes requests from the description, good and bad, and judges the answers."""
    ours = await seed(database)
    async with serving(core_application(database)) as url:
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).parent / "schemathesis"),
            *("run", f"{url}/openapi.json", "--max-examples", str(EXAMPLES_MAX), "--seed", "1"),
            *("--header", f"Authorization: Bearer {ours.people[tier]}", "--workers", "2"),
            *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
            "--no-color",
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()

    text = output.decode()
    failures = text.partition("FAILURES")[2].partition("WARNINGS")[0]
    assert process.returncode == 0, failures or text[-4_000:]
