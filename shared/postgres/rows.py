"""Aggregates as rows: inserted when new, else updated where the version is still the same."""

from collections.abc import Mapping
from typing import Any

from shared.domain import Aggregate
from shared.errors import Stale
from shared.postgres.connection import Connection


async def save_row(
    connection: Connection, table: str, aggregate: Aggregate, columns: Mapping[str, Any]
) -> None:
    """Write *columns* of *aggregate* into *table*; both name only what stands in our own code.

    The table has id, version, created_at and updated_at beside them.
    """
    names = list(columns)
    if aggregate.version == 0:
        slots = ", ".join(f"${number}" for number in range(2, len(names) + 2))
        await connection.execute(
            f"INSERT INTO {table} (id, version, {', '.join(names)}) VALUES ($1, 1, {slots})",  # noqa: S608 - names of our own
            aggregate.id,
            *columns.values(),
        )
    else:
        changes = ", ".join(f"{name} = ${number}" for number, name in enumerate(names, 3))
        status = await connection.execute(
            f"UPDATE {table} SET version = version + 1, updated_at = now(), {changes} "  # noqa: S608 - names of our own
            "WHERE id = $1 AND version = $2",
            aggregate.id,
            aggregate.version,
            *columns.values(),
        )
        if status != "UPDATE 1":
            raise Stale("it changed since it was read: read it again")
    aggregate.version += 1
