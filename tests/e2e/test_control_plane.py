"""The control plane as processes: killed at any time, it loses nothing and does nothing twice."""

import json
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.control_plane import READY_SECONDS_MAX, ControlPlane
from tests.e2e.processes import wait_for


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """One for all tests: each leaves it running."""
    folder = Path(tempfile.mkdtemp(prefix="telemetryflow-control-"))
    plane = ControlPlane(folder)
    try:
        plane.begin()
        yield plane
    finally:
        plane.close()
        shutil.rmtree(folder, ignore_errors=True)


def person(number: int) -> dict[str, str]:
    return {"email": f"p{number}@example.com", "firstName": "P", "lastName": str(number)}


def test_G18_killing_API_worker_and_PostgreSQL_loses_and_doubles_no_mail(
    plane: ControlPlane,
) -> None:
    for number in range(12):
        status, answer, _ = plane.ask("POST", "/invitations", person(number))
        assert status == 201, answer
        if number == 3:
            plane.kill("worker")
        if number == 6:
            # Committed, maybe not relayed yet.
            plane.kill("api")
            plane.start("api")
        if number == 9:
            plane.postgres.kill()
            plane.postgres.start()
            wait_for("the API is back", lambda: plane.health() == 200, READY_SECONDS_MAX)
    plane.start("worker")
    plane.kill("worker")
    plane.start("worker")

    wait_for("all mails", lambda: len(set(plane.invited())) == 12, 60)
    time.sleep(1)
    # A mail that left before its worker was killed may leave again: never another effect.
    assert len(plane.invited()) <= 13
    status, page, _ = plane.ask("GET", "/invitations?limit=100")
    assert (status, page["meta"]["total"]) == (200, 12)


def test_without_PostgreSQL_the_API_says_when_to_come_back_and_recovers(
    plane: ControlPlane,
) -> None:
    plane.postgres.kill()

    status, problem, headers = plane.ask("GET", "/users")
    assert status == 503, problem
    assert int(headers["Retry-After"]) >= 1
    assert plane.health() == 503

    plane.postgres.start()
    wait_for("recovery", lambda: plane.ask("GET", "/users")[0] == 200, READY_SECONDS_MAX)


def test_without_Redis_and_NATS_it_works_and_says_so(plane: ControlPlane) -> None:
    with urllib.request.urlopen(f"{plane.url}/health", timeout=10) as answer:
        health = json.loads(answer.read())

    assert health["status"] == "degraded"
    assert health["engines"]["postgres"] == "healthy"
    assert health["engines"]["nats"] == health["engines"]["redis"] == "unhealthy"


def test_a_second_start_makes_nobody_anew(plane: ControlPlane) -> None:
    assert plane.command("init") == ""
