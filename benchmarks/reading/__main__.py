"""How fast telemetry is read, beside the goals and beside the same without rollups and indices.

    python -m benchmarks.reading [--scale 1] [--folder build/dataset-1] [--rounds 30]

Makes the data set first, where it is missing, then asks as its largest tenant, who has 40 % of it:
the functions that the API's routes call, over the real engine, warm, answers not kept; and the
routes themselves, of an API process. Prints a table in Markdown.
"""

import argparse
import asyncio
import gc
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import psutil

from benchmarks.dataset.__main__ import FOLDER, SEED, made, prepared
from benchmarks.dataset.loading import Manifest
from benchmarks.dataset.skew import ALL_TENANTS, DAYS
from benchmarks.reading.measure import SAMPLES, Figures, asking, engine, figures, over, samples
from benchmarks.reading.questions import QUESTIONS, Question, Sample
from benchmarks.reading.routes import Routes, Started, api_process, routes
from control.processes import GC_THRESHOLDS
from control.telemetry.queries.engine import Engine
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from tests.integration.shared.embedded_server import EmbeddedServer

USERS: Final = 5
PLAIN_ROUNDS: Final = 5
TENANT: Final = ALL_TENANTS[0].name
HEAD: Final = (
    "| question | goal | first p50 | p95 | p50 | **p95** | CPU | rows | MB | route p50 | p95 "
    f"| CPU of the API | {DAYS} days p95 | {USERS} users p95 | plain p50 | CPU | rows | MB |\n|---|"
    + "---|"
    * 17
)


@dataclass
class Found:
    """By a day, plain, over all days, by several users, and over the API's route.

    *first*: when each is asked for the first time, what the engine keeps unpacked may lack.
    """

    first: Figures
    day: Figures
    users: Figures
    route: Figures
    plain: Figures | None = None
    week: Figures | None = None


def line_of(question: Question, found: Found) -> str:
    """A line of the table."""
    day, plain, week = found.day, found.plain, found.week
    cells = [
        question.name,
        f"{goal:.0f}" if (goal := question.goal_ms) else "",
        *(f"{found.first.p50_ms:.1f}", f"{found.first.p95_ms:.1f}", f"{day.p50_ms:.1f}"),
        f"**{day.p95_ms:.1f}**" + (" ✗" if goal and day.p95_ms > goal else ""),
        f"{day.cpu_ms:.1f}",
        _count(day.rows),
        f"{day.bytes / 1e6:.1f}",
        *(f"{found.route.p50_ms:.1f}", f"{found.route.p95_ms:.1f}", f"{found.route.cpu_ms:.1f}"),
        "" if week is None else f"{week.p95_ms:.1f} ({week.p95_ms / day.p95_ms:.1f} x)",
        f"{found.users.p95_ms:.1f} ({found.users.p95_ms / day.p95_ms:.1f} x)",
        *(
            ("", "", "", "")
            if plain is None
            else (
                *(f"{plain.p50_ms:.0f}", f"{plain.cpu_ms:.0f}"),
                *(_count(plain.rows), f"{plain.bytes / 1e6:.0f}"),
            )
        ),
    ]
    return f"| {' | '.join(cells)} |"


def _count(rows: int) -> str:
    return f"{rows / 1e6:.1f} M" if rows >= 1_000_000 else f"{rows / 1e3:.1f} k"


@dataclass(frozen=True)
class Asker:
    """Who asks and who answers."""

    ours: Engine
    plain: Engine | None
    routes: Routes
    server: psutil.Process
    rounds: int

    async def all_of(self, question: Question, given: Sequence[Sample]) -> Found:
        """All figures of one question."""
        # The client is a part of who answers: it is this process.
        of = partial(figures, processes=[psutil.Process(), self.server], rounds=self.rounds)
        ask = asking(self.ours, TENANT, question.ask)
        first = await of(ask, given, rounds=SAMPLES)
        day = await of(ask, given)
        users = await of(ask, given, rounds=max(self.rounds // USERS, 4), users=USERS)
        found = Found(first, day, users, await self._of_route(question, given))
        if self.plain is not None:
            without = asking(self.plain, TENANT, question.plain)
            found.plain = await of(without, given, rounds=PLAIN_ROUNDS)
        if question.ranged:
            long = over(DAYS, given)
            await of(ask, long, rounds=SAMPLES)
            found.week = await of(ask, long)
        return found

    async def _of_route(self, question: Question, given: Sequence[Sample]) -> Figures:
        ask = partial(self.routes.ask, question)
        await figures(ask, given, processes=[], rounds=SAMPLES)
        return await figures(ask, given, processes=[self.routes.process], rounds=self.rounds)


async def measure(
    manifest: Manifest, running: EmbeddedServer, started: Started, options: argparse.Namespace
) -> None:
    """Print the table."""
    address = ClickHouseAddress("127.0.0.1", running.port)
    process = psutil.Process(running.pid)
    async with (
        ClickHouse(address) as clickhouse,
        engine(clickhouse) as ours,
        engine(clickhouse, plain=True) as plain,
        routes(started, TENANT) as over_http,
    ):
        asker = Asker(ours, None if options.no_plain else plain, over_http, process, options.rounds)
        given = await samples(clickhouse, TENANT, end_ns=manifest.end_ns, seed=manifest.seed)
        counts = ", ".join(
            f"{manifest.rows(signal) / 1e6:.1f} M {name}"
            for signal, name in (
                ("traces", "spans"),
                ("logs", "log records"),
                ("metrics", "points"),
            )
        )
        print(f"{counts}; {os.cpu_count()} cores; {time.strftime('%Y-%m-%d %H:%M')} UTC; "
              f"load average {os.getloadavg()[0]:.1f}\n\n{HEAD}")  # fmt: skip
        for question in QUESTIONS:
            if options.only not in question.name:
                continue
            print(line_of(question, await asker.all_of(question, given)), flush=True)
        print(f"\nload average at the end {os.getloadavg()[0]:.1f}")


def main() -> None:
    """Make what is missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--scale", type=float, default=1.0, help="of the data set; 1: all of it")
    parser.add_argument("--rounds", type=int, default=30, help="how often each is asked")
    parser.add_argument("--only", default="", help="part of the names of the questions to ask")
    parser.add_argument("--no-plain", action="store_true", help="do not ask without our help")
    options = parser.parse_args()
    # As the API's process has it.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    # Before the server makes something in the folder.
    prepared(options.folder, options.scale, SEED)
    with EmbeddedServer(options.folder / "clickhouse") as server:
        manifest = asyncio.run(made(options.folder, options.scale, SEED, server.port))
        with api_process(server.port) as started:
            asyncio.run(measure(manifest, server, started, options))


if __name__ == "__main__":
    main()
