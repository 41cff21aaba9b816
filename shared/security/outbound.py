"""The one way out: HTTP requests to addresses that users name (webhooks, monitors, sign-on).

A name is looked up once, each of its addresses is checked, and the connection goes to a checked
one: a name server that answers differently the second time is not asked a second time. Redirects
are followed by hand, each hop checked like the first.
"""

import asyncio
import errno
import ipaddress
import re
import socket
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from shared.errors import Invalid, Unavailable
from shared.security.addresses import AddressPolicy, CheckedResolver, SystemLookup

PORTS: Final = frozenset({80, 443, 8080, 8443})
URL_CHARACTERS_MAX: Final = 2_048
HEADERS_MAX: Final = 64
HEADER_CHARACTERS_MAX: Final = 4_096
REDIRECTS_MAX: Final = 3
CONNECTIONS_MAX: Final = 100
CONNECTIONS_MAX_EACH_HOST: Final = 16
# One answer is kept for a burst of requests, not longer: its owner may move.
NAME_SECONDS: Final = 10
NAMES_MAX: Final = 1_000

_METHODS: Final = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_REDIRECTS: Final = {301, 302, 303, 307, 308}
# These keep method and body; the others turn into a GET.
_REDIRECTS_WITH_BODY: Final = {307, 308}
# What a request is framed and routed by is not for callers to say.
_OWN_HEADERS: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# What another origin is told too; the rest may be credentials.
_HARMLESS_HEADERS: Final = frozenset({"accept", "content-type", "user-agent"})
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
# Browsers and systems read a last label like this as a number of an address: 127.1, 0x7f000001.
_NUMERIC_LABEL: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back from *url*, the last of the redirects; *body* ends early if *is_truncated*.

    The body is as sent: nothing is asked to be compressed and nothing is decompressed.
    """

    url: str
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    is_truncated: bool


@dataclass(frozen=True, kw_only=True)
class _Hop:
    method: str
    url: URL
    headers: CIMultiDict[str]
    body: bytes | None


class OutboundClient:
    """Requests to public addresses on *ports*, without cookies, proxies or credentials of its own.

    *allow_private* opens the installation's own networks too, *networks_denied* (CIDR) closes more;
    see AddressPolicy. *seconds_max* is for a whole request with its redirects, *body_bytes_max* for
    the part of a reply's body that is read. Made within a running event loop; close it.
    """

    def __init__(
        self,
        allow_private: bool,
        *,
        ports: Collection[int] = PORTS,
        networks_denied: Collection[str] = (),
        seconds_max: float = 10.0,
        body_bytes_max: int = 1 << 20,
        lookup: AbstractResolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._policy = AddressPolicy(
            allow_private=allow_private, networks_denied=tuple(networks_denied)
        )
        self._ports = frozenset(ports)
        self._seconds_max = seconds_max
        self._body_bytes_max = body_bytes_max
        self._resolver = CheckedResolver(self._policy, lookup or SystemLookup())
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=self._resolver,
                socket_factory=self._open_socket,
                ttl_dns_cache=NAME_SECONDS,
                dns_cache_max_size=NAMES_MAX,
                limit=CONNECTIONS_MAX,
                limit_per_host=CONNECTIONS_MAX_EACH_HOST,
                force_close=True,
                ssl=ssl_context or True,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "TelemetryFlow", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            trust_env=False,
        )

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        redirects_max: int = REDIRECTS_MAX,
    ) -> Reply:
        """Send a request, and the next one as long as the reply is a redirect.

        After *redirects_max* of them (3 at most) the reply is handed out as it is. To another
        origin none of *headers* is sent that could hold credentials. Invalid if the request, or a
        hop of it, is not allowed: it never will be. Unavailable if there is no reply in time.
        """
        hop = _Hop(
            method=_checked_method(method),
            url=self.checked_url(url),
            headers=_checked_headers(headers or {}),
            body=body,
        )
        try:
            async with asyncio.timeout(self._seconds_max):
                for _ in range(min(redirects_max, REDIRECTS_MAX)):
                    reply = await self._send(hop)
                    location = reply.headers.get("Location")
                    if reply.status not in _REDIRECTS or not location:
                        return reply
                    hop = self._next_hop(hop, reply.status, location)
                return await self._send(hop)
        except TimeoutError as error:
            raise Unavailable(f"no reply within {self._seconds_max:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"the request failed: {str(error)[:200]}") from error

    def checked_url(self, text: str) -> URL:
        """*text* as a URL that may be asked; Invalid if its form alone refuses it.

        Whether a name leads to allowed addresses is known when it is looked up.
        """
        if len(text) > URL_CHARACTERS_MAX or not text.isprintable() or set(text) & {" ", "\\"}:
            raise _refused("the URL has characters that are not allowed, or too many")
        try:
            url = URL(text)
            port = url.port
        except ValueError as error:
            raise _refused("this is no URL") from error
        if url.scheme not in ("http", "https"):
            raise _refused("use a URL that begins with http:// or https://")
        if "@" in url.raw_authority:
            raise _refused("take the user name and the password out of the URL")
        if port not in self._ports:
            raise _refused(f"use one of the ports {', '.join(map(str, sorted(self._ports)))}")
        self._require_host(url.raw_host or "")
        return url.with_fragment(None)

    async def close(self) -> None:
        """End all requests and connections."""
        await self._session.close()
        await self._resolver.close()

    def _require_host(self, host: str) -> None:
        if not host.strip(".") or "%" in host:
            raise _refused("the URL has no host")
        try:
            ipaddress.ip_address(host)
        except ValueError:
            if _NUMERIC_LABEL.fullmatch(host.rstrip(".").rpartition(".")[2]):
                raise _refused("write the address as four numbers with dots") from None
        else:
            self._policy.require(host)

    def _open_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _name, peer = address
        # Whatever way an address came here, this is where it would be connected to.
        try:
            self._policy.require(str(peer[0]))
        except Invalid as error:
            raise PermissionError(errno.EACCES, str(error)) from error
        return socket.socket(family, kind, protocol)

    async def _send(self, hop: _Hop) -> Reply:
        async with self._session.request(
            hop.method, hop.url, headers=hop.headers, data=hop.body, allow_redirects=False
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > self._body_bytes_max:
                    response.close()
                    break
            return Reply(
                url=str(hop.url),
                status=response.status,
                headers=response.headers,
                body=bytes(body[: self._body_bytes_max]),
                is_truncated=len(body) > self._body_bytes_max,
            )

    def _next_hop(self, hop: _Hop, status: int, location: str) -> _Hop:
        try:
            target = hop.url.join(URL(location))
        except ValueError as error:
            raise _refused("a redirect leads to no URL") from error
        url = self.checked_url(str(target))
        if hop.url.scheme == "https" and url.scheme != "https":
            raise _refused("a redirect leads from https to http")
        changes: dict[str, Any] = {"url": url}
        if status not in _REDIRECTS_WITH_BODY and hop.method != "HEAD":
            changes |= {"method": "GET", "body": None}
        if url.origin() != hop.url.origin():
            changes["headers"] = CIMultiDict(
                (name, value)
                for name, value in hop.headers.items()
                if name.lower() in _HARMLESS_HEADERS
            )
        return replace(hop, **changes)


def _refused(reason: str) -> Invalid:
    return Invalid(reason, field="url")


def _checked_method(method: str) -> str:
    if method not in _METHODS:
        raise Invalid(f"the method is one of {', '.join(sorted(_METHODS))}", field="method")
    return method


def _checked_headers(headers: Mapping[str, str]) -> CIMultiDict[str]:
    if len(headers) > HEADERS_MAX:
        raise Invalid(f"there are more than {HEADERS_MAX} headers", field="headers")
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN_HEADERS:
            raise Invalid("a header has a name that is not allowed", field="headers")
        if len(value) > HEADER_CHARACTERS_MAX or not value.isprintable():
            raise Invalid(f"the header {name} has a value that is not allowed", field="headers")
    return CIMultiDict(headers)
