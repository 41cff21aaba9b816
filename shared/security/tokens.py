"""Signed tokens (JWT): what is in them is believed without a look into a database.

A token is read by one path that knows beforehand what each of its parts must be: its key is looked
up here by the id in its header, the algorithm is that key's alone, and a header with anything but
the three fields that are written here is refused, so that a token never brings its own rules.
"""

import base64
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from shared.errors import Invalid, Unauthenticated, Unavailable
from shared.security.signing_keys import KEY_ID, SigningKey

TOKEN_CHARACTERS_MAX: Final = 8_192
HEADER_CHARACTERS_MAX: Final = 512
# How far clocks of processes may be apart.
LEEWAY: Final = timedelta(seconds=5)
# One text for every fault: the reason would help only those who forge tokens.
REFUSAL: Final = "the token is not valid: sign in again"

_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)")
_HEADER_FIELDS: Final = {"alg", "kid", "typ"}
_TIME_CLAIMS: Final = ("iat", "exp")
# Seconds since 1970 that the calendar knows, to the year 2514.
_TIMES: Final = range(1 << 34)
_OWN_CLAIMS: Final = ("iss", "aud", "sub", "kind", "jti", "iat", "exp")


class TokenKind(StrEnum):
    """What a token is good for."""

    ACCESS = "access"
    # Between the password and the second factor.
    MFA = "mfa"


# The header's typ; RFC 9068 names that of access tokens.
_TYPE_OF: Final[Mapping[TokenKind, str]] = {
    TokenKind.ACCESS: "at+jwt",
    TokenKind.MFA: "mfa+jwt",
}


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What a valid token says; *others* are the claims that the issuer added."""

    kind: TokenKind
    subject: str
    token_id: str
    issued_at: datetime
    expires_at: datetime
    others: Mapping[str, Any]


class Keyring:
    """Issues and reads tokens with *keys*: the one in force, those before it, and the next.

    *issuer* is this installation: tokens of another one are refused.
    """

    def __init__(self, keys: Sequence[SigningKey], *, issuer: str = "telemetryflow") -> None:
        self._keys = {key.key_id: (key, key.to_jwk()) for key in keys}
        if len(self._keys) != len(keys):
            raise Invalid("two signing keys have the same id")
        self._issuer = issuer

    def issue(
        self,
        kind: TokenKind,
        subject: str,
        claims: Mapping[str, Any],
        ttl_seconds: int,
        now: datetime,
    ) -> str:
        """A token of *kind* for *subject* with *claims*, good for *ttl_seconds* from *now*.

        Signed by the youngest key in force; Unavailable if there is none.
        """
        reserved = claims.keys() & set(_OWN_CLAIMS)
        if reserved:
            raise Invalid(f"claims of the token itself: {', '.join(sorted(reserved))}")
        key = self._key_in_force(now)
        issued_at = int(now.timestamp())
        token = jwt.encode(
            {"alg": key.algorithm, "kid": key.key_id, "typ": _TYPE_OF[kind]},
            {
                **claims,
                "iss": self._issuer,
                "aud": self._audience(kind),
                "sub": subject,
                "kind": kind.value,
                "jti": secrets.token_urlsafe(16),
                "iat": issued_at,
                "exp": issued_at + ttl_seconds,
            },
            self._keys[key.key_id][1],
            algorithms=[key.algorithm],
        )
        if len(token) > TOKEN_CHARACTERS_MAX:
            raise Invalid(f"the claims make a token of over {TOKEN_CHARACTERS_MAX} characters")
        return token

    def read(self, token: str, kind: TokenKind, now: datetime) -> Claims:
        """What *token* says, if it is one of *kind* that is good at *now*; else Unauthenticated."""
        try:
            return self._verified(token, kind, now)
        except (JoseError, ValueError, LookupError, TypeError, RecursionError):
            # Whatever a library stumbles over in a forged token is one more fault of it.
            raise Unauthenticated(REFUSAL) from None

    def jwks(self, now: datetime) -> dict[str, list[dict[str, Any]]]:
        """The public keys that are believed at *now* or will be, as a JSON Web Key Set."""
        return {
            "keys": [
                {
                    **jwk.as_dict(private=False),
                    "kid": key.key_id,
                    "alg": key.algorithm,
                    "use": "sig",
                }
                for key, jwk in self._keys.values()
                if isinstance(jwk, OKPKey) and not _is_retired(key, now)
            ]
        }

    def _key_in_force(self, now: datetime) -> SigningKey:
        in_force = [
            key
            for key, _jwk in self._keys.values()
            if key.not_before <= now and not _is_retired(key, now)
        ]
        if not in_force:
            raise Unavailable("no key is in force that could sign tokens")
        return max(in_force, key=lambda key: key.not_before)

    def _audience(self, kind: TokenKind) -> str:
        return f"{self._issuer}:{kind}"

    def _verified(self, token: str, kind: TokenKind, now: datetime) -> Claims:
        _require(len(token) <= TOKEN_CHARACTERS_MAX)
        parts = _COMPACT.fullmatch(token)
        if parts is None:
            raise ValueError(REFUSAL)
        _require(len(parts[1]) <= HEADER_CHARACTERS_MAX and _is_canonical(parts[2]))
        header = jws.extract_compact(token.encode()).headers()
        _require(header.keys() == _HEADER_FIELDS and header["typ"] == _TYPE_OF[kind])
        key_id = header["kid"]
        _require(isinstance(key_id, str) and KEY_ID.fullmatch(key_id) is not None)
        key, jwk = self._keys[key_id]
        _require(header["alg"] == key.algorithm and not _is_retired(key, now))
        claims = jwt.decode(token, jwk, algorithms=[key.algorithm]).claims
        return self._checked(claims, kind, now)

    def _checked(self, claims: dict[str, Any], kind: TokenKind, now: datetime) -> Claims:
        subject, token_id = claims["sub"], claims["jti"]
        _require(claims["iss"] == self._issuer and claims["aud"] == self._audience(kind))
        _require(claims["kind"] == kind.value)
        _require(all(isinstance(text, str) and text for text in (subject, token_id)))
        # Exactly int: true is no time, and NaN would pass every comparison that refuses.
        _require(all(type(claims[name]) is int and claims[name] in _TIMES for name in _TIME_CLAIMS))
        issued_at = datetime.fromtimestamp(claims["iat"], UTC)
        expires_at = datetime.fromtimestamp(claims["exp"], UTC)
        _require(issued_at - LEEWAY <= now < expires_at + LEEWAY)
        return Claims(
            kind=kind,
            subject=subject,
            token_id=token_id,
            issued_at=issued_at,
            expires_at=expires_at,
            others={name: value for name, value in claims.items() if name not in _OWN_CLAIMS},
        )


def _require(is_so: bool) -> None:
    if not is_so:
        raise ValueError(REFUSAL)


def _is_retired(key: SigningKey, now: datetime) -> bool:
    return key.retires_at is not None and now >= key.retires_at


def _is_canonical(segment: str) -> bool:
    """Whether *segment* is the one spelling of its bytes: unused bits at its end are zero."""
    decoded = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    return base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() == segment
