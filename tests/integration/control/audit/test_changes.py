"""What a change was, from what to what: in the trail, in its export, and as long as a person is."""

from typing import Any

import pytest

from control.audit.verification import verify
from shared.messaging.events import utc_now
from shared.postgres.scope import PLATFORM
from tests.control.client import Client
from tests.control.product import Running


@pytest.fixture
async def ada(product: Running) -> Client:
    """Administers an organization of her own."""
    return await product.registered("ada@example.com")


async def entry_of(client: Client, action: str) -> dict[str, Any]:
    (entry,) = (await client.get(f"/audit-logs?action={action}")).json["data"]
    found: dict[str, Any] = entry
    return found


async def test_G04_a_change_is_told_from_what_to_what_in_the_trail_and_in_its_export(
    product: Running, ada: Client
) -> None:
    key = (await ada.post("/api-keys", {"name": "till"})).json["key"]
    change = {"name": "cash desk", "limits": {"itemsPerSecond": 5}, "allowedNetworks": ["::1"]}
    changed = await ada.patch(f"/api-keys/{key['id']}", change)
    assert changed.status == 200, changed.text
    await product.work()

    metadata = (await entry_of(ada, "api_key.updated"))["metadata"]
    table = await ada.get("/audit-logs/export?action=api_key.updated")
    document = await ada.get("/audit-logs/export?action=api_key.updated&format=json")

    assert metadata["changes"]["name"] == {"before": "till", "after": "cash desk"}
    assert metadata["changes"]["allowedNetworks"] == {"before": [], "after": ["::1/128"]}
    assert metadata["changes"]["limits"]["before"]["items_per_second"] is None
    assert metadata["changes"]["limits"]["after"]["items_per_second"] == 5
    assert sorted(metadata["changed"]) == ["allowedNetworks", "limits", "name"]
    assert "till" in table.text
    assert "cash desk" in table.text
    assert [one["metadata"] for one in document.json["data"]] == [metadata]


async def test_S65_a_change_never_tells_a_secret(product: Running, ada: Client) -> None:
    (workspace,) = (await ada.get("/workspaces")).json["data"]
    secret = "tfs_" + "0" * 64
    change = {"description": f"key {secret}", "datasourceConfig": {"dsn": "postgres://a:sesame@db"}}
    changed = await ada.patch(f"/workspaces/{workspace['id']}", change)
    assert changed.status == 200, changed.text
    await product.work()

    entry = await entry_of(ada, "workspace.updated")

    assert entry["metadata"]["changes"]["description"]["before"] == ""
    assert entry["metadata"]["changes"]["datasource_config"] == {}
    assert secret not in str(entry)
    assert "sesame" not in str(entry)


async def test_S65_who_a_person_was_goes_with_them_and_the_chain_still_holds(
    product: Running, ada: Client
) -> None:
    person = {"email": "bob@example.com", "firstName": "Bob", "lastName": "Builder"}
    bob = (await ada.post("/users", person)).json
    await ada.patch(f"/users/{bob['id']}", {"email": "rob@example.com", "lastName": "Baker"})
    await product.work()

    known = await entry_of(ada, "user.updated")
    async with product.control.database.read(PLATFORM) as connection:
        stored = str(await connection.fetch("SELECT * FROM audit_logs"))
    await ada.delete(f"/users/{bob['id']}")
    await ada.post(f"/users/{bob['id']}/purge")
    await product.work()
    purged = await entry_of(ada, "user.updated")

    assert known["details"]["changes"] == {
        "email": {"before": "bob@example.com", "after": "rob@example.com"},
        "last_name": {"before": "Builder", "after": "Baker"},
    }
    assert not [text for text in ("Builder", "Baker", "rob@") if text in stored]
    assert purged["details"] is None
    assert sorted(purged["metadata"]["changed"]) == ["email", "last_name"]
    audit = product.control.audit
    async with product.control.database.read(PLATFORM) as connection:
        await audit.checkpoints.write(connection, now=utc_now())
    signed = [one async for one in audit.checkpoints.read()]
    async with product.control.database.snapshot(PLATFORM) as connection:
        assert not (await verify(connection, signed, keys=audit.keys, archive=None)).findings
