"""The private port of a process: Prometheus metrics and health, on loopback only."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared.errors import Conflict

NotReadyBecause = Callable[[], str | None]


class MetricsServer:
    """Serves /metrics, /healthz and /readyz on 127.0.0.1; *setting* names the port's variable."""

    def __init__(self, port: int, *, setting: str, not_ready_because: NotReadyBecause) -> None:
        self._port = port
        self._setting = setting
        self._not_ready_because = not_ready_because
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> None:
        """Conflict when the port is in use."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise Conflict(
                f"port {self._port} is in use ({error.strerror}): set {self._setting} to another"
            ) from error

    async def close(self) -> None:
        """Stop serving."""
        await self._runner.cleanup()

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        reason = self._not_ready_because()
        if reason is None:
            return web.Response(text="ready\n")
        return web.Response(status=503, text=f"not ready: {reason}\n")
