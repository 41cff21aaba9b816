"""Links in mails: good once, for a time, for one purpose; and who may learn that they exist."""

import pytest

from control.auth.jobs import SEND_ACCOUNT_MAIL, send_account_mail
from shared.errors import Unavailable
from shared.postgres.scope import PLATFORM
from shared.queue.jobs import Job
from tests.control.auth_people import (
    ADA,
    OTHER_PASSWORD,
    execute,
    joined,
    recorded,
    sign_in_from,
)
from tests.control.client import Reply
from tests.control.product import PASSWORD, Running, running, settings_for

HERE = "203.0.113.7"
PERSON = {"email": ADA, "password": PASSWORD, "firstName": "Ada", "lastName": "Lovelace"}


async def forgot(product: Running, email: str = ADA, **headers: str) -> Reply:
    answer = await product.client.post("/auth/forgot-password", {"email": email}, **headers)
    await product.work()
    return answer


async def reset(product: Running, token: str, password: str = OTHER_PASSWORD) -> Reply:
    return await product.client.post("/auth/reset-password", {"token": token, "password": password})


async def test_S16_asking_for_a_reset_tells_nobody_who_is_here(product: Running) -> None:
    await product.registered(ADA)
    before = len(product.mails(ADA))

    known, unknown = await forgot(product), await forgot(product, "nobody@example.com")

    assert (known.status, unknown.status) == (202, 202)
    assert known.text == unknown.text
    assert len(product.mails(ADA)) == before + 1
    assert product.mails("nobody@example.com") == []


async def test_S16_a_reset_link_is_good_once_and_ends_all_sessions(product: Running) -> None:
    ada = await product.registered(ADA)
    await forgot(product)
    token = product.link_token(ADA)

    done = await reset(product, token)
    again = await reset(product, token, "Third-Horse-9-stallion")

    assert (done.status, again.status) == (200, 400), done.text
    assert (await ada.get("/auth/me")).status == 401
    assert (await sign_in_from(product, HERE)).status == 401
    assert (await sign_in_from(product, HERE, password=OTHER_PASSWORD)).status == 200


async def test_S16_a_reset_lifts_lockouts(product: Running) -> None:
    await product.registered(ADA)
    for _ in range(6):
        await sign_in_from(product, HERE, password="wrong")
    await forgot(product)

    assert (await reset(product, product.link_token(ADA))).status == 200
    assert (await sign_in_from(product, HERE, password=OTHER_PASSWORD)).status == 200


async def test_a_password_that_is_refused_leaves_the_link_good(product: Running) -> None:
    await product.registered(ADA)
    await forgot(product)
    token = product.link_token(ADA)

    weak, same = await reset(product, token, "short"), await reset(product, token, PASSWORD)

    assert (weak.status, same.status) == (400, 400)
    assert weak.json["errors"][0]["field"] == "password"
    assert (await reset(product, token)).status == 200


async def test_S16_links_end_after_their_time(product: Running) -> None:
    await product.registered(ADA)
    await forgot(product)
    await execute(product, "UPDATE mail_tokens SET expires_at = now()")

    assert (await reset(product, product.link_token(ADA))).status == 400


async def test_only_the_link_of_the_last_mail_is_good(product: Running) -> None:
    await product.registered(ADA)
    await forgot(product)
    first = product.link_token(ADA)
    await execute(product, "UPDATE mail_tokens SET created_at = now() - interval '61 seconds'")
    await forgot(product)
    second = product.link_token(ADA)

    assert first != second
    assert (await reset(product, first)).status == 400
    assert (await reset(product, second)).status == 200


async def test_S16_nobody_floods_somebody_else_with_mails(product: Running) -> None:
    await product.registered(ADA)
    before = len(product.mails(ADA))

    answers = {(await forgot(product)).text for _ in range(5)}

    assert len(answers) == 1
    assert len(product.mails(ADA)) == before + 1


async def test_S16_the_link_leads_to_the_configured_address(product: Running) -> None:
    await product.registered(ADA)

    await forgot(product, **{"X-Forwarded-Host": "evil.example", "Host": "evil.example"})

    text = product.mails(ADA)[-1].get_body(("plain",)).get_content()
    assert f"{product.control.settings.app_url}/reset-password#token=" in text
    assert "evil" not in product.mails(ADA)[-1].as_string()


async def test_S16_registering_a_known_address_tells_its_owner_alone(product: Running) -> None:
    await product.registered(ADA)
    before = len(product.mails(ADA))

    known = await product.client.post("/auth/register", PERSON | {"password": OTHER_PASSWORD})
    unknown = await product.client.post("/auth/register", PERSON | {"email": "bob@example.com"})
    await product.work()

    assert (known.status, unknown.status) == (201, 201)
    assert known.text == unknown.text
    assert len(product.mails(ADA)) == before + 1
    assert (await sign_in_from(product, HERE, password=OTHER_PASSWORD)).status == 401
    assert (await sign_in_from(product, HERE)).status == 200


async def test_where_registration_is_closed_nobody_registers(
    database_address: object, tmp_path: object
) -> None:
    settings = settings_for(database_address, tmp_path, auth_registration="invited")  # type: ignore[arg-type]
    async with running(settings, tmp_path) as product:  # type: ignore[arg-type]
        answer = await product.client.post("/auth/register", PERSON)

        assert answer.status == 403
        assert await recorded(product, "AccountRegistered") == []


async def test_S16_an_address_is_verified_once_and_the_mail_is_sent_again(
    product: Running,
) -> None:
    await product.client.post("/auth/register", PERSON)
    await product.work()
    first = product.link_token(ADA)
    await execute(product, "UPDATE mail_tokens SET created_at = now() - interval '61 seconds'")

    known = await product.client.post("/auth/resend-verification", {"email": ADA})
    unknown = await product.client.post("/auth/resend-verification", {"email": "no@example.com"})
    await product.work()
    second = product.link_token(ADA)
    answers = [
        (await product.client.post("/auth/verify-email", {"token": token})).status
        for token in (first, second, second)
    ]
    before = len(product.mails(ADA))
    await product.client.post("/auth/resend-verification", {"email": ADA})
    await product.work()

    assert (known.status, known.text) == (202, unknown.text)
    assert answers == [400, 200, 400]
    subjects = [mail["Subject"] for mail in product.mails(ADA)[before:]]
    assert subjects == ["Welcome to TelemetryFlow"]


async def test_S11_the_link_of_one_purpose_is_good_for_no_other(product: Running) -> None:
    await product.client.post("/auth/register", PERSON)
    await product.work()
    verification = product.link_token(ADA)
    admin = await product.as_admin()
    await admin.post(
        "/invitations", {"email": "bob@example.com", "firstName": "B", "lastName": "B"}
    )
    await product.work()
    invitation = product.link_token("bob@example.com")
    await forgot(product)
    resetting = product.link_token(ADA)

    paths = {"verify-email": verification, "reset-password": resetting}
    paths["accept-invitation"] = invitation
    for path, own in paths.items():
        for token in {verification, resetting, invitation} - {own}:
            body = {"token": token}
            if path != "verify-email":
                body["password"] = OTHER_PASSWORD
            assert (await product.client.post(f"/auth/{path}", body)).status == 400, path
    assert (await reset(product, resetting)).status == 200


async def test_another_address_ends_the_links_in_mails_to_the_old_one(product: Running) -> None:
    admin = await product.as_admin()
    _, user_id = await joined(product, admin)
    await forgot(product)
    old_link = product.link_token(ADA)

    moved = await admin.patch(f"/users/{user_id}", {"email": "lovelace@example.com"})
    await product.work()
    new_link = product.link_token("lovelace@example.com")
    stale = await reset(product, old_link)
    early = await sign_in_from(product, HERE, "lovelace@example.com")
    verified = await product.client.post("/auth/verify-email", {"token": new_link})
    late = await sign_in_from(product, HERE, "lovelace@example.com")

    assert moved.status == 200, moved.text
    assert (stale.status, early.status, verified.status, late.status) == (400, 403, 200, 200)
    assert (await sign_in_from(product, HERE)).status == 401


async def test_a_verification_of_the_old_address_does_not_prove_the_new_one(
    product: Running,
) -> None:
    admin = await product.as_admin()
    _, user_id = await joined(product, admin)
    await admin.patch(f"/users/{user_id}", {"email": "second@example.com"})
    await product.work()
    second = product.link_token("second@example.com")

    await admin.patch(f"/users/{user_id}", {"email": "third@example.com"})
    await product.work()

    answer = await product.client.post("/auth/verify-email", {"token": second})
    assert answer.status == 400
    assert (await sign_in_from(product, HERE, "third@example.com")).status == 403


async def test_G15_a_link_of_an_invitation_ends_when_it_is_sent_again_or_revoked(
    product: Running,
) -> None:
    admin = await product.as_admin()
    invited = await admin.post(
        "/invitations", {"email": ADA, "firstName": "Ada", "lastName": "Lovelace"}
    )
    await product.work()
    first = product.link_token(ADA)
    path = f"/invitations/{invited.json['id']}"
    assert (await admin.post(f"{path}/resend")).status in (200, 202, 204)
    await product.work()
    second = product.link_token(ADA)
    accept = "/auth/accept-invitation"

    stale = await product.client.post(accept, {"token": first, "password": PASSWORD})
    revoked = await admin.post(f"{path}/revoke")
    await product.work()
    late = await product.client.post(accept, {"token": second, "password": PASSWORD})

    assert first != second
    assert revoked.status in (200, 204), revoked.text
    assert (stale.status, late.status) == (400, 400)
    assert late.json["detail"] == stale.json["detail"]


async def test_G15_the_link_of_an_account_that_was_closed_answers_like_an_old_one(
    product: Running,
) -> None:
    admin = await product.as_admin()
    _, user_id = await joined(product, admin)
    await forgot(product)
    token = product.link_token(ADA)
    await admin.delete(f"/users/{user_id}")
    await product.work()

    closed, unknown = await reset(product, token), await reset(product, "tfw_unknown")

    assert (closed.status, closed.json["detail"]) == (400, unknown.json["detail"])


async def test_a_mail_to_who_is_not_here_yet_waits_and_to_who_is_gone_is_left_out(
    product: Running,
) -> None:
    admin = await product.as_admin()
    _, user_id = await joined(product, admin)
    invitation = Job(
        id=1,
        queue="notification",
        name=SEND_ACCOUNT_MAIL,
        data={"event": "UserInvited", "accountId": "00000000-0000-4000-8000-000000000000"},
        tenant_id=None,
        attempt=1,
        trace={},
    )
    mailer = _Refusing()

    with pytest.raises(Unavailable):
        await send_account_mail(invitation, product.control.kit, mailer)
    await admin.delete(f"/users/{user_id}")
    await product.work()
    invitation.data["accountId"] = user_id
    await send_account_mail(invitation, product.control.kit, mailer)


class _Refusing:
    """A mailer that nobody should ask."""

    async def send(self, mail: object) -> None:
        raise AssertionError(f"a mail was sent: {mail}")


async def test_G12_no_link_is_kept_in_events_jobs_or_tables(product: Running) -> None:
    await product.registered(ADA)
    await forgot(product)
    token = product.link_token(ADA)

    async with product.control.database.begin(PLATFORM) as connection:
        rows = [
            str(dict(row))
            for table in ("outbox", "mail_tokens", "pgqueuer", "pgqueuer_log", "event_deliveries")
            for row in await connection.fetch(f"SELECT * FROM {table}")
        ]

    assert rows
    assert not [row for row in rows if token in row or PASSWORD in row]
