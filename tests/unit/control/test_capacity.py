"""`telemetryflow capacity`: rates become processes, cores, partitions and bytes."""

import json
from argparse import Namespace
from importlib.resources import files

import pytest

from control.cli.capacity import BUSY_PART, plan
from control.cli.main import main

COSTS = {
    "cpu_seconds_per_million_items": {
        "gateway, embedded log": {"traces": 1.0},
        "gateway, Kafka": {"traces": 1.2},
        "writer, embedded log": {"traces": 0.15},
        "writer, Kafka": {"traces": 0.3},
        "insert": {"traces": 2.5},
        "merges": {"traces": 2.0},
    },
    "log_bytes_an_item": {"traces": 60},
    "stored_bytes_an_item": {"traces": 70},
    "resident_mb_a_gateway": 150,
    "resident_mb_a_writer": 300,
}


def options(**more: object) -> Namespace:
    given = {"log": "kafka", "replicas": 1, "log_hours": 1.0, "retention_days": 1.0}
    return Namespace(**given | more)


def test_two_million_spans_a_second_need_the_cores_that_they_cost() -> None:
    found = plan({"traces": 2e6}, options(), COSTS)
    gateway, writer, clickhouse = found.needs
    assert gateway.cores == pytest.approx(2.4 / BUSY_PART)
    assert gateway.processes == 4
    assert gateway.memory_mb == 600
    assert writer.processes == 1
    assert clickhouse.cores == pytest.approx(9 / BUSY_PART)
    assert found.partitions == 10
    assert found.log_bytes == 120e6 * 3600
    assert found.stored_bytes == 140e6 * 86_400


def test_replicas_multiply_what_each_of_them_does_and_keeps() -> None:
    one, three = (plan({"traces": 1e5}, options(replicas=count), COSTS) for count in (1, 3))
    assert three.needs[2].cores == pytest.approx(3 * one.needs[2].cores)
    assert three.stored_bytes == 3 * one.stored_bytes
    assert three.log_bytes == 3 * one.log_bytes
    assert three.needs[0] == one.needs[0]


def test_the_embedded_log_has_one_writer_and_one_copy() -> None:
    found = plan({"traces": 1e7}, options(log="embedded", replicas=2), COSTS)
    assert found.needs[1].processes == 1
    assert found.log_bytes == 10 * 60e6 * 3600


def test_every_stage_has_a_cost_of_every_signal() -> None:
    costs = json.loads(files("control.cli").joinpath("costs.json").read_text())
    for kind in (*costs["cpu_seconds_per_million_items"].values(), costs["stored_bytes_an_item"]):
        assert kind.keys() == {"traces", "logs", "metrics"}
        assert all(cost > 0 for cost in kind.values())


def test_the_command_prints_what_a_rate_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["capacity", "--spans-per-second", "1000000"]) == 0
    said = capsys.readouterr().out
    assert "gateway" in said
    assert "partitions of each topic: 6" in said
    assert "make capacity" in said


def test_no_rate_at_all_is_told_what_to_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["capacity"]) == 1
    assert "--spans-per-second" in capsys.readouterr().err
