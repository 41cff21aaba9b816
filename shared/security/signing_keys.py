"""Keys that sign tokens: the secret of the settings, or Ed25519 pairs that the product makes."""

import base64
import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc.jwk import OctKey, OKPKey

from shared.errors import Invalid

# RFC 9864 names the curve; the older name EdDSA left it open.
Algorithm = Literal["HS256", "Ed25519"]
KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
SECRET_CHARACTERS_MIN: Final = 32
ED25519_SEED_BYTES: Final = 32
# What sample configurations call their secrets, without punctuation.
SAMPLE_WORDS: Final = (
    "changeme", "changethis", "changein", "replaceme", "replacethis", "placeholder", "example",
    "yoursecret", "yoursuper", "yourjwt", "yourkey", "yourownsecret", "supersecret", "mysecret",
    "jwtsecret", "secretkey", "secretsecret", "notasecret", "topsecret", "default", "password",
    "qwerty", "12345678", "abcdefgh", "telemetryflow",
)  # fmt: skip
DIFFERENT_CHARACTERS_MIN: Final = 8


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """A key for one algorithm: it signs from *not_before* and is believed until *retires_at*.

    *secret* is the HMAC secret, or the seed of the Ed25519 private key. A key without *retires_at*
    is believed until it gets one (dataclasses.replace).
    """

    key_id: str
    algorithm: Algorithm
    secret: bytes = field(repr=False)
    not_before: datetime
    retires_at: datetime | None = None

    def __post_init__(self) -> None:
        if not KEY_ID.fullmatch(self.key_id):
            raise Invalid("the id of a signing key has 1 to 64 letters, digits, _ and -")
        if self.algorithm == "Ed25519" and len(self.secret) != ED25519_SEED_BYTES:
            raise Invalid(f"the signing key {self.key_id} is not {ED25519_SEED_BYTES} bytes long")

    def to_bytes(self) -> bytes:
        """Everything about the key, the secret too: encrypt it before it is stored."""
        return json.dumps(
            {
                "key_id": self.key_id,
                "algorithm": self.algorithm,
                "secret": base64.b64encode(self.secret).decode(),
                "not_before": self.not_before.isoformat(),
                "retires_at": self.retires_at.isoformat() if self.retires_at else None,
            }
        ).encode()

    @classmethod
    def from_bytes(cls, stored: bytes) -> "SigningKey":
        """The key that `to_bytes` made *stored* of; Invalid if it did not."""
        try:
            values = json.loads(stored)
            if values["algorithm"] not in ("HS256", "Ed25519"):
                raise Invalid("a stored signing key is for an unknown algorithm")
            retires_at = values["retires_at"]
            return cls(
                key_id=values["key_id"],
                algorithm=values["algorithm"],
                secret=base64.b64decode(values["secret"], validate=True),
                not_before=datetime.fromisoformat(values["not_before"]),
                retires_at=datetime.fromisoformat(retires_at) if retires_at else None,
            )
        except (ValueError, KeyError, TypeError):
            # Without the cause: its text may hold a part of the key.
            raise Invalid("a stored signing key is damaged") from None

    def to_jwk(self) -> OctKey | OKPKey:
        """The key as joserfc wants it."""
        if self.algorithm == "HS256":
            return OctKey.import_key(self.secret)
        seed = base64.urlsafe_b64encode(self.secret).rstrip(b"=").decode()
        return OKPKey.import_key(
            {"kty": "OKP", "crv": "Ed25519", "x": _public_half(self.secret), "d": seed}
        )


def new_signing_key(not_before: datetime) -> SigningKey:
    """A new Ed25519 key that signs from *not_before*."""
    return SigningKey(
        key_id=f"ed-{secrets.token_hex(8)}",
        algorithm="Ed25519",
        secret=secrets.token_bytes(ED25519_SEED_BYTES),
        not_before=not_before,
    )


def signing_key_from_secret(jwt_secret: str, now: datetime) -> SigningKey:
    """The key of JWT_SECRET; Invalid, naming it, if somebody else could guess it."""
    fault = _fault_of(jwt_secret)
    if fault:
        raise Invalid(
            f"JWT_SECRET {fault}: set it to the output of `openssl rand -base64 48`",
            field="JWT_SECRET",
        )
    secret = jwt_secret.encode()
    # Another secret has another id, so that tokens of the old one are refused by their key.
    key_id = hmac.new(secret, b"key id", hashlib.sha256).hexdigest()[:16]
    return SigningKey(key_id=f"hs-{key_id}", algorithm="HS256", secret=secret, not_before=now)


def _fault_of(secret: str) -> str:
    if len(secret) < SECRET_CHARACTERS_MIN:
        return f"is shorter than {SECRET_CHARACTERS_MIN} characters"
    letters = re.sub(r"[^a-z0-9]", "", secret.casefold())
    if any(word in letters for word in SAMPLE_WORDS):
        return "holds a word of sample configurations"
    # A text that repeats is found inside its own double, before the middle.
    if len(set(secret)) < DIFFERENT_CHARACTERS_MIN or secret in (secret + secret)[1:-1]:
        return "repeats a few characters"
    return ""


def _public_half(seed: bytes) -> str:
    private_key = Ed25519PrivateKey.from_private_bytes(seed)
    return (
        base64.urlsafe_b64encode(private_key.public_key().public_bytes_raw()).rstrip(b"=").decode()
    )
