"""Follows the control plane's directory, and goes on without it: what was known stays in force."""

import asyncio
import logging
import random
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Any, Final

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from ingest import metrics
from ingest.directory import Directory
from shared.directory import DEFAULT_TENANT, new_tenant
from shared.directory.directory_pb2 import FollowRequest, FollowResponse
from shared.directory.state import DirectoryState
from shared.directory.tokens import METHOD, directory_token
from shared.errors import Invalid
from shared.settings import Settings

DIRECTORY_FILE: Final = "directory.bin"
# The control plane speaks every five seconds; after this it is taken for gone.
SILENCE_SECONDS_MAX: Final = 15.0
RETRY_SECONDS_MAX: Final = 1.0
# A change is written at once. Those that come meanwhile wait ten times as long as that took, and
# are written together: a file of 100 000 keys is 17 MB, one of ten takes a millisecond.
SAVE_PAUSE_RATIO: Final = 10
# One that cannot be written is left alone so long.
SAVE_RETRY_SECONDS: Final = 2.0

logger = logging.getLogger(__name__)


class DirectoryFollower:
    """Keeps a `Directory` equal to the control plane's, through a file that survives restarts."""

    def __init__(self, settings: Settings, directory: Directory) -> None:
        self._settings = settings
        self._directory = directory
        self._path = settings.data_dir / DIRECTORY_FILE
        self._heard_at = monotonic()
        self._saved_revision = -1
        self._changed = asyncio.Event()
        metrics.DIRECTORY_AGE_SECONDS.set_function(self._age_seconds)

    def load(self) -> None:
        """Begin with the file; without one that can be read, with the default tenant alone."""
        self._directory.state = state_at_start(self._path, self._settings)
        self._saved_revision = self._directory.state.revision

    async def follow(self) -> None:
        """Until cancelled; returns at once when there is nobody to follow."""
        if not self._settings.directory_address:
            return
        saving = asyncio.create_task(self._keep_file())
        try:
            while True:
                try:
                    await self._follow_once()
                except grpc.aio.AioRpcError as error:
                    # At the start of everything the control plane comes after the gateway.
                    is_long = self._age_seconds() > SILENCE_SECONDS_MAX
                    level = logging.WARNING if is_long else logging.INFO
                    text = "the directory is away (%s): %s"
                    logger.log(level, text, error.code().name, error.details())
                except TimeoutError:
                    logger.warning("the directory is silent: connecting again")
                except Invalid as error:
                    logger.error("the directory is fetched again: %s", error)
                    self._directory.state.revision = 0
                await asyncio.sleep(random.uniform(0.1, RETRY_SECONDS_MAX))  # noqa: S311 - jitter
        finally:
            saving.cancel()
            await self._save()

    async def _follow_once(self) -> None:
        state = self._directory.state
        request = FollowRequest(
            epoch=state.epoch, revision=state.revision, gateway=socket.gethostname()
        )
        token = directory_token(self._settings)
        async with self._channel() as channel:
            call = channel.unary_stream(
                METHOD,
                request_serializer=FollowRequest.SerializeToString,
                response_deserializer=FollowResponse.FromString,
            )(request, metadata=(("authorization", f"Bearer {token}"),))
            async for piece in _within(call, SILENCE_SECONDS_MAX):
                if piece.starts_anew:
                    state = DirectoryState()
                state.apply(piece)
                if piece.ends_batch:
                    self._put_in_force(state, piece)

    def _put_in_force(self, state: DirectoryState, end: FollowResponse) -> None:
        if state.checksum != end.checksum:
            raise Invalid("its sum is not what the control plane says")
        self._heard_at = monotonic()
        self._directory.clock_offset_seconds = end.unix_seconds - time.time()
        self._directory.state = state
        metrics.DIRECTORY_REVISION.set(state.revision)
        self._changed.set()

    def _channel(self) -> grpc.aio.Channel:
        address = self._settings.directory_address
        authority = self._settings.directory_tls_ca_file
        if not authority:
            return grpc.aio.insecure_channel(address)
        try:
            certificates = Path(authority).read_bytes()
        except OSError as error:
            raise Invalid(f"DIRECTORY_TLS_CA_FILE cannot be read: {error}") from error
        return grpc.aio.secure_channel(
            address, grpc.ssl_channel_credentials(root_certificates=certificates)
        )

    async def _keep_file(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            began = monotonic()
            if await self._save():
                await asyncio.sleep((monotonic() - began) * SAVE_PAUSE_RATIO)
            else:
                self._changed.set()
                await asyncio.sleep(SAVE_RETRY_SECONDS)

    async def _save(self) -> bool:
        """Write the file if it is behind; whether it is as it should be now."""
        state = self._directory.state
        revision = state.revision
        if revision != self._saved_revision:
            try:
                await state.save(self._path)
            except OSError as error:
                logger.error("the directory's file stays as it was: %s", error)
                return False
            self._saved_revision = revision
        return True

    def _age_seconds(self) -> float:
        """How long ago the control plane was heard; 0 when nobody is followed."""
        return monotonic() - self._heard_at if self._settings.directory_address else 0.0


def state_at_start(path: Path, settings: Settings) -> DirectoryState:
    """What the file holds; else the default tenant alone."""
    try:
        return DirectoryState.load(path)
    except FileNotFoundError:
        pass
    except Invalid as error:
        logger.error("%s", error)
    state = DirectoryState()
    state.put_tenant(new_tenant(DEFAULT_TENANT, settings.retention_days))
    return state


async def _within(call: Any, seconds: float) -> AsyncIterator[FollowResponse]:
    """Each message of *call*; TimeoutError when none comes for so long."""
    while True:
        async with asyncio.timeout(seconds):
            piece = await call.read()
        if piece is grpc.aio.EOF:
            return
        yield piece
