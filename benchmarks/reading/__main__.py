"""How fast telemetry is read, beside the goals and beside the same without rollups and indices.

    python -m benchmarks.reading [--scale 1] [--folder build/dataset-1] [--rounds 30]

Makes the data set first, where it is missing, then asks as its largest tenant, who has 40 % of it:
the functions that the API's routes call, over the real engine, warm, answers not kept. Prints a
table in Markdown.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import psutil

from benchmarks.dataset.__main__ import FOLDER, SEED, made
from benchmarks.dataset.loading import Manifest
from benchmarks.dataset.skew import ALL_TENANTS, DAYS
from benchmarks.reading.measure import WARM_UPS, Figures, engine, figures, over, samples
from benchmarks.reading.questions import QUESTIONS, Question, Sample
from control.telemetry.queries.engine import Engine
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from tests.integration.shared.embedded_server import EmbeddedServer

USERS: Final = 5
PLAIN_ROUNDS: Final = 5
TENANT: Final = ALL_TENANTS[0].name
HEAD: Final = (
    "| question | goal | p50 | **p95** | CPU | rows | MB | plain p50 | CPU | rows | MB "
    f"| {DAYS} days p95 | {USERS} users p95 |\n|---|" + "---|" * 12
)


def line_of(question: Question, found: Sequence[Figures | None]) -> str:
    """A line of the table: by a day, plain, over all days, by several users."""
    day, plain, week, users = found
    assert day is not None
    assert users is not None
    cells = [
        question.name,
        f"{question.goal_ms:.0f}",
        f"{day.p50_ms:.1f}",
        f"**{day.p95_ms:.1f}**" + ("" if day.p95_ms <= question.goal_ms else " ✗"),
        f"{day.cpu_ms:.1f}",
        _count(day.rows),
        f"{day.bytes / 1e6:.1f}",
        *(
            ("", "", "", "")
            if plain is None
            else (
                *(f"{plain.p50_ms:.0f}", f"{plain.cpu_ms:.0f}"),
                *(_count(plain.rows), f"{plain.bytes / 1e6:.0f}"),
            )
        ),
        "" if week is None else f"{week.p95_ms:.1f} ({week.p95_ms / day.p95_ms:.1f} x)",
        f"{users.p95_ms:.1f} ({users.p95_ms / day.p95_ms:.1f} x)",
    ]
    return f"| {' | '.join(cells)} |"


def _count(rows: int) -> str:
    return f"{rows / 1e6:.1f} M" if rows >= 1_000_000 else f"{rows / 1e3:.1f} k"


async def asked(
    ours: Engine,
    plain: Engine | None,
    question: Question,
    given: Sequence[Sample],
    *,
    server: psutil.Process,
    rounds: int,
) -> list[Figures | None]:
    """All figures of one question."""
    of = partial(figures, tenant=TENANT, server=server)
    await of(ours, ask=question.ask, given=given, rounds=WARM_UPS)
    day = await of(ours, ask=question.ask, given=given, rounds=rounds)
    without = None
    if plain is not None:
        without = await of(plain, ask=question.plain, given=given, rounds=PLAIN_ROUNDS)
    week = None
    if question.ranged:
        long = over(DAYS, given)
        await of(ours, ask=question.ask, given=long, rounds=WARM_UPS)
        week = await of(ours, ask=question.ask, given=long, rounds=rounds)
    turns = max(rounds // USERS, 4)
    users = await of(ours, ask=question.ask, given=given, rounds=turns, users=USERS)
    return [day, without, week, users]


async def measure(manifest: Manifest, running: EmbeddedServer, options: argparse.Namespace) -> None:
    """Print the table."""
    address = ClickHouseAddress("127.0.0.1", running.port)
    process = psutil.Process(running.pid)
    async with (
        ClickHouse(address) as clickhouse,
        engine(clickhouse) as ours,
        engine(clickhouse, plain=True) as plain,
    ):
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
            without = None if options.no_plain else plain
            found = await asked(
                ours, without, question, given, server=process, rounds=options.rounds
            )
            print(line_of(question, found), flush=True)
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
    with EmbeddedServer(options.folder / "clickhouse") as server:
        manifest = asyncio.run(made(options.folder, options.scale, SEED, server.port))
        asyncio.run(measure(manifest, server, options))


if __name__ == "__main__":
    main()
