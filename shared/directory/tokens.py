"""What gateways show to the control plane when they follow its directory."""

import contextlib
import os
import secrets
import tempfile
from pathlib import Path
from typing import Final

from shared.settings import Settings

TOKEN_FILE: Final = "secrets/directory-token"  # noqa: S105 - a path
METHOD: Final = "/telemetryflow.directory.v1.DirectoryService/Follow"


def directory_token(settings: Settings) -> str:
    """DIRECTORY_TOKEN, or a file of the data folder that is made on first use."""
    if settings.directory_token:
        return settings.directory_token
    return text_of_secret_file(settings.data_dir / TOKEN_FILE)


def text_of_secret_file(path: Path) -> str:
    """What *path* holds: 64 random hex digits that the first who asks has made, for its owner."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, made = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        # Whole or not at all; when another process was first, what it made stands.
        with contextlib.suppress(FileExistsError):
            os.link(made, path)
        Path(made).unlink()
    return path.read_text().strip()
