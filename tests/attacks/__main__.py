"""Attacks a gateway at full size and prints a table: `python -m tests.attacks [--engine ENGINE]`.

The gateway is a process as users run it. While each attack goes on, a good client in a process of
its own sends over HTTP and gRPC. Everything stays on this machine; 5 000 connections need as many
open files on both sides (`ulimit -n`).
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import trustme
import uvloop

from tests.attacks.gateway import Gateway, gateway
from tests.attacks.waves import TLS_WAVES, WAVES, Wave

ALONE_SECONDS = 5.0
REST_SECONDS = 3.0
COLUMNS = (
    "attack",
    "size",
    "answer",
    "limit",
    "counted as",
    "good client's p99 alone → during, ms",
    "failed",
    "gateway's CPU, s",
    "RSS before → peak → after, MiB",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="which attacks; all by default")
    parser.add_argument("--engine", choices=("ngh2", "grpcio"), default="ngh2")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - {*WAVES, *TLS_WAVES}:
        parser.error(f"unknown attack {', '.join(sorted(unknown))}")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    settings = {"INGEST_GRPC_ENGINE": chosen.engine}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificate, authority = certificates(folder)
        for waves, extra, file in (
            (WAVES, {}, ""),
            (TLS_WAVES, certificate, authority),
        ):
            wanted = {name: wave for name, wave in waves.items() if wanted_of(name, chosen)}
            if wanted:
                with gateway(folder, settings | extra, file) as attacked:
                    suffer(attacked, wanted)
    return 0


def wanted_of(name: str, chosen: argparse.Namespace) -> bool:
    """Whether an attack was asked for; without gRPC in it, it does not depend on the engine."""
    if chosen.names:
        return name in chosen.names
    return chosen.engine == "ngh2" or name.startswith(("grpc", "http2"))


def certificates(folder: Path) -> tuple[dict[str, str], str]:
    """Settings of a gateway with TLS, and the file of the authority to trust."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    files = {name: folder / f"{name}.pem" for name in ("certificate", "key", "authority")}
    issued.cert_chain_pems[0].write_to_path(files["certificate"])
    issued.private_key_pem.write_to_path(files["key"])
    authority.cert_pem.write_to_path(files["authority"])
    settings = {
        "INGEST_TLS_CERT_FILE": str(files["certificate"]),
        "INGEST_TLS_KEY_FILE": str(files["key"]),
    }
    return settings, str(files["authority"])


def suffer(attacked: Gateway, waves: dict[str, Wave]) -> None:
    """Every attack, one after the other, on the same process."""
    with attacked.good_client() as alone:
        time.sleep(ALONE_SECONDS)
    for name, wave in waves.items():
        before, counted, worked = (
            attacked.memory_bytes(),
            attacked.refused(),
            attacked.cpu_seconds(),
        )
        with attacked.good_client() as during, attacked.watched() as peak:
            answers = uvloop.run(_counted(wave, attacked))
        cpu_seconds = attacked.cpu_seconds() - worked
        time.sleep(REST_SECONDS)
        cells = (
            name.replace("_", " "),
            wave.size,
            listed(answers),
            wave.limit,
            listed(attacked.refused() - counted),
            f"{alone.p99_ms:.0f} → {during.p99_ms:.0f}",
            f"{during.failed} of {len(during.seconds) + during.failed:,}",
            f"{cpu_seconds:.1f}",
            " → ".join(
                f"{size / 2**20:.0f}" for size in (before, peak[0], attacked.memory_bytes())
            ),
        )
        print(f"| {' | '.join(cells)} |", flush=True)


def listed(counts: Counter[str]) -> str:
    """The most frequent ones."""
    return ", ".join(f"{name}: {count:,}" for name, count in counts.most_common(3))


async def _counted(wave: Wave, attacked: Gateway) -> Counter[str]:
    return await wave.run(attacked.ports, wave.seconds)


if __name__ == "__main__":
    sys.exit(main())
