"""Signing in with a password: who is refused, in which words, and for how long."""

import asyncio

import pytest

from control.auth.domain import CROWD_MAX
from tests.control.auth_people import ADA, execute, joined, recorded, sign_in_from
from tests.control.product import PASSWORD, Running

HERE, THERE = "203.0.113.7", "198.51.100.9"
WRONG = "Wrong-Horse-7-battery"


async def test_S16_every_refusal_has_one_text(product: Running) -> None:
    await product.registered(ADA)
    admin = await product.as_admin()
    idle = await admin.post(
        "/users", {"email": "idle@example.com", "firstName": "I", "lastName": "D"}
    )
    await product.work()

    answers = [
        await sign_in_from(product, HERE, password=WRONG),
        await sign_in_from(product, HERE, "nobody@example.com"),
        await sign_in_from(product, HERE, "idle@example.com"),
        await sign_in_from(product, HERE, "no address at all"),
        await sign_in_from(product, HERE, password=""),
    ]

    assert idle.status == 201, idle.text
    assert [answer.status for answer in answers] == [401] * 5
    assert len({answer.json["detail"] for answer in answers}) == 1
    assert len(await recorded(product, "AuthLoginFailed")) == 2


async def test_S16_who_was_deactivated_is_refused_like_a_wrong_password(product: Running) -> None:
    admin = await product.as_admin()
    _, user_id = await joined(product, admin)
    wrong = await sign_in_from(product, HERE, password=WRONG)

    switched = await admin.post(f"/users/{user_id}/deactivate")
    refused = await sign_in_from(product, HERE)

    assert switched.status in (200, 204), switched.text
    assert (refused.status, refused.json["detail"]) == (401, wrong.json["detail"])


async def test_S16_an_unverified_address_is_told_to_who_knows_the_password_alone(
    product: Running,
) -> None:
    body = {"email": ADA, "password": PASSWORD, "firstName": "Ada", "lastName": "Lovelace"}
    await product.client.post("/auth/register", body)
    await product.work()

    wrong = await sign_in_from(product, HERE, password=WRONG)
    right = await sign_in_from(product, HERE)

    assert (wrong.status, right.status) == (401, 403)
    assert "confirm" in right.json["detail"]


async def test_an_address_is_written_in_any_case(product: Running) -> None:
    await product.registered(ADA)

    assert (await sign_in_from(product, HERE, "  ADA@Example.COM ")).status == 200


@pytest.mark.parametrize("email", [ADA, "nobody@example.com"])
async def test_S16_an_address_is_locked_out_whether_or_not_there_is_an_account(
    product: Running, email: str
) -> None:
    await product.registered(ADA)

    failed = [await sign_in_from(product, HERE, email, WRONG) for _ in range(5)]
    locked = await sign_in_from(product, HERE, email)

    assert [answer.status for answer in failed] == [401] * 5
    assert locked.status == 429
    assert 890 <= int(locked.headers["Retry-After"]) <= 900
    assert "15 min" in locked.json["detail"]


async def test_S16_nobody_locks_somebody_else_out(product: Running) -> None:
    await product.registered(ADA)
    for _ in range(8):
        await sign_in_from(product, HERE, password=WRONG)

    assert (await sign_in_from(product, HERE)).status == 429
    assert (await sign_in_from(product, THERE)).status == 200


async def test_a_lockout_is_told_once_and_ends(product: Running) -> None:
    await product.registered(ADA)
    for _ in range(8):
        await sign_in_from(product, HERE, password=WRONG)
    await product.work()

    await execute(
        product,
        "UPDATE sign_in_failures SET locked_until = now() - interval '1 second', "
        "last_at = now() - interval '901 seconds' WHERE locked_until IS NOT NULL",
    )
    after = await sign_in_from(product, HERE)

    assert [event["minutes"] for event in await recorded(product, "AccountLocked")] == [15]
    subjects = [str(mail["Subject"]).lower() for mail in product.mails(ADA)]
    assert len([subject for subject in subjects if "lock" in subject]) == 1, subjects
    assert after.status == 200


async def test_a_sign_in_that_succeeds_forgets_the_failures(product: Running) -> None:
    await product.registered(ADA)
    for _ in range(3):
        for _ in range(4):
            assert (await sign_in_from(product, HERE, password=WRONG)).status == 401
        assert (await sign_in_from(product, HERE)).status == 200


async def test_S16_of_many_parallel_guesses_five_are_judged(product: Running) -> None:
    await product.registered(ADA)

    answers = await asyncio.gather(
        *[sign_in_from(product, HERE, password=WRONG) for _ in range(20)]
    )

    assert sorted(answer.status for answer in answers) == [401] * 5 + [429] * 15
    assert len(await recorded(product, "AccountLocked")) == 1


async def test_parallel_sign_ins_of_one_person_do_not_hinder_each_other(product: Running) -> None:
    await product.registered(ADA)

    for _ in range(4):
        answers = await asyncio.gather(*[sign_in_from(product, HERE) for _ in range(5)])
        assert [answer.status for answer in answers] == [200] * 5


async def test_an_administrator_lifts_the_lockouts_of_all_addresses(product: Running) -> None:
    ada = await product.registered(ADA)
    user_id = (await ada.get("/auth/me")).json["userId"]
    admin = await product.as_admin()
    for address in (HERE, THERE):
        for _ in range(6):
            await sign_in_from(product, address, password=WRONG)

    lifted = await admin.post(f"/users/{user_id}/unlock")

    assert lifted.status == 200, lifted.text
    assert (await sign_in_from(product, HERE)).status == 200
    assert (await sign_in_from(product, THERE)).status == 200
    assert len(await recorded(product, "AccountUnlocked")) == 1


async def test_S31_nobody_unlocks_people_of_another_organization(product: Running) -> None:
    ada = await product.registered(ADA)
    bob = await product.registered("bob@example.com")
    user_id = (await ada.get("/auth/me")).json["userId"]

    assert (await bob.post(f"/users/{user_id}/unlock")).status == 404


@pytest.mark.parametrize("email", [ADA, "nobody@example.com"])
async def test_S16_guesses_from_many_addresses_close_the_way_for_unknown_ones(
    product: Running, email: str
) -> None:
    await product.registered(ADA)
    assert (await sign_in_from(product, HERE)).status == 200
    for number in range(CROWD_MAX // 5 + 1):
        for _ in range(5):
            await sign_in_from(product, f"192.0.2.{number + 1}", email, WRONG)

    stranger = await sign_in_from(product, THERE, email)
    known = await sign_in_from(product, HERE)

    assert stranger.status == 429
    assert int(stranger.headers["Retry-After"]) > 3_000
    assert known.status == 200
    suspicions = await recorded(product, "SuspiciousActivityDetected")
    assert [event["kind"] for event in suspicions] == ["guessing"] * (email == ADA)


async def test_a_new_address_is_told_to_the_owner_but_not_the_first_one(product: Running) -> None:
    await product.registered(ADA)
    await product.work()
    before = len(product.mails(ADA))

    await sign_in_from(product, THERE)
    await sign_in_from(product, THERE)
    await product.work()

    new = [event["is_new_address"] for event in await recorded(product, "AuthLogin")]
    assert new == [False, True, False]
    assert len(product.mails(ADA)) == before + 1
