"""The wheel: it carries the compiled codec, installs into a clean environment and runs there."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.e2e import test_up
from tests.e2e.processes import ROOT, wait_for

INSTALL_SECONDS_MAX = 400


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the source tree as it stands, built from a copy."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if name.startswith(("control/", "ingest/", "shared/")) or "/" not in name:
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_file():
                target.write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)],
        cwd=source,
        check=True,
        capture_output=True,
        timeout=INSTALL_SECONDS_MAX,
    )
    return next(folder.glob("*.whl"))


@pytest.mark.timeout(INSTALL_SECONDS_MAX)
def test_the_wheel_carries_the_compiled_codec_and_the_migrations(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert any(name.startswith("ingest/codec/encoder.cpython") for name in names)
    for carried in (
        "shared/clickhouse/migrations/0001_traces.sql",
        "control/migrations/0001_kernel.sql",
        "shared/http/static/swagger-ui-bundle.js",
        "shared/ui/templates/mail.html",
    ):
        assert carried in names
    assert not any(name.startswith("tests/") for name in names)


@pytest.mark.timeout(2 * INSTALL_SECONDS_MAX)
def test_the_wheel_runs_from_a_clean_environment(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = tmp_path / "clean"
    venv.create(clean, with_pip=True)
    pip = [
        str(clean / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        # Of what is installed little is loaded.
        "--no-compile",
    ]
    locked = ["--require-hashes", "-r", str(ROOT / "requirements" / "runtime.txt")]
    subprocess.run([*pip, *locked], check=True, timeout=INSTALL_SECONDS_MAX)
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True, timeout=INSTALL_SECONDS_MAX)
    monkeypatch.setattr(test_up, "COMMAND", (str(clean / "bin" / "telemetryflow"),))
    monkeypatch.setattr(test_up, "ROOT", tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    up = test_up.Up(tmp_path)
    try:
        up.start()
        test_up.send_span(up.ports["INGEST_HTTP_PORT"], "from a wheel")
        wait_for(
            "the row",
            lambda: up.run("sql", "SELECT SpanName FROM otel_traces") == (0, "from a wheel\n"),
            20,
        )
    finally:
        up.close()
