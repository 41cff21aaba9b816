from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FollowRequest(_message.Message):
    __slots__ = ("epoch", "revision", "gateway")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    epoch: str
    revision: int
    gateway: str
    def __init__(self, epoch: _Optional[str] = ..., revision: _Optional[int] = ..., gateway: _Optional[str] = ...) -> None: ...

class FollowResponse(_message.Message):
    __slots__ = ("epoch", "revision", "starts_anew", "ends_batch", "tenants", "keys", "removed_tenants", "removed_keys", "checksum", "unix_seconds")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STARTS_ANEW_FIELD_NUMBER: _ClassVar[int]
    ENDS_BATCH_FIELD_NUMBER: _ClassVar[int]
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_TENANTS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_KEYS_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    epoch: str
    revision: int
    starts_anew: bool
    ends_batch: bool
    tenants: _containers.RepeatedCompositeFieldContainer[Tenant]
    keys: _containers.RepeatedCompositeFieldContainer[Key]
    removed_tenants: _containers.RepeatedScalarFieldContainer[str]
    removed_keys: _containers.RepeatedScalarFieldContainer[str]
    checksum: int
    unix_seconds: int
    def __init__(self, epoch: _Optional[str] = ..., revision: _Optional[int] = ..., starts_anew: _Optional[bool] = ..., ends_batch: _Optional[bool] = ..., tenants: _Optional[_Iterable[_Union[Tenant, _Mapping]]] = ..., keys: _Optional[_Iterable[_Union[Key, _Mapping]]] = ..., removed_tenants: _Optional[_Iterable[str]] = ..., removed_keys: _Optional[_Iterable[str]] = ..., checksum: _Optional[int] = ..., unix_seconds: _Optional[int] = ...) -> None: ...

class Tenant(_message.Message):
    __slots__ = ("name", "changed", "is_active", "traces_retention_days", "metrics_retention_days", "logs_retention_days", "workspace", "limits", "quotas")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    IS_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    TRACES_RETENTION_DAYS_FIELD_NUMBER: _ClassVar[int]
    METRICS_RETENTION_DAYS_FIELD_NUMBER: _ClassVar[int]
    LOGS_RETENTION_DAYS_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    QUOTAS_FIELD_NUMBER: _ClassVar[int]
    name: str
    changed: int
    is_active: bool
    traces_retention_days: int
    metrics_retention_days: int
    logs_retention_days: int
    workspace: str
    limits: Limits
    quotas: _containers.RepeatedCompositeFieldContainer[Quota]
    def __init__(self, name: _Optional[str] = ..., changed: _Optional[int] = ..., is_active: _Optional[bool] = ..., traces_retention_days: _Optional[int] = ..., metrics_retention_days: _Optional[int] = ..., logs_retention_days: _Optional[int] = ..., workspace: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., quotas: _Optional[_Iterable[_Union[Quota, _Mapping]]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("requests_per_minute", "items_per_second", "bytes_per_second", "new_series_per_hour", "new_attribute_keys_per_hour")
    REQUESTS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    ITEMS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    NEW_SERIES_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    NEW_ATTRIBUTE_KEYS_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    requests_per_minute: int
    items_per_second: int
    bytes_per_second: int
    new_series_per_hour: int
    new_attribute_keys_per_hour: int
    def __init__(self, requests_per_minute: _Optional[int] = ..., items_per_second: _Optional[int] = ..., bytes_per_second: _Optional[int] = ..., new_series_per_hour: _Optional[int] = ..., new_attribute_keys_per_hour: _Optional[int] = ...) -> None: ...

class Quota(_message.Message):
    __slots__ = ("signal", "items_max", "items_used", "resets_at", "state", "grace_ends_at")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Quota.State]
        STATE_NEARLY_USED: _ClassVar[Quota.State]
        STATE_GRACE: _ClassVar[Quota.State]
        STATE_REFUSED: _ClassVar[Quota.State]
    STATE_UNSPECIFIED: Quota.State
    STATE_NEARLY_USED: Quota.State
    STATE_GRACE: Quota.State
    STATE_REFUSED: Quota.State
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    ITEMS_MAX_FIELD_NUMBER: _ClassVar[int]
    ITEMS_USED_FIELD_NUMBER: _ClassVar[int]
    RESETS_AT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    GRACE_ENDS_AT_FIELD_NUMBER: _ClassVar[int]
    signal: str
    items_max: int
    items_used: int
    resets_at: int
    state: Quota.State
    grace_ends_at: int
    def __init__(self, signal: _Optional[str] = ..., items_max: _Optional[int] = ..., items_used: _Optional[int] = ..., resets_at: _Optional[int] = ..., state: _Optional[_Union[Quota.State, str]] = ..., grace_ends_at: _Optional[int] = ...) -> None: ...

class Key(_message.Message):
    __slots__ = ("id", "changed", "tenant", "secret_hash", "pepper_id", "permissions", "works_until", "has_ended", "allowed_networks", "workspace", "limits")
    ID_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    SECRET_HASH_FIELD_NUMBER: _ClassVar[int]
    PEPPER_ID_FIELD_NUMBER: _ClassVar[int]
    PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    WORKS_UNTIL_FIELD_NUMBER: _ClassVar[int]
    HAS_ENDED_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_NETWORKS_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    id: str
    changed: int
    tenant: str
    secret_hash: bytes
    pepper_id: str
    permissions: _containers.RepeatedScalarFieldContainer[str]
    works_until: int
    has_ended: bool
    allowed_networks: _containers.RepeatedScalarFieldContainer[str]
    workspace: str
    limits: Limits
    def __init__(self, id: _Optional[str] = ..., changed: _Optional[int] = ..., tenant: _Optional[str] = ..., secret_hash: _Optional[bytes] = ..., pepper_id: _Optional[str] = ..., permissions: _Optional[_Iterable[str]] = ..., works_until: _Optional[int] = ..., has_ended: _Optional[bool] = ..., allowed_networks: _Optional[_Iterable[str]] = ..., workspace: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...
