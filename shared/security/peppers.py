"""Keys of exporters: their form, and the peppers that their secrets are hashed with.

A key has an id (`tfk_` + 32 hex) and a secret (`tfs_` + 64 hex). The last 8 hex of a secret are the
CRC-32 of the 56 before, so that scanners recognise one without asking anybody; 224 bits are random.
Only HMAC-SHA-256(pepper, secret) is kept: with that much entropy a slow password hash would add
nothing but a lever for denial of service.
"""

import hashlib
import hmac
import secrets
import zlib
from dataclasses import dataclass
from typing import Final

from shared.errors import Invalid
from shared.security.secret_files import text_of_secret_file
from shared.settings import Settings

PEPPER_FILE: Final = "secrets/api-key-pepper"
PEPPER_CHARACTERS_MIN: Final = 16
_RANDOM_HEX: Final = 56


@dataclass(frozen=True, slots=True)
class Peppers:
    """Those in use, by id; new secrets are hashed with the current one."""

    by_id: dict[str, bytes]
    current_id: str

    @classmethod
    def from_text(cls, text: str) -> "Peppers":
        """Peppers separated by commas or line ends, the current one first."""
        values = [one.strip().encode() for one in text.replace(",", "\n").splitlines()]
        peppers = [one for one in values if one]
        if not peppers or min(map(len, peppers)) < PEPPER_CHARACTERS_MIN:
            raise Invalid(
                f"API_KEY_PEPPER: give {PEPPER_CHARACTERS_MIN} characters or more, such as the "
                "output of `openssl rand -hex 32`; when you rotate it, the new one first: new,old"
            )
        ids = [pepper_id(one) for one in peppers]
        return cls(dict(zip(ids, peppers, strict=True)), ids[0])

    @classmethod
    def of(cls, settings: Settings) -> "Peppers":
        """API_KEY_PEPPER, or a file of the data folder that is made on first use."""
        if settings.api_key_pepper:
            return cls.from_text(settings.api_key_pepper)
        return cls.from_text(text_of_secret_file(settings.data_dir / PEPPER_FILE))

    @property
    def current(self) -> bytes:
        """What new secrets are hashed with."""
        return self.by_id[self.current_id]

    def hash(self, secret: str, of_pepper: str | None = None) -> bytes:
        """HMAC-SHA-256 of *secret*; of a pepper that is no more, of one that nobody has."""
        pepper = self.by_id.get(of_pepper or self.current_id, self.current + b" unknown")
        return hmac.digest(pepper, secret.encode(), hashlib.sha256)


def pepper_id(pepper: bytes) -> str:
    """A name for it that tells nothing about it."""
    return hashlib.sha256(b"id of a pepper " + pepper).hexdigest()[:12]


def new_key_id() -> str:
    """An id that nobody has."""
    return f"tfk_{secrets.token_hex(16)}"


def new_secret() -> str:
    """A secret with its checksum."""
    random = secrets.token_hex(_RANDOM_HEX // 2)
    return f"tfs_{random}{zlib.crc32(random.encode()):08x}"
