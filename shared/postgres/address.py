"""Where PostgreSQL is."""

from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresAddress:
    """A database and how to get in; the password never shows."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    ssl: str

    def options(self) -> dict[str, Any]:
        """As keyword arguments of asyncpg's connect and create_pool."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "database": self.database,
            "ssl": self.ssl,
        }

    def at(self, database: str) -> "PostgresAddress":
        """Another database of the same server."""
        return replace(self, database=database)
