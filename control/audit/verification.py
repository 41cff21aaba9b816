"""Looks through the whole audit trail for what was altered, removed or put in between.

Each chain is walked from its first entry, through the archive, to its end in PostgreSQL.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import islice
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

from control.audit.archive import Archive
from control.audit.checkpoints import Checkpoint
from control.audit.domain import PURGED, Entry, first_digest
from control.audit.person_keys import PersonKeys
from control.audit.personal import ID_BYTES, SALTED, Sealed, people_of, person_of
from control.audit.sealing import is_salted_digest
from shared.messaging.events import utc_now
from shared.postgres.connection import Connection

ROWS_AT_ONCE: Final = 5_000
FINDINGS_MAX: Final = 100
ARCHIVED: Final = timedelta(days=7 * 365)
_FIRST_ID, _LAST_ID = UUID(int=0), UUID(int=2**128 - 1)
# Numbers begin with 1; a forged entry may have any.
_FIRST_SEQUENCE: Final = -(2**63)
_FIELDS: Final = itemgetter(*Entry._fields)
_PARTS: Final = itemgetter(*Sealed._fields)


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
class Signed:
    """What checkpoints say of one chain: digests by sequence, and where months were pruned."""

    digests: dict[int, bytes] = field(default_factory=dict)
    prunings: dict[int, tuple[date, bytes]] = field(default_factory=dict)
    # The highest sequence that was signed, and when.
    last: int = 0
    at: datetime | None = None


class Chain:
    """One organization's chain while it is walked, from behind *sequence* with *digest* on."""

    def __init__(
        self,
        organization_id: UUID,
        signed: Signed,
        *,
        sequence: int = 0,
        digest: bytes | None = None,
    ) -> None:
        self.organization_id = organization_id
        self.sequence = sequence
        self.digest = digest or first_digest(organization_id)
        self.has_begun = False
        self.last_at: datetime | None = None
        self.findings: list[Finding] = []
        # Where somebody first appears (16 bytes), and who was purged.
        self.people: dict[bytes, int] = {}
        self.purged: set[UUID] = set()
        # Entries of format 1 that say nothing of anybody.
        self.silent: list[tuple[int, set[UUID | None]]] = []
        self._signed = signed

    def begin(self, sequence: int, until: date) -> None:
        """The first entry that there is has *sequence*: right behind a month before *until*?

        What was pruned is not missing, where a signed record says so.
        """
        self.has_begun = True
        month, digest = self._signed.prunings.get(sequence - 1, (None, None))
        if month is not None and month <= until:
            self.sequence, self.digest = sequence - 1, digest or self.digest

    def see(self, row: Mapping[str, Any]) -> None:
        """The next entry."""
        entry, parts = Entry._make(_FIELDS(row)), Sealed._make(_PARTS(row))
        if entry.sequence != self.sequence + 1:
            self.find(self.sequence + 1, f"entries up to {entry.sequence - 1} are missing")
        elif entry.digest(self.digest) != row["digest"]:
            self.find(entry.sequence, "the entry, or the one before it, is not what was recorded")
        self.sequence, self.digest = entry.sequence, row["digest"]
        self.last_at = entry.occurred_at
        if self._signed.digests.get(entry.sequence, row["digest"]) != row["digest"]:
            self.find(entry.sequence, "the chain is not the one that was signed")
        if row["format"] != SALTED and parts.digest != entry.personal_digest:
            self.find(entry.sequence, "who it was is not what was recorded")
        if row["format"] == SALTED and parts.actor_sealed is None:
            self.silent.append((entry.sequence, {entry.user_id, entry.resource_id}))
        for part in (parts.actor_sealed, parts.subject_sealed):
            if part:
                self.people.setdefault(part[:ID_BYTES], entry.sequence)
        if entry.action in PURGED:
            self.purged.add(entry.resource_id)

    def end(self, recorded: tuple[int, bytes] | None, until: date) -> None:
        """There are no more entries."""
        if not self.has_begun and self._signed.prunings:
            self.begin(max(self._signed.prunings) + 1, until)
        if recorded != (self.sequence, self.digest):
            self.find(self.sequence + 1, "the chain does not end where it was recorded to")
        if (last := self._signed.last) > self.sequence:
            since = f"{self.last_at:%Y-%m-%d %H:%M:%S}" if self.last_at else "the first entry"
            self.find(
                self.sequence + 1,
                f"entries up to {last} were signed and are missing: what was done after {since} "
                f"and before {self._signed.at:%Y-%m-%d %H:%M:%S} (UTC)",
            )

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
        row["organization_id"]: (row["sequence"], row["digest"])
        for row in await connection.fetch(
            "SELECT organization_id, sequence, digest FROM audit_chains"
        )
    }
    archived = set() if archive is None else set(await archive.organizations())
    wanted = {only} if only else {*recorded, *signed, *archived}
    chains = {one: Chain(one, signed.get(one, Signed())) for one in sorted(wanted)}
    # What is older may be gone from the archive as well; without it, all that was pruned is.
    until = date.max if archive is None else utc_now().date() - ARCHIVED
    if archive is not None:
        for organization_id in sorted(archived & chains.keys()):
            await _walk_archived(archive, chains[organization_id], until, verdict)
    await _walk_hot(connection, chains, until, verdict, keys=keys, only=only)
    for organization_id, chain in chains.items():
        chain.end(recorded.get(organization_id), until)
    await _look_for_people(connection, chains)
    verdict.chains = len(chains)
    for chain in chains.values():
        verdict.findings += sorted(chain.findings, key=lambda one: one.sequence)
    return verdict


def _signed_of(checkpoints: Iterable[Checkpoint], verdict: Verdict) -> dict[UUID, Signed]:
    signed: dict[UUID, Signed] = {}
    for one in checkpoints:
        verdict.checkpoints += 1
        if not one.is_genuine:
            where = f"line {one.line} of {one.file} is not signed by this product"
            verdict.findings.append(Finding(UUID(int=0), 0, where))
        for organization_id, (sequence, digest) in (*one.heads.items(), *one.pruned.items()):
            told = signed.setdefault(organization_id, Signed())
            if sequence > told.last:
                told.last, told.at = sequence, one.at
            told.digests[sequence] = digest
        for organization_id, (sequence, digest) in one.pruned.items():
            if one.month is not None:
                signed[organization_id].prunings[sequence] = (one.month, digest)
    return signed


async def _walk_archived(archive: Archive, chain: Chain, until: date, verdict: Verdict) -> None:
    async for row in archive.rows(chain.organization_id):
        if not chain.has_begun:
            chain.begin(row["sequence"], until)
        chain.see(row)
        verdict.archived += 1
        verdict.entries += 1


async def _walk_hot(
    connection: Connection,
    chains: dict[UUID, Chain],
    until: date,
    verdict: Verdict,
    *,
    keys: PersonKeys,
    only: UUID | None,
) -> None:
    """All chains in one pass, so that many short ones take no longer than a long one."""
    # What is archived and not dropped yet is seen already.
    seen = {organization_id: chain.sequence for organization_id, chain in chains.items()}
    async for rows in _hot(connection, only):
        salted = await _look_at_salted(connection, rows, keys)
        for row in rows:
            organization_id, sequence = row["organization_id"], row["sequence"]
            chain = chains.get(organization_id)
            if chain is None:
                chain = chains[organization_id] = Chain(organization_id, Signed())
            if sequence in salted.get(organization_id, ()):
                chain.find(sequence, "who it was is not what was recorded")
            if not chain.has_begun:
                chain.begin(sequence, until)
            if 0 < sequence <= seen.get(organization_id, 0):
                _compare(chain, row)
                continue
            chain.see(row)
            verdict.entries += 1


def _compare(chain: Chain, row: Mapping[str, Any]) -> None:
    if row["sequence"] == chain.sequence and row["digest"] != chain.digest:
        chain.find(chain.sequence, "the entry is another one in the archive")


async def _look_at_salted(
    connection: Connection, rows: list[Any], keys: PersonKeys
) -> dict[UUID, set[int]]:
    """Sequences, by chain, of entries of format 1 whose people are not who was recorded."""
    salted = [row for row in rows if row["format"] == SALTED and row["actor_sealed"]]
    found = await keys.of(connection, [one for row in salted for one in people_of(row)])
    wrong: dict[UUID, set[int]] = {}
    for row in salted:
        if is_salted_digest(row, found) is False:
            wrong.setdefault(row["organization_id"], set()).add(row["sequence"])
    return wrong


async def _look_for_people(connection: Connection, chains: Mapping[UUID, Chain]) -> None:
    """A person's key goes when they are purged, and never otherwise."""
    purged = {person_id for chain in chains.values() for person_id in chain.purged} | {
        # Who acted in one organization may have been purged in another.
        row["resource_id"]
        for row in await connection.fetch(
            "SELECT resource_id FROM audit_logs WHERE action = ANY($1)", list(PURGED)
        )
    }
    missing = "who it was is missing, though nobody was purged"
    people = (
        ((one, person_of(person)), sequence)
        for one, chain in chains.items()
        for person, sequence in chain.people.items()
    )
    while some := dict(islice(people, ROWS_AT_ONCE)):
        for row in await connection.fetch(
            """
            SELECT organization_id, person_id
              FROM unnest($1::uuid[], $2::uuid[]) AS wanted (organization_id, person_id)
             WHERE NOT EXISTS (
               SELECT FROM audit_person_keys AS kept
                WHERE kept.organization_id = wanted.organization_id
                  AND kept.person_id = wanted.person_id AND wrapped IS NOT NULL)
            """,
            [organization_id for organization_id, _ in some],
            [person_id for _, person_id in some],
        ):
            person = (row["organization_id"], row["person_id"])
            if row["person_id"] not in purged:
                chains[row["organization_id"]].find(some[person], missing)
    for chain in chains.values():
        for sequence, silent in chain.silent:
            if not silent & purged:
                chain.find(sequence, missing)


async def _hot(connection: Connection, only: UUID | None) -> AsyncIterator[list[Any]]:
    """Rows in the order of the chains."""
    after = (only or _FIRST_ID, _FIRST_SEQUENCE, date.min)
    while True:
        rows = await connection.fetch(
            """
            SELECT * FROM audit_logs
             WHERE (organization_id, sequence, month) > ($1, $2, $3) AND organization_id <= $4
             ORDER BY organization_id, sequence, month LIMIT $5
            """,
            *after,
            only or _LAST_ID,
            ROWS_AT_ONCE,
        )
        yield rows
        if len(rows) < ROWS_AT_ONCE:
            return
        after = (rows[-1]["organization_id"], rows[-1]["sequence"], rows[-1]["month"])
