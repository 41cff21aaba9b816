"""The control plane dies under load: gateways go on with the keys that they know."""

import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from shared.security.peppers import new_key_id, new_secret
from tests.chaos.load import CLIENTS, RECORDS_A_REQUEST, load
from tests.chaos.test_gateway_crashes import (
    RECORDS_AFTER,
    RECORDS_BEFORE,
    check_that_each_is_stored_once,
    wait_for_progress,
)
from tests.e2e.control_plane import ControlPlane
from tests.e2e.processes import Product, wait_for

DAY_SECONDS: Final = 86_400
KNOWN_SECONDS_MAX: Final = 10
RECOVERY_SECONDS_MAX: Final = 30

pytestmark = pytest.mark.timeout(240)


class Rig:
    """A control plane, and a data plane that follows its directory; keys are made over the API."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.plane = ControlPlane(folder / "control")
        shared = {"DIRECTORY_TOKEN": "a token for tests", "API_KEY_PEPPER": "a pepper for tests"}
        self.plane.environment |= shared
        self.jump = folder / "jump"
        self.jump.write_bytes(bytes(8))
        self.product = Product(
            folder / "data",
            {
                **shared,
                "DIRECTORY_ADDRESS": f"127.0.0.1:{self.plane.directory_port}",
                # Keys send as much as comes.
                "THROTTLE_INGESTION_LIMIT": "0",
            },
        )
        self.secrets: list[str] = []

    def make_key(self, **properties: Any) -> tuple[str, dict[str, str]]:
        """A key that the gateway knows: its id, and the headers of a request with it."""
        status, made, _ = self.plane.ask("POST", "/api-keys", {"name": "load", **properties})
        assert status == 201, made
        return made["key"]["id"], self._known(made)

    def rotate(self, key: str, **properties: Any) -> dict[str, str]:
        """The headers of the key that takes its place, once the gateway knows that."""
        status, made, _ = self.plane.ask("POST", f"/api-keys/{key}/rotate", properties)
        assert status == 201, made
        return self._known(made)

    def _known(self, made: Any) -> dict[str, str]:
        self.secrets.append(made["secret"])
        headers = {"Authorization": f"Bearer {made['key']['keyId']}:{made['secret']}"}
        wait_for("the key to be known", lambda: self.status(headers) == 200, KNOWN_SECONDS_MAX)
        return headers

    def status(self, headers: dict[str, str]) -> int:
        """What an empty request with these headers is answered."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.product.http_port}/v1/logs",
            b"{}",
            {"Content-Type": "application/json", **headers},
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    def files_with_secrets(self) -> list[str]:
        """Data of both planes and of their engines, and what the data plane printed."""
        files = [path for path in self._folder.rglob("*") if path.is_file()]
        contents = ((path, path.read_bytes()) for path in files)
        return [
            f"{path.relative_to(self._folder)}: {secret[:8]}…"
            for path, content in contents
            for secret in self.secrets
            if secret.encode() in content
        ]

    def directory_age_seconds(self) -> float:
        """For how long the gateway has not heard of the control plane, as it says itself."""
        (age,) = self.product.metrics("ingest")["telemetryflow_ingest_directory_age_seconds"]
        return age

    def restore(self) -> None:
        """Start what a test that failed has left dead."""
        self.move_clock_of_gateway(0)
        self.plane.restart_what_died()
        if self.product.has_ended("ingest"):
            self.product.start("ingest")

    def move_clock_of_gateway(self, seconds: int) -> None:
        """Let the gateway's wall clock be wrong by that much."""
        with self.jump.open("r+b") as file:
            file.write(seconds.to_bytes(8, sys.byteorder, signed=True))


@pytest.fixture(scope="module")
def started_rig(wall_clock: Path) -> Iterator[Rig]:
    folder = Path(tempfile.mkdtemp(prefix="telemetryflow-outages-"))
    (folder / "control").mkdir()
    rig = Rig(folder)
    rig.product.own_settings["ingest"] |= {
        "LD_PRELOAD": str(wall_clock),
        "WALL_CLOCK_FILE": str(rig.jump),
    }
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(rig.plane.close)
        rig.plane.begin()
        stack.enter_context(rig.product)
        yield rig


@pytest.fixture
def rig(started_rig: Rig) -> Iterator[Rig]:
    """Whole again after each test, whatever became of it."""
    yield started_rig
    started_rig.restore()


def test_F46_data_flows_while_API_directory_and_PostgreSQL_are_down(rig: Rig) -> None:
    run = "run/F46/"
    _, headers = rig.make_key()
    with load(rig.product.http_port, run, headers=headers) as ledger:
        wait_for_progress(ledger, RECORDS_BEFORE)
        # The API serves the directory: both die.
        rig.plane.kill("api")
        rig.plane.postgres.kill()
        wait_for_progress(ledger, RECORDS_AFTER)
        wait_for("a stale directory", lambda: rig.directory_age_seconds() > 1, 10)
        # A gateway that starts anew meanwhile begins with its file.
        rig.product.kill("ingest")
        rig.product.start("ingest")
        wait_for_progress(ledger, RECORDS_AFTER)
        # What it cannot know it refuses.
        stranger = {"Authorization": f"Bearer {new_key_id()}:{new_secret()}"}
        assert rig.status(stranger) == 401
        rig.plane.postgres.start()
        rig.plane.start("api")
        wait_for_progress(ledger, RECORDS_AFTER)
    check_that_each_is_stored_once(rig.product, ledger, run)
    wait_for("the directory", lambda: rig.directory_age_seconds() < 6, RECOVERY_SECONDS_MAX)


def test_G13_a_key_that_is_rotated_under_load_refuses_nothing_within_the_grace(rig: Rig) -> None:
    run = "run/G13/rotated/"
    key, headers = rig.make_key()
    with load(rig.product.http_port, run, headers=headers) as ledger:
        wait_for_progress(ledger, RECORDS_BEFORE)
        successor = rig.rotate(key)
        wait_for_progress(ledger, RECORDS_AFTER)
        with load(rig.product.http_port, f"{run}successor/", headers=successor) as second:
            wait_for_progress(second, RECORDS_AFTER)
    assert second.refusals == []
    ledger.sent |= second.sent
    ledger.acknowledged |= second.acknowledged
    check_that_each_is_stored_once(rig.product, ledger, run)


def test_G13_a_key_that_is_revoked_under_load_is_refused_and_what_it_sent_is_stored(
    rig: Rig,
) -> None:
    run = "run/G13/revoked/"
    key, headers = rig.make_key()
    with load(rig.product.http_port, run, headers=headers) as ledger:
        wait_for_progress(ledger, RECORDS_BEFORE)
        assert ledger.refusals == []
        status, answer, _ = rig.plane.ask("POST", f"/api-keys/{key}/revoke")
        assert status == 200, answer
        wait_for("a refusal", lambda: rig.status(headers) == 401, KNOWN_SECONDS_MAX)
        acknowledged = len(ledger.acknowledged)
        refused = len(ledger.refusals)
        wait_for("more refusals", lambda: len(ledger.refusals) > refused + 20, KNOWN_SECONDS_MAX)
        # Those that were under way at that moment may still have been taken.
        assert len(ledger.acknowledged) <= acknowledged + CLIENTS * RECORDS_A_REQUEST
    assert all(text.startswith("401") for text in ledger.refusals)
    ledger.refusals.clear()
    ledger.sent &= ledger.acknowledged
    check_that_each_is_stored_once(rig.product, ledger, run)


@pytest.mark.parametrize("days", [3, -3])
def test_F51_a_gateway_whose_clock_is_wrong_ends_keys_by_the_control_planes(
    rig: Rig, days: int
) -> None:
    _, lasting = rig.make_key(expiresInDays=1)
    replaced, ended = rig.make_key()
    rig.move_clock_of_gateway(days * DAY_SECONDS)
    try:
        rig.rotate(replaced, gracePeriodMinutes=0)
        # A heartbeat tells how far the clocks are apart.
        wait_for("the control plane's clock", lambda: rig.status(lasting) == 200, 10)
        wait_for("the end of the grace", lambda: rig.status(ended) == 401, 10)
        assert rig.status(lasting) == 200
    finally:
        rig.move_clock_of_gateway(0)
        wait_for("the right clock", lambda: rig.status(lasting) == 200, 10)


def test_S65_no_secret_of_a_key_stands_in_any_log_or_file(rig: Rig) -> None:
    """Of all that the tests before have made; the control plane keeps only hashes."""
    _, headers = rig.make_key()
    found = rig.files_with_secrets()

    assert headers["Authorization"].rpartition(":")[2] in rig.secrets
    assert found == []
