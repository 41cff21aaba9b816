"""Apache Kafka's jars: fetched once by Maven from Maven Central into a cache outside the source.

`python tests/kafka/jars.py` fetches them ahead of the tests.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

POM: Final = Path(__file__).with_name("pom.xml")
NEEDS: Final = "needs Java 17 and Maven: apt-get install openjdk-17-jre-headless maven"
FETCH_SECONDS_MAX: Final = 300
_COPY: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


class ToolsMissing(Exception):
    """Java, or Maven while there is still something to fetch, is not installed."""


def cache_folder() -> Path:
    """Where the jars of this pom.xml are or will be; another pom.xml has another folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:16]
    return Path(base).absolute() / "telemetryflow" / f"kafka-{digest}"


def jars() -> list[Path]:
    """The jars, sorted, fetched first if they are not there.

    Raises ToolsMissing when that cannot be tried, RuntimeError when Maven fails.
    """
    if shutil.which("java") is None:
        raise ToolsMissing(NEEDS)
    folder = cache_folder() / "libs"
    if not folder.exists():
        if shutil.which("mvn") is None:
            raise ToolsMissing(NEEDS)
        _fetch(folder)
    return sorted(folder.glob("*.jar"))


def _fetch(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Two test processes may come here at once; the second finds the work done.
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            fetched = Path(scratch) / "libs"
            done = subprocess.run(
                ["mvn", "-q", "-B", "-f", str(POM), _COPY, f"-DoutputDirectory={fetched}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=FETCH_SECONDS_MAX,
                check=False,
            )
            if done.returncode != 0:
                raise RuntimeError(f"Maven cannot fetch Kafka:\n{done.stdout[-4000:]}")
            # Only a complete folder gets the name that is looked for.
            fetched.rename(folder)


if __name__ == "__main__":
    print(f"{len(jars())} jars in {cache_folder()}")
