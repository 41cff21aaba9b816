"""Offsets that groups have committed, with their notes.

Errors are looked at: while a coordinator loads, a group that has offsets looks like one that has
none, and whoever took that for an answer would read everything again, or skip it.
"""

from typing import Any, Final, Protocol

from aiokafka.errors import GroupLoadInProgressError, RebalanceInProgressError
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest

from ingest.kafka_log.cluster import Cluster, raise_for
from ingest.log import Committed
from shared.errors import Invalid

# The broker's default for offset.metadata.max.bytes.
METADATA_BYTES_MAX: Final = 4096
_BROKERS_RETENTION: Final = -1
_NOTHING_COMMITTED: Final = -1
# Another member of the group holds the partition by now; see `membership`.
STALE_MEMBER_CODES: Final = frozenset({22, 25, 82})


class Member(Protocol):
    """Who commits: a member of the group in its generation, or nobody in particular."""

    @property
    def generation(self) -> int: ...

    @property
    def member_id(self) -> str: ...


class NoMember:
    """Commits to groups without members."""

    generation: Final = -1
    member_id: Final = ""


class Offsets:
    """Committed offsets of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def committed(self, group: str, topic: str, partition: int) -> Committed | None:
        """What was last committed, None if nothing ever was. Raises Unavailable."""

        async def ask() -> Committed | None:
            request = OffsetFetchRequest(group, [(topic, [partition])])
            answer = await self._to_coordinator(group, request)
            raise_for(getattr(answer, "error_code", 0))
            ((_topic, ((_partition, offset, metadata, code),)),) = answer.topics
            raise_for(code)
            return None if offset == _NOTHING_COMMITTED else Committed(offset, metadata or "")

        return await self._cluster.patiently(ask)

    async def commit(
        self, group: str, place: tuple[str, int], committed: Committed, member: Member
    ) -> int:
        """Commit for *member*; 0, or one of STALE_MEMBER_CODES. Raises Unavailable."""
        topic, partition = place
        if len(committed.metadata.encode()) > METADATA_BYTES_MAX:
            raise Invalid(f"a commit's note takes at most {METADATA_BYTES_MAX} bytes")

        async def ask() -> int:
            # The generation is read with every try: it changes while a group settles.
            entries = [(topic, [(partition, committed.offset, committed.metadata)])]
            request = OffsetCommitRequest(
                group, member.generation, member.member_id, _BROKERS_RETENTION, entries
            )
            answer = await self._to_coordinator(group, request)
            ((_topic, ((_partition, code),)),) = answer.topics
            if code in STALE_MEMBER_CODES:
                return int(code)
            if code == RebalanceInProgressError.errno:
                raise GroupLoadInProgressError("the group settles who writes what")
            raise_for(code, f"{topic}/{partition}")
            return 0

        return await self._cluster.patiently(ask)

    async def _to_coordinator(self, group: str, request: Any) -> Any:
        return await self._cluster.to_coordinator(group, request, lane="offsets")
