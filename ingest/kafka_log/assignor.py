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

    *members* maps the id of each member to the partitions that it holds. A partition that is still
    held by a member is never given to another.
    """
    wanted = _shares(members, sorted(places))
    holder = {place: member for member, held in members.items() for place in held}
    return {
        member: frozenset(place for place in share if holder.get(place, member) == member)
        for member, share in wanted.items()
    }


def _shares(
    members: Mapping[str, frozenset[Place]], places: list[Place]
) -> dict[str, frozenset[Place]]:
    """The even shares that the group is heading for."""
    least, extra = divmod(len(places), len(members))
    known = set(places)
    shares: dict[str, list[Place]] = {}
    given: set[Place] = set()
    # Those who hold most keep the larger shares: fewer moves.
    for member in sorted(members, key=lambda one: (-len(members[one] & known), one)):
        size = least + (1 if extra > 0 else 0)
        kept = sorted(members[member] & known - given)[:size]
        if len(kept) > least:
            extra -= 1
        shares[member] = kept
        given.update(kept)
    free = [place for place in places if place not in given]
    while free:
        poorest = min(shares, key=lambda one: (len(shares[one]), one))
        shares[poorest].append(free.pop(0))
    return {member: frozenset(share) for member, share in shares.items()}
