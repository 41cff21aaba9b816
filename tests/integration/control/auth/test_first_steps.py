"""The way of a person through the product: from the first sign-in to a colleague at work."""

import asyncio

from tests.control.product import PASSWORD, Running


async def test_the_first_administrator_chooses_a_password_before_anything_else(
    product: Running,
) -> None:
    client = await product.as_person(product.admin.email, product.admin.password)

    refused = await client.get("/users")
    me = await client.get("/auth/me")
    changed = await client.post(
        "/auth/change-password",
        {"currentPassword": product.admin.password, "newPassword": PASSWORD},
    )
    allowed = await client.get("/users")

    assert refused.status == 403
    assert "change-password" in refused.json["detail"]
    assert me.json["mustChangePassword"] is True
    assert (changed.status, allowed.status) == (200, 200), changed.text


async def test_a_person_is_invited_joins_and_works_within_the_role(product: Running) -> None:
    admin = await product.as_admin()
    roles = {one["name"]: one["id"] for one in (await admin.get("/roles")).json["data"]}
    person = {
        "email": "ada@example.com",
        "firstName": "Ada",
        "lastName": "Lovelace",
        "roleIds": [roles["Viewer"]],
    }

    invited = await admin.post("/invitations", person)
    await product.work()
    before = await product.sign_in("ada@example.com")
    token = product.link_token("ada@example.com")
    accepted = await product.client.post(
        "/auth/accept-invitation", {"token": token, "password": PASSWORD}
    )
    await product.work()
    ada = await product.as_person("ada@example.com")

    assert invited.status == 201, invited.text
    assert before.status == 401
    assert accepted.status == 200, accepted.text
    assert (await ada.get("/workspaces")).status == 200
    assert (await ada.post("/workspaces", {"name": "W", "slug": "w"})).status == 403
    invitation = await admin.get(f"/invitations/{invited.json['id']}")
    assert invitation.json["status"] == "accepted"
    again = await product.client.post(
        "/auth/accept-invitation", {"token": token, "password": PASSWORD}
    )
    assert again.status == 400


async def test_who_registers_administers_an_organization_of_their_own(product: Running) -> None:
    ada = await product.registered("ada@example.com")

    me = (await ada.get("/auth/me")).json
    tenants = (await ada.get("/tenants")).json["data"]
    organizations = (await ada.get("/organizations")).json["data"]

    assert me["tier"] == 2
    assert [one["id"] for one in tenants] == [me["tenantId"]]
    assert [one["id"] for one in organizations] == [me["organizationId"]]
    assert (await ada.get("/auth/me")).json["email"] == "ada@example.com"


async def test_S16_registrations_of_one_address_in_the_same_moment_look_alike(
    product: Running,
) -> None:
    body = {"email": "a@example.com", "password": PASSWORD, "firstName": "A", "lastName": "B"}

    answers = await asyncio.gather(*(product.client.post("/auth/register", body) for _ in range(6)))

    assert {(answer.status, answer.text) for answer in answers} == {(201, answers[0].text)}
    await product.work()
    token = product.link_token("a@example.com")
    assert (await product.client.post("/auth/verify-email", {"token": token})).status == 200


async def test_a_person_who_signs_in_many_times_at_once_is_nobody_who_guesses(
    product: Running,
) -> None:
    await product.registered("ada@example.com")

    answers = await asyncio.gather(*(product.sign_in("ada@example.com") for _ in range(10)))

    assert [answer.status for answer in answers] == [200] * 10
