"""Signed tokens: what each kind is good for, and the keys behind them."""

import asyncio
import secrets
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from control.app import open_control
from control.auth.tokens import KEY_LEAD, KEY_LIFE, KEY_OVERLAP, Tokens
from shared.errors import Invalid, Unauthenticated
from shared.messaging.events import utc_now
from shared.postgres.address import PostgresAddress
from shared.postgres.database import Database
from shared.postgres.scope import PLATFORM
from shared.security.secret_box import SecretBox
from shared.security.tokens import TokenKind
from shared.settings import Settings
from tests.control.auth_people import ADA, execute, sign_in_from, with_second_factor
from tests.control.product import PASSWORD, Running, running, settings_for

HERE = "203.0.113.7"
WAIT_SECONDS_MAX = 10.0
BOX = SecretBox({"k": bytes(range(32))}, "k")


def access_token(tokens: Tokens, user_id: UUID | None = None) -> str:
    return tokens.issue_access(
        user_id=user_id or uuid4(),
        session_id=uuid4(),
        organization_id=uuid4(),
        email=ADA,
        has_mfa=False,
        now=utc_now(),
    )


async def test_S11_a_token_of_one_kind_is_good_for_nothing_else(product: Running) -> None:
    ada = await product.registered(ADA)
    pair = (await sign_in_from(product, HERE)).json
    await with_second_factor(ada)
    between = (await sign_in_from(product, HERE)).json["tempToken"]
    tokens = {"access": str(ada.token), "refresh": pair["refreshToken"], "mfa": between}

    for kind, token in tokens.items():
        bearer = await product.client.as_(token).get("/auth/me")
        assert bearer.status == (200 if kind == "access" else 401), kind
        if kind != "mfa":
            validated = await product.client.post(
                "/auth/mfa/validate", {"tempToken": token, "code": "123456"}
            )
            assert validated.status == 401, kind
        refreshing = await product.client.post("/auth/refresh", {"refreshToken": token})
        assert refreshing.status in (400, 401), kind
        for path in ("verify-email", "reset-password", "accept-invitation"):
            body = {"token": token} | ({"password": PASSWORD} if path != "verify-email" else {})
            assert (await product.client.post(f"/auth/{path}", body)).status == 400, (kind, path)
        spared = await product.sign_in(ADA, deviceToken=token[:200])
        assert spared.json["mfaRequired"] is True, kind


async def test_S10_a_token_of_nobody_or_of_no_session_is_refused(product: Running) -> None:
    ada = await product.registered(ADA)
    user_id = UUID((await ada.get("/auth/me")).json["userId"])
    tokens = product.control.kit.tokens
    head, body, signature = str(ada.token).split(".")
    forged = {
        "no token": "",
        "no session": access_token(tokens, user_id),
        "another body": f"{head}.{access_token(tokens).split('.')[1]}.{signature}",
        "no signature": f"{head}.{body}.",
        "rubbish": "a.b.c",
    }

    for name, token in forged.items():
        assert (await product.client.as_(token).get("/auth/me")).status == 401, name
    for header in ("", "Basic abc", "Bearer", f"Token {ada.token}"):
        answer = await product.client.get("/auth/me", Authorization=header)
        assert answer.status == 401, header
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_S11_the_session_of_another_person_is_not_theirs(product: Running) -> None:
    ada = await product.registered(ADA)
    bob = await product.registered("bob@example.com")
    session_id = UUID((await ada.get("/auth/me")).json["sessionId"])
    bob_id = UUID((await bob.get("/auth/me")).json["userId"])
    mixed = product.control.kit.tokens.issue_access(
        user_id=bob_id,
        session_id=session_id,
        organization_id=uuid4(),
        email=ADA,
        has_mfa=True,
        now=utc_now(),
    )

    assert (await product.client.as_(mixed).get("/auth/me")).status == 401


async def test_the_public_keys_are_served_and_no_secret_with_them(product: Running) -> None:
    answer = await product.client.get("//.well-known/jwks.json")

    assert answer.status == 200
    (key,) = answer.json["keys"]
    assert set(key) == {"kty", "crv", "x", "kid", "alg", "use"}
    assert (key["kty"], key["alg"], key["use"]) == ("OKP", "Ed25519", "sig")


async def test_with_a_shared_secret_no_key_is_public(
    database_address: PostgresAddress, tmp_path: object
) -> None:
    settings = settings_for(database_address, tmp_path, jwt_secret=secrets.token_urlsafe(48))  # type: ignore[arg-type]
    async with running(settings, tmp_path) as product:  # type: ignore[arg-type]
        ada = await product.registered(ADA)

        assert (await product.client.get("//.well-known/jwks.json")).json == {"keys": []}
        assert (await ada.get("/auth/me")).status == 200
        assert await product.control.kit.tokens.rotate(now=utc_now()) is False


@pytest.mark.parametrize("environment", ["production", "test"])
@pytest.mark.parametrize("secret", ["tiny-key", "changeme" * 6, "a" * 64])
async def test_S12_nothing_starts_with_a_secret_that_others_guess(
    database: Database, environment: str, secret: str
) -> None:
    settings = Settings(telemetryflow_env=environment, jwt_secret=secret)

    with pytest.raises(Invalid, match="JWT_SECRET") as refusal:
        await Tokens(settings, database, BOX).open()

    assert secret not in str(refusal.value)


async def test_S12_a_developer_is_warned_of_a_secret_that_others_guess(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(telemetryflow_env="development", jwt_secret="changeme" * 6)
    tokens = Tokens(settings, database, BOX)
    await tokens.open()

    assert (await tokens.read(access_token(tokens), TokenKind.ACCESS)).subject
    assert "JWT_SECRET" in caplog.text
    assert "changemechangeme" not in caplog.text


@pytest.mark.parametrize("text", ["15", "m", "0m", "-1m", "1.5h", "15 m", "9w", ""])
async def test_a_life_of_tokens_that_is_none_stops_the_start(database: Database, text: str) -> None:
    with pytest.raises(Invalid, match="JWT_EXPIRATION"):
        Tokens(Settings(jwt_expiration=text), database, BOX)


async def test_G11_a_process_learns_of_a_key_that_another_one_made(database: Database) -> None:
    first, second = (Tokens(Settings(), database, BOX) for _ in range(2))
    await first.open()
    async with database.begin(PLATFORM) as connection:
        await connection.execute("DELETE FROM signing_keys")
    await second.open()
    token = access_token(second)

    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while True:
            try:
                claims = await first.read(token, TokenKind.ACCESS)
                break
            except Unauthenticated:
                await asyncio.sleep(0.1)

    assert claims.others["email"] == ADA


async def test_G11_keys_are_rotated_with_an_overlap(database: Database) -> None:
    tokens = Tokens(Settings(), database, BOX)
    await tokens.open()
    old_token = access_token(tokens)
    start = utc_now()
    due = start + KEY_LIFE - KEY_LEAD + timedelta(seconds=5)

    early = await tokens.rotate(now=due - timedelta(minutes=5))
    made = await tokens.rotate(now=due)
    again = await tokens.rotate(now=due + KEY_LEAD)
    fresh = Tokens(Settings(), database, BOX)
    await fresh.open()

    assert (early, made, again) == (False, True, False)
    assert len(fresh.jwks()["keys"]) == 2
    # The next key is not in force yet: both sign with the old one, and both believe it.
    assert access_token(fresh).split(".")[0] == old_token.split(".")[0]
    assert (await fresh.read(old_token, TokenKind.ACCESS)).subject
    await fresh.rotate(now=due + KEY_LEAD + KEY_OVERLAP + timedelta(minutes=1))
    after = Tokens(Settings(), database, BOX)
    await after.open()
    with pytest.raises(Unauthenticated):
        await after.read(old_token, TokenKind.ACCESS)


async def test_G11_many_processes_that_start_at_once_make_one_key(database: Database) -> None:
    processes = [Tokens(Settings(), database, BOX) for _ in range(5)]

    await asyncio.gather(*[tokens.open() for tokens in processes])

    async with database.begin(PLATFORM) as connection:
        assert await connection.fetchval("SELECT count(*) FROM signing_keys") == 1
    token = access_token(processes[0])
    for tokens in processes:
        assert (await tokens.read(token, TokenKind.ACCESS)).subject


async def test_G11_a_key_is_kept_as_long_as_the_longest_token(database: Database) -> None:
    tokens = Tokens(Settings(jwt_expiration="3d"), database, BOX)
    await tokens.open()
    token = access_token(tokens)
    due = utc_now() + KEY_LIFE
    await tokens.rotate(now=due)
    await tokens.rotate(now=due + timedelta(days=2))

    after = Tokens(Settings(jwt_expiration="3d"), database, BOX)
    await after.open()

    assert (await after.read(token, TokenKind.ACCESS)).subject


async def test_G10_signing_keys_are_encrypted_and_bound_to_their_row(database: Database) -> None:
    tokens = Tokens(Settings(), database, BOX)
    await tokens.open()
    async with database.begin(PLATFORM) as connection:
        material = await connection.fetchval("SELECT material FROM signing_keys")
        await connection.execute("UPDATE signing_keys SET key_id = 'ed-other'")

    assert b"secret" not in material
    with pytest.raises(Invalid):
        await Tokens(Settings(), database, BOX).open()


async def test_S31_without_the_platform_no_row_of_auth_is_visible(product: Running) -> None:
    await product.registered(ADA)
    tables = ("accounts", "sessions", "refresh_tokens", "signing_keys", "password_history")

    async with product.control.database.session() as connection:
        counts = [await connection.fetchval(f"SELECT count(*) FROM {table}") for table in tables]

    assert counts == [0] * len(tables)


async def test_S14_a_session_is_checked_by_every_process(
    database_address: PostgresAddress, tmp_path: object
) -> None:
    settings = settings_for(database_address, tmp_path)  # type: ignore[arg-type]
    async with running(settings, tmp_path) as product, open_control(settings) as second:  # type: ignore[arg-type]
        ada = await product.registered(ADA)
        claims = await second.kit.tokens.read(str(ada.token), TokenKind.ACCESS)
        await execute(product, "UPDATE sessions SET ended_at = now()")

        assert str(claims.others["email"]) == ADA
        assert (await ada.get("/auth/me")).status == 401
