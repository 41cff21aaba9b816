"""Routes of services."""

from control.telemetry.api.kit import ANSWER_HEADERS, answered_in_range
from control.telemetry.queries import services
from control.telemetry.queries.answers import RangeQuery
from shared.http.call import Answer, Call
from shared.http.routes import Routes

routes = Routes(
    "Telemetry: services",
    "Which services there are, and how they do.",
    is_open_to_keys=True,
    answer_headers=ANSWER_HEADERS,
)


@routes.get(
    "/telemetry/services", permission="traces:read", query=RangeQuery, answer=services.ServiceList
)
async def list_telemetry_services(call: Call, query: RangeQuery) -> Answer:
    """List the services that sent spans, with rate, errors and durations."""
    return await answered_in_range(call, query, services.list_services)


@routes.get(
    "/telemetry/services/red",
    permission="traces:read",
    query=services.RedQuery,
    answer=services.RedSeries,
)
async def get_red(call: Call, query: services.RedQuery) -> Answer:
    """Get rate, errors and durations of a service (or all) over time."""
    return await answered_in_range(call, query, services.red_series)


@routes.get(
    "/telemetry/services/operations",
    permission="traces:read",
    query=services.OperationQuery,
    answer=services.OperationList,
)
async def list_telemetry_operations(call: Call, query: services.OperationQuery) -> Answer:
    """List the operations of a service (or all), with rate, errors and durations."""
    return await answered_in_range(call, query, services.list_operations)


@routes.get(
    "/telemetry/services/dependencies",
    permission="traces:read",
    query=RangeQuery,
    answer=services.DependencyList,
)
async def list_dependencies(call: Call, query: RangeQuery) -> Answer:
    """List which services call which others."""
    return await answered_in_range(call, query, services.list_dependencies)
