"""Wall clocks that jump under gateway and writer, and a broker whose disk is full."""

import os
import subprocess
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

JUMPS: Final = ("+1h", "-1h", "+3d", "+0")
DISK_BYTES: Final = 96 * 1024 * 1024
STARTS_MAX: Final = 3
FAKETIME: Final = "libfaketime.so.1"

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="session")
def faketime() -> Path:
    for path in Path("/usr/lib").glob(f"*/faketime/{FAKETIME}"):
        return path
    pytest.skip("needs libfaketime: apt-get install faketime")


@pytest.fixture(params=["kafka"])
def product_settings(request: pytest.FixtureRequest) -> dict[str, str]:
    if request.param == "embedded":
        return {}
    return kafka_settings(request.getfixturevalue("kafka"))


@contextmanager
def started(product: Product) -> Iterator[None]:
    """The product at work.

    libfaketime now and then makes a call of a starting process fail with EINVAL, before any clock
    has jumped; such a start is made again.
    """
    for attempt in range(STARTS_MAX):
        try:
            product.__enter__()
            break
        except AssertionError as error:
            if "Invalid argument" not in str(error) or attempt == STARTS_MAX - 1:
                raise
    try:
        yield
    finally:
        product.close()


def test_F51_clocks_that_jump_lose_and_double_nothing(
    product_settings: dict[str, str], faketime: Path, tmp_path: Path
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    product = Product(tmp_path, product_settings)
    for name in ("ingest", "writer"):
        product.own_settings[name] |= {
            "LD_PRELOAD": str(faketime),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            # A real jump moves the wall clock only.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
    run = "run/F51/"
    with started(product):
        with load(product.http_port, run) as ledger:
            for jump in JUMPS:
                wait_for_progress(ledger, RECORDS_BEFORE)
                clock.write_text(f"{jump}\n")
                wait_for_progress(ledger, RECORDS_AFTER)
        try:
            check_that_each_is_stored_once(product, ledger, run)
        except AssertionError:
            # The same fault of libfaketime can end a process later; what is stored must not differ.
            spoiled = [name for name in ("ingest", "writer") if product.has_ended(name)]
            if not any("Invalid argument" in product.output_of(name) for name in spoiled):
                raise
            for name in spoiled:
                product.own_settings[name].pop("LD_PRELOAD")
                product.start(name)
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
