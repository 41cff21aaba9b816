"""The OpenAPI 3.1 document, made from the declarations of the routes."""

import inspect
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from shared.http.models import Problem
from shared.http.problems import PROBLEM_TYPE
from shared.http.routes import Route, Routes
from shared.http.sockets import HEADER as SUBPROTOCOLS
from shared.http.sockets import PROTOCOL
from shared.messaging.commands import ANYBODY, SIGNED_IN
from shared.settings import Settings

REFERENCE: Final = "#/components/schemas/{model}"
_LIVE_HEADERS: Final = (
    {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "id of the last event of a stream that broke: what came since is first",
        "schema": {"type": "string"},
    },
    {
        "name": SUBPROTOCOLS,
        "in": "header",
        "description": (
            f"of browsers, which send no other header with a WebSocket: `{PROTOCOL}`, "
            "`bearer.<accessToken>` and maybe `tenant.<id>`"
        ),
        "schema": {"type": "string"},
    },
)
_MEANING: Final = {
    400: "The request is not right: `errors` says which fields, and why.",
    401: "The access token or API key is missing, expired or revoked: sign in, or refresh it.",
    403: "You are known, but this needs a permission that you do not have.",
    404: "No such thing, or none that you may see.",
    409: "It already exists, or its state does not allow this.",
    412: "It changed since you read it: read it again, then edit.",
    413: "The body is too large.",
    415: "Send JSON, not compressed.",
    422: "The Idempotency-Key was used for another request.",
    429: "Too many requests: wait as long as `Retry-After` says.",
    500: "An unexpected error.",
    503: "Something that is needed is down: try again as `Retry-After` says.",
}


def openapi(modules: Sequence[Routes], settings: Settings) -> dict[str, Any]:
    """The document of all routes of *modules*."""
    routes = [route for module in modules for route in module.found]
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        prefix = f"/{settings.api_prefix.strip('/')}" if route.is_prefixed else ""
        paths.setdefault(prefix + route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "TelemetryFlow API",
            "version": version("telemetryflow"),
            "description": (
                "Sign in with `POST /auth/login`, then send `Authorization: Bearer <accessToken>`. "
                "Telemetry is read with API keys too. "
                "`X-Tenant-Id` chooses another tenant of yours. "
                "Errors are `application/problem+json`. Lists are pages; edits heed `If-Match`; a "
                "`POST` with an `Idempotency-Key` is carried out once, however often it is sent."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": one.tag, "description": one.description} for one in modules],
        "paths": paths,
        "components": {
            "schemas": _schemas(routes),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "apiKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-API-Key",
                    "description": "`<key id>:<secret>`; `Authorization: Bearer` takes it too",
                },
            },
        },
    }


def _schemas(routes: Sequence[Route]) -> dict[str, Any]:
    inputs = {route.body for route in routes if route.body}
    outputs = {one for route in routes for one in (route.answer, route.item) if one} | {Problem}
    wanted: list[Any] = [(model, "validation") for model in inputs]
    wanted += [(model, "serialization") for model in outputs]
    wanted.sort(key=lambda pair: pair[0].__name__)
    _, document = models_json_schema(wanted, by_alias=True, ref_template=REFERENCE)
    schemas: dict[str, Any] = document.get("$defs", {})
    return schemas


def _operation(route: Route) -> dict[str, Any]:
    text = inspect.getdoc(route.handler) or ""
    summary, _, rest = text.partition("\n")
    operation: dict[str, Any] = {
        "operationId": route.name,
        "tags": [route.tag],
        "summary": summary.rstrip("."),
        "description": "\n\n".join(part for part in (rest.strip(), _permission(route)) if part),
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_headers(route)],
        "responses": _responses(route),
        "security": _security(route),
        "x-permission": route.permission,
    }
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _reference(route.body)}},
        }
    return operation


def _security(route: Route) -> list[dict[str, list[str]]]:
    if route.permission == ANYBODY:
        return []
    return [{"bearer": []}, {"apiKey": []}] if route.is_open_to_keys else [{"bearer": []}]


def _permission(route: Route) -> str:
    match route.permission:
        case permission if permission == ANYBODY:
            return "Open to everybody."
        case permission if permission == SIGNED_IN:
            return "For everybody who has signed in."
        case permission:
            keys = " of a person or an API key" if route.is_open_to_keys else ""
            return f"Needs the permission `{permission}`{keys}."


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": _path_schema(name),
        }
        for name in route.parameters
    ]


def _path_schema(name: str) -> dict[str, Any]:
    if name == "id" or name.endswith("_id"):
        return {"type": "string", "format": "uuid"}
    return {"type": "string", "minLength": 1, "maxLength": 200}


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = route.query.model_json_schema(by_alias=True)
    parameters = []
    for name, shape in schema.get("properties", {}).items():
        described = {key: value for key, value in shape.items() if key != "title"}
        parameters.append(
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", []),
                "description": described.pop("description", ""),
                "schema": _inlined(described, schema.get("$defs", {})),
            }
        )
    return parameters


def _inlined(shape: Any, definitions: dict[str, Any]) -> Any:
    """*shape* with the definitions that it refers to put in place."""
    if isinstance(shape, dict):
        if "$ref" in shape:
            return _inlined(definitions[shape["$ref"].rpartition("/")[2]], definitions)
        return {key: _inlined(value, definitions) for key, value in shape.items()}
    if isinstance(shape, list):
        return [_inlined(value, definitions) for value in shape]
    return shape


def _headers(route: Route) -> list[dict[str, Any]]:
    headers = [*_LIVE_HEADERS] if route.is_live else []
    if route.is_versioned and route.method != "GET":
        headers.append(
            {
                "name": "If-Match",
                "in": "header",
                "description": "ETag of what was read; 412 when it changed since",
                "schema": {"type": "string", "examples": ['"3"']},
            }
        )
    if route.method == "POST" and route.permission != ANYBODY:
        headers.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "a text of your choice: the same request is carried out once",
                "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
            }
        )
    return headers


def _responses(route: Route) -> dict[str, Any]:
    success: dict[str, Any] = {"description": "Done."}
    if route.answer is not None:
        success["content"] = {route.content_type: {"schema": _reference(route.answer)}}
    elif route.content_type != "application/json":
        success["content"] = {route.content_type: {"schema": {"type": "string"}}}
    for other in route.other_content_types:
        success["content"][other] = {"schema": {"type": "string"}}
    if route.item is not None:
        success["content"][route.content_type]["x-item-schema"] = _reference(route.item)
    headers = dict(route.answer_headers)
    if route.is_versioned:
        headers["ETag"] = "the version, for `If-Match`"
    if headers:
        success["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in headers.items()
        }
    responses = {str(route.status): success}
    if route.is_live:
        responses["101"] = {"description": "A WebSocket, for who asks to upgrade to one."}
    if route.is_versioned and route.method == "GET":
        responses["304"] = {"description": "Not changed since `If-None-Match`."}
    for status in sorted(_error_statuses(route)):
        responses[str(status)] = {
            "description": _MEANING[status],
            "content": {PROBLEM_TYPE: {"schema": _reference(Problem)}},
        }
    return responses


def _error_statuses(route: Route) -> set[int]:
    statuses = {400, 429, 500, 503, *route.errors}
    if route.permission != ANYBODY:
        statuses |= {401, 403}
    if route.parameters:
        statuses.add(404)
    if route.body is not None:
        statuses |= {413, 415}
    if route.method == "POST" and route.permission != ANYBODY:
        statuses |= {409, 422}
    if route.is_versioned and route.method != "GET":
        statuses |= {409, 412}
    return statuses


def _reference(model: type[BaseModel]) -> dict[str, str]:
    name = model.__name__.replace("[", "_").replace("]", "_")
    return {"$ref": REFERENCE.format(model=name)}
