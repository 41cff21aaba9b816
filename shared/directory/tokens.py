"""What gateways show to the control plane when they follow its directory."""

from typing import Final

from shared.security.secret_files import text_of_secret_file
from shared.settings import Settings

TOKEN_FILE: Final = "secrets/directory-token"  # noqa: S105 - a path
METHOD: Final = "/telemetryflow.directory.v1.DirectoryService/Follow"


def directory_token(settings: Settings) -> str:
    """DIRECTORY_TOKEN, or a file of the data folder that is made on first use."""
    if settings.directory_token:
        return settings.directory_token
    return text_of_secret_file(settings.data_dir / TOKEN_FILE)
