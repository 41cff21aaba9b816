"""Who writes which partitions: an even share for everyone, with as few moves as possible.

Moves are cooperative: a partition that is to change hands is given to nobody first, its owner
finishes what is under way and lets go, and the next round gives it to the new owner. All others
are written on meanwhile.
"""

from collections.abc import Iterable, Mapping

Place = tuple[str, int]


def assign(
    members: Mapping[str, frozenset[Place]], places: Iterable[Place]
) -> dict[str, frozenset[Place]]:
    """What each member writes in this round, given what each holds now.

    *members* maps the id of each member to the partitions that it holds. Every topic is spread
    evenly, since one topic may have all the load. A partition that a member still holds is never
    given to another.
    """
    topics: dict[str, list[Place]] = {}
    for place in sorted(places):
        topics.setdefault(place[0], []).append(place)
    given: dict[str, set[Place]] = {member: set() for member in members}
    turn = 0
    for of_topic in topics.values():
        sizes = _sizes(sorted(members), len(of_topic), turn)
        turn += len(of_topic) % len(members)
        for member, share in _shares(members, of_topic, sizes).items():
            given[member] |= share
    holder = {place: member for member, held in members.items() for place in held}
    return {
        member: frozenset(place for place in share if holder.get(place, member) == member)
        for member, share in given.items()
    }


def _sizes(members: list[str], places: int, turn: int) -> dict[str, int]:
    """How many of a topic's places each member gets; who gets one more goes by turns."""
    least, extra = divmod(places, len(members))
    return {
        member: least + ((number - turn) % len(members) < extra)
        for number, member in enumerate(members)
    }


def _shares(
    members: Mapping[str, frozenset[Place]], places: list[Place], sizes: Mapping[str, int]
) -> dict[str, set[Place]]:
    """The shares of one topic: what is held is kept, up to the size of the share."""
    shares: dict[str, set[Place]] = {}
    free = set(places)
    for member, size in sizes.items():
        shares[member] = set(sorted(members[member] & free)[:size])
        free -= shares[member]
    for place in sorted(free):
        poorest = min(sizes, key=lambda one: (len(shares[one]) - sizes[one], one))
        shares[poorest].add(place)
    return shares
