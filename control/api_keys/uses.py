"""When keys were last used to read: kept in memory, and written every half minute."""

import asyncio
import contextlib
from typing import Final

from control.api_keys.repository.usage import KeyUse, UsageRows
from shared.errors import TelemetryFlowError
from shared.messaging.events import utc_now
from shared.postgres.database import Database, UnitOfWork
from shared.postgres.scope import PLATFORM
from shared.repeating import repeat

WRITE_SECONDS: Final = 30.0
# More keys than that within half a minute are not noted.
KEYS_MAX: Final = 100_000


class KeyUses:
    """Of one process of the API."""

    def __init__(self, database: Database) -> None:
        self._work = UnitOfWork(database, UsageRows)
        self._last: dict[str, KeyUse] = {}

    def note(self, key_id: str, tenant: str) -> None:
        """The key reads *tenant* (its name in telemetry) now."""
        if key_id in self._last or len(self._last) < KEYS_MAX:
            # To the minute, as uses of keys that send are.
            self._last[key_id] = KeyUse(tenant, key_id, utc_now().replace(second=0, microsecond=0))

    async def run(self, stopping: asyncio.Event) -> None:
        """Write until *stopping*, and what is left then, if the database is there."""
        await repeat(
            self.write,
            every_seconds=WRITE_SECONDS,
            stopping=stopping,
            failing="uses of keys are written later",
        )
        with contextlib.suppress(TelemetryFlowError):
            await self.write()

    async def write(self) -> None:
        """Write what is new; kept until that is done."""
        told, self._last = self._last, {}
        if not told:
            return
        try:
            async with self._work.begin(PLATFORM) as usage:
                await usage.save_uses(list(told.values()))
        except BaseException:
            self._last = told | self._last
            raise
