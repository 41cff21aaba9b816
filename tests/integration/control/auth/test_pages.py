"""The pages behind links in mails: a form, a script of their own, and nothing from elsewhere."""

import re

import pytest

from tests.control.product import Running


@pytest.mark.parametrize(
    ("page", "endpoint", "field"),
    [
        ("verify-email", "/api/v2/auth/verify-email", None),
        ("accept-invitation", "/api/v2/auth/accept-invitation", "password"),
        ("reset-password", "/api/v2/auth/reset-password", "password"),
        ("forgot-password", "/api/v2/auth/forgot-password", "email"),
    ],
)
async def test_a_link_leads_to_a_form_that_asks_the_API(
    product: Running, page: str, endpoint: str, field: str | None
) -> None:
    answer = await product.client.get(f"//{page}")
    again = await product.client.get(f"//{page}")

    policy = answer.headers["Content-Security-Policy"]
    nonce = re.search(r"script-src 'nonce-([\w-]+)'", policy)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert nonce is not None
    assert f'<script nonce="{nonce[1]}">' in answer.text
    assert nonce[1] not in again.headers["Content-Security-Policy"]
    assert endpoint in answer.text
    assert re.findall(r'<input name="(\w+)"', answer.text) == ([field] if field else [])
    assert "://" not in answer.text
    assert (await product.client.post(endpoint.removeprefix("/api/v2"), {})).status == 400


async def test_links_in_mails_lead_to_pages_that_exist(product: Running) -> None:
    await product.registered("ada@example.com")
    await product.sign_in("ada@example.com")
    await product.work()

    links = set()
    for mail in product.mails("ada@example.com"):
        text = mail.get_body(("plain",)).get_content()
        links |= set(re.findall(r"http://localhost:3000(/[a-z-]+)", text))

    assert links
    for path in links:
        assert (await product.client.get(f"/{path}")).status == 200, path
