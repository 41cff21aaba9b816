"""The keys of people: made when somebody first appears, destroyed when they are erased.

They are encrypted themselves (ENCRYPTION_KEYS), so that the database alone opens nothing. Each
chain has a key of its own for each person. A key is only ever used when its row was read in the
same transaction: what another process destroyed is not used any more.
"""

import secrets
from collections import OrderedDict
from collections.abc import Collection
from typing import Any, Final
from uuid import UUID

from control.audit.personal import PersonKey
from shared.errors import Invalid
from shared.postgres.connection import Connection
from shared.security.secret_box import KEY_BYTES, SecretBox

# An unwrapped key is about 1.2 kB.
REMEMBERED_MAX: Final = 20_000
# A search by address asks the keys of all people of the organization, some 10 us each.
SEARCHED_MAX: Final = 50_000
REWRAPPED_AT_ONCE: Final = 500

Person = tuple[UUID, UUID]


class PersonKeys:
    """Keys by organization and person."""

    def __init__(self, box: SecretBox) -> None:
        self._box = box
        self._unwrapped: OrderedDict[bytes, PersonKey] = OrderedDict()

    async def of(
        self, connection: Connection, people: Collection[Person]
    ) -> dict[Person, PersonKey]:
        """The keys that there are."""
        rows = await self._rows(connection, people)
        return {person: self._key(person, row) for person, row in rows.items() if row}

    async def made(
        self, connection: Connection, people: Collection[Person]
    ) -> dict[Person, PersonKey]:
        """The keys, made where there is none yet; who is erased has none."""
        rows = await self._rows(connection, people)
        new = {
            person: self._box.encrypt(secrets.token_bytes(KEY_BYTES), context=_context(person))
            for person in sorted(set(people) - rows.keys())
        }
        if new:
            await connection.execute(
                """
                INSERT INTO audit_person_keys (organization_id, person_id, wrapped)
                SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bytea[])
                ON CONFLICT DO NOTHING
                """,
                [organization_id for organization_id, _ in new],
                [person_id for _, person_id in new],
                list(new.values()),
            )
            # Another process may have been first.
            rows |= await self._rows(connection, new.keys())
        return {person: self._key(person, row) for person, row in rows.items() if row}

    async def indexes(
        self, connection: Connection, field: str, value: str, *, organization_id: UUID | None
    ) -> list[bytes]:
        """What *value* of *field* is found by, of each person of an organization, or of all."""
        rows = await connection.fetch(
            """
            SELECT organization_id, person_id, wrapped FROM audit_person_keys
             WHERE wrapped IS NOT NULL AND ($1::uuid IS NULL OR organization_id = $1) LIMIT $2
            """,
            organization_id,
            SEARCHED_MAX + 1,
        )
        if len(rows) > SEARCHED_MAX:
            raise Invalid(
                f"more than {SEARCHED_MAX} people would be searched: give their userId instead"
            )
        people = (((row["organization_id"], row["person_id"]), row["wrapped"]) for row in rows)
        return [self._key(person, wrapped).index(field, value) for person, wrapped in people]

    async def erase(self, connection: Connection, person_id: UUID) -> None:
        """Destroy the keys of a person in all chains: nobody opens what is sealed with them."""
        await connection.execute(
            """
            UPDATE audit_person_keys SET wrapped = NULL, erased_at = now()
             WHERE person_id = $1 AND wrapped IS NOT NULL
            """,
            person_id,
        )

    async def rewrap(self, connection: Connection) -> int:
        """Encrypt some keys anew that are not under the current key of ENCRYPTION_KEYS; how many.

        When the old one is then destroyed, backups of before open nothing any more.
        """
        head = self._box.head
        rows = await connection.fetch(
            """
            SELECT organization_id, person_id, wrapped FROM audit_person_keys
             WHERE substring(wrapped FOR length($1::bytea)) <> $1 LIMIT $2 FOR UPDATE SKIP LOCKED
            """,
            head,
            REWRAPPED_AT_ONCE,
        )
        for row in rows:
            context = _context((row["organization_id"], row["person_id"]))
            key = self._box.decrypt(row["wrapped"], context=context)
            await connection.execute(
                "UPDATE audit_person_keys SET wrapped = $3 "
                "WHERE organization_id = $1 AND person_id = $2",
                row["organization_id"],
                row["person_id"],
                self._box.encrypt(key, context=context),
            )
        return len(rows)

    async def _rows(
        self, connection: Connection, people: Collection[Person]
    ) -> dict[Person, bytes | None]:
        wanted = list(set(people))
        rows = await connection.fetch(
            """
            SELECT place, wrapped FROM audit_person_keys
              JOIN unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY
                   AS wanted (organization_id, person_id, place)
             USING (organization_id, person_id)
            """,
            [organization_id for organization_id, _ in wanted],
            [person_id for _, person_id in wanted],
        )
        return {wanted[row["place"] - 1]: row["wrapped"] for row in rows}

    def _key(self, person: Person, wrapped: Any) -> PersonKey:
        key = self._unwrapped.pop(wrapped, None)
        if key is None:
            key = PersonKey(self._box.decrypt(wrapped, context=_context(person)))
        self._unwrapped[wrapped] = key
        if len(self._unwrapped) > REMEMBERED_MAX:
            self._unwrapped.popitem(last=False)
        return key


def _context(person: Person) -> str:
    organization_id, person_id = person
    return f"{organization_id}|audit_person_keys|wrapped|{person_id}"
