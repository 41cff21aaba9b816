"""Membership in the group of writers: the classic group protocol of Kafka, with cooperative moves.

Source: https://kafka.apache.org/protocol (JoinGroup, SyncGroup, Heartbeat, LeaveGroup) and KIP-429
for the idea of cooperative moves. The leader of the group runs `assignor`; what each member holds
travels in its user data. While a group settles, everyone goes on with what it holds.

A member that was not heard of for the session timeout has lost everything: it counts from its last
heartbeat that was answered, by a clock that a suspended process cannot stop. Heartbeats go on while
the group settles, over a connection of their own, since a JoinGroup holds up its connection.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from time import monotonic
from typing import Any, Final

import orjson
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import (
    JoinGroupRequest,
    LeaveGroupRequest,
    MemberAssignment,
    ProtocolMetadata,
    SyncGroupRequest,
)

from ingest import metrics
from ingest.kafka_log.assignor import Place, assign
from ingest.kafka_log.cluster import (
    REQUEST_SECONDS_MAX,
    RETRY_SECONDS,
    Cluster,
    KafkaAccess,
    explained,
    raise_for,
)
from ingest.kafka_log.protocol import HeartbeatRequest
from shared.errors import Conflict

HEARTBEATS_PER_SESSION: Final = 4
# Within which all members must have come together; what they hold is written on meanwhile.
REBALANCE_SECONDS: Final = 10.0
# The lease ends so much before the broker gives the partitions to another.
LEASE_MARGIN_SECONDS: Final = 0.5
PROTOCOL: Final = "telemetryflow-cooperative-1"
_UNKNOWN_MEMBER: Final = 25
_ILLEGAL_GENERATION: Final = 22
_REBALANCING: Final = 27
_MEMBER_ID_REQUIRED: Final = 79
_FENCED_INSTANCE: Final = 82
_COORDINATOR_MOVED: Final = (14, 15, 16)

logger = logging.getLogger(__name__)


class Fenced(Conflict):
    """Another process uses the same static id."""


class PartitionLease:
    """One tenure of a partition by a member of the group."""

    def __init__(self, membership: "Membership", *, lost: bool = False) -> None:
        self.lost = lost
        self._membership = membership

    def held(self) -> bool:
        """Whether nobody else can have been given the partition yet."""
        return not self.lost and self._membership.is_heard()


class Membership:
    """This process as a member of *group*; a task of its own keeps it up."""

    def __init__(
        self,
        access: KafkaAccess,
        group: str,
        topics: Sequence[str],
        *,
        session_timeout_ms: int,
        instance_id: str = "",
        topic_prefix: str = "",
    ) -> None:
        self._cluster = Cluster(access, request_seconds=REBALANCE_SECONDS + REQUEST_SECONDS_MAX)
        self._group = group
        self._topics = [topic_prefix + topic for topic in topics]
        self._prefix = topic_prefix
        self._session_seconds = session_timeout_ms / 1000
        self._instance_id = instance_id or None
        self.generation = -1
        self.member_id = ""
        self._leases: dict[Place, PartitionLease] = {}
        self._assigned: frozenset[Place] = frozenset()
        self._heard_at = float("-inf")
        self._changed = asyncio.Event()
        self._unsettled = asyncio.Event()
        self._settling_since: float | None = None
        self._joining = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Join, and stay a member until `close`. Raises Unavailable."""
        await self._cluster.start()
        self._tasks = [
            asyncio.create_task(self._run(), name="group-member"),
            asyncio.create_task(self._beat(), name="group-heartbeats"),
        ]

    def assigned(self) -> frozenset[Place]:
        """What this process is to write; what else it holds it must `release`."""
        return self._by_port_names(self._assigned)

    def revoked(self) -> frozenset[Place]:
        """What this process holds and is no longer to write: others wait for it."""
        return self._by_port_names(self._leases.keys() - self._assigned)

    def lease(self, topic: str, partition: int) -> "PartitionLease":
        """The present tenure of a partition; one that is over if it is not this member's."""
        place = (self._prefix + topic, partition)
        return self._leases.get(place) or PartitionLease(self, lost=True)

    def is_heard(self) -> bool:
        """Whether the group cannot have counted this member out yet."""
        lease_ends = self._heard_at + self._session_seconds
        # Who does not come when the group settles is counted out, however alive it is.
        if self._settling_since is not None:
            lease_ends = min(lease_ends, self._settling_since + REBALANCE_SECONDS)
        return monotonic() < lease_ends - LEASE_MARGIN_SECONDS

    async def changed(self) -> None:
        """Wait until `assigned` may have changed. Raises what ended the membership for good."""
        waiting = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait((waiting, *self._tasks), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        self._changed.clear()
        for task in self._tasks:
            if task.done():
                task.result()

    def release(self, places: Iterable[Place]) -> None:
        """Nothing is under way any more for *places*: others may be given them."""
        released = [self._leases.pop((self._prefix + topic, n), None) for topic, n in places]
        for lease in filter(None, released):
            lease.lost = True
        if any(released):
            self._unsettle()

    async def close(self) -> None:
        """Leave the group, unless the id is static: its partitions are then kept for a restart."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.member_id and self._instance_id is None:
            request = LeaveGroupRequest(self._group, self.member_id)
            with suppress(KafkaError):
                await self._send(request, lane="heartbeats")
        self._lose_all()
        await self._cluster.close()

    async def _run(self) -> None:
        """Join whenever the group settles anew."""
        while True:
            self._joining = True
            try:
                joined = await self._join()
            except KafkaError as error:
                joined = False
                await self._recover(error)
            finally:
                self._joining = False
            if joined:
                self._settling_since = None
                await self._unsettled.wait()
            else:
                await asyncio.sleep(RETRY_SECONDS)

    async def _beat(self) -> None:
        """Heartbeats, as long as there is somebody to tell them to."""
        while True:
            await asyncio.sleep(self._session_seconds / HEARTBEATS_PER_SESSION)
            if self.generation < 0:
                continue
            try:
                await self._heartbeat()
            except (KafkaError, TimeoutError) as error:
                await self._recover(error)

    async def _heartbeat(self) -> None:
        sent_at, told = monotonic(), (self.generation, self.member_id)
        request = HeartbeatRequest(self._group, *told, self._instance_id)
        async with asyncio.timeout(self._session_seconds):
            answer = await self._send(request, lane="heartbeats")
        code = answer.error_code
        is_old = self._joining or told != (self.generation, self.member_id)
        if code in (_ILLEGAL_GENERATION, _UNKNOWN_MEMBER) and is_old:
            return  # the broker is ahead: the answer to the join is on its way, or came before
        if self._accepted(code) or code == _REBALANCING:
            self._heard_at = sent_at

    async def _recover(self, error: KafkaError | TimeoutError) -> None:
        text = explained(error) if isinstance(error, KafkaError) else "no answer to a heartbeat"
        logger.warning("group %s: %s", self._group, text)
        self._cluster.forget_coordinator(self._group)
        await self._cluster.refresh()

    async def _join(self) -> bool:
        """One round of JoinGroup and SyncGroup; False when it must be repeated."""
        self._unsettled.clear()
        started = monotonic()
        answer = await self._send(
            JoinGroupRequest(
                self._group,
                int(self._session_seconds * 1000),
                int(REBALANCE_SECONDS * 1000),
                self.member_id,
                self._instance_id,
                "consumer",
                [(PROTOCOL, self._metadata())],
            ),
            lane="joins",
        )
        if answer.error_code == _MEMBER_ID_REQUIRED:
            self.member_id = answer.member_id
            return False
        if not self._accepted(answer.error_code):
            return False
        self.member_id, self.generation = answer.member_id, answer.generation_id
        shares = self._shares(answer) if answer.leader_id == answer.member_id else []
        request = SyncGroupRequest(
            self._group, self.generation, self.member_id, self._instance_id, shares
        )
        answer = await self._send(request, lane="joins")
        if not self._accepted(answer.error_code):
            return False
        self._heard_at = max(self._heard_at, started)
        self._take(_places_of(answer.member_assignment))
        return True

    def _accepted(self, code: int) -> bool:
        """Whether an answer was no error; what must be done about an error is done."""
        if code == _FENCED_INSTANCE:
            self._lose_all()
            raise Fenced(
                f"another process writes with WRITER_INSTANCE_ID={self._instance_id}: "
                "give each process its own"
            )
        if code in (_UNKNOWN_MEMBER, _ILLEGAL_GENERATION):
            logger.warning("group %s counts this writer out: it joins again", self._group)
            if code == _UNKNOWN_MEMBER:
                self.member_id = ""
            self._lose_all()
            self._unsettle()
        elif code == _REBALANCING and not self._joining:
            self._unsettle()
        elif code == _REBALANCING:
            pass  # the next round is under way already
        elif code in _COORDINATOR_MOVED:
            self._cluster.forget_coordinator(self._group)
        else:
            raise_for(code)
        return code == 0

    def _unsettle(self) -> None:
        if self._settling_since is None:
            self._settling_since = monotonic()
        self._unsettled.set()

    def _by_port_names(self, places: AbstractSet[Place]) -> frozenset[Place]:
        return frozenset((topic.removeprefix(self._prefix), number) for topic, number in places)

    def _take(self, assigned: frozenset[Place]) -> None:
        self._assigned = assigned
        for place in assigned - self._leases.keys():
            self._leases[place] = PartitionLease(self)
        metrics.PARTITIONS_ASSIGNED.set(len(assigned))
        self._changed.set()

    def _lose_all(self) -> None:
        self.generation = -1
        for lease in self._leases.values():
            lease.lost = True
        self._leases.clear()
        self._take(frozenset())

    def _metadata(self) -> bytes:
        held = orjson.dumps({"generation": self.generation, "held": sorted(self._leases)})
        encoded: bytes = ProtocolMetadata(0, self._topics, held).encode()
        return encoded

    def _shares(self, answer: Any) -> list[tuple[str, bytes]]:
        """What the leader gives to each member of the group."""
        claims: dict[Place, tuple[int, str]] = {}
        held: dict[str, set[Place]] = {}
        for member, *_instance, metadata in answer.members:
            said = orjson.loads(ProtocolMetadata.decode(metadata).user_data)
            held[member] = set()
            for topic, partition in said["held"]:
                # Of two who claim a partition, the one that was assigned it last is right.
                claim = (said["generation"], member)
                claims[topic, partition] = max(claim, claims.get((topic, partition), claim))
        for place, (_generation, member) in claims.items():
            held[member].add(place)
        places = [
            (topic, number)
            for topic in self._topics
            for number in range(self._cluster.partitions(topic))
        ]
        shares = assign({member: frozenset(one) for member, one in held.items()}, places)
        return [(member, _encoded(share)) for member, share in shares.items()]

    async def _send(self, request: Any, *, lane: str) -> Any:
        return await self._cluster.to_coordinator(self._group, request, lane=lane)


def _encoded(share: frozenset[Place]) -> bytes:
    topics: dict[str, list[int]] = {}
    for topic, partition in sorted(share):
        topics.setdefault(topic, []).append(partition)
    encoded: bytes = MemberAssignment(0, list(topics.items()), b"").encode()
    return encoded


def _places_of(assignment: bytes) -> frozenset[Place]:
    if not assignment:
        return frozenset()
    topics = MemberAssignment.decode(assignment).assignment
    return frozenset((topic, partition) for topic, partitions in topics for partition in partitions)
