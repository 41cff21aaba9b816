"""People who sign in, for tests of auth: what they send, and what time does to them."""

import time
from typing import Any

import pyotp

from shared.postgres.scope import PLATFORM
from tests.control.client import Client, Reply
from tests.control.product import PASSWORD, Running

ADA = "ada@example.com"
OTHER_PASSWORD = "Another-Horse-8-charger"


async def sign_in_from(
    product: Running, address: str, email: str = ADA, password: str = PASSWORD, **fields: Any
) -> Reply:
    """The answer of a sign-in from *address*."""
    return await product.client.post(
        "/auth/login",
        {"email": email, "password": password, **fields},
        **{"X-Forwarded-For": address},
    )


async def refreshed(product: Running, token: str) -> Reply:
    """The answer of a refresh."""
    return await product.client.post("/auth/refresh", {"refreshToken": token})


async def execute(product: Running, statement: str, *values: Any) -> None:
    """Change rows as only time could."""
    async with product.control.database.begin(PLATFORM) as connection:
        await connection.execute(statement, *values)


async def recorded(product: Running, event_type: str) -> list[dict[str, Any]]:
    """The payloads of all events of a type, the oldest first."""
    rows = await product.control.database.pool.fetch(
        "SELECT payload FROM outbox WHERE event_type = $1 ORDER BY position", event_type
    )
    return [row["payload"] for row in rows]


def code_of(secret: str, *, steps: int = 0) -> str:
    """What the app shows now, or some steps of 30 s later."""
    return pyotp.TOTP(secret).at(int(time.time()), counter_offset=steps)


async def with_second_factor(person: Client) -> tuple[str, list[str]]:
    """Switch the second factor on: its secret, and the recovery codes."""
    made = await person.post("/auth/mfa/setup", {"password": PASSWORD})
    assert made.status == 200, made.text
    secret = made.json["secret"]
    enabled = await person.post("/auth/mfa/verify", {"code": code_of(secret)})
    assert enabled.status == 200, enabled.text
    return secret, enabled.json["recoveryCodes"]


async def joined(product: Running, admin: Client, email: str = ADA) -> tuple[Client, str]:
    """Somebody who came by the administrator's invitation, signed in, and their id."""
    person = {"email": email, "firstName": "Ada", "lastName": "Lovelace"}
    invited = await admin.post("/invitations", person)
    assert invited.status == 201, invited.text
    await product.work()
    accepted = await product.client.post(
        "/auth/accept-invitation", {"token": product.link_token(email), "password": PASSWORD}
    )
    assert accepted.status == 200, accepted.text
    await product.work()
    client = await product.as_person(email)
    return client, (await client.get("/auth/me")).json["userId"]
