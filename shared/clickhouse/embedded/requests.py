"""A request, taken apart: who asks, what is asked, with which settings."""

import base64
import binascii
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from aiohttp import BodyPartReader, web

from shared.clickhouse.embedded.replies import refusal

# What a statement may use unless it says otherwise; the engine shares the machine.
DEFAULT_SETTINGS: Final = {"max_memory_usage": "8000000000", "max_execution_time": "600"}
SESSION_SECONDS_DEFAULT: Final = 60
SESSION_SECONDS_MAX: Final = 3600
# As ClickHouse has them: http_max_field_value_size, and far fewer than http_max_fields.
FORM_FIELD_BYTES_MAX: Final = 131_072
FORM_FIELDS_MAX: Final = 1_000
_NOT_SETTINGS: Final = frozenset(
    (
        *("query", "database", "default_format", "user", "password", "query_id", "session_id"),
        *("session_timeout", "session_check", "compress", "decompress", "quota_key", "role"),
        *("client_protocol_version", "wait_end_of_query", "buffer_size", "stacktrace"),
        "http_make_head_request",
    )
)


@dataclass(frozen=True, slots=True)
class Call:
    """One statement, and how it is to be carried out."""

    request: web.Request
    comment: str
    query_id: str
    statement: str
    parameters: Mapping[str, str]
    settings: Mapping[str, str]

    @property
    def default_format(self) -> str:
        """The format for a query that names none."""
        given = self.request.query.get("default_format")
        return str(given or self.request.headers.get("X-ClickHouse-Format", "TabSeparated"))

    @property
    def database(self) -> str:
        """The database for unqualified names, '' when the request does not say."""
        headers = self.request.headers
        return str(self.request.query.get("database") or headers.get("X-ClickHouse-Database", ""))

    @property
    def readonly(self) -> str:
        """ClickHouse's setting of that name: what comes by GET changes nothing."""
        given = self.settings.get("readonly", "0")
        return "2" if given == "0" and self.request.method != "POST" else given

    @property
    def wants_compression(self) -> bool:
        """Whether the answer may be compressed."""
        return self.settings.get("enable_http_compression") in ("1", "true")


async def form_of(request: web.Request) -> dict[str, str]:
    """The fields of a form (multipart/form-data): what is too long for a URL comes as one."""
    fields: dict[str, str] = {}
    if request.content_type != "multipart/form-data":
        return fields
    if "Content-Encoding" in request.headers:
        raise refusal("NOT_IMPLEMENTED", "send a form without Content-Encoding")
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or not part.name or part.filename is not None:
                raise refusal("NOT_IMPLEMENTED", "external tables: make one and insert into it")
            if len(fields) >= FORM_FIELDS_MAX:
                raise refusal("QUERY_IS_TOO_LARGE", f"more than {FORM_FIELDS_MAX} fields")
            fields[part.name] = (await _content_of(part)).decode(errors="replace")
    except ValueError as error:
        raise refusal("BAD_ARGUMENTS", f"the form cannot be read: {error}") from None
    return fields


async def _content_of(part: BodyPartReader) -> bytes:
    content = bytearray()
    while piece := await part.read_chunk():
        content += piece
        if len(content) > FORM_FIELD_BYTES_MAX:
            raise refusal(
                "QUERY_IS_TOO_LARGE",
                f"a field of a form has at most {FORM_FIELD_BYTES_MAX} bytes",
            )
    return bytes(content)


def settings_of(given: Mapping[str, str]) -> dict[str, str]:
    """All parameters that are settings."""
    return {
        name: text
        for name, text in given.items()
        if name not in _NOT_SETTINGS and not name.startswith("param_")
    }


def parameters_of(given: Mapping[str, str]) -> dict[str, str]:
    """The values for `{name:Type}` in the statement, escaped as in TabSeparated."""
    return {
        name.removeprefix("param_"): text
        for name, text in given.items()
        if name.startswith("param_")
    }


def session_seconds(request: web.Request) -> float:
    """How long a session is kept after its last request."""
    text = request.query.get("session_timeout", str(SESSION_SECONDS_DEFAULT))
    try:
        return min(max(float(text), 0.0), SESSION_SECONDS_MAX)
    except ValueError:
        raise refusal(
            "INVALID_SESSION_TIMEOUT", f"session_timeout is a number of seconds, not {text!r}"
        ) from None


def credentials(request: web.Request) -> tuple[str, str]:
    """User and password, from wherever ClickHouse takes them."""
    header = request.headers.get("Authorization", "")
    if header.startswith("Basic "):
        try:
            text = base64.b64decode(header[6:], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        user, _colon, password = text.partition(":")
        return user, password
    user = request.headers.get("X-ClickHouse-User") or request.query.get("user") or "default"
    password = request.headers.get("X-ClickHouse-Key") or request.query.get("password") or ""
    return user, password


def is_cross_site(request: web.Request) -> bool:
    """Whether a web page of another site made a browser send this."""
    origin = request.headers.get("Origin")
    return bool(origin) and urlsplit(str(origin)).netloc != request.host


def is_for_this_machine(request: web.Request) -> bool:
    """Whether Host names the loopback interface; else a name was bent towards it."""
    host = urlsplit(f"//{request.host}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
