"""Every setting of every process: read once from the environment, validated, frozen.

Names are those of the environment variables, in lower case. `telemetryflow check` shows what is in
force; `.env.example` and docs/configuration.md are generated from the descriptions here.
"""

import difflib
import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from shared.errors import Invalid

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
)
# Read elsewhere: crash tests (shared.faults) and builds (setup.py).
_FOREIGN: Final = ("TELEMETRYFLOW_CRASH_AT", "TELEMETRYFLOW_SANITIZE")
_MASK: Final = "********"


def _setting(
    default: str | int,
    text: str,
    *,
    least: int | None = None,
    most: int | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    metadata = {"text": text, "least": least, "most": most, "choices": choices, "secret": secret}
    return field(default=default, metadata=metadata)


def _port(default: int, text: str) -> Any:
    return _setting(default, text, least=0, most=65_535)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings, with their defaults. An empty variable counts as unset."""

    telemetryflow_env: str = _setting(
        "development", "development, test or production", choices=ENVIRONMENTS
    )
    telemetryflow_data_dir: str = _setting(
        "./data", "folder of everything that is kept on this machine"
    )

    ingest_host: str = _setting(
        "", "address that OTLP is received on; default 127.0.0.1 embedded, 0.0.0.0 otherwise"
    )
    ingest_grpc_port: int = _port(4317, "port of OTLP/gRPC")
    ingest_http_port: int = _port(4318, "port of OTLP/HTTP")
    ingest_grpc_engine: str = _setting(
        "ngh2", "what serves gRPC; grpcio is slower and the fallback", choices=("ngh2", "grpcio")
    )
    ingest_workers: int = _setting(1, "gateway processes on the same ports", least=1, most=256)
    ingest_metrics_port: int = _port(
        9464, "port of the gateway's Prometheus metrics; loopback only"
    )
    ingest_body_bytes_max: int = _setting(
        67_108_864, "largest request body, compressed and decompressed", least=1_024, most=1 << 30
    )
    ingest_memory_bytes_max: int = _setting(
        268_435_456, "bytes of requests in flight per gateway process", least=1 << 20, most=1 << 40
    )
    ingest_lanes: int = _setting(
        1, "partitions of each topic of the embedded log, fixed when it is made", least=1, most=64
    )
    ingest_block_rows_max: int = _setting(65_536, "rows per block", least=1, most=1_000_000)
    ingest_block_bytes_max: int = _setting(
        8_000_000, "raw bytes per block, and so per item", least=65_536, most=1 << 30
    )
    ingest_block_wait_ms: int = _setting(
        5, "milliseconds that a block waits for more requests", least=0, most=10_000
    )
    ingest_compression: str = _setting("zstd", "of blocks", choices=("zstd", "lz4"))
    ingest_tls_cert_file: str = _setting("", "certificate chain (PEM); switches TLS on")
    ingest_tls_key_file: str = _setting("", "private key of the certificate (PEM)")
    ingest_tls_client_ca_file: str = _setting(
        "", "CA (PEM) that client certificates must come from; empty asks for none"
    )
    ingest_cors_origins: str = _setting(
        "", "origins, separated by commas, that browsers may send from"
    )
    api_key_pepper: str = _setting(
        "", "secret that API keys are hashed with; default: made in the data folder", secret=True
    )

    log_retention_hours: int = _setting(
        72, "hours that stored records stay in the embedded log", least=0, most=24 * 365
    )
    log_retention_bytes: int = _setting(
        10_737_418_240,
        "size of the embedded log; unread data is refused beyond it, never deleted",
        least=1 << 24,
        most=1 << 50,
    )
    log_retry_window_seconds: int = _setting(
        300,
        "a client's retry is recognised for so long; the same for all gateways and writers, 0: off",
        least=0,
        most=3_600,
    )
    log_retry_requests_max: int = _setting(
        1_000_000,
        "requests of one partition that are remembered for that, whichever is less",
        least=0,
        most=4_000_000,
    )

    kafka_brokers: str = _setting("", "host:port,…; empty: the embedded log of this machine")
    kafka_security_protocol: str = _setting(
        "PLAINTEXT",
        "how brokers are spoken to",
        choices=("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    )
    kafka_sasl_mechanism: str = _setting(
        "SCRAM-SHA-512",
        "how SASL proves who this is",
        choices=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
    )
    kafka_sasl_username: str = _setting("", "user of SASL")
    kafka_sasl_password: str = _setting("", "password of SASL", secret=True)
    kafka_ssl_ca_file: str = _setting(
        "", "CA (PEM) of the brokers' certificates; default: the system's"
    )
    kafka_ssl_cert_file: str = _setting("", "client certificate (PEM), where brokers ask for one")
    kafka_ssl_key_file: str = _setting("", "private key of the client certificate (PEM)")
    kafka_topic_prefix: str = _setting(
        "", "goes before the names of topics and groups, where a cluster is shared"
    )
    kafka_partitions: int = _setting(
        6, "partitions of each signal's topic when it is made", least=1, most=512
    )
    kafka_replication_factor: int = _setting(
        3, "replicas of topics when they are made; 1 is for trials", least=1, most=9
    )
    kafka_min_insync_replicas: int = _setting(
        2, "replicas that must have a record before it is acknowledged", least=1, most=9
    )
    kafka_retention_hours: int = _setting(
        72, "hours that topics keep records when they are made", least=1, most=24 * 365
    )

    writer_instance_id: str = _setting(
        "", "static name of this writer in its Kafka group: a quick restart keeps its partitions"
    )
    writer_session_timeout_ms: int = _setting(
        6_000,
        "milliseconds after which a silent writer's partitions go to others",
        least=1_000,
        most=300_000,
    )
    writer_metrics_port: int = _port(9465, "port of the writer's Prometheus metrics; loopback only")
    writer_batch_rows_max: int = _setting(100_000, "rows per INSERT", least=1, most=10_000_000)
    writer_batch_bytes_max: int = _setting(
        33_554_432, "compressed bytes per INSERT", least=65_536, most=1 << 30
    )
    writer_batch_wait_ms: int = _setting(
        1_000,
        "milliseconds that a record waits for more before it is inserted",
        least=0,
        most=60_000,
    )

    clickhouse_host: str = _setting("", "ClickHouse server; empty: the embedded one")
    clickhouse_port: int = _port(
        8123, "its HTTP port, or the one that the embedded server listens on"
    )
    clickhouse_database: str = _setting("telemetry", "database of all tables")
    clickhouse_username: str = _setting("default", "user")
    clickhouse_password: str = _setting("", "password", secret=True)

    telemetry_traces_retention_days: int = _setting(
        14, "days that traces of a new tenant are kept", least=1, most=395
    )
    telemetry_logs_retention_days: int = _setting(
        30, "days that logs of a new tenant are kept", least=1, most=395
    )
    telemetry_metrics_retention_days: int = _setting(
        90, "days that metrics of a new tenant are kept", least=1, most=395
    )

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
