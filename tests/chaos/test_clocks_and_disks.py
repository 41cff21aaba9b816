"""Wall clocks that jump under gateway and writer, and a broker whose disk is full."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.chaos.kafka_products import kafka_settings
from tests.chaos.load import load
from tests.chaos.test_gateway_crashes import (
    RECORDS_AFTER,
    RECORDS_BEFORE,
    check_that_each_is_stored_once,
    wait_for_progress,
)
from tests.e2e.processes import Product, wait_for
from tests.kafka.broker import Broker

HOUR: Final = 3_600
JUMPS_SECONDS: Final = (HOUR, -HOUR, 72 * HOUR, 0)
DISK_BYTES: Final = 96 * 1024 * 1024

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(params=["embedded", "kafka"])
def product_settings(request: pytest.FixtureRequest) -> dict[str, str]:
    if request.param == "embedded":
        return {}
    return kafka_settings(request.getfixturevalue("kafka"))


def test_F51_clocks_that_jump_lose_and_double_nothing(
    product_settings: dict[str, str], wall_clock: Path, tmp_path: Path
) -> None:
    jump = tmp_path / "jump"
    jump.write_bytes(bytes(8))
    product = Product(tmp_path, product_settings)
    for name in ("ingest", "writer"):
        product.own_settings[name] |= {
            "LD_PRELOAD": str(wall_clock),
            "WALL_CLOCK_FILE": str(jump),
        }
    run = "run/F51/"
    with product:
        with load(product.http_port, run) as ledger:
            for seconds in JUMPS_SECONDS:
                wait_for_progress(ledger, RECORDS_BEFORE)
                with jump.open("r+b") as file:
                    file.write(seconds.to_bytes(8, sys.byteorder, signed=True))
                wait_for_progress(ledger, RECORDS_AFTER)
        check_that_each_is_stored_once(product, ledger, run)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own of DISK_BYTES."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"needs the right to mount: {done.stderr}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_F50_a_broker_whose_disk_is_full_loses_nothing(
    kafka_installed: None, tmp_path: Path
) -> None:
    run = "run/F50/"
    with small_disk(tmp_path / "disk") as disk:
        broker = Broker(disk / "kafka", {"log.segment.bytes": 4 * 1024 * 1024})
        try:
            broker.start()
            with Product(tmp_path / "product", kafka_settings(broker)) as product:
                with load(product.http_port, run) as ledger:
                    wait_for_progress(ledger, RECORDS_BEFORE)
                    filler = disk / "filler"
                    with filler.open("wb") as file:
                        fill(file.fileno())
                    # Kafka gives up its only disk, and ends.
                    wait_for("the end of the broker", broker.has_ended, 60)
                    filler.unlink()
                    broker.kill()
                    broker.start()
                    wait_for_progress(ledger, RECORDS_AFTER)
                check_that_each_is_stored_once(product, ledger, run)
        finally:
            broker.kill()


def fill(descriptor: int) -> None:
    """Write until nothing more fits."""
    for size in (1 << 20, 1 << 12):
        for _ in range(DISK_BYTES // size + 1):
            try:
                os.write(descriptor, bytes(size))
            except OSError:
                break
