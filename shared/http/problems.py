"""Errors as answers: one table from our errors to statuses, one shape (RFC 9457)."""

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import web
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from shared.errors import (
    Conflict,
    Forbidden,
    Invalid,
    KeyReused,
    NotFound,
    RateLimited,
    Stale,
    TelemetryFlowError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from shared.http.models import FieldProblem, Problem
from shared.logger.redaction import redacted

PROBLEM_TYPE: Final = "application/problem+json"
FIELD_PROBLEMS_MAX: Final = 50

# The first class that fits decides: the more special ones come first.
STATUS_OF: Final[tuple[tuple[type[TelemetryFlowError], int], ...]] = (
    (TooLarge, 413),
    (Unsupported, 415),
    (KeyReused, 422),
    (Invalid, 400),
    (Unauthenticated, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (Stale, 412),
    (Conflict, 409),
    (RateLimited, 429),
    (Unavailable, 503),
)

logger = logging.getLogger(__name__)


class InvalidFields(Invalid):
    """A request whose fields are wrong, each with its reason."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        super().__init__("some fields are not right: see errors")
        self.problems = problems

    @classmethod
    def of(cls, error: ValidationError, *within: str) -> "InvalidFields":
        """From pydantic's findings, without the values: they may be secrets.

        *within*: the field whose content was looked at.
        """
        # Not error.json(): it fails on input that is not UTF-8.
        found = error.errors(include_url=False, include_input=False)
        return cls(
            [
                FieldProblem(
                    field=".".join(str(part) for part in (*within, *one["loc"], *tag)),
                    message=message,
                )
                for one in found[:FIELD_PROBLEMS_MAX]
                for tag, message in [_told(one)]
            ]
        )


def _told(one: ErrorDetails) -> tuple[tuple[str, ...], str]:
    """A finding in words; of a field that says which of several models it is, also its name."""
    if one["type"] not in ("union_tag_not_found", "union_tag_invalid"):
        return (), _message(one["type"], one["msg"])
    tag = (one["ctx"]["discriminator"].strip("'"),)
    if one["type"] == "union_tag_not_found":
        return tag, "Field required"
    return tag, "Input should be " + " or ".join(one["ctx"]["expected_tags"].rsplit(", ", 1))


def _message(kind: str, told: str) -> str:
    """What pydantic tells, in words of who asked."""
    if kind == "extra_forbidden":
        return "there is no such field"
    # Of a text that is checked by a function too, pydantic does not know that it is one.
    if kind in ("too_long", "too_short") and told.startswith("Value "):
        return re.sub(r" items? after validation, not \d+$", " characters", told)
    return told.removeprefix("Value error, ")


def problem_response(request: web.Request, error: BaseException, request_id: str) -> web.Response:
    """The answer to *error*; what was not raised on purpose tells the client nothing."""
    status, headers, detail, fields = _explained(error, request)
    problem = Problem(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=redacted(request.path),
        request_id=request_id,
        errors=fields,
    )
    return web.Response(
        status=status,
        headers=headers,
        content_type=PROBLEM_TYPE,
        body=problem.model_dump_json(by_alias=True).encode(),
    )


def _explained(
    error: BaseException, request: web.Request
) -> tuple[int, Mapping[str, str], str, list[FieldProblem]]:
    known = next((status for kind, status in STATUS_OF if isinstance(error, kind)), None)
    if known is not None and isinstance(error, TelemetryFlowError):
        return known, _headers(error), str(error), _fields(error)
    if isinstance(error, web.HTTPException) and error.status >= 400:
        allow = error.headers.get("Allow")
        headers = {"Allow": allow} if allow else {}
        return error.status, headers, _text_of(error), []
    logger.error("%s %s failed", request.method, request.path, exc_info=error)
    detail = "an unexpected error: try again, and ask for help with the request id if it stays"
    return 500, {}, detail, []


def _headers(error: TelemetryFlowError) -> dict[str, str]:
    if isinstance(error, RateLimited | Unavailable):
        return {"Retry-After": str(max(1, round(error.retry_after_seconds)))}
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": 'Bearer realm="telemetryflow"'}
    return {}


def _fields(error: TelemetryFlowError) -> list[FieldProblem]:
    if isinstance(error, InvalidFields):
        return error.problems
    if isinstance(error, Invalid) and error.field:
        return [FieldProblem(field=error.field, message=str(error))]
    return []


def _text_of(error: web.HTTPException) -> str:
    match error.status:
        case 404:
            return "no such path: the API is described at /docs"
        case 405:
            return "this path does not take that method: see the header Allow"
        case 413:
            return "the body is too large"
        case _:
            return "the request cannot be read"
