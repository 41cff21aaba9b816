import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.records import RecordInfo, RequestRows, TenantRows, from_headers, rows_of, to_headers
from shared.errors import Invalid

NUMBERS = st.integers(0, 2**40)
NANOSECONDS = st.integers(-(2**63), 2**63 - 1)
KEYS = st.just("") | st.binary(min_size=16, max_size=16).map(lambda one: f"tfk_{one.hex()}")
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@st.composite
def infos(draw: st.DrawFn) -> RecordInfo:
    places = draw(st.lists(st.tuples(NAMES, KEYS), min_size=1, max_size=5, unique=True))
    request = st.builds(
        lambda request_id, numbers, place, size: RequestRows(
            request_id, place[0], numbers[0], numbers[1], numbers[2], place[1], size
        ),
        st.binary(min_size=16, max_size=16),
        st.tuples(NUMBERS, NUMBERS, NUMBERS),
        st.sampled_from(places),
        NUMBERS,
    )
    return RecordInfo(
        table=draw(NAMES),
        rows=draw(st.integers(0, 2**32 - 1)),
        retention_days=draw(st.integers(0, 2**32 - 1)),
        time_min_ns=draw(NANOSECONDS),
        time_max_ns=draw(NANOSECONDS),
        encoding=draw(st.sampled_from(["zstd", "lz4"])),
        tenants=tuple(TenantRows(name, draw(NUMBERS), key) for name, key in places),
        requests=tuple(draw(st.lists(request, max_size=20))),
    )


def example_info() -> RecordInfo:
    return RecordInfo(
        table="otel_traces",
        rows=300,
        retention_days=30,
        time_min_ns=1,
        time_max_ns=2,
        encoding="zstd",
        tenants=(TenantRows("acme", 200), TenantRows("umbrella", 100)),
        requests=(
            RequestRows(b"a" * 16, "acme", 0, 0, 200),
            RequestRows(b"b" * 16, "umbrella", 1, 200, 100),
        ),
    )


@given(infos())
def test_headers_give_back_exactly_what_was_put_in(info: RecordInfo) -> None:
    assert from_headers(to_headers(info)) == info
    assert rows_of(to_headers(info)) == info.rows


def test_the_layout_of_headers_does_not_change_within_version_1() -> None:
    assert to_headers(example_info()) == (
        ("v", b"\x01"),
        ("t", b"otel_traces"),
        ("n", b"\x2c\x01\x00\x00"),
        ("r", b"\x1e\x00\x00\x00"),
        ("lo", b"\x01" + bytes(7)),
        ("hi", b"\x02" + bytes(7)),
        ("e", b"zstd"),
        ("c", b"\x04acme\xc8\x01\x08umbrella\x64"),
        ("q", b"a" * 16 + b"\x00\x00\x00\xc8\x01" + b"b" * 16 + b"\x01\x01\xc8\x01\x64"),
    )
    assert to_headers(replace(example_info(), minute=1))[7] == ("m", b"\x01\x00\x00\x00")


def test_keys_and_sizes_stand_in_headers_that_an_older_writer_ignores() -> None:
    key = f"tfk_{7:032x}"
    info = replace(
        example_info(),
        tenants=(TenantRows("acme", 200, key), TenantRows("acme", 100)),
        requests=(
            RequestRows(b"a" * 16, "acme", 0, 0, 200, key, 300),
            RequestRows(b"b" * 16, "acme", 0, 200, 100, "", 5),
        ),
    )
    headers = to_headers(info)
    assert headers[7:9] == (
        ("c", b"\x04acme\xc8\x01\x04acme\x64"),
        ("q", b"a" * 16 + b"\x00\x00\x00\xc8\x01" + b"b" * 16 + b"\x01\x00\xc8\x01\x64"),
    )
    assert headers[9:] == (("k", b"\x10" + bytes(15) + b"\x07" + b"\x00"), ("b", b"\xac\x02\x05"))
    assert from_headers(headers) == info
    older = from_headers(headers[:9])
    assert {(one.key, one.body_bytes) for one in older.requests} == {("", 0)}
    assert older.rows == info.rows


@pytest.mark.parametrize("version", [None, b"", b"\x00", b"\x02", b"\x01\x01"])
def test_F59_an_unknown_version_is_refused_and_never_guessed(version: bytes | None) -> None:
    headers = [pair for pair in to_headers(example_info()) if pair[0] != "v"]
    if version is not None:
        headers.append(("v", version))
    with pytest.raises(Invalid, match="version"):
        from_headers(tuple(headers))


@given(st.data())
def test_damaged_headers_are_invalid_or_read_but_nothing_else(data: st.DataObject) -> None:
    headers = list(to_headers(example_info()))
    at = data.draw(st.integers(1, len(headers) - 1))
    headers[at] = (headers[at][0], data.draw(st.binary(max_size=40)))
    try:
        info = from_headers(tuple(headers))
    except Invalid:
        return
    assert info.schema_version == 1


def test_a_missing_header_is_invalid() -> None:
    for missing in "tnrecq":
        headers = tuple(pair for pair in to_headers(example_info()) if pair[0] != missing)
        with pytest.raises(Invalid):
            from_headers(headers)


def test_a_request_of_a_tenant_without_rows_does_not_fit() -> None:
    stranger = RequestRows(b"c" * 16, "stranger", 0, 0, 1)
    info = RecordInfo("t", 1, 1, 0, 0, "lz4", (TenantRows("acme", 1),), (stranger,))
    with pytest.raises(Invalid):
        to_headers(info)


def test_rows_of_a_record_without_a_count_are_0() -> None:
    assert rows_of(()) == 0
    assert rows_of((("n", b"12"),)) == 0


def crashed_after(armed: str) -> tuple[int, str]:
    code = (
        "from shared.faults import crash_point\n"
        "for step in range(4):\n"
        "    print(step, flush=True)\n"
        "    crash_point('here')\n"
    )
    environment = {**os.environ, "TELEMETRYFLOW_CRASH_AT": armed}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout


def test_H4_a_process_dies_at_the_named_passage_of_its_crash_point() -> None:
    assert crashed_after("here") == (-signal.SIGKILL, "0\n")
    assert crashed_after("here:3") == (-signal.SIGKILL, "0\n1\n2\n")
    assert crashed_after("elsewhere") == (0, "0\n1\n2\n3\n")
    assert crashed_after("") == (0, "0\n1\n2\n3\n")
