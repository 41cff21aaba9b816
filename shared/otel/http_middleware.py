"""One span, one measurement and one log line for every request of the API.

Names are those of OpenTelemetry's semantic conventions for HTTP servers.
"""

import logging
import time
from dataclasses import replace
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler
from opentelemetry import metrics, trace
from opentelemetry.propagate import extract
from opentelemetry.trace import SpanKind, Status, StatusCode

from shared.caller import NOBODY, acting_as
from shared.http.endpoint import CALLER
from shared.http.request_id import request_id_of

# Asked for all the time, and nobody wants to read about it.
QUIET: Final = frozenset({"/health"})
USER_AGENT_CHARACTERS_MAX: Final = 200

logger = logging.getLogger(__name__)
_tracer = trace.get_tracer("telemetryflow.http")
_seconds = metrics.get_meter("telemetryflow.http").create_histogram(
    "http.server.request.duration",
    unit="s",
    description="Time to answer a request",
    # Those of the semantic conventions; the SDK's own are made for milliseconds.
    explicit_bucket_boundaries_advisory=(
        *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75),
        *(1.0, 2.5, 5.0, 7.5, 10.0),
    ),
)


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Goes around everything else, errors that became answers included."""
    if request.path in QUIET:
        return await handler(request)
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else ""
    name = f"{request.method} {route}".strip()
    begun = time.perf_counter()
    with _tracer.start_as_current_span(
        name, context=extract(request.headers), kind=SpanKind.SERVER
    ) as span:
        response = await handler(request)
        seconds = time.perf_counter() - begun
        attributes: dict[str, str | int] = {
            "http.request.method": request.method,
            "http.route": route,
            "http.response.status_code": response.status,
            "url.scheme": request.scheme,
        }
        _seconds.record(seconds, attributes)
        caller = request.get(CALLER, NOBODY)
        if span.is_recording():
            span.set_attributes({**attributes, "url.path": request.path})
            agent = request.headers.get("User-Agent", "")[:USER_AGENT_CHARACTERS_MAX]
            span.set_attribute("user_agent.original", agent)
            span.set_attribute("telemetryflow.request.id", request_id_of(request))
            if caller.user_id is not None:
                span.set_attribute("user.id", str(caller.user_id))
            if caller.tenant_id is not None:
                span.set_attribute("telemetryflow.tenant.id", str(caller.tenant_id))
            if response.status >= 500:
                span.set_status(Status(StatusCode.ERROR))
        # The line is the caller's, though the call itself is over.
        with acting_as(replace(caller, request_id=request_id_of(request))):
            logger.info(
                "%s %d in %.1f ms",
                name,
                response.status,
                seconds * 1_000,
                extra={
                    "method": request.method,
                    "route": route,
                    "status": response.status,
                    "duration_ms": round(seconds * 1_000, 2),
                },
            )
    return response
