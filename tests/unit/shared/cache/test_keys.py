"""Keys hold the tenant and every parameter, and patterns name whole parts of them."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cache.keys import EVERYTHING, cache_key, is_one_key, key_matcher, keys_below
from shared.errors import Invalid

TENANT = UUID("0197a0a0-0000-7000-8000-000000000001")
WORDS = st.text(min_size=1) | st.from_regex(r"[a:*%~]{1,3}", fullmatch=True)
PARTS = st.lists(st.text() | st.sampled_from([None, "%", "~", ":", "*", "**", "", "a:b"]))


def test_a_key_reads_as_what_it_is_whose_it_is_and_its_parameters() -> None:
    assert cache_key("t1", "dashboard", 7) == "dashboard:t1:7"
    assert cache_key(TENANT, "services") == f"services:{TENANT}"


@given(st.tuples(WORDS, WORDS, PARTS), st.tuples(WORDS, WORDS, PARTS))
def test_S38_different_tenants_kinds_or_parts_never_share_a_key(
    one: tuple[str, str, list[str | None]], other: tuple[str, str, list[str | None]]
) -> None:
    keys = [cache_key(tenant, kind, *parts) for tenant, kind, parts in (one, other)]

    assert (keys[0] == keys[1]) == (one == other)


@given(WORDS, WORDS, PARTS)
def test_no_part_adds_a_separator_or_a_star(
    tenant: str, kind: str, parts: list[str | None]
) -> None:
    key = cache_key(tenant, kind, *parts)

    assert key.count(":") == 1 + len(parts)
    assert is_one_key(key)


def test_S38_the_same_query_of_two_tenants_has_two_keys() -> None:
    query = "SELECT 1 " * 1_000

    assert cache_key(uuid4(), "logs", query, 1) != cache_key(uuid4(), "logs", query, 1)


def test_long_parts_differ_by_all_of_their_text() -> None:
    query = "x" * 100_000
    one, other = cache_key("t1", "logs", query + "a"), cache_key("t1", "logs", query + "b")

    assert one != other
    assert len(one) < 100


def test_no_part_poses_as_the_digest_of_another() -> None:
    digest = cache_key("t1", "logs", "x" * 1_000).rpartition(":")[2]

    assert cache_key("t1", "logs", digest) != cache_key("t1", "logs", "x" * 1_000)


def test_nothing_is_not_an_empty_text() -> None:
    keys = {cache_key("t1", "logs", *parts) for parts in ((None,), ("",), ("None",), ("%",), ())}

    assert len(keys) == 5


@pytest.mark.parametrize(("tenant", "kind"), [("", "logs"), ("t1", "")])
def test_a_key_needs_a_tenant_and_a_kind(tenant: str, kind: str) -> None:
    with pytest.raises(ValueError, match="needs a tenant"):
        cache_key(tenant, kind)


@pytest.mark.parametrize(
    ("prefix", "key", "is_named"),
    [
        ("logs:t1", "logs:t1", True),
        ("logs:t1", "logs:t1:a:b", True),
        ("logs:t1", "logs:t12", False),
        ("logs:t1", "logs:t2:t1", False),
        ("logs:t1:*", "logs:t1:a", True),
        ("logs:t1:*", "logs:t1", False),
        ("*:t1", "services:t1", True),
        ("*:t1", "logs:t1:a", True),
        ("*:t1", "logs:t2:t1", False),
        ("*", "logs:t2", True),
        ("logs.t1", "logs:t1", False),
        ("l.gs", "logs", False),
    ],
)
def test_a_prefix_names_whole_parts(prefix: str, key: str, is_named: bool) -> None:
    assert bool(key_matcher(keys_below(prefix))(key)) is is_named


@given(WORDS, WORDS, PARTS)
def test_everything_names_every_key(tenant: str, kind: str, parts: list[str | None]) -> None:
    key = cache_key(tenant, kind, *parts)

    for pattern in (key, EVERYTHING, keys_below(cache_key(tenant, kind)), keys_below("*")):
        assert key_matcher(pattern)(key)


@pytest.mark.parametrize("prefix", ["", "a*", "lo[gs", "a?", "a\\", "**", "a b", "é", "x" * 1_001])
def test_what_cannot_begin_a_key_is_refused(prefix: str) -> None:
    with pytest.raises(Invalid):
        keys_below(prefix)
