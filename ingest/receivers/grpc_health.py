"""grpc.health.v1 for both gRPC engines: services, statuses, framed answers."""

from typing import Final

from google.protobuf.message import DecodeError
from grpc_health.v1.health_pb2 import (  # type: ignore[import-untyped]
    HealthCheckRequest,
    HealthCheckResponse,
)

from ingest.receivers.grpc_calls import SERVICE_NAMES
from shared.errors import Invalid, NotFound

SERVING: Final = int(HealthCheckResponse.SERVING)
NOT_SERVING: Final = int(HealthCheckResponse.NOT_SERVING)
SERVICE_UNKNOWN: Final = int(HealthCheckResponse.SERVICE_UNKNOWN)


def service_of(request: bytes) -> str:
    """The service asked about; "" is the server as a whole."""
    try:
        return str(HealthCheckRequest.FromString(request).service)
    except DecodeError:
        raise Invalid("the message is not a HealthCheckRequest") from None


def status_of(service: str, *, serving: bool) -> int:
    """The ServingStatus of *service*."""
    if service and service not in SERVICE_NAMES:
        return SERVICE_UNKNOWN
    return SERVING if serving else NOT_SERVING


def known_status_of(service: str, *, serving: bool) -> int:
    """The same for Check, which answers NOT_FOUND for a service that it does not know."""
    status = status_of(service, serving=serving)
    if status == SERVICE_UNKNOWN:
        raise NotFound(f"unknown service {service[:200]!r}")
    return status


def framed_status(status: int) -> bytes:
    """A HealthCheckResponse as one gRPC message."""
    return b"\x00\x00\x00\x00\x02\x08%c" % status
