"""Cursors: where a page ended, signed, good for the same tenant and the same question only."""

import base64
import binascii
import hashlib
import hmac
from typing import Any, Final

import orjson

from shared.errors import Invalid
from shared.security.secret_files import text_of_secret_file
from shared.settings import Settings

KEY_FILE: Final = "secrets/cursor-key"
CURSOR_CHARACTERS_MAX: Final = 1_000
_MAC_BYTES: Final = 16


class Cursors:
    """Signs cursors and reads them again."""

    def __init__(self, key: bytes) -> None:
        self._key = hmac.digest(key, b"telemetryflow cursors", hashlib.sha256)

    @classmethod
    def of(cls, settings: Settings) -> "Cursors":
        """With a key that all API processes have: JWT_SECRET, or a file of the data folder."""
        secret = settings.jwt_secret or text_of_secret_file(settings.data_dir / KEY_FILE)
        return cls(secret.encode())

    def written(self, tenant: str, question: str, place: list[Any]) -> str:
        """A cursor that says *place*."""
        body = orjson.dumps(place)
        return base64.urlsafe_b64encode(self._mac(tenant, question, body) + body).decode()

    def read(self, tenant: str, question: str, cursor: str) -> list[Any]:
        """The place; Invalid unless this product wrote it for this tenant and question."""
        try:
            raw = base64.urlsafe_b64decode(cursor.encode())
        except (binascii.Error, ValueError):
            raw = b""
        mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(tenant, question, body)):
            raise Invalid(
                "this cursor belongs to another question: begin without a cursor", field="cursor"
            )
        place: list[Any] = orjson.loads(body)
        return place

    def _mac(self, tenant: str, question: str, body: bytes) -> bytes:
        message = orjson.dumps([tenant, question]) + body
        return hmac.digest(self._key, message, hashlib.sha256)[:_MAC_BYTES]
