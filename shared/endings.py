"""The end of a process: what is left is sent, but nobody may keep it from ending."""

import threading
from collections.abc import Callable, Sequence


def end_within(seconds: float, steps: Sequence[Callable[[], object]]) -> bool:
    """Run *steps* side by side for at most *seconds*; whether all came to their end.

    What is still running then runs on in daemon threads, which end with the process.
    """
    threads = [threading.Thread(target=step, daemon=True) for step in steps]
    for thread in threads:
        thread.start()
    done = threading.Event()

    def wait() -> None:
        for thread in threads:
            thread.join()
        done.set()

    threading.Thread(target=wait, daemon=True).start()
    return done.wait(seconds)
