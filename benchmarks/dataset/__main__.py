"""Makes the data set that benchmarks of reading ask: 50 M spans, 50 M log records, 100 M points.

    python -m benchmarks.dataset [--scale 0.01] [--folder build/dataset-1]

Of 20 tenants, over seven days that end at a midnight, three fifths of it on the last day. A folder
that is finished is left alone, one that is not is continued; the whole takes about 6 GB.
"""

import argparse
import asyncio
import time
from pathlib import Path
from typing import Final

from benchmarks.dataset.loading import DATABASE, Manifest, load, manifest_in
from benchmarks.dataset.schedule import DAY_NS
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.clickhouse.migrate import Migrator
from tests.integration.shared.embedded_server import EmbeddedServer

FOLDER: Final = Path("build/dataset-1")
SEED: Final = 42


def prepared(folder: Path, scale: float, seed: int) -> Manifest:
    """What *folder* holds or is to hold; SystemExit when it holds something else."""
    found = manifest_in(folder)
    if found is None:
        if folder.exists() and any(folder.iterdir()):
            raise SystemExit(f"{folder} holds something else: remove it, or choose another")
        folder.mkdir(parents=True, exist_ok=True)
        found = Manifest(scale, seed, time.time_ns() // DAY_NS * DAY_NS)
        found.write(folder)
    if (found.scale, found.seed) != (scale, seed):
        raise SystemExit(
            f"{folder} holds scale {found.scale} of seed {found.seed}: choose another folder"
        )
    return found


async def made(folder: Path, scale: float, seed: int, port: int) -> Manifest:
    """The data set of *folder*, made as far as it is missing by the server at *port*."""
    manifest = prepared(folder, scale, seed)
    address = ClickHouseAddress("127.0.0.1", port)
    async with ClickHouse(address, answer_seconds_max=600) as clickhouse:
        await Migrator(clickhouse.command, clickhouse.query, database=DATABASE).migrate()
        if manifest.is_finished:
            return manifest
        await load(clickhouse, folder, manifest, lambda line: print(line, flush=True))
        for signal in ("traces", "logs", "metrics"):
            print(f"{manifest.rows(signal):>12} {signal}")
        size = await clickhouse.query(
            "SELECT sum(bytes_on_disk), count() FROM system.parts "
            f"WHERE active AND database = '{DATABASE}'"
        )
        print(
            f"{size[0][0] / 1e9:.2f} GB in {size[0][1]} parts, "
            f"loaded in {manifest.loading_seconds:.0f} s"
        )
    return manifest


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--scale", type=float, default=1.0, help="1: all of it")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    if not 0 < options.scale <= 1:
        parser.error("a scale is above 0 and at most 1")
    prepared(options.folder, options.scale, options.seed)
    with EmbeddedServer(options.folder / "clickhouse") as server:
        asyncio.run(made(options.folder, options.scale, options.seed, server.port))


if __name__ == "__main__":
    main()
