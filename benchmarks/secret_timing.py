"""Does the time of a refusal tell how much of a key's secret was right, or whether the key exists?

    python -m benchmarks.secret_timing [--tries 100000]

That a key exists may be told, by some 1 µs: ids are not secret. Of a secret nothing may be.

Two kinds of guesses are refused in random order and the CPU time of each is taken; Welch's t of the
two tells whether they differ (as dudect does: Reparaz, Balasch, Verbauwhede, "Dude, is my code
constant time?", 2017). Beyond 4.5 they do. Times above the 90th percentile are interrupts of other
processes and are left out. Last, a comparison that stops at the first difference, for contrast: it
must be found, or the measurement shows nothing.
"""

import argparse
import gc
import hmac
import math
import random
import statistics
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Final

from ingest.directory import Directory
from ingest.signals import Signal
from shared.directory import new_tenant
from shared.directory.directory_pb2 import Key
from shared.errors import Unauthenticated
from shared.security.credentials import Credentials
from shared.security.peppers import Peppers, new_key_id, new_secret

T_MAX: Final = 4.5
KEPT: Final = 0.9
GUESSES: Final = 256


Calls = Sequence[Callable[[], object]]


def welch_t(one: Sequence[float], other: Sequence[float]) -> float:
    """Welch's t statistic of two samples."""
    spread = statistics.variance(one) / len(one) + statistics.variance(other) / len(other)
    return (statistics.fmean(one) - statistics.fmean(other)) / math.sqrt(spread)


def compared(kinds: tuple[Calls, Calls], tries: int) -> tuple[float, float]:
    """Two *kinds* of calls in random order: Welch's t, and how many ns longer the first takes."""
    times: tuple[list[float], list[float]] = ([], [])
    gc.disable()
    for _try in range(2 * tries):
        kind = random.getrandbits(1)
        call = random.choice(kinds[kind])
        begun = perf_counter_ns()
        call()
        times[kind].append(perf_counter_ns() - begun)
    gc.enable()
    most = statistics.quantiles([*times[0], *times[1]], n=100)[int(100 * KEPT) - 1]
    first, second = ([one for one in kind if one <= most] for kind in times)
    return welch_t(first, second), statistics.fmean(first) - statistics.fmean(second)


class Guesser:
    """A directory with one key, and guesses at it."""

    def __init__(self) -> None:
        peppers = Peppers.from_text("a pepper of the benchmark")
        self.directory = Directory(peppers=peppers)
        self.key_id, self.secret = new_key_id(), new_secret()
        state = self.directory.state
        state.put_tenant(new_tenant("acme", {"traces": 30, "metrics": 30, "logs": 30}))
        state.put_key(
            Key(
                id=self.key_id,
                tenant="acme",
                secret_hash=peppers.hash(self.secret),
                pepper_id=peppers.current_id,
                permissions=["traces:write"],
                works_until=1 << 40,
            )
        )

    def refused(self, key_id: str, secret: str) -> Callable[[], None]:
        """An attempt with these, which must fail."""
        credentials = Credentials(key_id, secret)

        def attempt() -> None:
            try:
                self.directory.authenticate(credentials, Signal.TRACES)
            except Unauthenticated:
                return
            raise AssertionError("a wrong secret was taken")

        return attempt

    def nearly(self) -> str:
        """All but the last digit are right."""
        last = "0" if self.secret[-1] != "0" else "1"
        return self.secret[:-1] + last


def stops_at_first_difference(given: bytes, held: bytes) -> Callable[[], bool]:
    """What must not be: byte by byte, until one differs."""

    def compare() -> bool:
        return all(one == other for one, other in zip(given, held, strict=True))

    return compare


def main() -> None:
    """Print t for each pair of guesses."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tries", type=int, default=100_000)
    tries = parser.parse_args().tries
    guesser = Guesser()
    nearly = [guesser.refused(guesser.key_id, guesser.nearly()) for _ in range(GUESSES)]
    wrong = [guesser.refused(guesser.key_id, new_secret()) for _ in range(GUESSES)]
    unknown = [guesser.refused(new_key_id(), new_secret()) for _ in range(GUESSES)]
    held, far = bytes(32), bytes([1]) + bytes(31)
    near = bytes(31) + bytes([1])
    pairs: dict[str, tuple[Calls, Calls]] = {
        "secret right but for its last digit / all wrong": (nearly, wrong),
        "hash right but for its last byte / its first": (
            [lambda: hmac.compare_digest(near, held)],
            [lambda: hmac.compare_digest(far, held)],
        ),
        "key that exists / key that does not": (wrong, unknown),
        "for contrast: stops at the first difference": (
            [stops_at_first_difference(near, held)],
            [stops_at_first_difference(far, held)],
        ),
    }
    for name, kinds in pairs.items():
        t, longer_ns = compared(kinds, tries)
        verdict = "told apart" if abs(t) > T_MAX else "not told apart"
        print(f"{name}: t = {t:.1f}, {longer_ns:+.0f} ns ({verdict})")


if __name__ == "__main__":
    main()
