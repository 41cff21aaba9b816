"""grpc.health.v1 for both gRPC engines: services, statuses, framed answers."""

from typing import Final

from google.protobuf.message import DecodeError
from grpc_health.v1.health_pb2 import (  # type: ignore[import-untyped]
    HealthCheckRequest,
    HealthCheckResponse,
)

from ingest.receivers.grpc_calls import SERVICE_NAMES
from ingest.receivers.http2 import ServerSession
from ingest.receivers.statuses import grpc_trailers, refusal_of
from shared.errors import Invalid, NotFound, Unavailable

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


class Watches:
    """The Watch calls of one HTTP/2 connection: streams that are told when a status changes."""

    def __init__(self, session: ServerSession) -> None:
        self._session = session
        # By stream: the service, and the status told last.
        self._told: dict[int, tuple[str, int]] = {}

    def begin(self, stream_id: int, service: str, *, serving: bool) -> None:
        """Tell the status now and when it changes; the headers of the answer have been sent."""
        status = status_of(service, serving=serving)
        self._session.send(stream_id, framed_status(status))
        self._told[stream_id] = (service, status)

    def end(self, stream_id: int) -> None:
        """The client does not watch any more, if it did."""
        self._told.pop(stream_id, None)

    def tell(self, *, serving: bool) -> None:
        """Send what changed."""
        for stream_id, (service, told) in self._told.items():
            status = status_of(service, serving=serving)
            if status != told:
                self._told[stream_id] = (service, status)
                self._session.send(stream_id, framed_status(status))

    def end_all(self) -> None:
        """End every watch: the connection goes away."""
        trailers = grpc_trailers(refusal_of(Unavailable("the gateway is shutting down")))
        for stream_id in tuple(self._told):
            self._session.trailers(stream_id, trailers)
            del self._told[stream_id]
