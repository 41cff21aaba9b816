"""What the items of all signals have in common: an origin, a place in time, reasons to reject."""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Final

from ingest.codec.reference.cardinality import Guard
from ingest.codec.reference.values import attributes, json_text
from ingest.codec.reference.wire import Request

INT64_MAX: Final = 2**63 - 1
YEAR_2000_NS: Final = 946_684_800 * 10**9
DAY_NS: Final = 86_400 * 10**9
CLOCK_OUT_OF_RANGE: Final = "clock_out_of_range"
ORIGINAL_TIME: Final = "telemetryflow.original_time_unix_nano"
TENANT_ID: Final = "telemetryflow.tenant.id"
WORKSPACE_ID: Final = "telemetryflow.workspace.id"

Row = dict[str, Any]  # column to value


class Rejected(Exception):
    """The item is not stored; `reason` is the word that clients and metrics see."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Receipt:
    """Whose request it is, when it came, and how long its items are kept.

    Without a tenant nothing of it is taken; a workspace that is '' is not known.
    """

    tenant: str
    received_ns: int
    retention_days: int
    workspace: str = ""
    guard: Guard | None = None

    @property
    def columns(self) -> Row:
        """The columns of the tenant."""
        return {"TenantId": self.tenant, "RetentionDays": self.retention_days}

    def require_own(self, resource_attributes: dict[str, str]) -> None:
        """Rejected, when a resource says that it is another's."""
        tenant = resource_attributes.get(TENANT_ID)
        workspace = resource_attributes.get(WORKSPACE_ID)
        if (tenant and tenant != self.tenant) or (
            workspace and self.workspace and workspace != self.workspace
        ):
            raise Rejected("tenant_contradiction")
        if not self.tenant:
            raise Rejected("tenant_missing")

    def require_known(
        self, origin: Row, sent: dict[str, str], series: AbstractSet[Hashable] = frozenset()
    ) -> None:
        """Rejected, when an item with these attributes has more that is new than its guard lets in.

        To be asked last: nothing else may reject the item but its size.
        """
        if self.guard is not None:
            keys = {*origin["ResourceAttributes"], *origin["ScopeAttributes"], *sent}
            if reason := self.guard.excess(series, keys):
                raise Rejected(reason)


@dataclass(slots=True)
class Item:
    """An item on its way to be a row of *table*; `time_ns` and `row` are what is stored.

    It came as so manieth of its request, in these messages: `span`, `record` or `one` (a data
    point), and its `origin`.
    """

    table: str
    receipt: Receipt
    place: int
    messages: dict[str, Any]
    time_ns: int = 0
    row: Row = field(default_factory=dict)
    warnings: Counter[str] = field(default_factory=Counter)

    def place_in_time(self, sent_ns: int, item_attributes: dict[str, str]) -> dict[str, str]:
        """Sets the time that the item is stored under; returns the attributes to store.

        Without a time it is the time of receipt. So it is for a clock that is wrong beyond doubt,
        and then the time that was sent becomes an attribute.
        """
        received_ns = self.receipt.received_ns
        self.time_ns = received_ns
        if sent_ns == 0:
            return item_attributes
        if sent_ns < YEAR_2000_NS or sent_ns > received_ns + DAY_NS:
            self.warnings[CLOCK_OUT_OF_RANGE] += 1
            return by_key({**item_attributes, ORIGINAL_TIME: str(sent_ns)})
        if sent_ns < received_ns - self.receipt.retention_days * DAY_NS:
            raise Rejected("older_than_retention")
        self.time_ns = sent_ns
        return item_attributes

    def clamped(self, sent_ns: int) -> int:
        """A time that is stored as it was sent, up to what the column holds."""
        if sent_ns > INT64_MAX:
            self.warnings[CLOCK_OUT_OF_RANGE] += 1
        return min(sent_ns, INT64_MAX)


def by_key(unsorted: dict[str, str]) -> dict[str, str]:
    """Sorted by the UTF-8 bytes of the keys."""
    return dict(sorted(unsorted.items(), key=lambda item: item[0].encode()))


def scopes_of(request: Request) -> Iterator[tuple[Any, Row]]:
    """Each scope message of the request, with the columns that its items share."""
    for _field, resources in request.message.ListFields():
        for of_resource in resources:
            origin = resource_columns(of_resource)
            for of_scope in _second_field(of_resource):
                yield of_scope, origin | scope_columns(of_scope)


def _second_field(message: Any) -> Iterable[Any]:
    # scope_spans, scope_logs or scope_metrics: field 2 in each
    found: Iterable[Any] = getattr(message, message.DESCRIPTOR.fields_by_number[2].name)
    return found


def resource_columns(message: Any) -> Row:
    """The columns of a resource: of ResourceSpans, ResourceLogs or ResourceMetrics."""
    resource = message.resource
    own = attributes(resource.attributes)
    return {
        "ServiceName": own.get("service.name", ""),
        "ResourceSchemaUrl": message.schema_url,
        "ResourceAttributes": own,
        "ResourceDroppedAttrCount": resource.dropped_attributes_count,
        "ResourceEntityRefs": entity_refs(resource.entity_refs),
    }


def scope_columns(message: Any) -> Row:
    """The columns of a scope: of ScopeSpans, ScopeLogs or ScopeMetrics."""
    return {
        "ScopeSchemaUrl": message.schema_url,
        "ScopeName": message.scope.name,
        "ScopeVersion": message.scope.version,
        "ScopeAttributes": attributes(message.scope.attributes),
        "ScopeDroppedAttrCount": message.scope.dropped_attributes_count,
    }


def entity_refs(refs: Iterable[Any]) -> str:
    """References to entities as a JSON array, '' when there are none."""

    def texts(many: Iterable[str]) -> str:
        return "[" + ",".join(map(json_text, many)) + "]"

    objects = [
        f'{{"schemaUrl":{json_text(ref.schema_url)},"type":{json_text(ref.type)},'
        f'"idKeys":{texts(ref.id_keys)},"descriptionKeys":{texts(ref.description_keys)}}}'
        for ref in refs
    ]
    return "[" + ",".join(objects) + "]" if objects else ""


def hex_id(raw: bytes) -> str:
    """An id inside of an item, '' when it is empty or all zero."""
    return raw.hex() if any(raw) else ""
