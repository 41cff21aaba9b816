"""The directory of keys at size: how soon gateways have it, what it costs them, and how fast a
revocation is in force at three of them while keys change all the time.

    python -m benchmarks.directory [--tenants 10000] [--keys 100000] [--rate 1000] [--seconds 10]

Starts the embedded PostgreSQL, the API and three followers of its directory in a temporary folder.
"""

import argparse
import asyncio
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import asyncpg

from benchmarks.api import processes
from ingest.directory import Directory
from ingest.directory_follower import DirectoryFollower
from shared.directory.directory_pb2 import Key
from shared.directory.state import DirectoryState
from shared.postgres.embedded import embedded_address
from shared.security.peppers import Peppers
from shared.settings import Settings
from tests.ports import free_port

FOLLOWERS: Final = 3
QUIET_SECONDS: Final = 3.0


async def follow(keys: int) -> None:
    """As a gateway does; prints when all keys were there, and when each revocation was in force."""
    settings = Settings.from_env()
    directory = Directory(peppers=Peppers.of(settings))
    follower = DirectoryFollower(settings, directory)
    seen: list[tuple[str, float]] = []
    put_key = DirectoryState.put_key

    def noting(state: DirectoryState, key: Key) -> None:
        put_key(state, key)
        if key.has_ended:
            seen.append((key.id, time.time()))

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    task = asyncio.create_task(follower.follow())
    while directory.state.keys_count < keys:  # noqa: ASYNC110 - as anybody from outside
        await asyncio.sleep(0.005)
    seconds = time.perf_counter() - begun
    state = directory.state
    bytes_of_keys = sys.getsizeof(state._keys) + sum(
        sys.getsizeof(one) + sys.getsizeof(held) for one, held in state._keys.items()
    )
    data = sum(len(key.SerializeToString()) for piece in state.pieces() for key in piece.keys)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"snapshot {seconds:.2f} {bytes_of_keys / keys:.0f} {data / keys:.0f} {peak}", flush=True)
    setattr(DirectoryState, "put_key", noting)  # noqa: B010 - typed, it would be refused
    await asyncio.to_thread(sys.stdin.readline)
    cpu = time.process_time()
    await asyncio.to_thread(sys.stdin.readline)
    print(f"cpu {time.process_time() - cpu:.2f}")
    for key_id, at in seen:
        print(key_id, at)
    task.cancel()


async def fill(connection: Any, tenants: int, keys: int) -> None:
    """Tenants and keys of the first organization."""
    await connection.execute(
        """
        INSERT INTO tenants (id, version, organization_id, workspace_id, name, slug)
        SELECT gen_random_uuid(), 1, organization_id, id, 'T ' || number, 't-' || number
          FROM (SELECT * FROM workspaces LIMIT 1) AS one, generate_series(1, $1::int) AS number
        """,
        tenants,
    )
    await connection.execute(
        """
        INSERT INTO api_keys (id, version, organization_id, tenant_id, key_id, secret_hash,
                              pepper_id, name, permissions, status, expires_at)
        SELECT gen_random_uuid(), 1, organization_id, tenant.id,
               'tfk_' || md5(tenant.id::text || number),
               decode(repeat(md5(number::text), 2), 'hex'),
               'benchmark', 'N', '{logs:write,metrics:write,traces:write}', 'active',
               now() + interval '1 year'
          FROM tenants AS tenant, generate_series(1, $1::int) AS number
         WHERE slug LIKE 't-%'
        """,
        keys // tenants,
    )


async def revoke(connection: Any, rate: float, seconds: float) -> dict[str, float]:
    """Revoke one key after another at *rate*; when each was committed."""
    rows = await connection.fetch(
        "SELECT id, key_id FROM api_keys ORDER BY key_id LIMIT $1", int(rate * seconds)
    )
    statement = await connection.prepare("UPDATE api_keys SET status = 'revoked' WHERE id = $1")
    committed, begun = {}, time.perf_counter()
    for number, row in enumerate(rows):
        await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))
        await statement.fetch(row["id"])
        committed[row["key_id"]] = time.time()
    print(f"changes {len(rows) / (time.perf_counter() - begun):.0f} a second")
    return committed


async def measure(environment: dict[str, str], options: argparse.Namespace) -> None:
    """All of it; PostgreSQL runs, the API does not yet."""
    settings = Settings(
        telemetryflow_data_dir=environment["TELEMETRYFLOW_DATA_DIR"],
        db_port=int(environment["DB_PORT"]),
    )
    connection = await asyncpg.connect(**embedded_address(settings).options())
    keys = await connection.fetchval("SELECT count(*) FROM api_keys")
    await asyncio.sleep(QUIET_SECONDS)
    command = [sys.executable, "-m", "benchmarks.directory", "--follow", str(keys)]
    followers = []
    for number in range(FOLLOWERS):
        folder = f"{environment['TELEMETRYFLOW_DATA_DIR']}/{number}"
        followers.append(
            subprocess.Popen(  # noqa: ASYNC220 - nothing else runs here
                command,
                env=environment | {"TELEMETRYFLOW_DATA_DIR": folder},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        # One after the other: each time is that of a gateway that starts alone.
        _, seconds, held, data, _peak = followers[-1].stdout.readline().split()  # type: ignore[union-attr]
        print(
            f"snapshot of {keys} keys in {seconds} s; a key takes {held} bytes for {data} of data"
        )
    for one in followers:
        print(file=one.stdin, flush=True)
    committed = await revoke(connection, options.rate, options.seconds)
    await asyncio.sleep(QUIET_SECONDS)
    for one in followers:
        output, _ = one.communicate("\n", timeout=60)
        cpu, *lines = output.splitlines()
        in_force = dict(line.split() for line in lines)
        waits = sorted((float(in_force[key_id]) - at) * 1_000 for key_id, at in committed.items())
        cuts = statistics.quantiles(waits, n=100)
        print(
            f"revocation in force after p50 {cuts[49]:.0f} ms, p99 {cuts[98]:.0f} ms, at most "
            f"{waits[-1]:.0f} ms; {cpu} s of CPU"
        )
    await connection.close()


def main() -> None:
    """Start everything, measure, end everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenants", type=int, default=10_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=1_000.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--follow", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.follow:
        asyncio.run(follow(options.follow))
        return
    folder = Path(tempfile.mkdtemp(prefix="telemetryflow-benchmark-"))
    names = ("DB_PORT", "PORT", "DIRECTORY_PORT", "API_METRICS_PORT", "WORKER_METRICS_PORT")
    ports = {name: str(free_port()) for name in names}
    environment = {
        **os.environ,
        **ports,
        "TELEMETRYFLOW_DATA_DIR": str(folder),
        "LOG_CONSOLE_LEVEL": "error",
        "API_KEY_PEPPER": "a pepper of the benchmark",
        "DIRECTORY_TOKEN": "a token of the benchmark",
        "DIRECTORY_ADDRESS": f"127.0.0.1:{ports['DIRECTORY_PORT']}",
    }

    async def prepare() -> None:
        settings = Settings(telemetryflow_data_dir=str(folder), db_port=int(ports["DB_PORT"]))
        connection = await asyncpg.connect(**embedded_address(settings).options())
        await fill(connection, options.tenants, options.keys)
        await connection.close()

    try:
        with processes(environment) as running:
            subprocess.run(
                [*running["api"].args[:3], "init"],  # type: ignore[index]
                env=environment,
                check=True,
                capture_output=True,
            )
            asyncio.run(prepare())
            asyncio.run(measure(environment, options))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
