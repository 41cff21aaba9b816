"""Browsers and the API: which pages may call it."""

from pathlib import Path

from shared.postgres.address import PostgresAddress
from tests.control.product import running, settings_for

PAGE = "https://app.example.com"
FOREIGN = "https://app.example.com.evil.com"


async def test_pages_of_allowed_origins_may_call_and_others_may_not(
    database_address: PostgresAddress, tmp_path: Path
) -> None:
    settings = settings_for(database_address, tmp_path, cors_origin=f"{PAGE}, https://x.example")
    async with running(settings, tmp_path) as product:
        asking = {"Access-Control-Request-Method": "POST", "Origin": PAGE}
        preflight = await product.client.ask("OPTIONS", "/users", headers=asking)
        foreign = await product.client.ask(
            "OPTIONS", "/users", headers=asking | {"Origin": FOREIGN}
        )
        answer = await product.client.get("/users", Origin=PAGE)
        kept_away = await product.client.get("/users", Origin=FOREIGN)

    assert preflight.status == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == PAGE
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert foreign.status == 403
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert "Access-Control-Allow-Origin" not in kept_away.headers
    assert "Access-Control-Allow-Credentials" not in answer.headers


async def test_without_a_setting_no_page_of_another_origin_may_call(
    database_address: PostgresAddress, tmp_path: Path
) -> None:
    async with running(settings_for(database_address, tmp_path), tmp_path) as product:
        answer = await product.client.get("/users", Origin=PAGE)

    assert "Access-Control-Allow-Origin" not in answer.headers
