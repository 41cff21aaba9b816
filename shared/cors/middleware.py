"""CORS for browsers: pages of the origins in CORS_ORIGIN may call the API."""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from shared.cors.matching import CorsRules
from shared.errors import Forbidden
from shared.http.problems import problem_response
from shared.http.request_id import request_id_of
from shared.settings import Settings

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "X-Tenant-Id")
EXPOSED = "ETag, Retry-After, X-Request-Id, X-RateLimit-Remaining"
PREFLIGHT_SECONDS = 86_400


def cors_middleware(settings: Settings) -> Middleware:
    """Adds the headers for allowed origins, and answers their preflight requests.

    Tokens travel in a header, never in a cookie, so that credentials are not asked for.
    """
    origins = [one.strip() for one in settings.cors_origin.split(",") if one.strip()]
    rules = None
    if origins:
        rules = CorsRules(
            origins, METHODS, HEADERS, credentials=False, max_age_seconds=PREFLIGHT_SECONDS
        )

    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if origin is None:
            return await handler(request)
        wanted = request.headers.get("Access-Control-Request-Method")
        if request.method == "OPTIONS" and wanted is not None:
            asked = request.headers.get("Access-Control-Request-Headers", "")
            allowed = rules.answer(origin, wanted, asked) if rules else None
            if allowed is None:
                refusal = Forbidden("pages of this origin may not call the API: see CORS_ORIGIN")
                return problem_response(request, refusal, request_id_of(request))
            return web.Response(status=204, headers=allowed)
        response = await handler(request)
        headers = rules.answer(origin, request.method) if rules else None
        # Without them the browser keeps the answer from the page; others do not care.
        if headers is not None and not response.prepared:
            response.headers.update(headers)
            response.headers["Access-Control-Expose-Headers"] = EXPOSED
        return response

    return answer
