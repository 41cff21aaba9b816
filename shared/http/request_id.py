"""The id of a request: the caller's own when it is fit for logs, else a new one."""

import re
from typing import Final
from uuid import uuid4

from aiohttp import web

from shared.logger.redaction import redacted

HEADER: Final = "X-Request-Id"
_KEY: Final = web.RequestKey("request_id", str)
_FIT: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def request_id_of(request: web.Request) -> str:
    """The same for the whole request."""
    known = request.get(_KEY)
    if known is None:
        given = request.headers.get(HEADER, "")
        is_fit = _FIT.fullmatch(given) and redacted(given) == given
        known = given if is_fit else uuid4().hex
        request[_KEY] = known
    return known
