"""What happens to every call, in order: who, how often, whether, what, and then the handler."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from aiohttp import web
from pydantic import BaseModel, ValidationError

from shared.caller import NOBODY, Caller, ForeignTenant, acting_as
from shared.errors import (
    Forbidden,
    Invalid,
    TelemetryFlowError,
    TooLarge,
    Unauthenticated,
    Unsupported,
)
from shared.http.call import Answer, Call, Services
from shared.http.client_address import ClientAddress
from shared.http.idempotency import IdempotentPosts
from shared.http.models import Editable, FieldProblem, Query
from shared.http.problems import InvalidFields
from shared.http.refusals import REFUSALS, Refusal
from shared.http.request_id import request_id_of
from shared.http.routes import Route
from shared.http.throttle import Allowance, Throttle
from shared.messaging.commands import ANYBODY, SIGNED_IN
from shared.security.credentials import KEY_HEADERS

# A body that does not arrive in that time is given up, so that slow clients hold nothing.
BODY_SECONDS_MAX: Final = 30
USER_AGENT_CHARACTERS_MAX: Final = 512
# Who calls, for what surrounds the endpoints; absent until that is known.
CALLER: Final = web.RequestKey("caller", Caller)


@dataclass(frozen=True)
class Gate:
    """What guards every endpoint."""

    services: Services
    addresses: ClientAddress
    throttle: Throttle
    sign_in_throttle: Throttle
    posts: IdempotentPosts


def endpoint(route: Route, gate: Gate) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The aiohttp handler of *route*."""

    async def serve(request: web.Request) -> web.StreamResponse:
        try:
            return await answer(request)
        except REFUSALS as error:
            if by := _refused(request, gate.addresses.of(request), error):
                await gate.services.refused(Refusal(error, by, route.method, route.path))
            raise

    async def answer(request: web.Request) -> web.StreamResponse:
        address = gate.addresses.of(request)
        allowance = gate.sign_in_throttle.take(f"address {address}") if route.is_sign_in else None
        try:
            caller = await _caller(route, request, gate, address)
        except Unauthenticated:
            # Who guesses tokens is counted by address.
            gate.throttle.take(f"address {address}")
            raise
        request[CALLER] = caller
        with acting_as(caller):
            if allowance is None or caller.kind != NOBODY.kind:
                allowance = gate.throttle.take(_counted_as(caller))
            _permit(route, caller)
            body = await _body(route, request, gate.services.settings.api_body_bytes_max)
            arguments = _arguments(route, request, body)
            call = Call(request, caller, gate.services)

            async def handle() -> web.StreamResponse:
                return _answer(route, request, await route.handler(call, *arguments))

            if route.method == "POST" and "Idempotency-Key" in request.headers:
                owner = caller.user_id or caller.session_id
                response = await gate.posts.once(
                    request, owner, body, handle, is_kept=not route.has_secret
                )
            else:
                response = await handle()
        _tell_allowance(response, allowance)
        return response

    serve.__name__ = route.name
    return serve


async def _caller(route: Route, request: web.Request, gate: Gate, address: str) -> Caller:
    caller = NOBODY
    if route.permission != ANYBODY:
        caller = await gate.services.authenticate(request)
    return _from_where(caller, request, address)


def _from_where(caller: Caller, request: web.Request, address: str) -> Caller:
    return replace(
        caller,
        request_id=request_id_of(request),
        ip_address=address,
        user_agent=request.headers.get("User-Agent", "")[:USER_AGENT_CHARACTERS_MAX],
    )


def _refused(request: web.Request, address: str, error: TelemetryFlowError) -> Caller | None:
    """Who was refused, when that is worth telling: not who sent no token, or failed to sign in."""
    known = request.get(CALLER)
    if isinstance(error, Unauthenticated):
        # Failed sign-ins are events of their own.
        sent = ("Authorization", *KEY_HEADERS)
        is_told = known is None and any(name in request.headers for name in sent)
        return _from_where(NOBODY, request, address) if is_told else None
    by = error.by if isinstance(error, ForeignTenant) else known or NOBODY
    return _from_where(by, request, address)


def _counted_as(caller: Caller) -> str:
    if caller.user_id is not None:
        return f"user {caller.user_id}"
    return f"key {caller.key_id}" if caller.key_id else f"address {caller.ip_address}"


def _permit(route: Route, caller: Caller) -> None:
    if route.permission == ANYBODY:
        return
    if caller.unsettled and not route.is_open_to_unsettled:
        raise Forbidden(caller.unsettled)
    if caller.key_id and not route.is_open_to_keys:
        raise Forbidden("this is for people: API keys send telemetry and read it")
    if route.permission != SIGNED_IN:
        caller.require(route.permission)


async def _body(route: Route, request: web.Request, bytes_max: int) -> bytes:
    """The whole body, within limits of size and time; of a route without a body, nothing."""
    if route.body is None:
        if request.body_exists and (request.content_length or 0) > 0:
            await _read(request, bytes_max)
        return b""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Unsupported("send the body without Content-Encoding")
    if request.content_type != "application/json":
        raise Unsupported("send the body as Content-Type: application/json")
    return await _read(request, bytes_max)


async def _read(request: web.Request, bytes_max: int) -> bytes:
    if (request.content_length or 0) > bytes_max:
        raise TooLarge(f"the body is larger than {bytes_max} bytes")
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise TooLarge(f"the body is larger than {bytes_max} bytes") from None
    except TimeoutError:
        raise Invalid(f"the body did not arrive within {BODY_SECONDS_MAX} s") from None


def _arguments(route: Route, request: web.Request, body: bytes) -> list[Any]:
    arguments: list[Any] = []
    try:
        if route.body is not None:
            arguments.append(route.body.model_validate_json(body, strict=True))
        if route.query is not None:
            arguments.append(_query(route.query, request))
        elif request.query:
            raise InvalidFields(
                [FieldProblem(field=name, message="unknown") for name in request.query]
            )
    except ValidationError as error:
        raise InvalidFields.of(error) from None
    return arguments


def _query(model: type[Query], request: web.Request) -> Query:
    if twice := [name for name in request.query if len(request.query.getall(name)) > 1]:
        raise InvalidFields(
            [FieldProblem(field=name, message="given more than once") for name in set(twice)]
        )
    # An empty parameter (?search=) is one that a form left out.
    return model.model_validate({name: text for name, text in request.query.items() if text})


def _answer(route: Route, request: web.Request, result: Any) -> web.StreamResponse:
    if isinstance(result, web.StreamResponse):
        return result
    answer = result if isinstance(result, Answer) else Answer(result)
    headers = {"Cache-Control": "no-store", **answer.headers}
    status = answer.status or route.status
    if isinstance(answer.body, Editable) and route.is_versioned:
        headers["ETag"] = f'"{answer.body.version}"'
        if request.method == "GET" and request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
    if answer.body is None:
        return web.Response(status=204 if status == 200 else status, headers=headers)
    if isinstance(answer.body, BaseModel):
        data = answer.body.model_dump_json(by_alias=True).encode()
        return web.Response(
            status=status, headers=headers, body=data, content_type="application/json"
        )
    charset = "utf-8" if route.content_type.startswith("text/") else None
    return web.Response(
        status=status,
        headers=headers,
        body=answer.body,
        content_type=route.content_type,
        charset=charset,
    )


def _tell_allowance(response: web.StreamResponse, allowance: Allowance) -> None:
    if not response.prepared:
        response.headers.update(allowance.headers())
