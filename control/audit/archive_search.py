"""Searching the archive by the filters of the API, in ClickHouse's words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from control.audit.archive import SELECTED, Archive
from shared.errors import Invalid

LEAVES_MAX: Final = 20
_KINDS: Final[Sequence[tuple[type, str, str]]] = (
    (bool, "JSONExtractBool", "Bool"),
    (int, "JSONExtractInt", "Int64"),
    (float, "JSONExtractFloat", "Float64"),
    (str, "JSONExtractString", "String"),
)


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for; None is anything. Indexes are those of the keys of people."""

    organization_id: UUID | None
    action: str | None
    user_id: UUID | None
    resource_type: str | None
    resource_id: UUID | None
    start: datetime | None
    end: datetime | None
    ip_indexes: Sequence[bytes] | None
    result: str | None
    like: str | None
    email_indexes: Sequence[bytes] | None
    metadata: Mapping[str, Any] | None

    async def rows(
        self, archive: Archive, *, order: str, limit: int, offset: int
    ) -> tuple[int, list[dict[str, Any]]]:
        """How many there are, and those of a page; *order* is that of PostgreSQL."""
        parameters: dict[str, Any] = {}
        where = " AND ".join(self._conditions(parameters)) or "1"
        source = f"{archive.table} FINAL WHERE {where}"
        count = await archive.count(f"SELECT count() FROM {source}", parameters)  # noqa: S608 - names of our own
        if not limit or offset >= count:
            return count, []
        direction = "DESC" if "DESC" in order else "ASC"
        page = {"limit": limit, "offset": offset}
        rows = await archive.query(
            f"SELECT {SELECTED} FROM {source} "  # noqa: S608 - names of our own
            f"ORDER BY OccurredAt {direction}, Id {direction} "
            "LIMIT {limit:UInt32} OFFSET {offset:UInt32}",
            parameters | page,
        )
        return count, rows

    def _conditions(self, parameters: dict[str, Any]) -> Iterator[str]:
        simple: Sequence[tuple[str, str, Any]] = (
            ("OrganizationId = {organization:UUID}", "organization", self.organization_id),
            ("Action = {action:String}", "action", self.action),
            ("UserId = {user:UUID}", "user", self.user_id),
            ("ResourceType = {type:String}", "type", self.resource_type),
            ("ResourceId = {resource:UUID}", "resource", self.resource_id),
            ("Result = {result:String}", "result", self.result),
            ("OccurredAt >= fromUnixTimestamp64Micro({start:Int64}, 'UTC')", "start", self.start),
            ("OccurredAt < fromUnixTimestamp64Micro({end:Int64}, 'UTC')", "end", self.end),
            ("IpIndex IN {addresses:Array(String)}", "addresses", self.ip_indexes),
        )
        for condition, name, value in simple:
            if value is not None:
                parameters[name] = _parameter(value)
                yield condition
        if self.like is not None:
            parameters["like"] = self.like
            parameters["emails"] = _parameter(self.email_indexes or [])
            yield "(Action ILIKE {like:String} OR EmailIndex IN {emails:Array(String)})"
        for number, (path, value) in enumerate(_leaves(self.metadata or {}), 1):
            if number > LEAVES_MAX:
                raise Invalid(f"at most {LEAVES_MAX} values can be searched", field="metadata")
            yield _contains(parameters, number, path, value)


async def entry(
    archive: Archive, entry_id: UUID, *, organization_id: UUID | None
) -> dict[str, Any] | None:
    """One entry, when it is here and of that organization."""
    rows = await archive.query(
        f"SELECT {SELECTED} FROM {archive.table} FINAL WHERE Id = {{id:UUID}} "  # noqa: S608 - names of our own
        "AND ({organization:Nullable(UUID)} IS NULL OR "
        "OrganizationId = {organization:Nullable(UUID)}) LIMIT 1",
        {"id": entry_id, "organization": organization_id},
    )
    return rows[0] if rows else None


def _parameter(value: Any) -> Any:
    if isinstance(value, datetime):
        return int(value.timestamp() * 1_000_000)
    if isinstance(value, list):
        return [one.hex() for one in value]
    return value


def _leaves(document: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[Any]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _contains(parameters: dict[str, Any], number: int, path: Sequence[str], value: Any) -> str:
    names = {f"path_{number}_{depth}": part for depth, part in enumerate(path)}
    parameters |= names
    where = ", ".join(f"{{{name}:String}}" for name in names)
    if value is None:
        return f"JSONType(Metadata, {where}) = 'Null'"
    for kind, function, clickhouse_type in _KINDS:
        if isinstance(value, kind):
            parameters[f"value_{number}"] = value
            found = f"{function}(Metadata, {where}) = {{value_{number}:{clickhouse_type}}}"
            return f"(JSONHas(Metadata, {where}) AND {found})"
    raise Invalid("lists are not searched in the archive: search later months", field="metadata")
