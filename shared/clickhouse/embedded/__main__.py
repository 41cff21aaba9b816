"""python -m shared.clickhouse.embedded --data DIR [--host H] [--port P]"""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final

import uvloop
from aiohttp import web

from shared.clickhouse.embedded.engine import Engine
from shared.clickhouse.embedded.server import Server
from shared.errors import Conflict, Invalid, TelemetryFlowError

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
# Statements that run when the server is told to stop are waited for so long.
DRAIN_SECONDS: Final = 30.0
READ_BUFFER_BYTES: Final = 1 << 20


async def serve(
    *,
    data: Path,
    host: str,
    port: int,
    user: str,
    password: str,
    database: str = "telemetry",
    drain_seconds: float = DRAIN_SECONDS,
) -> None:
    """Serve until SIGTERM or SIGINT; Conflict when the port or the folder is in use.

    Statements that run then have *drain_seconds* to end by themselves.
    """
    if host not in LOOPBACK and not password:
        raise Invalid(f"CLICKHOUSE_PASSWORD must be set to listen on {host}, beyond this machine")
    engine = await asyncio.to_thread(Engine, data, database)
    try:
        application = Server(engine, user=user, password=password).application()
        runner = web.AppRunner(
            application,
            access_log=None,
            auto_decompress=False,
            handler_cancellation=True,
            shutdown_timeout=drain_seconds,
            read_bufsize=READ_BUFFER_BYTES,
        )
        await runner.setup()
        try:
            await _listen(runner, host, port)
            stopping = asyncio.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, stopping.set)
            await stopping.wait()
        finally:
            await runner.cleanup()
    finally:
        await asyncio.to_thread(engine.close)


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError as error:
        raise Conflict(
            f"port {port} on {host} is in use ({error.strerror}): stop what uses it, "
            "or set CLICKHOUSE_PORT to another"
        ) from error


def main() -> int:
    """The command; exit codes 0 stopped, 1 failed."""
    parser = argparse.ArgumentParser(prog="telemetryflow clickhouse", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--drain-seconds", type=float, default=DRAIN_SECONDS)
    options = parser.parse_args()
    # The password comes from the environment: arguments can be read by every user of the machine.
    try:
        uvloop.run(
            serve(
                data=options.data,
                host=options.host,
                port=options.port,
                user=os.environ.get("CLICKHOUSE_USERNAME") or "default",
                password=os.environ.get("CLICKHOUSE_PASSWORD", ""),
                drain_seconds=options.drain_seconds,
                database=os.environ.get("CLICKHOUSE_DATABASE") or "telemetry",
            )
        )
    except TelemetryFlowError as error:
        print(f"telemetryflow clickhouse: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
