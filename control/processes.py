"""The two processes of the control plane: the API, and the worker behind it."""

import asyncio
import gc
import logging
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import uvloop
from aiohttp import web

from control.api_keys.directory import DirectoryFeed
from control.api_keys.directory_server import serve_directory
from control.app import ROUTES, Control, open_control
from control.audit.recorder import Recorder
from control.housekeeping import keep_house, keep_trail
from control.telemetry.arrivals import Follow
from shared.cors.middleware import TenantRules, cors_middleware
from shared.errors import Conflict
from shared.http.application import build_application
from shared.messaging.nats import realtime_publisher
from shared.messaging.relay import Relay
from shared.metrics_server import MetricsServer
from shared.otel.set_up import set_up_telemetry
from shared.postgres.database import address_of
from shared.queue.worker import Worker
from shared.settings import Settings

# Requests that run when the process is told to stop have so long to finish.
DRAIN_SECONDS_MAX: Final = 20.0
# An answer of 20 series by minute is 30 000 objects: with Python's own thresholds (700, 10, 10), to
# look among them, and all that the process is made of, for cycles takes longer than to make them.
GC_THRESHOLDS: Final = (50_000, 20, 20)

logger = logging.getLogger(__name__)


def run_api(settings: Settings, follow: Follow) -> int:
    """Serve the API until SIGTERM or SIGINT; the exit code. *follow* tells what is stored."""
    return _run(settings, partial(_serve, follow=follow), "api")


def run_worker(settings: Settings) -> int:
    """Carry events and run jobs until SIGTERM or SIGINT; the exit code."""
    return _run(settings, _work, "worker")


def _run(
    settings: Settings,
    body: Callable[[Control, AsyncExitStack, asyncio.Event], Awaitable[None]],
    process: str,
) -> int:
    async def main() -> None:
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        async with open_control(settings) as control, AsyncExitStack() as stack:
            await body(control, stack, stopping)

    end_telemetry = set_up_telemetry(settings, process)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    finally:
        end_telemetry()
    return 0


async def _serve(
    control: Control, stack: AsyncExitStack, stopping: asyncio.Event, *, follow: Follow
) -> None:
    settings = control.settings
    cors = TenantRules(control.database)
    runner = web.AppRunner(
        build_application(control.services, ROUTES, [cors_middleware(settings, cors)]),
        access_log=None,
        shutdown_timeout=DRAIN_SECONDS_MAX,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, settings.api_listen_host, settings.port).start()
    except OSError as error:
        raise Conflict(
            f"port {settings.port} is in use ({error.strerror}): set PORT to another"
        ) from error
    feed = DirectoryFeed(control.database, settings.retention_days)
    await serve_directory(feed, settings, stack)
    await _serve_metrics(settings.api_metrics_port, "API_METRICS_PORT", stack, stopping)
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    logger.info("the API serves on %s:%d", settings.api_listen_host, settings.port)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(cors.follow(stopping))
        tasks.create_task(feed.run(address_of(settings), stopping))
        tasks.create_task(control.refusals.run(stopping))
        tasks.create_task(control.uses.run(stopping))
        tasks.create_task(control.arrivals.run(follow, stopping))


async def _work(control: Control, stack: AsyncExitStack, stopping: asyncio.Event) -> None:
    await _serve_metrics(
        control.settings.worker_metrics_port, "WORKER_METRICS_PORT", stack, stopping
    )
    publish = None
    if control.settings.nats_url:
        publish = await stack.enter_async_context(realtime_publisher(control.settings.nats_url))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(Relay(control.database, control.events, publish).run(stopping))
        tasks.create_task(Worker(address_of(control.settings), control.jobs).run(stopping))
        tasks.create_task(Recorder(control.database, control.audit.keys).run(stopping))
        tasks.create_task(keep_house(control, stopping))
        tasks.create_task(control.usage.run(stopping))
        tasks.create_task(keep_trail(control, stopping))


async def _serve_metrics(
    port: int, setting: str, stack: AsyncExitStack, stopping: asyncio.Event
) -> None:
    server = MetricsServer(
        port,
        setting=setting,
        not_ready_because=lambda: "stopping" if stopping.is_set() else None,
    )
    await server.start()
    stack.push_async_callback(server.close)
