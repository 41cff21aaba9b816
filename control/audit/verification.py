"""Looks through the whole audit trail for what was altered, removed or put in between.

Each chain is walked from its first entry, through the archive, to its end in PostgreSQL.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import date, timedelta
from typing import Any, Final
from uuid import UUID

from control.audit.archive import Archive
from control.audit.checkpoints import Checkpoint
from control.audit.domain import PURGED, Entry, first_digest
from control.audit.person_keys import PersonKeys
from control.audit.personal import SALTED, people_of, sealed_of
from control.audit.sealing import is_salted_digest
from shared.messaging.events import utc_now
from shared.postgres.connection import Connection

ROWS_AT_ONCE: Final = 5_000
FINDINGS_MAX: Final = 100
ARCHIVED: Final = timedelta(days=7 * 365)
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

    entries: int = 0
    archived: int = 0
    chains: int = 0
    checkpoints: int = 0
    findings: list[Finding] = field(default_factory=list)


@dataclass(slots=True)
class _Signed:
    """What checkpoints say of one chain: digests by sequence, and where months were pruned."""

    digests: dict[int, bytes] = field(default_factory=dict)
    prunings: dict[int, tuple[date, bytes]] = field(default_factory=dict)


class Chain:
    """One organization's chain while it is walked, from behind *sequence* with *digest* on."""

    def __init__(
        self,
        organization_id: UUID,
        signed: Mapping[int, bytes],
        *,
        sequence: int = 0,
        digest: bytes | None = None,
    ) -> None:
        self.organization_id = organization_id
        self.sequence = sequence
        self.digest = digest or first_digest(organization_id)
        self.findings: list[Finding] = []
        # Where somebody first appears, and who was purged.
        self.people: dict[UUID, int] = {}
        self.purged: set[UUID] = set()
        # Entries of format 1 that say nothing of anybody.
        self.silent: list[tuple[int, set[UUID | None]]] = []
        self._signed = signed

    def see(self, row: Mapping[str, Any]) -> None:
        """The next entry."""
        entry = Entry(**{name: row[name] for name in _NAMES})
        if entry.sequence != self.sequence + 1:
            self.find(self.sequence + 1, f"entries up to {entry.sequence - 1} are missing")
        elif entry.digest(self.digest) != row["digest"]:
            self.find(entry.sequence, "the entry, or the one before it, is not what was recorded")
        self.sequence, self.digest = entry.sequence, row["digest"]
        if self._signed.get(entry.sequence, row["digest"]) != row["digest"]:
            self.find(entry.sequence, "the chain is not the one that was signed")
        if row["format"] != SALTED and sealed_of(row).digest != entry.personal_digest:
            self.find(entry.sequence, "who it was is not what was recorded")
        if row["format"] == SALTED and row["actor_sealed"] is None:
            self.silent.append((entry.sequence, {entry.user_id, entry.resource_id}))
        for _, person_id in people_of(row):
            self.people.setdefault(person_id, entry.sequence)
        if entry.action in PURGED:
            self.purged.add(entry.resource_id)

    def end(self, recorded: tuple[int, bytes] | None) -> None:
        """There are no more entries."""
        if recorded != (self.sequence, self.digest):
            self.find(self.sequence + 1, "the chain does not end where it was recorded to")
        last = max(self._signed, default=0)
        if last > self.sequence:
            self.find(self.sequence + 1, f"entries up to {last} were signed and are missing")

    def find(self, sequence: int, what: str) -> None:
        """Note what is wrong."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(self.organization_id, sequence, what))


async def verify(
    connection: Connection,
    checkpoints: Iterable[Checkpoint],
    *,
    keys: PersonKeys,
    archive: Archive | None,
    only: UUID | None = None,
) -> Verdict:
    """Recompute every digest, and compare with the ends of chains and all *checkpoints*.

    *connection* sees one moment (a snapshot), and *checkpoints* were read before it.

    Without an *archive*, what was pruned is taken as it was signed when it went there. With *only*,
    one organization's chain.
    """
    verdict = Verdict()
    signed = _signed_of(checkpoints, verdict)
    recorded = {
        row["organization_id"]: row for row in await connection.fetch("SELECT * FROM audit_chains")
    }
    organizations = {*recorded, *signed, *await _organizations(connection)}
    if archive is not None:
        organizations |= set(await archive.organizations())
    chains = []
    for organization_id in sorted({only} if only else organizations):
        verdict.chains += 1
        told = signed.get(organization_id, _Signed())
        chain = Chain(organization_id, told.digests)
        await _walk(connection, chain, told, keys=keys, archive=archive, verdict=verdict)
        row = recorded.get(organization_id)
        chain.end((row["sequence"], row["digest"]) if row else None)
        chains.append(chain)
    await _look_for_people(connection, chains)
    for chain in chains:
        verdict.findings += sorted(chain.findings, key=lambda one: one.sequence)
    return verdict


def _signed_of(checkpoints: Iterable[Checkpoint], verdict: Verdict) -> dict[UUID, _Signed]:
    signed: dict[UUID, _Signed] = {}
    for one in checkpoints:
        verdict.checkpoints += 1
        if not one.is_genuine:
            where = f"line {one.line} of {one.file} is not signed by this product"
            verdict.findings.append(Finding(UUID(int=0), 0, where))
        for organization_id, (sequence, digest) in (*one.heads.items(), *one.pruned.items()):
            signed.setdefault(organization_id, _Signed()).digests[sequence] = digest
        for organization_id, (sequence, digest) in one.pruned.items():
            if one.month is not None:
                signed[organization_id].prunings[sequence] = (one.month, digest)
    return signed


async def _walk(
    connection: Connection,
    chain: Chain,
    signed: _Signed,
    *,
    keys: PersonKeys,
    archive: Archive | None,
    verdict: Verdict,
) -> None:
    is_first = True
    # What is older may be gone from the archive as well; without it, all that was pruned is.
    until = date.max if archive is None else utc_now().date() - ARCHIVED
    if archive is not None:
        async for row in archive.rows(chain.organization_id):
            if is_first:
                _begin(chain, signed, row["sequence"], until)
            is_first = False
            chain.see(row)
            verdict.archived += 1
            verdict.entries += 1
    async for rows in _hot(connection, chain.organization_id):
        await _look_at_salted(connection, chain, rows, keys)
        for row in rows:
            if is_first:
                _begin(chain, signed, row["sequence"], until)
            is_first = False
            # Archived and not dropped yet: seen already, and the same.
            if row["sequence"] <= chain.sequence and archive is not None:
                _compare(chain, row)
                continue
            chain.see(row)
            verdict.entries += 1
    if is_first and signed.prunings:
        _begin(chain, signed, max(signed.prunings) + 1, until)


def _begin(chain: Chain, signed: _Signed, sequence: int, until: date) -> None:
    """Begin behind what was pruned, where a record signed for a month before *until* says so."""
    month, digest = signed.prunings.get(sequence - 1, (None, None))
    if month is not None and month <= until:
        chain.sequence, chain.digest = sequence - 1, digest or chain.digest


def _compare(chain: Chain, row: Mapping[str, Any]) -> None:
    if row["sequence"] == chain.sequence and row["digest"] != chain.digest:
        chain.find(chain.sequence, "the entry is another one in the archive")


async def _look_at_salted(
    connection: Connection, chain: Chain, rows: list[Any], keys: PersonKeys
) -> None:
    salted = [row for row in rows if row["format"] == SALTED and row["actor_sealed"]]
    found = await keys.of(connection, [one for row in salted for one in people_of(row)])
    for row in salted:
        if is_salted_digest(row, found) is False:
            chain.find(row["sequence"], "who it was is not what was recorded")


async def _look_for_people(connection: Connection, chains: list[Chain]) -> None:
    """A person's key goes when they are purged, and never otherwise."""
    purged = {person_id for chain in chains for person_id in chain.purged} | {
        # Who acted in one organization may have been purged in another.
        row["resource_id"]
        for row in await connection.fetch(
            "SELECT resource_id FROM audit_logs WHERE action = ANY($1)", list(PURGED)
        )
    }
    for chain in chains:
        rows = await connection.fetch(
            "SELECT person_id FROM audit_person_keys "
            "WHERE organization_id = $1 AND wrapped IS NOT NULL",
            chain.organization_id,
        )
        known = {row["person_id"] for row in rows} | purged
        missing = "who it was is missing, though nobody was purged"
        for person_id, sequence in chain.people.items():
            if person_id not in known:
                chain.find(sequence, missing)
        for sequence, people in chain.silent:
            if not people & purged:
                chain.find(sequence, missing)


async def _organizations(connection: Connection) -> list[UUID]:
    rows = await connection.fetch("SELECT DISTINCT organization_id FROM audit_logs")
    return [row["organization_id"] for row in rows]


async def _hot(connection: Connection, organization_id: UUID) -> AsyncIterator[list[Any]]:
    after = 0
    while True:
        rows = await connection.fetch(
            """
            SELECT * FROM audit_logs WHERE organization_id = $1 AND sequence > $2
             ORDER BY sequence LIMIT $3
            """,
            organization_id,
            after,
            ROWS_AT_ONCE,
        )
        yield list(rows)
        if len(rows) < ROWS_AT_ONCE:
            return
        after = rows[-1]["sequence"]
