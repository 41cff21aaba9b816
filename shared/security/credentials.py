"""Who a client says it is, read from HTTP headers or gRPC metadata.

Accepted for one API key (id `tfk_` + 32 hex, secret `tfs_` + 64 hex; a hyphen does for the
underscore, and upper-case hex for lower-case):

    Authorization: Bearer <id>:<secret>         Authorization: Bearer <id>.<secret>
    Authorization: Basic base64(<id>:<secret>)  X-API-Key: <id>:<secret>
    X-API-Key-ID + X-API-Key-Secret             X-TelemetryFlow-Key-ID + X-TelemetryFlow-Key-Secret

X-Tenant-Id and X-Workspace-Id may stand beside it. No message here ever repeats a secret.
"""

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from shared.errors import Unauthenticated

_ID: Final = re.compile(r"tfk[_-]([0-9a-fA-F]{32})")
_SECRET: Final = re.compile(r"tfs[_-]([0-9a-fA-F]{64})")
_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

_PAIRS: Final = (
    ("x-api-key-id", "x-api-key-secret"),
    ("x-telemetryflow-key-id", "x-telemetryflow-key-secret"),
)
# Receivers hand over only these.
CREDENTIAL_HEADERS: Final = (
    "authorization",
    "x-api-key",
    *_PAIRS[0],
    *_PAIRS[1],
    "x-tenant-id",
    "x-workspace-id",
)
KEY_HEADERS: Final = ("x-api-key", *_PAIRS[0], *_PAIRS[1])
_AUTHORIZATION_OF_KEY: Final = re.compile(r"\s*(basic\s|bearer\s+tf[ks][_-])", re.IGNORECASE)
NETWORKS_CACHED_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request claims; `key_id` None means that it came without an API key."""

    key_id: str | None = None
    secret: str = field(default="", repr=False)
    tenant_id: str | None = None
    workspace_id: str | None = None
    # Where it comes from: the peer of the connection.
    address: str = field(default="", compare=False)
    # What the secret was hashed to, by pepper: a connection says the same secret again and again.
    hashes: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)


def credentials_of(get: Callable[[str], str | None], address: str = "") -> Credentials:
    """The credentials among the headers that *get* finds by lower-case name.

    Unauthenticated when they are malformed, sent twice, or contradict one another. Values of a
    repeated header are expected joined by a comma.
    """
    claims = {claim for claim in _claims(get) if claim is not None}
    if len(claims) > 1:
        raise Unauthenticated("the request carries several API keys that differ; send one")
    key_id, secret = claims.pop() if claims else (None, "")
    return Credentials(
        key_id, secret, _scope(get, "x-tenant-id"), _scope(get, "x-workspace-id"), address
    )


def carries_key(get: Callable[[str], str | None]) -> bool:
    """Whether an API key is meant, where people's access tokens are taken too."""
    if any(get(name) is not None for name in KEY_HEADERS):
        return True
    return _AUTHORIZATION_OF_KEY.match(get("authorization") or "") is not None


@lru_cache(maxsize=NETWORKS_CACHED_MAX)
def is_within(address: str, networks: tuple[str, ...]) -> bool:
    """Whether *address* is in one of *networks* (CIDR)."""
    try:
        client = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(client, ipaddress.IPv6Address) and client.ipv4_mapped is not None:
        client = client.ipv4_mapped
    return any(client in ipaddress.ip_network(network) for network in networks)


def _claims(get: Callable[[str], str | None]) -> list[tuple[str, str] | None]:
    return [
        _of_authorization(_once(get, "authorization")),
        _of_joined(_once(get, "x-api-key"), "X-API-Key"),
        *(_of_pair(_once(get, id_name), _once(get, name), name) for id_name, name in _PAIRS),
    ]


def _once(get: Callable[[str], str | None], name: str) -> str | None:
    """The value of header *name*, or None when it is absent; refused when it came twice."""
    value = get(name)
    if value is not None and "," in value:
        raise Unauthenticated(f"the header {name} was sent more than once, or holds a comma")
    return value


def _of_authorization(value: str | None) -> tuple[str, str] | None:
    if value is None:
        return None
    scheme, _, rest = value.strip().partition(" ")
    match scheme.lower():
        case "bearer":
            return _of_joined(rest.strip(), "Authorization: Bearer")
        case "basic":
            return _of_joined(_decoded_basic(rest.strip()), "Authorization: Basic")
    raise Unauthenticated("Authorization must be 'Bearer <key id>:<secret>' or Basic of the same")


def _decoded_basic(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise Unauthenticated("Authorization: Basic is not base64 of '<key id>:<secret>'") from None


def _of_joined(value: str | None, where: str) -> tuple[str, str] | None:
    """Id and secret of `id:secret` or `id.secret`."""
    if value is None:
        return None
    key_id, colon, secret = value.strip().partition(":")
    if not colon:
        key_id, _, secret = key_id.partition(".")
    return _normalised(key_id, secret, where)


def _of_pair(key_id: str | None, secret: str | None, name: str) -> tuple[str, str] | None:
    if key_id is None and secret is None:
        return None
    if key_id is None or secret is None:
        raise Unauthenticated(f"the key id and {name} must be sent together")
    return _normalised(key_id.strip(), secret.strip(), name)


def _normalised(key_id: str, secret: str, where: str) -> tuple[str, str]:
    known_id, known_secret = _ID.fullmatch(key_id), _SECRET.fullmatch(secret)
    if known_id is None:
        raise Unauthenticated(f"{where}: an API key id is 'tfk_' and 32 hex digits")
    if known_secret is None:
        raise Unauthenticated(f"{where}: the secret of an API key is 'tfs_' and 64 hex digits")
    return f"tfk_{known_id[1].lower()}", f"tfs_{known_secret[1].lower()}"


def _scope(get: Callable[[str], str | None], name: str) -> str | None:
    value = _once(get, name)
    if not value:
        return None
    if _TENANT.fullmatch(value) is None:
        raise Unauthenticated(f"{name} holds characters that no such id has")
    return value
