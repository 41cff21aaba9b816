"""API keys over real HTTP on a real PostgreSQL."""

import re
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from control.api_keys.jobs import look_after_keys
from control.api_keys.repository.keys import KEYS_OF_A_TENANT_MAX
from shared.messaging.events import utc_now
from shared.postgres.scope import PLATFORM
from shared.security.peppers import Peppers
from tests.control.client import Client
from tests.control.product import PASSWORD, Running

NEW = {"name": "Collectors"}


@pytest.fixture
async def ada(product: Running) -> Client:
    """Administers an organization of her own."""
    return await product.registered("ada@example.com")


async def hash_of(product: Running, key: Any) -> tuple[bytes, str]:
    async with product.control.database.read(PLATFORM) as connection:
        row = await connection.fetchrow(
            "SELECT secret_hash, pepper_id FROM api_keys WHERE id = $1", UUID(key["id"])
        )
    return row["secret_hash"], row["pepper_id"]


async def test_a_key_is_made_seen_renamed_and_revoked(product: Running, ada: Client) -> None:
    made = await ada.post("/api-keys", NEW)
    key = made.json["key"]
    path = f"/api-keys/{key['id']}"
    read = await ada.get(path)
    renamed = await ada.patch(path, {"name": "Agents"}, **{"If-Match": read.headers["ETag"]})
    late = await ada.patch(path, {"name": "Late"}, **{"If-Match": '"1"'})
    revoked = await ada.post(f"{path}/revoke")
    again = await ada.delete(path)
    listed = await ada.get("/api-keys?status=revoked&search=agents&sort=-expiresAt")

    assert made.status == 201
    assert re.fullmatch("tfs_[0-9a-f]{64}", made.json["secret"])
    assert made.json["otlpHeaders"] == (
        f"authorization=Bearer%20{key['keyId']}:{made.json['secret']}"
    )
    assert made.headers["Cache-Control"] == "no-store"
    assert key["permissions"] == ["logs:write", "metrics:write", "traces:write"]
    assert (renamed.json["name"], late.status) == ("Agents", 412)
    assert (revoked.json["status"], again.status) == ("revoked", 409)
    assert [one["id"] for one in listed.json["data"]] == [key["id"]]
    assert made.json["secret"] not in read.text + renamed.text + listed.text
    hashed, pepper_id = await hash_of(product, key)
    assert hashed == Peppers.of(product.control.settings).hash(made.json["secret"], pepper_id)


async def test_a_key_is_rotated_with_a_grace(product: Running, ada: Client) -> None:
    first = (await ada.post("/api-keys", NEW | {"allowedNetworks": ["10.0.0.0/8"]})).json

    rotated = await ada.post(f"/api-keys/{first['key']['id']}/rotate", {"gracePeriodMinutes": 5})
    old = (await ada.get(f"/api-keys/{first['key']['id']}")).json
    twice = await ada.post(f"/api-keys/{first['key']['id']}/rotate", {})

    new = rotated.json["key"]
    assert rotated.status == 201
    assert rotated.json["secret"] != first["secret"]
    assert (new["name"], new["status"]) == ("Collectors (Rotated)", "active")
    assert new["allowedNetworks"] == ["10.0.0.0/8"]
    assert (old["status"], old["replacedBy"]) == ("rotated", new["id"])
    assert twice.status == 409
    over = utc_now() + timedelta(minutes=6)
    assert await look_after_keys(product.control.api_keys, now=over) == 1
    assert (await ada.get(f"/api-keys/{old['id']}")).json["status"] == "expired"
    assert (await ada.get(f"/api-keys/{new['id']}")).json["status"] == "active"


async def test_S65_a_repeat_of_the_same_post_makes_no_second_key_and_keeps_no_secret(
    product: Running, ada: Client
) -> None:
    made = await ada.post("/api-keys", NEW, **{"Idempotency-Key": "k-1"})
    repeat = await ada.post("/api-keys", NEW, **{"Idempotency-Key": "k-1"})

    assert (made.status, repeat.status) == (201, 409)
    assert made.json["key"]["id"] in repeat.json["detail"]
    assert (await ada.get("/api-keys")).json["meta"]["total"] == 1
    async with product.control.database.read(PLATFORM) as connection:
        kept = await connection.fetch("SELECT k::text FROM idempotency_keys AS k")
    assert kept
    assert made.json["secret"] not in str(kept)


async def test_S37_nobody_makes_or_rotates_a_key_that_allows_more_than_they_may(
    product: Running, ada: Client
) -> None:
    role = await ada.post(
        "/roles",
        {"name": "Keys", "permissions": ["api-keys:write", "api-keys:read", "traces:write"]},
    )
    person = {"email": "bob@example.com", "firstName": "B", "lastName": "B"}
    await ada.post("/invitations", person | {"roleIds": [role.json["id"]]})
    await product.work()
    token = product.link_token("bob@example.com")
    await product.client.post("/auth/accept-invitation", {"token": token, "password": PASSWORD})
    await product.work()
    bob = await product.as_person("bob@example.com")
    full = (await ada.post("/api-keys", NEW | {"preset": "fullAccess"})).json["key"]

    own = await bob.post("/api-keys", NEW | {"permissions": ["traces:write"]})
    more = await bob.post("/api-keys", NEW | {"permissions": ["traces:write", "logs:read"]})
    rotated = await bob.post(f"/api-keys/{full['id']}/rotate", {})
    presets = (await bob.get("/api-key-presets")).json["data"]

    assert own.status == 201
    assert (more.status, rotated.status) == (403, 403)
    assert not any(one["isAllowed"] for one in presets)


async def test_S31_keys_of_another_organization_do_not_exist(product: Running, ada: Client) -> None:
    eve = await product.registered("eve@example.com")
    key = (await ada.post("/api-keys", NEW)).json["key"]
    path = f"/api-keys/{key['id']}"

    answers = [
        await eve.get(path),
        await eve.patch(path, {"name": "Mine"}),
        await eve.post(f"{path}/rotate", {}),
        await eve.post(f"{path}/revoke"),
        await eve.delete(path),
    ]

    assert [answer.status for answer in answers] == [404] * 5
    assert (await eve.get("/api-keys")).json["data"] == []
    assert (await ada.get(path)).json["version"] == 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"preset": "readOnly", "permissions": ["traces:read"]}, "permissions"),
        ({"permissions": ["user:write"]}, "permissions"),
        ({"permissions": []}, "permissions"),
        ({"preset": "everything"}, "preset"),
        ({"allowedNetworks": ["10.0.0.1/8"]}, "allowedNetworks.0"),
        ({"expiresInDays": 731}, "expiresInDays"),
        ({"name": " "}, "name"),
    ],
)
async def test_what_is_wrong_with_a_key_is_told_by_field(
    ada: Client, fields: dict[str, Any], field: str
) -> None:
    answer = await ada.post("/api-keys", NEW | fields)

    assert answer.status == 400
    assert [error["field"] for error in answer.json["errors"]] == [field]


async def test_who_made_a_key_is_told_once_before_it_expires(product: Running, ada: Client) -> None:
    await ada.post("/api-keys", NEW | {"expiresInDays": 30})
    await product.work()

    def told() -> list[Any]:
        return [mail for mail in product.mails("ada@example.com") if "expires" in mail["Subject"]]

    for days in (22, 24, 25):
        await look_after_keys(product.control.api_keys, now=utc_now() + timedelta(days=days))
        await product.work()

    (mail,) = told()
    assert mail["Subject"] == "The API key Collectors expires soon"


async def test_a_tenant_has_a_limited_number_of_keys_that_work(
    product: Running, ada: Client
) -> None:
    key = (await ada.post("/api-keys", NEW)).json["key"]
    async with product.control.database.begin(PLATFORM) as connection:
        await connection.execute(
            """
            INSERT INTO api_keys (id, version, organization_id, tenant_id, key_id, secret_hash,
                                  pepper_id, name, permissions, status, expires_at)
            SELECT gen_random_uuid(), 1, organization_id, tenant_id, 'tfk_' || number,
                   secret_hash, pepper_id, 'N', permissions, 'active', expires_at
              FROM api_keys, generate_series(2, $1::int) AS number
            """,
            KEYS_OF_A_TENANT_MAX,
        )

    one_more = await ada.post("/api-keys", NEW)
    await ada.delete(f"/api-keys/{key['id']}")
    after = await ada.post("/api-keys", NEW)

    assert (one_more.status, after.status) == (409, 201)
