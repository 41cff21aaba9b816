"""Passwords: which are taken, how they are changed, and how they are kept."""

import itertools

import pytest

from shared.postgres.address import PostgresAddress
from shared.security.passwords import PasswordHasher
from tests.control.auth_people import ADA, OTHER_PASSWORD, execute, recorded, sign_in_from
from tests.control.client import Client, Reply
from tests.control.product import HASH_MEMORY_KIB, PASSWORD, Running, running, settings_for

HERE = "203.0.113.7"


async def change(person: Client, current: str, new: str) -> Reply:
    return await person.post(
        "/auth/change-password", {"currentPassword": current, "newPassword": new}
    )


@pytest.mark.parametrize(
    "password",
    [
        "",
        "Short-7a",
        "no-capital-letter-7-battery",
        "NO-SMALL-LETTER-7-BATTERY",
        "Correct-Horse-battery",
        "CorrectHorse7battery",
        "Password1234!",
        "Aa1!Aa1!Aa1!",
        "Lovelace-7-Battery",
        "A1a-" + "x7Q" * 60,
    ],
)
async def test_a_weak_password_is_refused_wherever_one_is_chosen(
    product: Running, password: str
) -> None:
    ada = await product.registered(ADA)
    person = {"email": "bob@example.com", "firstName": "Bob", "lastName": "Lovelace"}

    registering = await product.client.post("/auth/register", person | {"password": password})
    await execute(product, "UPDATE accounts SET last_name = 'Lovelace'")
    changing = await change(ada, PASSWORD, password)

    assert (registering.status, changing.status) == (400, 400), registering.text
    assert registering.json["errors"][0]["field"] == "password"
    assert changing.json["errors"][0]["field"] == "newPassword"
    for answer in (registering, changing):
        assert not password or password not in answer.text


async def test_a_password_is_changed_by_who_knows_the_present_one(product: Running) -> None:
    ada = await product.registered(ADA)

    wrong = await change(ada, "wrong", OTHER_PASSWORD)
    same = await change(ada, PASSWORD, PASSWORD)
    right = await change(ada, PASSWORD, OTHER_PASSWORD)

    assert (wrong.status, same.status, right.status) == (400, 400, 200)
    assert wrong.json["errors"][0]["field"] == "currentPassword"
    assert (await sign_in_from(product, HERE)).status == 401
    assert (await sign_in_from(product, HERE, password=OTHER_PASSWORD)).status == 200
    assert len(await recorded(product, "PasswordChanged")) == 1


async def test_the_last_five_passwords_are_refused_and_older_ones_are_not(
    product: Running,
) -> None:
    ada = await product.registered(ADA)
    passwords = [PASSWORD, *[f"{word}-Horse-8-charger" for word in ("One", "Two", "Ten", "Six")]]
    for current, new in itertools.pairwise(passwords):
        assert (await change(ada, current, new)).status == 200

    refused = [(await change(ada, passwords[-1], old)).status for old in passwords]
    assert (await change(ada, passwords[-1], "Ace-Horse-8-charger")).status == 200
    again = await change(ada, "Ace-Horse-8-charger", PASSWORD)

    assert refused == [400] * 5
    assert again.status == 200, again.text


async def test_the_present_password_is_refused_even_without_a_history(
    database_address: PostgresAddress, tmp_path: object
) -> None:
    settings = settings_for(database_address, tmp_path, password_history=0)  # type: ignore[arg-type]
    async with running(settings, tmp_path) as product:  # type: ignore[arg-type]
        first = await product.as_person(product.admin.email, product.admin.password)
        same = await change(first, product.admin.password, product.admin.password)

        assert same.status == 400
        assert (await first.get("/auth/me")).json["mustChangePassword"] is True


async def test_a_hash_with_other_parameters_is_made_anew_at_the_next_sign_in(
    product: Running,
) -> None:
    await product.registered(ADA)
    stronger = PasswordHasher(HASH_MEMORY_KIB * 2)
    try:
        other = await stronger.hash(PASSWORD)
    finally:
        stronger.close()
    await execute(product, "UPDATE accounts SET password_hash = $2 WHERE email = $1", ADA, other)

    assert (await sign_in_from(product, HERE, password="wrong")).status == 401
    before = await _hash_of_ada(product)
    assert (await sign_in_from(product, HERE)).status == 200

    assert before == other
    assert f"m={HASH_MEMORY_KIB}," in await _hash_of_ada(product)
    assert (await sign_in_from(product, HERE)).status == 200


async def _hash_of_ada(product: Running) -> str:
    async with product.control.database.pool.acquire() as connection:
        await connection.execute("SET app.platform = 'on'")
        found: str = await connection.fetchval(
            "SELECT password_hash FROM accounts WHERE email = $1", ADA
        )
        await connection.execute("RESET app.platform")
    return found
