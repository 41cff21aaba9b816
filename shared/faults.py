"""Crash points: the hook of the crash tests.

The environment variable TELEMETRYFLOW_CRASH_AT names one point, for example `writer.after_insert`,
or `writer.after_insert:3` for its third passage. A process that reaches it kills itself with
SIGKILL, as a power cut would: nothing is flushed, nothing is closed. Unset, as in any real
deployment, a point costs one comparison of strings.
"""

import os
import signal
from typing import Final

CRASH_VARIABLE: Final = "TELEMETRYFLOW_CRASH_AT"

_armed, _, _passage = os.environ.get(CRASH_VARIABLE, "").partition(":")
_passages_left = int(_passage or 1)


def crash_point(name: str) -> None:
    """Kills this process if the environment, read once at import, asks for it at *name*."""
    if name == _armed:
        _pass()


def _pass() -> None:
    global _passages_left  # noqa: PLW0603 - one counter for the one armed point of a process
    _passages_left -= 1
    if _passages_left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
