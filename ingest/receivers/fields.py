"""Credentials among the header fields of a request, whatever the transport."""

import asyncio
from collections.abc import Mapping
from typing import Final

from shared.security.credentials import CREDENTIAL_HEADERS, Credentials, credentials_of

_NAMES: Final = {name: name.encode() for name in CREDENTIAL_HEADERS}
_RAW_NAMES: Final = tuple(_NAMES.values())


def credentials_in(fields: Mapping[bytes, bytes], address: str) -> Credentials:
    """The credentials among *fields*, whose names are in lower case, as sent from *address*."""

    def get(name: str) -> str | None:
        value = fields.get(_NAMES[name])
        return None if value is None else value.decode("latin-1")

    return credentials_of(get, address)


def address_of(transport: asyncio.BaseTransport) -> str:
    """The address of the peer; empty when it is none of the Internet."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


def credential_key(fields: Mapping[bytes, bytes]) -> tuple[bytes | None, ...]:
    """All that `credentials_in` depends on, to be compared with that of the request before."""
    return tuple(map(fields.get, _RAW_NAMES))
