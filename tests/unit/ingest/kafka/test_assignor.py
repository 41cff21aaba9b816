"""Who writes which partitions, for groups of any size and history."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.kafka_log.assignor import Place, assign

TOPICS = ("logs", "metrics", "traces")
ROUNDS_MAX = 4


def places_of(partitions: int) -> list[Place]:
    return [(topic, number) for topic in TOPICS for number in range(partitions)]


def settled(
    members: dict[str, frozenset[Place]], places: list[Place]
) -> dict[str, frozenset[Place]]:
    """Rounds until nothing changes: after each, members let go of what they were not given."""
    for _round in range(ROUNDS_MAX):
        given_now = assign(members, places)
        if given_now == members:
            return members
        members = given_now
    raise AssertionError("the group does not settle")


@given(
    st.dictionaries(
        st.text("abcdef", min_size=1, max_size=3),
        st.sets(st.integers(0, 3 * 8 - 1)),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 8),
)
def test_I10_a_group_settles_on_even_shares_and_nothing_has_two_owners(
    claims: dict[str, set[int]], partitions: int
) -> None:
    every = places_of(8)
    places = places_of(partitions)
    members: dict[str, frozenset[Place]] = {}
    claimed: set[Place] = set()
    for member, numbers in claims.items():
        members[member] = frozenset(every[number] for number in numbers) - claimed
        claimed |= members[member]

    first = assign(members, places)
    for member, share in first.items():
        others = frozenset().union(*(held for one, held in members.items() if one != member))
        assert not share & others, "given while another holds it"

    shares = settled(members, places)
    assert sorted(place for share in shares.values() for place in share) == places
    for topic in TOPICS:
        sizes = [sum(place[0] == topic for place in share) for share in shares.values()]
        assert max(sizes) - min(sizes) <= 1
    sizes = [len(share) for share in shares.values()]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 6), st.integers(1, 8))
def test_who_stays_keeps_what_is_still_its_share(members: int, partitions: int) -> None:
    places = places_of(partitions)
    before = settled({f"m{number}": frozenset() for number in range(members)}, places)
    after = settled(before | {"n": frozenset()}, places)
    moved = sum(len(share - before.get(member, frozenset())) for member, share in after.items())
    # At least the newcomer's share has to move; changing turns may move one more per topic.
    assert moved <= len(after["n"]) + len(TOPICS)
    assert settled(after, places) == after


def test_a_partition_changes_hands_in_two_rounds() -> None:
    places = places_of(2)
    alone = assign({"a": frozenset()}, places)
    assert alone == {"a": frozenset(places)}
    first = assign(alone | {"b": frozenset()}, places)
    assert first["b"] == frozenset()
    assert len(first["a"]) == 3
    second = assign(first, places)
    assert second["a"] == first["a"]
    assert second["b"] == frozenset(places) - first["a"]
