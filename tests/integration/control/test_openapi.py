"""The description of the API: valid, and kept by the API in every answer."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from control.app import ROUTES
from shared.http.openapi import openapi
from shared.settings import Settings
from tests.control.people import seed
from tests.control.product import Running

EXAMPLES_MAX = 4


@pytest.fixture
def product(telemetry_product: Running) -> Running:
    """With ClickHouse, so that all routes can answer."""
    return telemetry_product


def document() -> dict[str, Any]:
    return openapi(ROUTES, Settings())


def test_the_description_is_valid_OpenAPI_3_1() -> None:
    OpenAPIV31SpecValidator(document()).validate()


def test_every_operation_tells_its_permission_and_its_errors() -> None:
    for path, operations in document()["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert operation["x-permission"], where
            expected = {"400", "429", "500", "503"}
            if operation["security"]:
                expected |= {"401", "403"}
            assert expected <= operation["responses"].keys(), where


def test_live_tails_tell_how_they_go_on_and_what_their_messages_are() -> None:
    described = document()
    for path in ("logs/tail", "spans/tail"):
        tail = described["paths"][f"/api/v2/telemetry/{path}"]["get"]
        sent = {one["name"] for one in tail["parameters"]}
        stream = tail["responses"]["200"]["content"]["text/event-stream"]
        assert {"Last-Event-ID", "Sec-WebSocket-Protocol", "cursor", "seconds"} <= sent
        assert sent.isdisjoint({"startTime", "endTime", "last"})
        assert stream["x-item-schema"]["$ref"].endswith("/Arrived")
        assert "101" in tail["responses"]
    assert {"items", "leftOut", "cursor"} == described["components"]["schemas"]["Arrived"][
        "properties"
    ].keys()


# Reading telemetry has many parameters: random ones of all of them, but not each at its edges.
# A live tail goes on as long as it is asked to.
TELEMETRY = (
    "--include-path-regex",
    "/telemetry/.*(?<!tail)$",
    "--phases",
    "fuzzing",
    "--max-examples",
    "5",
)
ALL_ELSE = ("--exclude-path-regex", "/telemetry/")
# Who may do little is refused before anything is read: a few random requests of each operation.
FEW = (*ALL_ELSE, "--phases", "fuzzing", "--max-examples", "2")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("tier", "which"),
    [(1, ALL_ELSE), (4, FEW), (4, TELEMETRY)],
    ids=["administrator", "viewer", "viewer of telemetry"],
)
async def test_S11_what_is_described_is_what_is_answered(
    product: Running, tier: int, which: tuple[str, ...], tmp_path: Path
) -> None:
    """Schemathesis makes requests from the description, good and bad, and judges the answers."""
    token = (await product.tokens_of(await seed(product.control.database)))[tier]
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "schemathesis"),
        *("run", f"{product.client.url}/openapi.json", "--seed", "1", "--workers", "2"),
        *("--max-examples", str(EXAMPLES_MAX), "--header", f"Authorization: Bearer {token}"),
        *("--checks", "all", "--exclude-checks", "positive_data_acceptance", "--no-color"),
        *which,
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()

    text = output.decode()
    failures = text.partition("FAILURES")[2].partition("WARNINGS")[0]
    assert process.returncode == 0, failures or text[-4_000:]
