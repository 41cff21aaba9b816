"""The cache as administrators of the platform see it."""

from tests.control.product import Running


async def test_statistics_are_remembered_until_the_cache_is_cleared(product: Running) -> None:
    admin = await product.as_admin()
    first = (await admin.get("/platform/stats")).json
    await admin.post("/workspaces", {"name": "W", "slug": "w"})

    remembered = (await admin.get("/platform/stats")).json
    stats = (await admin.get("/admin/cache/stats")).json
    cleared = await admin.post("/admin/cache/clear/platform:platform")
    anew = (await admin.get("/platform/stats")).json

    assert remembered == first
    assert (stats["l1"]["size"], stats["l2"]["up"]) == (1, False)
    assert 0 < stats["l1"]["hitRate"] < 1
    assert cleared.json == {"deleted": 1}
    assert anew["workspaces"] == first["workspaces"] + 1
    assert (await admin.post("/admin/cache/clear")).json == {"deleted": 1}


async def test_a_pattern_that_is_none_is_refused(product: Running) -> None:
    admin = await product.as_admin()

    assert (await admin.post("/admin/cache/clear/a%20b")).status == 400
