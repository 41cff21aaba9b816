"""What the writer tells the control plane and the ledger."""

from pathlib import Path

import orjson
import pytest

from ingest.app import follow_log
from ingest.signals import INGESTED_TOPIC
from shared.errors import Unavailable
from shared.settings import Settings
from tests.fakes import Crash, block
from tests.integration.ingest.stored_blocks import logs_request, records_of_requests
from tests.unit.ingest.test_writer import TOPIC, Rig


async def test_what_became_of_rows_is_told_by_event_tenant_and_minute() -> None:
    rig = Rig()
    stamp = 29_720_160 * 60_000
    repeated = block(tenant="acme", rows=3, request_id=b"1" * 16)
    rig.log.put(TOPIC, 0, b"a", repeated, timestamp_ms=stamp)
    rig.log.put(TOPIC, 0, b"b", block(tenant="bolt", rows=4), timestamp_ms=stamp)
    rig.log.put(TOPIC, 0, b"bad", block(tenant="bolt", rows=5), timestamp_ms=stamp)
    rig.log.put(TOPIC, 0, b"again", repeated, timestamp_ms=stamp)
    rig.inserts.refused = {b"bad"}
    await rig.settle()
    documents = [orjson.loads(one.value) for one in rig.log.records[INGESTED_TOPIC, 0]]
    same = {"table": "tf_logs", "minute": 29_720_160}
    assert documents[0]["counts"] == [
        same | {"tenant": "bolt", "event": "dead", "rows": 5},
        same | {"tenant": "acme", "event": "repeated", "rows": 3},
        same | {"tenant": "acme", "event": "stored", "rows": 3},
        same | {"tenant": "bolt", "event": "stored", "rows": 4},
    ]
    assert (documents[0]["signal"], documents[0]["start"], documents[0]["end"]) == ("logs", 0, 3)


async def test_rows_and_bytes_are_told_by_key_and_what_is_cut_out_of_a_block_is_repeated() -> None:
    rig = Rig()
    keys = [f"tfk_{1:032x}", f"tfk_{2:032x}", ""]
    sent = [
        ("acme", b"1" * 16, logs_request(["a"] * 3), keys[0]),
        ("acme", b"2" * 16, logs_request(["b"] * 4), keys[1]),
        ("bolt", b"3" * 16, logs_request(["c"] * 5), keys[2]),
        ("acme", b"4" * 16, logs_request(["d"] * 6), keys[1]),
    ]
    sizes = [len(body) for _tenant, _id, body, _key in sent]
    for members in (sent[:2], sent):
        ((value, headers),) = records_of_requests("logs", members)
        rig.log.put(TOPIC, 0, value, headers, timestamp_ms=60_000)
        await rig.settle()
    first_told, second_told = (
        orjson.loads(one.value)["counts"] for one in rig.log.records[INGESTED_TOPIC, 0]
    )
    same = {"table": "tf_logs", "minute": 1}
    first = same | {"tenant": "acme", "rows": 3, "key": keys[0], "bytes": sizes[0]}
    second = same | {"tenant": "acme", "rows": 4, "key": keys[1], "bytes": sizes[1]}
    assert first_told == [first | {"event": "stored"}, second | {"event": "stored"}]
    assert second_told == [
        first | {"event": "repeated"},
        second | {"event": "repeated"},
        second | {"event": "stored", "rows": 6, "bytes": sizes[3]},
        same | {"tenant": "bolt", "event": "stored", "rows": 5, "bytes": sizes[2]},
    ]


async def test_a_repeat_after_the_counts_were_told_has_the_same_id() -> None:
    rig = Rig()
    rig.put(b"a")
    rig.restarted()
    commit = rig.log.commit
    commits = iter((None, Crash()))

    async def crashing(*arguments: object) -> None:
        if error := next(commits, None):
            raise error
        await commit(*arguments)  # type: ignore[arg-type] # as given

    rig.log.commit = crashing  # type: ignore[method-assign, assignment] # dies at the final commit
    with pytest.raises(Crash):
        await rig.settle()
    rig.restarted()
    await rig.settle()
    ids = [orjson.loads(one.value)["id"] for one in rig.log.records[INGESTED_TOPIC, 0]]
    assert len(ids) == 2
    assert len(set(ids)) == 1


async def test_who_follows_a_log_that_is_not_here_is_told_so_and_makes_none(tmp_path: Path) -> None:
    settings = Settings(telemetryflow_data_dir=str(tmp_path))

    with pytest.raises(Unavailable, match="no embedded log"):
        await follow_log(settings, lambda _document: None)

    assert list(tmp_path.iterdir()) == []
