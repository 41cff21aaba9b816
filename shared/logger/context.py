"""Whose line it is: the caller of the running request, and the span that it is part of."""

from typing import Any

from opentelemetry import trace

from shared.caller import current_caller


def line_context() -> dict[str, Any]:
    """Ids that connect a line with its request, its trace and its person; only those known."""
    caller = current_caller()
    found: dict[str, Any] = {
        "requestId": caller.request_id or None,
        "userId": str(caller.user_id) if caller.user_id else None,
        "tenantId": str(caller.tenant_id) if caller.tenant_id else None,
    }
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        found["traceId"] = f"{span.trace_id:032x}"
        found["spanId"] = f"{span.span_id:016x}"
        found["traceFlags"] = int(span.trace_flags)
    return {name: value for name, value in found.items() if value is not None}
