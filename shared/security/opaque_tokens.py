"""Tokens that say nothing: random text that is looked up by its digest.

Only the digest is stored. 256 random bits cannot be guessed, so that a plain hash is enough. Each
kind has its prefix: scanners for leaked secrets find it, and since the digest covers the prefix, a
token of one kind is never taken for another.
"""

import hashlib
import secrets
from enum import StrEnum
from typing import Final

TOKEN_BYTES: Final = 32


class OpaqueKind(StrEnum):
    """What a token is good for; the value is its prefix."""

    REFRESH = "tfr_"
    PASSWORD_RESET = "tfw_"  # noqa: S105 - a prefix
    EMAIL_VERIFICATION = "tfv_"
    INVITATION = "tfi_"
    TRUSTED_DEVICE = "tfd_"


def new_token(kind: OpaqueKind) -> str:
    """A new token of *kind*, safe in URLs and headers."""
    return kind.value + secrets.token_urlsafe(TOKEN_BYTES)


def digest(token: str) -> bytes:
    """What is stored of *token*, and what it is found by: SHA-256, 32 bytes."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
