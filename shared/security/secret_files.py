"""Secrets that the product makes for itself on first use, in files of the data folder."""

import contextlib
import os
import secrets
import tempfile
from pathlib import Path


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
