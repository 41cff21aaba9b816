"""The end of a process: what is left is sent, but nobody may keep it from ending."""

import atexit
import threading
from collections.abc import Callable, Sequence
from time import monotonic


def end_within(seconds: float, steps: Sequence[Callable[[], object]]) -> None:
    """Run *steps* side by side for at most *seconds*.

    What is still running then runs on in daemon threads, which end with the process.
    """
    _begin(steps)(seconds)


def end_at_exit(seconds: float, steps: Sequence[Callable[[], object]]) -> None:
    """The same when the interpreter ends; it starts no threads then, so they start now and wait."""
    ending = threading.Event()

    def when_it_ends(step: Callable[[], object]) -> Callable[[], object]:
        return lambda: ending.wait() and step()

    join = _begin([when_it_ends(step) for step in steps])

    def end() -> None:
        ending.set()
        join(seconds)

    atexit.register(end)


def _begin(steps: Sequence[Callable[[], object]]) -> Callable[[float], None]:
    """A thread for each; what is returned waits for all of them for so many seconds."""
    threads = [threading.Thread(target=step, daemon=True) for step in steps]
    for thread in threads:
        thread.start()

    def join(seconds: float) -> None:
        deadline = monotonic() + seconds
        for thread in threads:
            thread.join(max(deadline - monotonic(), 0.0))

    return join
