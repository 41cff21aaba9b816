"""Migrations of ClickHouse: numbered SQL files, applied once, in order, and never changed.

A file is text with `${…}` for what depends on the deployment: the database, the engines and the
setting of the deduplication window. The checksum of the file as it stands in the package is kept
with its number, so that a file that was changed after it was applied is found.
"""

import hashlib
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Any, Final

from shared.clickhouse.columns import columns_of
from shared.clickhouse.views import views_of_all
from shared.errors import Conflict

# More than 20 times the inserts that one replay can cover (a plan is one insert per table).
DEDUPLICATION_WINDOW: Final = 10_000
LOCK_SECONDS: Final = 300

logger = logging.getLogger(__name__)

Rows = Sequence[Sequence[Any]]
Command = Callable[[str], Awaitable[None]]
Query = Callable[[str], Awaitable[Rows]]


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number and name, its text and the checksum of the text."""

    number: int
    name: str
    text: str
    checksum: str


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a table."""

    table: str
    text: str


def migrations() -> list[Migration]:
    """The migrations that come with this release, in order."""
    found = []
    for file in (resources.files("shared.clickhouse") / "migrations").iterdir():
        if match := re.fullmatch(r"(\d{4})_\w+\.sql", file.name):
            text = file.read_text()
            checksum = hashlib.sha256(text.encode()).hexdigest()
            found.append(Migration(int(match[1]), file.name, text, checksum))
    return sorted(found, key=lambda migration: migration.number)


def statements(migration: Migration, database: str) -> list[str]:
    """The statements of a migration, for one server without replication."""
    text = Template(migration.text).substitute(
        database=database,
        MergeTree="MergeTree",
        AggregatingMergeTree="AggregatingMergeTree",
        ReplacingMergeTree="ReplacingMergeTree",
        SummingMergeTree="SummingMergeTree",
        deduplication=f"non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}",
    )
    text = re.sub(r"^--.*$", "", text, flags=re.MULTILINE)
    return [statement.strip() for statement in text.split(";\n") if statement.strip()]


class Migrator:
    """Applies migrations through one ClickHouse connection."""

    def __init__(self, command: Command, query: Query, *, database: str) -> None:
        self._command = command
        self._query = query
        self._database = database

    async def pending(self) -> list[Migration]:
        """What is not applied yet; Conflict when an applied file has changed since."""
        applied = await self._applied()
        for migration in migrations():
            known = applied.get(migration.number)
            if known not in (None, migration.checksum):
                raise Conflict(
                    f"migration {migration.name} was applied with other content: "
                    "migrations must not change; install the release that it came from"
                )
        return [migration for migration in migrations() if migration.number not in applied]

    async def migrate(self) -> list[Migration]:
        """Apply what is pending, under a lock, and (re)create the compatibility views."""
        await self._prepare()
        await self._lock()
        try:
            pending = await self.pending()
            for migration in pending:
                await self._apply(migration)
            for statement in views_of_all(self._database):
                await self._command(statement)
        finally:
            await self._command(f"DROP TABLE IF EXISTS {self._database}.tf_migration_lock SYNC")
        return pending

    async def problems(self) -> list[Problem]:
        """What is wrong with the tables; columns and tables that are not ours do not matter.

        A table may be missing, may lack the window that deduplicates repeated inserts, or a column
        may be missing or of another type than the migrations gave it.
        """
        windows = {str(name): bool(has_window) for name, has_window in await self._windows()}
        columns: dict[str, dict[str, str]] = {}
        for table, column, kind in await self._columns():
            columns.setdefault(str(table), {})[str(column)] = str(kind)
        found = []
        for name, expected in expected_columns().items():
            if name not in windows:
                found.append(Problem(name, "is missing: run 'telemetryflow migrate'"))
                continue
            if not windows[name]:
                found.append(Problem(name, self._no_window(name)))
            found += [Problem(name, text) for text in _drift(expected, columns.get(name, {}))]
        return found

    def _no_window(self, table: str) -> str:
        return (
            "has no deduplication window, so a repeated insert would be stored twice: "
            f"ALTER TABLE {self._database}.{table} MODIFY SETTING "
            f"non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}"
        )

    async def _apply(self, migration: Migration) -> None:
        logger.info("applying migration %s", migration.name)
        for statement in statements(migration, self._database):
            await self._command(statement)
        await self._command(
            f"INSERT INTO {self._database}.tf_migrations (Number, Name, Checksum) VALUES "  # noqa: S608
            f"({migration.number}, '{migration.name}', '{migration.checksum}')"
        )

    async def _prepare(self) -> None:
        await self._command(f"CREATE DATABASE IF NOT EXISTS {self._database} ENGINE = Atomic")
        await self._command(
            f"CREATE TABLE IF NOT EXISTS {self._database}.tf_migrations (Number UInt32, "
            "Name String, Checksum String, AppliedAt DateTime DEFAULT now()) "
            "ENGINE = MergeTree ORDER BY Number"
        )

    async def _lock(self) -> None:
        """The lock is a table: only one of two who create it succeeds. A stale one is removed."""
        database = self._database
        stale = await self._query(
            "SELECT count() FROM system.tables WHERE "  # noqa: S608
            f"database = '{database}' AND name = 'tf_migration_lock' AND "
            f"metadata_modification_time < now() - {LOCK_SECONDS}"
        )
        if stale[0][0]:
            await self._command(f"DROP TABLE IF EXISTS {database}.tf_migration_lock SYNC")
        try:
            await self._command(
                f"CREATE TABLE {database}.tf_migration_lock (Owner String) ENGINE = Memory "
                f"COMMENT '{secrets.token_hex(8)}'"
            )
        except Conflict:
            raise Conflict(
                "another migration is running; if it crashed, its lock "
                f"({database}.tf_migration_lock) expires {LOCK_SECONDS} s after its start"
            ) from None

    async def _applied(self) -> dict[int, str]:
        exists = await self._query(
            f"SELECT count() FROM system.tables WHERE database = '{self._database}' "  # noqa: S608
            "AND name = 'tf_migrations'"
        )
        if not exists[0][0]:
            return {}
        rows = await self._query(f"SELECT Number, Checksum FROM {self._database}.tf_migrations")  # noqa: S608
        return {int(number): str(checksum) for number, checksum in rows}

    async def _windows(self) -> Rows:
        return await self._query(
            "SELECT name, match(create_table_query, "  # noqa: S608
            "'replicated_deduplication_window = [1-9]') FROM system.tables "
            f"WHERE database = '{self._database}' AND engine LIKE '%MergeTree'"
        )

    async def _columns(self) -> Rows:
        return await self._query(
            "SELECT table, name, type FROM system.columns "  # noqa: S608
            f"WHERE database = '{self._database}' ORDER BY table, position"
        )


def _drift(expected: Mapping[str, str], actual: Mapping[str, str]) -> list[str]:
    return [
        f"column {column} is {actual.get(column, 'missing')}, not {kind}"
        for column, kind in expected.items()
        if actual.get(column) != kind
    ]


def expected_columns() -> dict[str, dict[str, str]]:
    """Columns and types of all tables that the migrations make."""
    return columns_of(";\n".join(migration.text for migration in migrations()))
