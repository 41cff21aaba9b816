"""The log of one machine: one SQLite file that several processes share.

In reading order: `adapter` (asyncio), `committer` (group commit), `store` (every statement of the
daily work), `database` (making and opening it), `layout` (tables and checksums), `files` (names
and locks), `wal`, `pages` and `salvage` (damage), `retention`, `limits`.
"""

from ingest.embedded_log.adapter import EmbeddedLog
from ingest.embedded_log.limits import Limits
from ingest.embedded_log.salvage import Loss

__all__ = ["EmbeddedLog", "Limits", "Loss"]
