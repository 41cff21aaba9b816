"""Every setting of every process: read once from the environment, validated, frozen.

Names are those of the environment variables, in lower case. `telemetryflow check` shows what is in
force; `.env.example` and docs/configuration.md are generated from the descriptions here.
"""

import difflib
import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any, Final

from shared.errors import Invalid
from shared.settings.control_plane import ControlPlaneSettings
from shared.settings.data_plane import DataPlaneSettings
from shared.settings.declare import setting

ENVIRONMENTS: Final = ("development", "test", "production")
# A name that begins like one of ours but is none of ours is a typing error, not a secret wish.
_PREFIXES: Final = (
    "TELEMETRYFLOW_",
    "INGEST_",
    "WRITER_",
    "LOG_",
    "KAFKA_",
    "CLICKHOUSE_",
    "TELEMETRY_",
    "API_",
    "DB_",
    "REDIS_",
    "CACHE_",
    "JWT_",
    "PASSWORD_",
    "ACCOUNT_",
    "MFA_",
    "SMTP_",
    "AUDIT_",
    "THROTTLE_",
)
# Read elsewhere: crash tests (shared.faults) and builds (setup.py).
_FOREIGN: Final = ("TELEMETRYFLOW_CRASH_AT", "TELEMETRYFLOW_SANITIZE")
_MASK: Final = "********"


@dataclass(frozen=True, kw_only=True)
class CommonSettings:
    """What every process is told."""

    telemetryflow_env: str = setting(
        "development", "development, test or production", choices=ENVIRONMENTS
    )
    telemetryflow_data_dir: str = setting(
        "./data", "folder of everything that is kept on this machine"
    )


@dataclass(frozen=True, kw_only=True)
class Settings(ControlPlaneSettings, DataPlaneSettings, CommonSettings):
    """All settings, with their defaults. An empty variable counts as unset."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> "Settings":
        """The settings in *env* (default: the process's); Invalid names the variable at fault."""
        given = {name: text.strip() for name, text in (os.environ if env is None else env).items()}
        known = {setting.name.upper(): setting for setting in fields(cls)}
        _refuse_unknown(given, known)
        values: dict[str, Any] = {
            setting.name: _parsed(name, setting, given[name])
            for name, setting in known.items()
            if given.get(name)
        }
        settings = cls(**values)
        settings._check_together()
        return settings

    @property
    def data_dir(self) -> Path:
        """Folder of everything that is kept on this machine."""
        return Path(self.telemetryflow_data_dir)

    @property
    def is_embedded(self) -> bool:
        """Whether this machine serves its own ClickHouse, and so is one of a kind."""
        return not self.clickhouse_host

    @property
    def listen_host(self) -> str:
        """Address that OTLP is received on."""
        return self.ingest_host or ("127.0.0.1" if self.is_embedded else "0.0.0.0")  # noqa: S104

    @property
    def retention_days(self) -> dict[str, int]:
        """Days that each signal of a new tenant is kept."""
        return {
            "traces": self.telemetry_traces_retention_days,
            "logs": self.telemetry_logs_retention_days,
            "metrics": self.telemetry_metrics_retention_days,
        }

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={text}' for name, text in self.shown())})"

    def shown(self) -> list[tuple[str, str]]:
        """Every variable with its value, secrets masked."""
        return [
            (setting.name.upper(), _shown(setting, getattr(self, setting.name)))
            for setting in fields(self)
        ]

    def _check_together(self) -> None:
        if self.kafka_security_protocol.startswith("SASL") and not (
            self.kafka_sasl_username and self.kafka_sasl_password
        ):
            raise Invalid(
                f"KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol} needs "
                "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
            )
        if self.kafka_min_insync_replicas > self.kafka_replication_factor:
            raise Invalid("KAFKA_MIN_INSYNC_REPLICAS is more than KAFKA_REPLICATION_FACTOR")
        if bool(self.ingest_tls_cert_file) != bool(self.ingest_tls_key_file):
            raise Invalid("INGEST_TLS_CERT_FILE and INGEST_TLS_KEY_FILE go together: set both")
        if self.ingest_tls_client_ca_file and not self.ingest_tls_cert_file:
            raise Invalid("INGEST_TLS_CLIENT_CA_FILE needs INGEST_TLS_CERT_FILE")


def _shown(setting: Field[Any], value: object) -> str:
    return _MASK if setting.metadata["secret"] and value else str(value)


def _refuse_unknown(given: Mapping[str, str], known: Mapping[str, Field[Any]]) -> None:
    for name in given:
        if name.startswith(_PREFIXES) and name not in known and name not in _FOREIGN:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise Invalid(f"unknown setting {name}{hint}")


def _parsed(name: str, setting: Field[Any], text: str) -> str | int:
    metadata = setting.metadata
    if not isinstance(setting.default, int):
        if metadata["choices"] and text not in metadata["choices"]:
            raise Invalid(f"{name}={text}: choose one of {', '.join(metadata['choices'])}")
        return text
    least, most = metadata["least"], metadata["most"]
    try:
        number = int(text)
    except ValueError:
        number = None
    if number is None or not least <= number <= most:
        raise Invalid(f"{name}={text}: give a whole number from {least} to {most}")
    return number


def documented() -> list[tuple[str, str, str]]:
    """Name, default and description of every setting, in order."""
    return [
        (setting.name.upper(), str(setting.default), str(setting.metadata["text"]))
        for setting in fields(Settings)
    ]
