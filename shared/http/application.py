"""The aiohttp application: every route, and what surrounds all of them."""

from collections.abc import Sequence
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from shared.errors import Invalid, TelemetryFlowError
from shared.http.call import Services
from shared.http.client_address import ClientAddress
from shared.http.docs import add_docs
from shared.http.endpoint import Gate, endpoint
from shared.http.idempotency import IdempotentPosts
from shared.http.openapi import openapi
from shared.http.problems import problem_response
from shared.http.request_id import HEADER, request_id_of
from shared.http.routes import Route, Routes
from shared.http.sockets import with_headers_of_subprotocols
from shared.http.throttle import Throttle
from shared.otel.http_middleware import observe

HEADER_BYTES_MAX: Final = 16_384
SECURITY_HEADERS: Final = {
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def build_application(
    services: Services, modules: Sequence[Routes], middlewares: Sequence[Middleware] = ()
) -> web.Application:
    """All routes of *modules*; *middlewares* go around them, and see errors as answers."""
    settings = services.settings
    gate = Gate(
        services=services,
        addresses=ClientAddress(settings.api_trusted_proxies),
        throttle=Throttle(settings.throttle_limit, settings.throttle_ttl),
        sign_in_throttle=Throttle(settings.throttle_auth_limit, settings.throttle_ttl),
        posts=IdempotentPosts(services.database),
    )
    application = web.Application(
        middlewares=[
            with_headers_of_subprotocols,
            observe,
            *[web.middleware(one) for one in middlewares],
            _surround,
        ],
        client_max_size=settings.api_body_bytes_max,
        handler_args={
            "max_line_size": HEADER_BYTES_MAX,
            "max_field_size": HEADER_BYTES_MAX,
            "keepalive_timeout": 75,
        },
    )
    routes = [route for module in modules for route in module.found]
    for route in routes:
        path = full_path(route, settings.api_prefix)
        application.router.add_route(route.method, path, endpoint(route, gate))
    _check_names(routes)
    application.on_response_prepare.append(_without_server)
    add_docs(application, openapi(modules, settings))
    return application


async def _without_server(_request: web.Request, response: web.StreamResponse) -> None:
    """aiohttp tells its version, and that of Python, to everybody."""
    response.headers.pop("Server", None)


def full_path(route: Route, prefix: str) -> str:
    """The path as clients write it."""
    return f"/{prefix.strip('/')}{route.path}" if route.is_prefixed else route.path


def _check_names(routes: Sequence[Route]) -> None:
    names = [route.name for route in routes]
    if twice := {name for name in names if names.count(name) > 1}:
        raise Invalid(f"two handlers are named {', '.join(sorted(twice))}")


@web.middleware
async def _surround(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors become problems, and every answer carries the request's id and the safe headers."""
    request_id = request_id_of(request)
    try:
        response = await handler(request)
    except web.HTTPException as error:
        # Below 400 it is no error: a redirect.
        response = error if error.status < 400 else problem_response(request, error, request_id)
    except TelemetryFlowError as error:
        response = problem_response(request, error, request_id)
    except Exception as error:  # noqa: BLE001 - the outermost edge: logged, and told nothing about
        response = problem_response(request, error, request_id)
    if not response.prepared:
        response.headers[HEADER] = request_id
        for name, text in SECURITY_HEADERS.items():
            response.headers.setdefault(name, text)
    return response
