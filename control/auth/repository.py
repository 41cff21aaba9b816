"""Accounts, sessions and what hangs on them, in PostgreSQL."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from control.auth.domain import CROWD_WINDOW, MAIL_PAUSE, SESSION_LONGEST, Account
from shared.errors import NotFound
from shared.messaging.events import Event
from shared.postgres.connection import Connection
from shared.postgres.rows import save_row

_ACCOUNT: Final = """
    SELECT id, version, organization_id, email, first_name, last_name, password_hash,
           password_changed_at, must_change_password, email_verified_at, mfa_secret,
           mfa_enabled_at, mfa_last_step, mfa_failures, mfa_locked_until, recovery_salt, closed_at
      FROM accounts
"""


@dataclass(frozen=True, slots=True)
class ShownToken:
    """A refresh token that somebody shows, with its session."""

    session_id: UUID
    account_id: UUID
    has_mfa: bool
    used_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime
    ends_at_latest: datetime


@dataclass(frozen=True, slots=True)
class Failures:
    """Failed sign-ins of one address for one account, this attempt counted."""

    locked_until: datetime | None
    # Whether this very attempt locked the address out.
    is_new: bool


@dataclass(frozen=True, slots=True)
class Crowd:
    """Sign-ins of all addresses for one account in the current window, this attempt counted."""

    count: int
    ends_at: datetime


class AuthRepositories:
    """Opened for one transaction (shared.postgres.database.UnitOfWork)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.events: list[Event] = []
        self.accounts = Accounts(connection, self.events)
        self.sessions = Sessions(connection)
        self.attempts = Attempts(connection)
        self.mail_tokens = MailTokens(connection)


class Accounts:
    """Repository of accounts."""

    def __init__(self, connection: Connection, events: list[Event]) -> None:
        self._connection = connection
        self._events = events

    async def get(self, account_id: UUID) -> Account:
        """The account, locked; NotFound when there is none, or it is closed."""
        account = await self.find(account_id)
        if account is None:
            raise NotFound("no such account")
        return account

    async def by_email(self, email: str) -> Account | None:
        """The account with that address, locked."""
        row = await self._connection.fetchrow(
            f"{_ACCOUNT} WHERE closed_at IS NULL AND lower(email) = $1 FOR UPDATE",
            email.strip().lower(),
        )
        return None if row is None else Account(**row)

    async def closed(self, account_id: UUID) -> Account | None:
        """A closed account, locked."""
        row = await self._connection.fetchrow(
            f"{_ACCOUNT} WHERE id = $1 AND closed_at IS NOT NULL FOR UPDATE", account_id
        )
        return None if row is None else Account(**row)

    async def remove(self, account_id: UUID) -> None:
        """Delete an account, and all that hangs on it."""
        await self._connection.execute("DELETE FROM accounts WHERE id = $1", account_id)

    async def find(self, account_id: UUID) -> Account | None:
        """The open account, locked."""
        row = await self._connection.fetchrow(
            f"{_ACCOUNT} WHERE closed_at IS NULL AND id = $1 FOR UPDATE", account_id
        )
        return None if row is None else Account(**row)

    async def save(self, account: Account) -> None:
        """Insert or update; Conflict when the address is taken."""
        names = (
            *("organization_id", "email", "first_name", "last_name", "password_hash"),
            *("password_changed_at", "must_change_password", "email_verified_at", "mfa_secret"),
            *("mfa_enabled_at", "mfa_last_step", "mfa_failures", "mfa_locked_until"),
            *("recovery_salt", "closed_at"),
        )
        columns = {name: getattr(account, name) for name in names}
        await save_row(self._connection, "accounts", account, columns)
        self._events += account.release_events()

    async def record(self, event: Event) -> None:
        """An event that changes no row of an account."""
        self._events.append(event)

    async def may_enter(self, account_id: UUID) -> bool:
        """Whether the person and their organization are active."""
        return bool(
            await self._connection.fetchval("SELECT count(*) FROM person_of($1)", account_id)
        )

    async def former_passwords(self, account_id: UUID, count: int) -> list[str]:
        """Hashes of the last *count* passwords, the newest first."""
        rows = await self._connection.fetch(
            """
            SELECT password_hash FROM password_history WHERE account_id = $1
             ORDER BY created_at DESC LIMIT $2
            """,
            account_id,
            count,
        )
        return [row["password_hash"] for row in rows]

    async def remember_password(self, account_id: UUID, password_hash: str, keep: int) -> None:
        """Add to the history, and forget what is older than the last *keep*."""
        await self._connection.execute(
            "INSERT INTO password_history (account_id, password_hash) VALUES ($1, $2)",
            account_id,
            password_hash,
        )
        await self._connection.execute(
            """
            DELETE FROM password_history WHERE account_id = $1 AND created_at < (
              SELECT min(created_at) FROM (
                SELECT created_at FROM password_history WHERE account_id = $1
                 ORDER BY created_at DESC LIMIT $2) AS kept)
            """,
            account_id,
            max(keep, 1),
        )

    async def set_recovery_codes(self, account_id: UUID, digests: list[bytes]) -> None:
        """Replace all recovery codes."""
        await self._connection.execute(
            "DELETE FROM recovery_codes WHERE account_id = $1", account_id
        )
        await self._connection.executemany(
            "INSERT INTO recovery_codes (account_id, digest) VALUES ($1, $2)",
            [(account_id, digest) for digest in digests],
        )

    async def use_recovery_code(self, account_id: UUID, digest: bytes) -> bool:
        """Whether the code was good; it is not any more."""
        status = await self._connection.execute(
            "DELETE FROM recovery_codes WHERE account_id = $1 AND digest = $2", account_id, digest
        )
        return bool(status == "DELETE 1")

    async def use_token(self, token_id: str, expires_at: datetime) -> bool:
        """Whether a signed token is used for the first time."""
        status = await self._connection.execute(
            "INSERT INTO used_tokens (token_id, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            token_id,
            expires_at,
        )
        return bool(status == "INSERT 0 1")

    async def trust_device(
        self, account_id: UUID, digest: bytes, name: str, expires_at: datetime
    ) -> None:
        """A device that need not show a second factor for a while."""
        await self._connection.execute(
            """
            INSERT INTO trusted_devices (id, account_id, digest, name, expires_at)
            VALUES ($1, $2, $3, $4, $5)
            """,
            uuid4(),
            account_id,
            digest,
            name,
            expires_at,
        )

    async def is_trusted(self, account_id: UUID, digest: bytes) -> bool:
        """Whether a device is trusted; notes that it was seen."""
        status = await self._connection.execute(
            """
            UPDATE trusted_devices SET last_used_at = now()
             WHERE account_id = $1 AND digest = $2 AND expires_at > now()
            """,
            account_id,
            digest,
        )
        return bool(status == "UPDATE 1")

    async def distrust(self, account_id: UUID, device_id: UUID | None = None) -> int:
        """Trust one device no more, or none; how many."""
        status = await self._connection.execute(
            "DELETE FROM trusted_devices WHERE account_id = $1 AND ($2::uuid IS NULL OR id = $2)",
            account_id,
            device_id,
        )
        return int(status.split()[-1])


class Sessions:
    """Sessions and their refresh tokens."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def open(
        self,
        account_id: UUID,
        *,
        ip_address: str,
        user_agent: str,
        has_mfa: bool,
        expires_at: datetime,
        now: datetime,
    ) -> tuple[UUID, bool]:
        """A new session: its id, and whether all sessions so far came from other addresses."""
        is_new = await self.were_there(account_id) and not await self.were_there(
            account_id, ip_address
        )
        session_id = uuid4()
        await self._connection.execute(
            """
            INSERT INTO sessions (id, account_id, expires_at, ends_at_latest, ip_address,
                                  user_agent, has_mfa)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            """,
            session_id,
            account_id,
            expires_at,
            now + SESSION_LONGEST,
            ip_address,
            user_agent,
            has_mfa,
        )
        return session_id, is_new

    async def were_there(self, account_id: UUID, ip_address: str | None = None) -> bool:
        """Whether the account was used lately, from that address or from any."""
        return bool(
            await self._connection.fetchval(
                """
                SELECT EXISTS (SELECT FROM sessions
                  WHERE account_id = $1 AND ($2::text IS NULL OR ip_address = $2))
                """,
                account_id,
                ip_address,
            )
        )

    async def owner_of(self, digest: bytes) -> UUID | None:
        """The account that a refresh token is for; to be locked before its session is."""
        owner: UUID | None = await self._connection.fetchval(
            """
            SELECT account_id FROM refresh_tokens JOIN sessions ON sessions.id = session_id
             WHERE digest = $1
            """,
            digest,
        )
        return owner

    async def add_refresh_token(self, session_id: UUID, digest: bytes) -> None:
        """Another token of the session."""
        await self._connection.execute(
            "INSERT INTO refresh_tokens (digest, session_id) VALUES ($1, $2)", digest, session_id
        )

    async def shown(self, digest: bytes) -> ShownToken | None:
        """The token with its session, which is locked."""
        row = await self._connection.fetchrow(
            """
            SELECT session_id, account_id, has_mfa, used_at, ended_at, expires_at, ends_at_latest
              FROM refresh_tokens JOIN sessions ON sessions.id = session_id
             WHERE digest = $1 FOR UPDATE
            """,
            digest,
        )
        return None if row is None else ShownToken(**row)

    async def use(
        self, digest: bytes, session_id: UUID, *, now: datetime, expires_at: datetime
    ) -> None:
        """Note that a token was used, and that its session goes on until *expires_at*."""
        await self._connection.execute(
            "UPDATE refresh_tokens SET used_at = coalesce(used_at, $2) WHERE digest = $1",
            digest,
            now,
        )
        await self._connection.execute(
            "UPDATE sessions SET last_used_at = $2, expires_at = $3 WHERE id = $1",
            session_id,
            now,
            expires_at,
        )

    async def end(self, session_id: UUID, account_id: UUID, reason: str) -> bool:
        """End a session of the account; whether it was open."""
        status = await self._connection.execute(
            """
            UPDATE sessions SET ended_at = now(), end_reason = $3
             WHERE id = $1 AND account_id = $2 AND ended_at IS NULL
            """,
            session_id,
            account_id,
            reason,
        )
        return bool(status == "UPDATE 1")

    async def end_all(self, account_id: UUID, reason: str, *, but: UUID | None = None) -> None:
        """End all sessions of an account, but one."""
        await self._connection.execute(
            """
            UPDATE sessions SET ended_at = now(), end_reason = $2
             WHERE account_id = $1 AND ended_at IS NULL AND id IS DISTINCT FROM $3
            """,
            account_id,
            reason,
            but,
        )


class Attempts:
    """Failed sign-ins, counted for each account and address."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def count(
        self, email: str, address: str, *, now: datetime, attempts_max: int, lockout: timedelta
    ) -> Failures:
        """Count an attempt before it is judged, so that parallel ones cannot slip through.

        An attempt while locked out is not counted; a quiet lockout's time forgets all.
        """
        row: Any = await self._connection.fetchrow(
            """
            INSERT INTO sign_in_failures AS known (key, failures, last_at) VALUES ($1, 1, $2)
            ON CONFLICT (key) DO UPDATE SET
              failures = CASE
                WHEN known.locked_until > $2 THEN known.failures
                WHEN known.last_at < $2 - $3::interval THEN 1
                ELSE known.failures + 1 END,
              locked_until = CASE
                WHEN known.locked_until > $2 THEN known.locked_until
                WHEN known.last_at >= $2 - $3::interval AND known.failures >= $4 THEN $2 + $3
                ELSE NULL END,
              last_at = CASE WHEN known.locked_until > $2 THEN known.last_at ELSE $2 END
            RETURNING locked_until, locked_until IS NOT DISTINCT FROM $2 + $3 AS is_new
            """,
            _key(email, address),
            now,
            lockout,
            attempts_max,
        )
        return Failures(row["locked_until"], row["is_new"])

    async def count_everywhere(self, email: str, *, now: datetime) -> Crowd:
        """Count an attempt of whatever address, in windows that begin with the first one."""
        row: Any = await self._connection.fetchrow(
            """
            INSERT INTO sign_in_failures AS known (key, failures, last_at) VALUES ($1, 1, $2)
            ON CONFLICT (key) DO UPDATE SET
              failures = CASE WHEN known.last_at < $2 - $3::interval THEN 1
                              ELSE known.failures + 1 END,
              last_at = CASE WHEN known.last_at < $2 - $3::interval THEN $2 ELSE known.last_at END
            RETURNING failures, last_at
            """,
            _half(email),
            now,
            CROWD_WINDOW,
        )
        return Crowd(row["failures"], row["last_at"] + CROWD_WINDOW)

    async def forget(self, email: str, address: str) -> None:
        """A sign-in succeeded: its attempt was none of those that guess."""
        await self._connection.execute(
            "DELETE FROM sign_in_failures WHERE key = $1", _key(email, address)
        )
        await self._connection.execute(
            "UPDATE sign_in_failures SET failures = failures - 1 WHERE key = $1 AND failures > 0",
            _half(email),
        )

    async def forget_all(self, email: str) -> None:
        """An administrator lifts the lockouts of all addresses."""
        await self._connection.execute(
            "DELETE FROM sign_in_failures WHERE substr(key, 1, 16) = $1", _half(email)
        )


class MailTokens:
    """What links in mails carry: one of a kind for each account, the newest."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def replace(
        self,
        kind: str,
        account_id: UUID,
        digest: bytes,
        *,
        expires_at: datetime,
        subject_id: UUID | None = None,
    ) -> None:
        """A new token; those of the same kind are no longer good."""
        await self._connection.execute(
            "DELETE FROM mail_tokens WHERE account_id = $1 AND kind = $2", account_id, kind
        )
        await self._connection.execute(
            """
            INSERT INTO mail_tokens (digest, kind, account_id, subject_id, expires_at)
            VALUES ($1, $2, $3, $4, $5)
            """,
            digest,
            kind,
            account_id,
            subject_id,
            expires_at,
        )

    async def take(self, kind: str, digest: bytes) -> tuple[UUID, UUID | None] | None:
        """The account and subject of a good token, which is not good any more."""
        row = await self._connection.fetchrow(
            """
            DELETE FROM mail_tokens WHERE digest = $1 AND kind = $2 AND expires_at > now()
            RETURNING account_id, subject_id
            """,
            digest,
            kind,
        )
        return None if row is None else (row["account_id"], row["subject_id"])

    async def was_sent_lately(self, kind: str, account_id: UUID, *, now: datetime) -> bool:
        """Whether the last mail of that kind is so young that it may be on its way."""
        return bool(
            await self._connection.fetchval(
                """
                SELECT EXISTS (SELECT FROM mail_tokens
                  WHERE account_id = $1 AND kind = $2 AND created_at > $3)
                """,
                account_id,
                kind,
                now - MAIL_PAUSE,
            )
        )

    async def drop(self, account_id: UUID, *kinds: str) -> None:
        """No token of those kinds is good any more."""
        await self._connection.execute(
            "DELETE FROM mail_tokens WHERE account_id = $1 AND kind = ANY($2)", account_id, kinds
        )


def _half(text: str) -> bytes:
    return hashlib.sha256(text.strip().lower().encode(errors="surrogatepass")).digest()[:16]


def _key(email: str, address: str) -> bytes:
    return _half(email) + _half(address)
