"""The type of a pooled connection, for repositories, queries and subscribers."""

from asyncpg.pool import PoolConnectionProxy

Connection = PoolConnectionProxy
