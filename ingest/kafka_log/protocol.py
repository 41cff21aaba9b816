"""Requests of the Kafka protocol that aiokafka lacks, or has only in older versions.

Source: https://kafka.apache.org/protocol. Each is spoken in one version, which brokers know since
the release that is named.
"""

from io import BytesIO
from typing import Any

from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.group import HeartbeatResponse_v1
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)

_UNKNOWN_EPOCH = -1
_TEXT = String("utf-8")
_COMPACT_TEXT = CompactString("utf-8")
_ANY_TOPIC = bytes(16)


class Uuid(AbstractType):  # type: ignore[misc] # untyped base
    """16 bytes."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        """As they are."""
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        """As they are."""
        return data.read(16)


class _TopicsResponse(Response):  # type: ignore[misc] # untyped base
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", _COMPACT_TEXT),
                ("port", Int32),
                ("rack", _COMPACT_TEXT),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", _COMPACT_TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _COMPACT_TEXT),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("in_sync", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _TopicsRequestV12(RequestStruct):  # type: ignore[misc] # untyped base
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _TopicsResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", Uuid), ("name", _COMPACT_TEXT), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicsRequest(Request[_TopicsRequestV12]):  # type: ignore[misc] # untyped base
    """Metadata with the ids of *topics* and of the cluster (Kafka 3.1); makes no topics."""

    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics: list[Any] = [(_ANY_TOPIC, topic, {}) for topic in topics]

    def build(self, request_struct_class: type[_TopicsRequestV12]) -> _TopicsRequestV12:
        """The request in the one version that is used."""
        return request_struct_class(self._topics, False, False, {})


class _EpochEndResponse(Response):  # type: ignore[misc] # untyped base
    API_KEY = 23
    API_VERSION = 2
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            Array(
                ("topic", _TEXT),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader_epoch", Int32),
                        ("end_offset", Int64),
                    ),
                ),
            ),
        ),
    )


class _EpochEndRequestV2(RequestStruct):  # type: ignore[misc] # untyped base
    API_KEY = 23
    API_VERSION = 2
    RESPONSE_TYPE = _EpochEndResponse
    SCHEMA = Schema(
        (
            "topics",
            Array(
                ("topic", _TEXT),
                (
                    "partitions",
                    Array(
                        ("partition", Int32),
                        ("current_leader_epoch", Int32),
                        ("leader_epoch", Int32),
                    ),
                ),
            ),
        ),
    )


class EpochEndRequest(Request[_EpochEndRequestV2]):  # type: ignore[misc] # untyped base
    """OffsetForLeaderEpoch: where the records of a leader's term end (Kafka 2.1)."""

    API_KEY = 23

    def __init__(self, topic: str, partition: int, epoch: int) -> None:
        self._topics = [(topic, [(partition, _UNKNOWN_EPOCH, epoch)])]

    def build(self, request_struct_class: type[_EpochEndRequestV2]) -> _EpochEndRequestV2:
        """The request in the one version that is used."""
        return request_struct_class(self._topics)


class _HeartbeatRequestV3(RequestStruct):  # type: ignore[misc] # untyped base
    API_KEY = 12
    API_VERSION = 3
    RESPONSE_TYPE = HeartbeatResponse_v1
    SCHEMA = Schema(
        ("group", _TEXT),
        ("generation_id", Int32),
        ("member_id", _TEXT),
        ("group_instance_id", _TEXT),
    )


class HeartbeatRequest(Request[_HeartbeatRequestV3]):  # type: ignore[misc] # untyped base
    """A heartbeat that tells the static id too, so that its older holder learns of the newer.

    Kafka 2.3.
    """

    API_KEY = 12

    def __init__(self, group: str, generation: int, member: str, instance: str | None) -> None:
        self._fields = (group, generation, member, instance)

    def build(self, request_struct_class: type[_HeartbeatRequestV3]) -> _HeartbeatRequestV3:
        """The request in the one version that is used."""
        return request_struct_class(*self._fields)
