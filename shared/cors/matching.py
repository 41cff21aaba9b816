"""Which origins may call the API from a browser, and the headers that tell the browser so.

An origin is what browsers send in `Origin`: scheme, host and port, such as `https://example.com` or
`http://localhost:3000`, in lower case, in ASCII, without the scheme's own port. Rules are brought
into that form when they are made; what a request sends is compared as it is.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import idna

from shared.errors import Invalid

ORIGINS_MAX: Final = 100
ORIGIN_CHARACTERS_MAX: Final = 300
HOST_CHARACTERS_MAX: Final = 253
HEADERS_MAX: Final = 100
HEADER_CHARACTERS_MAX: Final = 100
# No browser keeps the answer to a preflight longer than a day.
MAX_AGE_SECONDS_MAX: Final = 86_400
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
METHODS_DEFAULT: Final = ("GET", "POST", "PUT", "DELETE", "PATCH")
HEADERS_DEFAULT: Final = ("Content-Type", "Authorization")
# Answers differ by origin, refusals too: no cache between may mix them up.
VARY: Final = {"Vary": "Origin"}

ANY: Final = "*"
_SUBDOMAINS: Final = "*."
_OWN_PORTS: Final = {"http": 80, "https": 443}
_RULE: Final = re.compile(
    r"(?P<scheme>https?)://(?P<stars>\*\.)?(?P<host>\[[0-9a-f:.]+\]|[^/?#@:\[\]\\*%\s]+)"
    r"(?::(?P<port>[0-9]{1,5}))?",
    # In ASCII alone: to Unicode, a long s is an s.
    re.IGNORECASE | re.ASCII,
)
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
# RFC 9110, a token, without the star: it would mean any header, but only without credentials.
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'+.^_`|~-]+")


@dataclass(frozen=True, slots=True)
class OriginRule:
    """One allowed origin, all subdomains of a host (`https://*.example.com`), or any origin (`*`).

    Subdomains are of any depth, with the same scheme and port; the host itself is not among them.
    *text* is the rule in the form that browsers use.
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """The rule that *text* describes; Invalid if it is not one."""
        if text == ANY:
            return cls(ANY)
        found = None if len(text) > ORIGIN_CHARACTERS_MAX else _RULE.fullmatch(text)
        if found is None:
            raise Invalid(
                "an origin is http(s)://host or http(s)://host:port, without anything behind it; "
                "*. before the host means its subdomains, * alone any origin"
            )
        scheme = found["scheme"].lower()
        stars = found["stars"] or ""
        host = _host_of(found["host"].lower(), has_subdomains=bool(stars))
        return cls(f"{scheme}://{stars}{host}{_port_of(found['port'], scheme)}")

    @property
    def is_any(self) -> bool:
        """Whether every origin matches."""
        return self.text == ANY

    def matches(self, origin: str) -> bool:
        """Whether *origin*, as a browser sends it, is allowed by this rule."""
        if self.is_any or _SUBDOMAINS not in self.text:
            return self.is_any or origin == self.text
        before, behind = self.text.split("*")
        if not (origin.startswith(before) and origin.endswith(behind)):
            return False
        host = origin[len(before) :].partition(":")[0]
        subdomain = origin[len(before) : len(origin) - len(behind)]
        return len(host) <= HOST_CHARACTERS_MAX and _NAME.fullmatch(subdomain) is not None


class CorsRules:
    """What pages of other origins may do: which *origins*, with which *methods* and *headers*.

    *credentials* lets the browser send cookies and read the answer; it needs origins that are
    named. *max_age_seconds* is how long a browser may keep the answer to a preflight. Invalid, with
    the field, if a rule is malformed or too broad.
    """

    def __init__(
        self,
        origins: Sequence[str],
        methods: Sequence[str] = METHODS_DEFAULT,
        headers: Sequence[str] = HEADERS_DEFAULT,
        *,
        credentials: bool = False,
        max_age_seconds: int = MAX_AGE_SECONDS_MAX,
    ) -> None:
        rules = _origin_rules(origins)
        if credentials and any(rule.is_any for rule in rules):
            raise Invalid("with credentials, origins must be named: not *", field="origins")
        if not 0 <= max_age_seconds <= MAX_AGE_SECONDS_MAX:
            raise Invalid(f"max age is between 0 and {MAX_AGE_SECONDS_MAX} seconds", field="maxAge")
        self.origins = tuple(rule.text for rule in rules)
        self.methods = _methods(methods)
        self.headers = _headers(headers)
        self._allows_any = any(rule.is_any for rule in rules)
        self._exact = frozenset(text for text in self.origins if ANY not in text)
        self._subdomains = tuple(rule for rule in rules if _SUBDOMAINS in rule.text)
        self._header_names = frozenset(name.lower() for name in self.headers)
        self._credentials = credentials
        self._max_age_seconds = max_age_seconds

    def answer(
        self, origin: str | None, method: str, requested_headers: str | None = None
    ) -> dict[str, str] | None:
        """The headers for the answer, or None if the request is to be refused.

        For a preflight, *method* and *requested_headers* are those that it asks for (the latter ""
        if it asks for none); for the request itself, *method* is its own and *requested_headers*
        None. Without an origin no page is asking: that is allowed. A refusal should carry VARY.
        """
        if origin is None:
            return dict(VARY)
        if not self._allows(origin) or not self._allows_method(method):
            return None
        answer = VARY | {"Access-Control-Allow-Origin": ANY if self._allows_any else origin}
        if self._credentials:
            answer["Access-Control-Allow-Credentials"] = "true"
        if requested_headers is None:
            return answer
        if not self._allows_headers(requested_headers):
            return None
        return answer | {
            "Access-Control-Allow-Methods": ", ".join(self.methods),
            "Access-Control-Allow-Headers": ", ".join(self.headers),
            "Access-Control-Max-Age": str(self._max_age_seconds),
        }

    def _allows(self, origin: str) -> bool:
        return (
            self._allows_any
            or origin in self._exact
            or any(rule.matches(origin) for rule in self._subdomains)
        )

    def _allows_method(self, method: str) -> bool:
        # HEAD is GET without the body, and browsers send it without asking.
        return method in self.methods or (method == "HEAD" and "GET" in self.methods)

    def _allows_headers(self, requested: str) -> bool:
        names = (name.strip().lower() for name in requested.split(","))
        return all(name in self._header_names for name in names if name)


def _origin_rules(origins: Sequence[str]) -> tuple[OriginRule, ...]:
    if not 0 < len(origins) <= ORIGINS_MAX:
        raise Invalid(f"there are 1 to {ORIGINS_MAX} origins", field="origins")
    rules: dict[OriginRule, None] = {}
    for place, text in enumerate(origins):
        try:
            rules[OriginRule.parse(text)] = None
        except Invalid as error:
            raise Invalid(str(error), field=f"origins.{place}") from error
    return tuple(rules)


def _methods(methods: Sequence[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(method.upper() for method in methods))
    if not names or not set(names) <= set(METHODS):
        raise Invalid(f"methods are some of {', '.join(METHODS)}", field="methods")
    return names


def _headers(headers: Sequence[str]) -> tuple[str, ...]:
    if len(headers) > HEADERS_MAX:
        raise Invalid(f"there are at most {HEADERS_MAX} headers", field="headers")
    for place, name in enumerate(headers):
        if len(name) > HEADER_CHARACTERS_MAX or not _HEADER.fullmatch(name):
            raise Invalid("this is no name of a header", field=f"headers.{place}")
    return tuple(headers)


def _port_of(text: str | None, scheme: str) -> str:
    if text is None or int(text) == _OWN_PORTS[scheme]:
        return ""
    if not 0 < int(text) < 1 << 16:
        raise Invalid("a port is between 1 and 65535")
    return f":{int(text)}"


def _host_of(text: str, *, has_subdomains: bool) -> str:
    """A host in the form that browsers use."""
    if text.startswith("[") or _NUMBER.fullmatch(text.rpartition(".")[2]):
        if has_subdomains:
            raise Invalid("an address has no subdomains")
        return _address_of(text)
    host = text
    if not text.isascii():
        try:
            host = idna.encode(text, uts46=True).decode()
        except UnicodeError as error:  # every error of idna is one
            raise Invalid("this is no name of a host") from error
    if len(host) > HOST_CHARACTERS_MAX or not _NAME.fullmatch(host):
        raise Invalid("this is no name of a host")
    if has_subdomains and "." not in host and host != "localhost":
        raise Invalid("a top-level domain is too broad: name a domain below it")
    return host


def _address_of(text: str) -> str:
    try:
        if text.startswith("["):
            return f"[{ipaddress.IPv6Address(text[1:-1])}]"
        return str(ipaddress.IPv4Address(text))
    except ValueError as error:
        raise Invalid("this is no address") from error
