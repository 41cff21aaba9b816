"""Requests to one Kafka cluster: leaders and coordinators are found, passing errors waited out.

aiokafka's client keeps connections, authentication, metadata and protocol versions. Every request
has an end in time here, and every error code of an answer is looked at.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    KafkaError,
    LeaderNotAvailableError,
    NotCoordinatorForGroupError,
    UnknownError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.structs import TopicPartition

from ingest.kafka_log.protocol import TopicsRequest
from shared.errors import Invalid, Unavailable
from shared.settings import Settings

# One request and its answer; a broker that hangs costs so much.
REQUEST_SECONDS_MAX: Final = 5.0
# How long a passing error (a leader moves, a coordinator loads) is waited out before the caller
# hears of it.
PATIENCE_SECONDS: Final = 8.0
RETRY_SECONDS: Final = 0.1
# Partitions, leaders and new brokers are looked up again after so long even without an error.
METADATA_AGE_SECONDS_MAX: Final = 60
_GROUP_COORDINATOR: Final = 0

logger = logging.getLogger(__name__)
# It logs each try of each connection; what matters of that is said by whoever had to wait.
logging.getLogger("aiokafka").propagate = False

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """Where the brokers are and how they are spoken to."""

    brokers: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str = ""
    sasl_password: str = field(default="", repr=False)
    ssl_ca_file: str = ""
    ssl_cert_file: str = ""
    ssl_key_file: str = ""

    @classmethod
    def of(cls, settings: Settings) -> "KafkaAccess":
        """As configured."""
        return cls(
            brokers=settings.kafka_brokers,
            security_protocol=settings.kafka_security_protocol,
            sasl_mechanism=settings.kafka_sasl_mechanism,
            sasl_username=settings.kafka_sasl_username,
            sasl_password=settings.kafka_sasl_password,
            ssl_ca_file=settings.kafka_ssl_ca_file,
            ssl_cert_file=settings.kafka_ssl_cert_file,
            ssl_key_file=settings.kafka_ssl_key_file,
        )

    def client(self, request_seconds: float) -> AIOKafkaClient:
        """A client that is not yet started. Raises Invalid for files that cannot be used."""
        sasl = self.security_protocol.startswith("SASL")
        return AIOKafkaClient(
            bootstrap_servers=self.brokers,
            client_id="telemetryflow",
            request_timeout_ms=int(request_seconds * 1000),
            metadata_max_age_ms=METADATA_AGE_SECONDS_MAX * 1000,
            security_protocol=self.security_protocol,
            ssl_context=self._tls() if self.security_protocol.endswith("SSL") else None,
            sasl_mechanism=self.sasl_mechanism,
            sasl_plain_username=self.sasl_username if sasl else None,
            sasl_plain_password=self.sasl_password if sasl else None,
        )

    def _tls(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ssl_ca_file or None)
            if self.ssl_cert_file:
                context.load_cert_chain(self.ssl_cert_file, self.ssl_key_file or None)
        except OSError as error:  # ssl.SSLError is one
            raise Invalid(f"the files of KAFKA_SSL_… cannot be used: {error}") from error
        return context


class _Reasons(logging.Handler):
    """What aiokafka only logs: why it could not connect (password, certificate, address)."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()


class Cluster:
    """Connections to a cluster; one object belongs to one event loop.

    The client is never told which topics it is for: it would then ask for them by name, and a
    broker with its default settings makes a topic that somebody asks for, with unsafe settings.
    """

    def __init__(
        self, access: KafkaAccess, *, request_seconds: float = REQUEST_SECONDS_MAX
    ) -> None:
        self._access = access
        self._client = access.client(request_seconds)
        self._coordinators: dict[str, int] = {}
        self._closed = False

    async def start(self) -> None:
        """Connect. Raises Unavailable with the reason."""
        reasons = _Reasons()
        source = logging.getLogger("aiokafka")
        source.addHandler(reasons)
        try:
            await self._client.bootstrap()
        except KafkaError as error:
            why = reasons.last or str(error)
            raise Unavailable(f"Kafka at {self._access.brokers} cannot be used: {why}") from error
        finally:
            source.removeHandler(reasons)
        await self.refresh()

    async def close(self) -> None:
        """Close all connections; what is under way fails."""
        self._closed = True
        await self._client.close()

    async def describe(self, topics: list[str]) -> Any:
        """Metadata of *topics* with their ids, and the id of the cluster. Raises KafkaError."""
        return await self.to_any(TopicsRequest(topics))

    async def refresh(self) -> None:
        """Look up topics and leaders anew."""
        await asyncio.wait((self._client.force_metadata_update(),), timeout=REQUEST_SECONDS_MAX)

    def partitions(self, topic: str) -> int:
        """Number of partitions of *topic*, 0 when it is not known to exist."""
        return len(self._client.cluster.partitions_for_topic(topic) or ())

    def leaders(self, places: Iterable[tuple[str, int]]) -> dict[int, list[tuple[str, int]]]:
        """*places* by the broker that leads them; those without a leader are left out."""
        found: dict[int, list[tuple[str, int]]] = {}
        for place in places:
            leader = self._client.cluster.leader_for_partition(TopicPartition(*place))
            if leader is not None and leader != -1:
                found.setdefault(leader, []).append(place)
        return found

    async def to_broker(self, node: int, request: Any, *, lane: Hashable) -> Any:
        """Send to one broker. A broker answers one request of a *lane* at a time, in order."""
        return await self._client.send(node, request, group=lane)

    async def to_leader(self, place: tuple[str, int], request: Any, *, lane: Hashable) -> Any:
        """Send to the leader of a partition. Raises KafkaError."""
        leader = self._client.cluster.leader_for_partition(TopicPartition(*place))
        if leader is None:
            raise UnknownTopicOrPartitionError(f"{place[0]}/{place[1]}")
        if leader == -1:
            raise LeaderNotAvailableError(f"{place[0]}/{place[1]}")
        return await self._client.send(leader, request, group=lane)

    async def to_any(self, request: Any) -> Any:
        """Send to whichever broker. Raises KafkaError."""
        return await self._client.send(self._client.get_random_node(), request)

    async def to_controller(self, request: Any) -> Any:
        """Send to the broker that makes topics. Raises KafkaError."""
        controller = self._client.cluster.controller
        node = self._client.get_random_node() if controller is None else controller.nodeId
        return await self._client.send(node, request)

    async def to_coordinator(self, group: str, request: Any, *, lane: Hashable) -> Any:
        """Send to the coordinator of *group*. Raises KafkaError."""
        node = self._coordinators.get(group)
        if node is None:
            found = await self._client.coordinator_lookup(_GROUP_COORDINATOR, group)
            node = self._coordinators[group] = found
        try:
            return await self._client.send(node, request, group=lane)
        except KafkaError:
            self.forget_coordinator(group)
            raise

    def forget_coordinator(self, group: str) -> None:
        """Have the coordinator looked up anew with the next request."""
        self._coordinators.pop(group, None)

    async def patiently(
        self, operation: Callable[[], Awaitable[_Result]], *, seconds: float = PATIENCE_SECONDS
    ) -> _Result:
        """The result of *operation*, repeated while it meets passing errors.

        Raises Unavailable after *seconds*, or at once for an error that does not pass by itself.
        """
        met = "nothing came back"
        ends_at = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout(seconds):
                while True:
                    if self._closed:
                        raise Unavailable("the log is closing")
                    try:
                        return await operation()
                    except KafkaError as error:
                        met = explained(error)
                        # What aiokafka has no name for is newer than it, and may well pass.
                        if not error.retriable and not isinstance(error, UnknownError):
                            raise Unavailable(met) from error
                        self._repair(error)
                    # The timeout cancels once, and aiokafka loses a cancellation that comes with
                    # a time-out of its own (asyncio.wait_for does, before Python 3.12).
                    if asyncio.get_running_loop().time() >= ends_at:
                        raise TimeoutError
                    await asyncio.sleep(RETRY_SECONDS)
        except TimeoutError:
            raise Unavailable(f"Kafka does not answer: {met}") from None

    def _repair(self, error: KafkaError) -> None:
        if isinstance(error, NotCoordinatorForGroupError | GroupCoordinatorNotAvailableError):
            self._coordinators.clear()
        else:
            self._client.force_metadata_update()


def raise_for(code: int, text: str = "") -> None:
    """Raise the KafkaError that an error code of an answer stands for; 0 is none."""
    if code:
        raise for_code(code)(text or f"error code {code}")


def explained(error: KafkaError) -> str:
    """For operators: the error by name; aiokafka's text alone says little."""
    text = str(error)
    name = type(error).__name__
    return f"Kafka: {text}" if name in text else f"Kafka: {name}: {text}"
