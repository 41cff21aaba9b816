"""Several gateway processes on the same ports (SO_REUSEPORT), kept running by their parent."""

import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import wait
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Final

from shared.settings import Settings

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

RESTART_SECONDS_MIN: Final = 1.0
RESTART_SECONDS_MAX: Final = 30.0
# A worker that ran so long is restarted without delay.
STEADY_SECONDS: Final = 60.0
# Workers serve their metrics so many ports apart.
METRICS_PORT_STEP: Final = 100

logger = logging.getLogger(__name__)


class Workers:
    """Starts *count* processes of *run*, restarts what crashes, ends all at SIGTERM."""

    def __init__(self, run: Callable[[Settings, int], int], settings: Settings) -> None:
        self._run = run
        self._settings = settings
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[int, SpawnProcess] = {}
        self._started_at: dict[int, float] = {}
        self._delay = RESTART_SECONDS_MIN
        self._signals = 0

    def supervise(self) -> int:
        """Until told to stop; 0 when all workers ended well."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        for worker in range(self._settings.ingest_workers):
            self._start(worker)
        codes = []
        while self._processes:
            wait([process.sentinel for process in self._processes.values()], timeout=1.0)
            codes += [
                code for code in map(self._look_at, list(self._processes)) if code is not None
            ]
        return 1 if any(codes) else 0

    def _start(self, worker: int) -> None:
        process = self._context.Process(target=_work, args=(self._run, self._settings, worker))
        process.start()
        self._processes[worker] = process
        self._started_at[worker] = monotonic()

    def _look_at(self, worker: int) -> int | None:
        """The exit code of a worker that ended because it was told to."""
        process = self._processes[worker]
        if process.is_alive():
            return None
        del self._processes[worker]
        if self._signals:
            return process.exitcode
        logger.error("gateway worker %d ended with %s; restarting", worker, process.exitcode)
        if monotonic() - self._started_at[worker] > STEADY_SECONDS:
            self._delay = RESTART_SECONDS_MIN
        signal.sigtimedwait((signal.SIGUSR1,), self._delay)
        self._delay = min(2 * self._delay, RESTART_SECONDS_MAX)
        if not self._signals:
            self._start(worker)
        return None

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        for process in self._processes.values():
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGTERM if self._signals == 1 else number)


def _work(run: Callable[[Settings, int], int], settings: Settings, worker: int) -> None:
    sys.exit(run(settings, worker))
