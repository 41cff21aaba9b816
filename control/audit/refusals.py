"""Calls that were refused become entries of the trail, so many a minute and no more.

The first ones of a person or an address are recorded before the refusal is answered. A flood does
not flood the trail: the rest of the minute is counted, and told by one entry when it is over.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from control.audit.events import RateLimitExceeded, SecurityEventDetected
from shared.caller import NOBODY, Caller, ForeignTenant, acting_as
from shared.errors import RateLimited, TelemetryFlowError, Unauthenticated
from shared.http.refusals import Refusal
from shared.messaging.events import Event
from shared.postgres.database import Database
from shared.postgres.outbox import append_to_outbox
from shared.postgres.scope import PLATFORM
from shared.repeating import repeat

WINDOW_SECONDS: Final = 60.0
FLUSH_SECONDS: Final = 5.0
# Of each person or address, of each kind, in a window.
EACH_MAX: Final = 5
# Of all, for one process: attackers have many addresses.
ALL_MAX: Final = 300
# Who is told apart of those that were left out; more are told in one.
TOLD_APART_MAX: Final = 100
CALLERS_MAX: Final = 10_000
RATE: Final = "rate"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Who:
    """A person, or an address that nobody is known of, and what they are refused for."""

    kind: str
    user_id: UUID | None
    address: str


class Refusals:
    """Records for one process of the API."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._ends_at = float("-inf")
        self._recorded = 0
        self._seen: Counter[_Who] = Counter()
        self._left_out: Counter[_Who] = Counter()
        self._callers: dict[_Who, Caller] = {}
        self._others = 0

    async def __call__(self, refusal: Refusal) -> None:
        """Record it, or count it; a database that is away changes nothing about the answer."""
        await self.flush()
        who = _Who(_kind(refusal.error), refusal.by.user_id, refusal.by.ip_address)
        if who not in self._seen and len(self._seen) >= CALLERS_MAX:
            self._others += 1
            return
        self._seen[who] += 1
        self._callers.setdefault(who, refusal.by)
        if self._seen[who] > EACH_MAX or self._recorded >= ALL_MAX:
            self._left_out[who] += 1
            return
        self._recorded += 1
        detail = f"{refusal.method} {refusal.path}: {refusal.error}"
        if isinstance(refusal.error, ForeignTenant):
            detail = f"asked for tenant {refusal.error.wanted}"
        if not await self._record([(refusal.by, _event(who, refusal.by, detail, left_out=0))]):
            self._left_out[who] += 1

    async def run(self, stopping: asyncio.Event) -> None:
        """Tell what was left out when its minute is over, and at the end."""
        await repeat(
            self.flush,
            every_seconds=FLUSH_SECONDS,
            stopping=stopping,
            failing="refusals are told later",
        )
        await self.flush(is_last=True)

    async def flush(self, *, is_last: bool = False) -> None:
        """When the window is over, tell what was left out of it and begin another one."""
        now = self._clock()
        if now < self._ends_at and not is_last:
            return
        left_out, callers, others = self._left_out, self._callers, self._others
        self._seen, self._left_out, self._callers, self._others = Counter(), Counter(), {}, 0
        self._ends_at, self._recorded = now + WINDOW_SECONDS, 0
        entries: list[tuple[Caller, Event]] = []
        for who, count in left_out.most_common():
            if len(entries) >= TOLD_APART_MAX:
                others += count
                continue
            detail = f"{count} more within {WINDOW_SECONDS:.0f} s were left out"
            entries.append((callers[who], _event(who, callers[who], detail, left_out=count)))
        if others:
            who = _Who("flood", None, "")
            detail = f"{others} more of many addresses were left out"
            entries.append((NOBODY, _event(who, NOBODY, detail, left_out=others)))
        if entries:
            await self._record(entries)

    async def _record(self, entries: list[tuple[Caller, Event]]) -> bool:
        try:
            async with self._database.begin(PLATFORM) as connection:
                for caller, event in entries:
                    with acting_as(caller):
                        await append_to_outbox(connection, [event])
        except TelemetryFlowError as error:
            logger.warning("refusals are not recorded: %s", error)
            return False
        return True


def _kind(error: Exception) -> str:
    if isinstance(error, ForeignTenant):
        return "tenant_mismatch"
    if isinstance(error, RateLimited):
        return RATE
    return "bad_token" if isinstance(error, Unauthenticated) else "permission"


def _event(who: _Who, by: Caller, detail: str, *, left_out: int) -> Event:
    aggregate_id = who.user_id or UUID(int=0)
    if who.kind == RATE:
        return RateLimitExceeded(
            aggregate_id=aggregate_id,
            organization_id=by.organization_id,
            detail=detail,
            left_out=left_out,
        )
    return SecurityEventDetected(
        aggregate_id=aggregate_id,
        organization_id=by.organization_id,
        kind=who.kind,
        detail=detail,
        left_out=left_out,
    )
