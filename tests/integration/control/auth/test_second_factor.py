"""The second factor: codes of the app, recovery codes, trusted devices."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from control.auth.repository import AuthRepositories
from shared.postgres.address import PostgresAddress
from shared.postgres.scope import PLATFORM
from shared.security.opaque_tokens import digest
from tests.control.auth_people import (
    ADA,
    OTHER_PASSWORD,
    code_of,
    execute,
    recorded,
    with_second_factor,
)
from tests.control.client import Client, Reply
from tests.control.product import PASSWORD, Running, running, settings_for


@pytest.fixture
async def product(database_address: PostgresAddress, tmp_path: Path) -> AsyncIterator[Running]:
    """Takes codes of the next minutes, so that a test need not wait for the next step."""
    settings = settings_for(database_address, tmp_path, mfa_window=5)
    async with running(settings, tmp_path) as product:
        yield product


async def wanted(product: Running, **fields: Any) -> str:
    """The token between password and second factor."""
    answer = await product.sign_in(ADA, **fields)
    assert answer.json["mfaRequired"] is True, answer.text
    assert answer.json["accessToken"] is answer.json["refreshToken"] is None
    token: str = answer.json["tempToken"]
    return token


async def given(product: Running, token: str, code: str, **fields: Any) -> Reply:
    return await product.client.post(
        "/auth/mfa/validate", {"tempToken": token, "code": code, **fields}
    )


async def test_S17_the_code_of_the_app_is_asked_for_after_the_password(product: Running) -> None:
    secret, codes = await with_second_factor(await product.registered(ADA))

    signed_in = await given(product, await wanted(product), code_of(secret, steps=1))
    me = await product.client.as_(signed_in.json["accessToken"]).get("/auth/me")

    assert len(set(codes)) == 10
    assert signed_in.status == 200, signed_in.text
    assert me.json["mfaVerified"] is True


async def test_a_second_factor_is_set_up_with_the_password_and_a_code(product: Running) -> None:
    ada = await product.registered(ADA)

    early = await ada.post("/auth/mfa/verify", {"code": "123456"})
    wrong = await ada.post("/auth/mfa/setup", {"password": "wrong"})
    made = await ada.post("/auth/mfa/setup", {"password": PASSWORD})
    guessed = await ada.post("/auth/mfa/verify", {"code": "12345x"})
    before = await product.sign_in(ADA)
    enabled = await ada.post("/auth/settings/mfa/enable", {"code": code_of(made.json["secret"])})

    assert (early.status, wrong.status, guessed.status) == (403, 400, 400)
    assert made.json["provisioningUri"].startswith("otpauth://totp/TelemetryFlow")
    assert made.json["qrCode"].startswith("data:image/svg+xml")
    assert before.json["mfaRequired"] is False
    assert enabled.status == 200, enabled.text


async def test_S14_switching_it_on_ends_the_sessions_that_came_without_it(
    product: Running,
) -> None:
    ada = await product.registered(ADA)
    other = await product.as_person(ADA)

    await with_second_factor(ada)

    assert (await ada.get("/auth/me")).status == 200
    assert (await other.get("/auth/me")).status == 401


async def test_S17_a_code_is_good_once(product: Running) -> None:
    secret, _ = await with_second_factor(await product.registered(ADA))
    code = code_of(secret, steps=1)

    first = await given(product, await wanted(product), code)
    again = await given(product, await wanted(product), code)

    assert (first.status, again.status) == (200, 401)


async def test_S17_the_token_between_is_good_once_and_takes_no_code_with_it(
    product: Running,
) -> None:
    secret, codes = await with_second_factor(await product.registered(ADA))
    token = await wanted(product)
    assert (await given(product, token, code_of(secret, steps=1))).status == 200
    code = code_of(secret, steps=3)

    with_code = await given(product, token, code)
    with_recovery = await given(product, token, codes[0], isRecoveryCode=True)

    assert (with_code.status, with_recovery.status) == (401, 401)
    assert (await given(product, await wanted(product), code)).status == 200
    fresh = await given(product, await wanted(product), codes[0], isRecoveryCode=True)
    assert fresh.status == 200
    assert len(await recorded(product, "MfaValidated")) == 3


async def test_a_password_that_changed_in_between_ends_the_sign_in(product: Running) -> None:
    secret, _ = await with_second_factor(await product.registered(ADA))
    token = await wanted(product)
    await execute(product, "UPDATE accounts SET password_changed_at = now() + interval '5 seconds'")

    assert (await given(product, token, code_of(secret, steps=1))).status == 401


async def test_S17_after_three_wrong_codes_a_right_one_is_refused_too(product: Running) -> None:
    secret, codes = await with_second_factor(await product.registered(ADA))
    token = await wanted(product)

    wrong = [await given(product, token, "000000x") for _ in range(3)]
    locked = await given(product, token, code_of(secret, steps=1))
    recovery = await given(product, token, codes[0], isRecoveryCode=True)
    await execute(product, "UPDATE accounts SET mfa_locked_until = now()")
    after = await given(product, token, code_of(secret, steps=1))

    assert [answer.status for answer in wrong] == [401] * 3
    assert (locked.status, recovery.status) == (429, 429)
    assert 890 <= int(locked.headers["Retry-After"]) <= 900
    assert after.status == 200, after.text
    reasons = [event["reason"] for event in await recorded(product, "AuthLoginFailed")]
    assert reasons == ["second factor"] * 3


async def test_an_administrator_opens_the_way_of_the_second_factor_again(product: Running) -> None:
    ada = await product.registered(ADA)
    user_id = (await ada.get("/auth/me")).json["userId"]
    secret, _ = await with_second_factor(ada)
    token = await wanted(product)
    for _ in range(3):
        await given(product, token, "000000x")

    await (await product.as_admin()).post(f"/users/{user_id}/unlock")

    assert (await given(product, token, code_of(secret, steps=1))).status == 200


async def test_S17_a_recovery_code_is_good_once_however_it_is_written(product: Running) -> None:
    ada = await product.registered(ADA)
    _, codes = await with_second_factor(ada)
    typed = codes[0].upper().replace("-", " ")

    first = await given(product, await wanted(product), typed, isRecoveryCode=True)
    again = await given(product, await wanted(product), codes[0], isRecoveryCode=True)
    left = (await ada.get("/auth/password/status")).json["recoveryCodesLeft"]

    assert (first.status, again.status, left) == (200, 401, 9)


async def test_other_recovery_codes_replace_those_of_before(product: Running) -> None:
    ada = await product.registered(ADA)
    secret, codes = await with_second_factor(ada)

    body = {"password": PASSWORD, "code": code_of(secret, steps=1)}
    renewed = await ada.post("/auth/settings/mfa/recovery-codes", body)
    old = await given(product, await wanted(product), codes[0], isRecoveryCode=True)
    new = await given(
        product, await wanted(product), renewed.json["recoveryCodes"][0], isRecoveryCode=True
    )

    assert renewed.status == 200, renewed.text
    assert (old.status, new.status) == (401, 200)


async def test_it_is_switched_off_with_both_factors_alone(product: Running) -> None:
    ada = await product.registered(ADA)
    secret, _ = await with_second_factor(ada)

    path = "/auth/settings/mfa/disable"
    code = code_of(secret, steps=1)
    no_password = await ada.post(path, {"password": "wrong", "code": code})
    no_code = await ada.post(path, {"password": PASSWORD, "code": "000000x"})
    done = await ada.post(path, {"password": PASSWORD, "code": code})

    assert (no_password.status, no_code.status, done.status) == (400, 400, 200)
    assert (await product.sign_in(ADA)).json["mfaRequired"] is False


async def test_who_lost_the_app_switches_it_off_with_recovery_codes(product: Running) -> None:
    _, codes = await with_second_factor(await product.registered(ADA))
    signed_in = await given(product, await wanted(product), codes[0], isRecoveryCode=True)
    ada = product.client.as_(signed_in.json["accessToken"])

    used = await ada.post("/auth/settings/mfa/disable", {"password": PASSWORD, "code": codes[0]})
    done = await ada.post("/auth/settings/mfa/disable", {"password": PASSWORD, "code": codes[1]})

    assert (used.status, done.status) == (400, 200)
    assert (await product.sign_in(ADA)).json["mfaRequired"] is False


async def trusted(product: Running, secret: str) -> tuple[Client, str]:
    answer = await given(product, await wanted(product), code_of(secret, steps=1), trustDevice=True)
    assert answer.status == 200, answer.text
    return product.client.as_(answer.json["accessToken"]), answer.json["deviceToken"]


async def test_a_trusted_device_is_spared_the_code_until_it_is_distrusted(
    product: Running,
) -> None:
    secret, _ = await with_second_factor(await product.registered(ADA))
    ada, device = await trusted(product, secret)

    spared = await product.sign_in(ADA, deviceToken=device)
    (listed,) = (await ada.get("/auth/devices")).json["data"]
    gone = await ada.delete(f"/auth/devices/{listed['id']}")

    assert spared.json["mfaRequired"] is False
    assert gone.status == 204
    await wanted(product, deviceToken=device)
    assert (await ada.delete(f"/auth/devices/{listed['id']}")).status == 404


async def test_S31_a_device_is_trusted_for_its_owner_alone(product: Running) -> None:
    secret, _ = await with_second_factor(await product.registered(ADA))
    bob = await product.registered("bob@example.com")
    ada, device = await trusted(product, secret)
    (listed,) = (await ada.get("/auth/devices")).json["data"]
    await with_second_factor(bob)

    answer = await product.sign_in("bob@example.com", deviceToken=device)

    assert answer.json["mfaRequired"] is True
    assert (await bob.delete(f"/auth/devices/{listed['id']}")).status == 404


async def test_the_trust_in_a_device_ends_after_its_time(product: Running) -> None:
    secret, _ = await with_second_factor(await product.registered(ADA))
    _, device = await trusted(product, secret)

    await execute(product, "UPDATE trusted_devices SET expires_at = now()")

    await wanted(product, deviceToken=device)


async def test_S16_another_password_by_mail_does_not_spare_the_code(product: Running) -> None:
    await with_second_factor(await product.registered(ADA))
    await product.client.post("/auth/forgot-password", {"email": ADA})
    await product.work()

    reset = await product.client.post(
        "/auth/reset-password", {"token": product.link_token(ADA), "password": OTHER_PASSWORD}
    )

    assert reset.status == 200, reset.text
    await wanted(product, password=OTHER_PASSWORD)


async def test_G12_secrets_of_the_second_factor_are_nowhere_in_plain(product: Running) -> None:
    ada = await product.registered(ADA)
    user_id = (await ada.get("/auth/me")).json["userId"]
    secret, codes = await with_second_factor(ada)
    _, device = await trusted(product, secret)

    async with product.control.database.begin(PLATFORM) as connection:
        account = await AuthRepositories(connection).accounts.by_email(ADA)
        rows = [
            str(dict(row))
            for table in ("accounts", "recovery_codes", "trusted_devices", "outbox")
            for row in await connection.fetch(f"SELECT * FROM {table}")
        ]
        devices = await connection.fetchval(
            "SELECT count(*) FROM trusted_devices WHERE digest = $1", digest(device)
        )

    assert account is not None
    assert str(account.id) == user_id
    assert devices == 1
    for plain in (secret, device, *codes, PASSWORD):
        assert not [row for row in rows if plain in row]
