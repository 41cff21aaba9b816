"""Staying in: each refresh token is good once, and its second use ends the session."""

import asyncio
from typing import Any

from tests.control.auth_people import (
    ADA,
    OTHER_PASSWORD,
    execute,
    joined,
    recorded,
    refreshed,
    sign_in_from,
)
from tests.control.product import PASSWORD, Running

HERE = "203.0.113.7"


async def tokens_of(product: Running) -> dict[str, Any]:
    answer = await sign_in_from(product, HERE)
    assert answer.status == 200, answer.text
    tokens: dict[str, Any] = answer.json
    return tokens


async def let_the_grace_pass(product: Running) -> None:
    await execute(product, "UPDATE refresh_tokens SET used_at = used_at - interval '6 seconds'")


async def is_in(product: Running, access_token: str) -> bool:
    return (await product.client.as_(access_token).get("/auth/me")).status == 200


async def test_S13_a_refresh_token_is_exchanged_for_the_next_pair(product: Running) -> None:
    await product.registered(ADA)
    first = await tokens_of(product)

    second = await refreshed(product, first["refreshToken"])
    third = await refreshed(product, second.json["refreshToken"])

    assert (second.status, third.status) == (200, 200)
    assert (
        len({first["refreshToken"], second.json["refreshToken"], third.json["refreshToken"]}) == 3
    )
    assert third.json["expiresIn"] == 900
    assert await is_in(product, third.json["accessToken"])


async def test_S13_a_token_that_is_used_again_ends_the_session(product: Running) -> None:
    await product.registered(ADA)
    first = await tokens_of(product)
    second = (await refreshed(product, first["refreshToken"])).json
    await let_the_grace_pass(product)

    again = await refreshed(product, first["refreshToken"])
    thief_and_owner = await refreshed(product, second["refreshToken"])

    assert (again.status, thief_and_owner.status) == (401, 401)
    assert not await is_in(product, second["accessToken"])
    suspicions = await recorded(product, "SuspiciousActivityDetected")
    assert [event["kind"] for event in suspicions] == ["refresh_token_reused"]


async def test_S13_another_session_of_the_same_person_goes_on(product: Running) -> None:
    await product.registered(ADA)
    stolen, other = await tokens_of(product), await tokens_of(product)
    await refreshed(product, stolen["refreshToken"])
    await let_the_grace_pass(product)

    assert (await refreshed(product, stolen["refreshToken"])).status == 401
    assert (await refreshed(product, other["refreshToken"])).status == 200


async def test_S13_twenty_refreshes_in_the_same_moment_log_nobody_out(product: Running) -> None:
    await product.registered(ADA)
    first = await tokens_of(product)

    answers = await asyncio.gather(*[refreshed(product, first["refreshToken"]) for _ in range(20)])

    assert [answer.status for answer in answers] == [200] * 20
    last = answers[-1].json
    assert await is_in(product, last["accessToken"])
    sessions = await product.client.as_(last["accessToken"]).get("/auth/sessions")
    assert len([one for one in sessions.json["data"] if one["ipAddress"] == HERE]) == 1
    assert await recorded(product, "SuspiciousActivityDetected") == []


async def test_refreshing_while_signing_out_is_either_one_or_the_other(product: Running) -> None:
    await product.registered(ADA)
    for _ in range(5):
        tokens = await tokens_of(product)
        person = product.client.as_(tokens["accessToken"])

        refresh, logout = await asyncio.gather(
            refreshed(product, tokens["refreshToken"]),
            person.post("/auth/logout?everywhere=true"),
        )

        assert logout.status == 204, logout.text
        assert refresh.status in (200, 401), refresh.text
        assert not await is_in(product, tokens["accessToken"])
        if refresh.status == 200:
            assert (await refreshed(product, refresh.json["refreshToken"])).status == 401


async def test_S13_refresh_tokens_are_dead_after_whatever_ends_the_session(
    product: Running,
) -> None:
    admin = await product.as_admin()
    _, user_id = await joined(product, admin)

    tokens = await tokens_of(product)
    await product.client.as_(tokens["accessToken"]).post("/auth/logout")
    assert (await refreshed(product, tokens["refreshToken"])).status == 401

    tokens, other = await tokens_of(product), await tokens_of(product)
    changed = await product.client.as_(other["accessToken"]).post(
        "/auth/change-password", {"currentPassword": PASSWORD, "newPassword": OTHER_PASSWORD}
    )
    assert changed.status == 200, changed.text
    assert (await refreshed(product, tokens["refreshToken"])).status == 401
    assert (await refreshed(product, other["refreshToken"])).status == 200

    kept = (await sign_in_from(product, HERE, password=OTHER_PASSWORD)).json
    await admin.post(f"/users/{user_id}/deactivate")
    assert (await refreshed(product, kept["refreshToken"])).status == 401


async def test_S13_who_was_deleted_is_refused_like_everybody_else(product: Running) -> None:
    admin = await product.as_admin()
    _, user_id = await joined(product, admin)
    tokens = await tokens_of(product)

    await admin.delete(f"/users/{user_id}")
    before = await refreshed(product, tokens["refreshToken"])
    await product.work()
    after = await refreshed(product, tokens["refreshToken"])

    assert (before.status, after.status) == (401, 401)
    assert before.json["detail"] == after.json["detail"]


async def test_S13_a_session_ends_after_its_longest_life_however_often_it_is_refreshed(
    product: Running,
) -> None:
    await product.registered(ADA)
    tokens = await tokens_of(product)
    await execute(product, "UPDATE sessions SET ends_at_latest = now() + interval '1 hour'")

    second = await refreshed(product, tokens["refreshToken"])
    session = (await product.client.as_(second.json["accessToken"]).get("/auth/sessions")).json[
        "data"
    ]
    current = [one for one in session if one["isCurrent"]]
    await execute(product, "UPDATE sessions SET expires_at = now() - interval '1 second'")

    assert len(current) == 1
    assert not await is_in(product, second.json["accessToken"])
    assert (await refreshed(product, second.json["refreshToken"])).status == 401


async def test_an_unknown_refresh_token_is_refused(product: Running) -> None:
    for token in ("", "tfr_unknown", "x" * 200, "ä"):
        assert (await refreshed(product, token)).status == 401
