"""The gRPC server of the directory: one streaming method, for gateways that know the token."""

import hmac
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from control.api_keys.directory import DirectoryFeed
from shared.directory.directory_pb2 import FollowRequest, FollowResponse
from shared.directory.tokens import METHOD, directory_token
from shared.errors import Conflict, Invalid, Unavailable
from shared.settings import Settings

# Each is a gateway's worker.
FOLLOWERS_MAX: Final = 1_000
STOP_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


async def serve_directory(feed: DirectoryFeed, settings: Settings, stack: AsyncExitStack) -> None:
    """Serve until *stack* ends; Conflict when the port is taken."""
    token = directory_token(settings).encode()

    async def follow(
        request: FollowRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> AsyncIterator[FollowResponse]:
        shown = dict(context.invocation_metadata() or ()).get("authorization", "")
        given = shown if isinstance(shown, bytes) else shown.encode()
        if not hmac.compare_digest(given, b"Bearer " + token):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "set DIRECTORY_TOKEN")
        logger.info("gateway %.100r follows the directory", request.gateway)
        try:
            async for piece in feed.follow(request):
                yield piece
        except Unavailable as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    server = grpc.aio.server(maximum_concurrent_rpcs=FOLLOWERS_MAX)
    handler = grpc.unary_stream_rpc_method_handler(
        follow,
        request_deserializer=FollowRequest.FromString,
        response_serializer=FollowResponse.SerializeToString,
    )
    _, service, method = METHOD.split("/")
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    address = f"{settings.directory_listen_host}:{settings.directory_port}"
    try:
        if settings.directory_tls_cert_file:
            server.add_secure_port(address, _credentials(settings))
        else:
            server.add_insecure_port(address)
    except RuntimeError as error:
        raise Conflict(
            f"port {settings.directory_port} is in use: set DIRECTORY_PORT to another"
        ) from error
    await server.start()
    stack.push_async_callback(server.stop, STOP_SECONDS)
    logger.info("the directory serves gateways on %s", address)


def _credentials(settings: Settings) -> grpc.ServerCredentials:
    try:
        key = Path(settings.directory_tls_key_file).read_bytes()
        certificate = Path(settings.directory_tls_cert_file).read_bytes()
    except OSError as error:
        raise Invalid(f"the directory's certificate cannot be read: {error}") from error
    return grpc.ssl_server_credentials([(key, certificate)])
