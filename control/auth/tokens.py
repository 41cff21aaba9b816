"""The keys that sign tokens, as all processes share them, and the tokens of a session."""

import asyncio
import logging
import time
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from shared.errors import Invalid, Unauthenticated
from shared.messaging.events import utc_now
from shared.postgres.database import Database
from shared.postgres.scope import PLATFORM
from shared.security.secret_box import SecretBox
from shared.security.signing_keys import SigningKey, new_signing_key, signing_key_from_secret
from shared.security.tokens import Claims, Keyring, TokenKind
from shared.settings import Settings

MFA_TOKEN_SECONDS: Final = 300
KEY_LIFE: Final = timedelta(days=30)
# A new key is known to all processes before the first of them signs with it.
KEY_LEAD: Final = timedelta(minutes=10)
# A retired key is believed for as long as tokens that it signed live, and then some.
KEY_OVERLAP: Final = timedelta(hours=24)
RELOAD_SECONDS: Final = 60.0
# An unknown key id asks for a reload; forged ones must not make it many.
RELOAD_SECONDS_MIN: Final = 2.0
# Any number, the same for all processes of this product.
_KEYS_LOCK: Final = 0x7E1E_F12

logger = logging.getLogger(__name__)


class Tokens:
    """Issues and reads the signed tokens; open it before use."""

    def __init__(self, settings: Settings, database: Database, box: SecretBox) -> None:
        self._settings = settings
        self._database = database
        self._box = box
        self._keyring = Keyring([])
        self._loaded_at = float("-inf")
        self._loading = asyncio.Lock()
        self.access_seconds = seconds_of("JWT_EXPIRATION", settings.jwt_expiration)

    async def open(self) -> None:
        """Take JWT_SECRET, or the keys of the database; the first process makes the first key."""
        if self._settings.jwt_secret:
            key = self._key_of_secret()
            self._keyring = Keyring([key])
            self._loaded_at = float("inf")
            return
        await self.rotate(now=utc_now())
        await self._load()

    def _key_of_secret(self) -> SigningKey:
        try:
            return signing_key_from_secret(self._settings.jwt_secret, utc_now())
        except Invalid as error:
            if self._settings.telemetryflow_env != "development":
                raise
            logger.warning("%s (outside development nothing would start)", error)
            secret = self._settings.jwt_secret.encode()
            return SigningKey(
                key_id="hs-weak", algorithm="HS256", secret=secret, not_before=utc_now()
            )

    async def rotate(self, *, now: datetime) -> bool:
        """Make the next key when it is time, forget those that nobody believes; whether it did."""
        if self._settings.jwt_secret:
            return False
        async with self._database.begin(PLATFORM) as connection:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _KEYS_LOCK)
            rows = await connection.fetch("SELECT key_id, material FROM signing_keys")
            keys = [self._decrypted(row["key_id"], row["material"]) for row in rows]
            for key in keys:
                if key.retires_at is not None and key.retires_at < now:
                    await connection.execute(
                        "DELETE FROM signing_keys WHERE key_id = $1", key.key_id
                    )
            youngest = max((key.not_before for key in keys), default=None)
            if youngest is not None and youngest + KEY_LIFE - KEY_LEAD > now:
                return False
            new = new_signing_key(now if youngest is None else now + KEY_LEAD)
            ends = new.not_before + max(KEY_OVERLAP, timedelta(seconds=self.access_seconds))
            changed = [replace(key, retires_at=ends) for key in keys if key.retires_at is None]
            for key in [*changed, new]:
                await connection.execute(
                    """
                    INSERT INTO signing_keys (key_id, material) VALUES ($1, $2)
                    ON CONFLICT (key_id) DO UPDATE SET material = excluded.material
                    """,
                    key.key_id,
                    self._box.encrypt(key.to_bytes(), context=_context(key.key_id)),
                )
        logger.info("made the signing key %s", new.key_id)
        return True

    def issue_access(
        self,
        *,
        user_id: UUID,
        session_id: UUID,
        organization_id: UUID,
        email: str,
        has_mfa: bool,
        now: datetime,
    ) -> str:
        """An access token: it points to the session; what its holder may do is looked up."""
        claims = {
            "sessionId": str(session_id),
            "organizationId": str(organization_id),
            "email": email,
            "mfaVerified": has_mfa,
        }
        return self._keyring.issue(TokenKind.ACCESS, str(user_id), claims, self.access_seconds, now)

    def issue_mfa(self, *, user_id: UUID, now: datetime) -> str:
        """The token between password and second factor."""
        return self._keyring.issue(TokenKind.MFA, str(user_id), {}, MFA_TOKEN_SECONDS, now)

    async def keep_current(self) -> None:
        """Learn of keys that others made: before tokens are issued, and before they are read."""
        if time.monotonic() - self._loaded_at > RELOAD_SECONDS:
            await self._load()

    async def read(self, token: str, kind: TokenKind) -> Claims:
        """What a token says; Unauthenticated for every fault."""
        await self.keep_current()
        try:
            return self._keyring.read(token, kind, utc_now())
        except Unauthenticated:
            if time.monotonic() - self._loaded_at < RELOAD_SECONDS_MIN:
                raise
        await self._load()
        return self._keyring.read(token, kind, utc_now())

    def jwks(self) -> dict[str, list[dict[str, object]]]:
        """The public keys, for others who check our tokens."""
        return self._keyring.jwks(utc_now())

    async def _load(self) -> None:
        if self._settings.jwt_secret:
            return
        async with self._loading:
            if time.monotonic() - self._loaded_at < RELOAD_SECONDS_MIN:
                return
            async with self._database.read(PLATFORM) as connection:
                rows = await connection.fetch("SELECT key_id, material FROM signing_keys")
            self._keyring = Keyring(
                [self._decrypted(row["key_id"], row["material"]) for row in rows]
            )
            self._loaded_at = time.monotonic()

    def _decrypted(self, key_id: str, material: bytes) -> SigningKey:
        return SigningKey.from_bytes(self._box.decrypt(material, context=_context(key_id)))


def _context(key_id: str) -> str:
    return f"platform|signing_keys|material|{key_id}"


_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def seconds_of(name: str, text: str) -> int:
    """The seconds of a setting such as 15m or 7d; Invalid names the setting."""
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or unit not in _UNITS or not 1 <= int(number) <= 100_000:
        raise Invalid(f"{name}={text}: give a number and s, m, h or d, such as 15m")
    return int(number) * _UNITS[unit]
