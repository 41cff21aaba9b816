"""Looks through the whole audit trail for what was altered, removed or put in between."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, fields
from typing import Any, Final
from uuid import UUID

from control.audit.checkpoints import Checkpoint
from control.audit.domain import Entry, Personal, first_digest
from shared.postgres.connection import Connection

ROWS_AT_ONCE: Final = 5_000
FINDINGS_MAX: Final = 100
_NAMES: Final = tuple(one.name for one in fields(Entry))


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, and where in an organization's chain."""

    organization_id: UUID
    sequence: int
    what: str


@dataclass(slots=True)
class Verdict:
    """How much was looked at, and what is wrong, the first things first."""

    entries: int
    chains: int
    checkpoints: int
    findings: list[Finding]


async def verify(connection: Connection, checkpoints: Iterable[Checkpoint]) -> Verdict:
    """Recompute every digest, and compare with the ends of chains and all *checkpoints*."""
    verdict = Verdict(0, 0, 0, [])
    signed: dict[UUID, dict[int, bytes]] = {}
    for checkpoint in checkpoints:
        verdict.checkpoints += 1
        if not checkpoint.is_genuine:
            where = f"line {checkpoint.line} of {checkpoint.file} is not signed by this product"
            verdict.findings.append(Finding(UUID(int=0), 0, where))
        for organization_id, (sequence, digest) in checkpoint.heads.items():
            signed.setdefault(organization_id, {})[sequence] = digest
    purged = {
        row["resource_id"]
        for row in await connection.fetch(
            "SELECT resource_id FROM audit_logs WHERE action = 'user.purged'"
        )
    }
    ends = {
        row["organization_id"]: (row["sequence"], row["digest"])
        for row in await connection.fetch("SELECT * FROM audit_chains")
    }
    for organization_id in sorted({*ends, *signed, *await _organizations(connection)}):
        verdict.chains += 1
        chain = _Chain(organization_id, signed.get(organization_id, {}), purged)
        async for row in _rows(connection, organization_id):
            chain.see(row)
            verdict.entries += 1
        chain.end(ends.get(organization_id))
        verdict.findings += chain.findings
    return verdict


class _Chain:
    """One organization's chain while it is walked."""

    def __init__(self, organization_id: UUID, signed: dict[int, bytes], purged: set[UUID]) -> None:
        self._organization_id = organization_id
        self._signed = signed
        self._purged = purged
        self._sequence = 0
        self._digest = first_digest(organization_id)
        self.findings: list[Finding] = []

    def see(self, row: Any) -> None:
        """The next entry."""
        entry = Entry(**{name: row[name] for name in _NAMES})
        if entry.sequence != self._sequence + 1:
            self._find(self._sequence + 1, f"entries up to {entry.sequence - 1} are missing")
        elif entry.digest(self._digest) != row["digest"]:
            self._find(entry.sequence, "the entry, or the one before it, is not what was recorded")
        self._sequence, self._digest = entry.sequence, row["digest"]
        if self._signed.get(entry.sequence, row["digest"]) != row["digest"]:
            self._find(entry.sequence, "the chain is not the one that was signed")
        self._see_personal(entry, row)

    def _see_personal(self, entry: Entry, row: Any) -> None:
        if row["salt"] is None:
            if not {entry.user_id, entry.resource_id} & self._purged:
                self._find(entry.sequence, "who it was is missing, though nobody was purged")
            return
        personal = Personal(
            salt=row["salt"],
            email=row["email"],
            ip_address=row["ip_address"],
            user_agent=row["user_agent"],
            details=row["details"],
        )
        if personal.digest != entry.personal_digest:
            self._find(entry.sequence, "who it was is not what was recorded")

    def end(self, recorded: tuple[int, bytes] | None) -> None:
        """There are no more entries."""
        if recorded != (self._sequence, self._digest):
            self._find(self._sequence + 1, "the chain does not end where it was recorded to")
        last = max(self._signed, default=0)
        if last > self._sequence:
            self._find(self._sequence + 1, f"entries up to {last} were signed and are missing")

    def _find(self, sequence: int, what: str) -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(self._organization_id, sequence, what))


async def _organizations(connection: Connection) -> list[UUID]:
    rows = await connection.fetch("SELECT DISTINCT organization_id FROM audit_logs")
    return [row["organization_id"] for row in rows]


async def _rows(connection: Connection, organization_id: UUID) -> AsyncIterator[Any]:
    after = 0
    while True:
        rows = await connection.fetch(
            """
            SELECT audit_logs.*, salt, email, ip_address, user_agent, details
              FROM audit_logs LEFT JOIN audit_personal ON audit_personal.id = audit_logs.id
             WHERE audit_logs.organization_id = $1 AND sequence > $2
             ORDER BY sequence LIMIT $3
            """,
            organization_id,
            after,
            ROWS_AT_ONCE,
        )
        for row in rows:
            yield row
        if len(rows) < ROWS_AT_ONCE:
            return
        after = rows[-1]["sequence"]
