"""Settings of the API, the worker, PostgreSQL and what they talk to."""

from dataclasses import dataclass

from shared.settings.declare import setting, switch, tcp_port


@dataclass(frozen=True, kw_only=True)
class ControlPlaneSettings:
    """What the control plane is told."""

    api_host: str = setting("", "address of the API; default 127.0.0.1 embedded, 0.0.0.0 otherwise")
    port: int = tcp_port(3000, "port of the API")
    api_prefix: str = setting("api/v2", "path that all routes of the API begin with")
    api_metrics_port: int = tcp_port(9466, "port of the API's Prometheus metrics; loopback only")
    worker_metrics_port: int = tcp_port(
        9467, "port of the worker's Prometheus metrics; loopback only"
    )
    api_body_bytes_max: int = setting(
        1_048_576, "largest request body of the API", least=1_024, most=1 << 26
    )
    api_trusted_proxies: str = setting(
        "", "networks (CIDR, separated by commas) whose X-Forwarded-For is believed"
    )
    app_url: str = setting("http://localhost:3000", "where people reach the product, for links")
    support_email: str = setting("support@telemetryflow.id", "shown in mails")
    cors_origin: str = setting(
        "", "origins, separated by commas, whose pages may call the API; * is for development"
    )
    throttle_ttl: int = setting(60, "seconds that request limits count over", least=1, most=3_600)
    throttle_limit: int = setting(
        100, "API requests of a user in that time", least=1, most=1_000_000
    )
    throttle_auth_limit: int = setting(
        10, "requests to sign-in routes of an address in that time", least=1, most=1_000_000
    )

    db_host: str = setting("", "PostgreSQL server; empty: the embedded one")
    db_port: int = tcp_port(5432, "its port, or the one that the embedded server listens on")
    db_username: str = setting("postgres", "user that owns the tables")
    db_password: str = setting("", "password of that user", secret=True)
    db_database: str = setting("telemetryflow", "database")
    db_ssl: str = setting(
        "prefer",
        "TLS to PostgreSQL, in libpq's words",
        choices=("disable", "prefer", "require", "verify-ca", "verify-full"),
    )
    db_pool_size_max: int = setting(10, "connections of a process", least=2, most=200)
    db_statement_seconds_max: int = setting(
        10, "seconds after which PostgreSQL gives up a statement", least=1, most=3_600
    )

    redis_host: str = setting("", "Redis or Valkey; empty: caches in memory only")
    redis_port: int = tcp_port(6379, "its port")
    redis_password: str = setting("", "its password", secret=True)
    redis_cache_db: int = setting(1, "its database for caches", least=0, most=15)
    cache_l1_ttl_seconds: int = setting(60, "seconds in memory", least=1, most=86_400)
    cache_l1_max_size: int = setting(1_000, "entries in memory", least=1, most=10_000_000)
    cache_l1_bytes_max: int = setting(33_554_432, "bytes in memory", least=1 << 16, most=1 << 36)
    cache_l2_ttl_seconds: int = setting(1_800, "seconds in Redis", least=1, most=604_800)
    nats_url: str = setting("", "NATS server that real-time events go to; empty: none")

    jwt_secret: str = setting(
        "",
        "secret of at least 32 characters that signs tokens (HS256); "
        "empty: Ed25519 keys, made and rotated by the product",
        secret=True,
    )
    jwt_expiration: str = setting("15m", "life of an access token: a number and s, m, h or d")
    refresh_token_expiration: str = setting("7d", "life of a refresh token")
    encryption_keys: str = setting(
        "",
        "id:base64 of 32 bytes, …: what secrets are encrypted with, the first one for new ones; "
        "default: made in the data folder",
        secret=True,
    )
    auth_registration: str = setting(
        "open",
        "who may register: open (into an organization of their own) or invited people only",
        choices=("open", "invited"),
    )
    password_min_length: int = setting(12, "characters", least=8, most=128)
    password_require_uppercase: str = switch("true", "an upper-case letter")
    password_require_lowercase: str = switch("true", "a lower-case letter")
    password_require_number: str = switch("true", "a digit")
    password_require_symbol: str = switch("true", "a character that is neither")
    password_expiry_days: int = setting(
        90, "days until a new password is asked for, 0: never", least=0, most=3_650
    )
    password_history: int = setting(5, "last passwords that are refused", least=0, most=24)
    password_hash_memory_kib: int = setting(
        65_536, "memory of one Argon2id hash", least=8_192, most=1 << 21
    )
    account_lockout_attempts: int = setting(
        5, "failed sign-ins from one address until it is locked out", least=1, most=100
    )
    account_lockout_duration: int = setting(900, "seconds of a lockout", least=1, most=86_400)
    mfa_issuer: str = setting("TelemetryFlow", "name in authenticator apps")
    mfa_window: int = setting(1, "steps of 30 s that a code may be off", least=0, most=5)

    telemetryflow_token: str = setting(
        "", "access token that `telemetryflow key` shows to the API", secret=True
    )
    telemetryflow_password: str = setting(
        "", "password of `telemetryflow key --email`; empty: asked for", secret=True
    )

    directory_listen_host: str = setting(
        "127.0.0.1", "where the API serves the directory of keys to gateways"
    )
    directory_port: int = tcp_port(3001, "its port")
    directory_tls_cert_file: str = setting("", "its certificate, PEM; empty: no TLS")
    directory_tls_key_file: str = setting("", "the certificate's key, PEM")

    audit_s3_endpoint: str = setting(
        "", "S3-compatible store that checkpoints of the audit trail go to as well, https://host"
    )
    audit_s3_bucket: str = setting("", "its bucket; let it keep objects under a lock")
    audit_s3_prefix: str = setting("audit", "what names of checkpoints begin with")
    audit_s3_region: str = setting("us-east-1", "region of the bucket")
    audit_s3_access_key: str = setting("", "who writes there")
    audit_s3_secret_key: str = setting("", "their secret", secret=True)
    audit_s3_retention_days: int = setting(
        0,
        "days that a checkpoint is locked (object lock, compliance); 0: no lock",
        least=0,
        most=36_500,
    )

    smtp_host: str = setting("", "mail server; empty: mails are files in the data folder")
    smtp_port: int = tcp_port(587, "its port")
    smtp_secure: str = setting("starttls", "how mail travels", choices=("none", "starttls", "tls"))
    smtp_user: str = setting("", "user at the mail server")
    smtp_pass: str = setting("", "password at the mail server", secret=True)
    smtp_from: str = setting("TelemetryFlow <noreply@telemetryflow.id>", "sender of mails")

    log_level: str = setting(
        "info", "least level that is logged", choices=("error", "warn", "info", "debug", "verbose")
    )
    log_json: str = switch("false", "JSON on the screen too")
    log_console_level: str = setting(
        "warn",
        "least level on the screen",
        choices=("error", "warn", "info", "debug", "verbose"),
    )
    log_loki_url: str = setting("", "Loki (OTLP endpoint) that logs go to, http://loki:3100/otlp")
    log_opensearch_url: str = setting("", "OpenSearch that logs go to, http://opensearch:9200")
    log_opensearch_index: str = setting("telemetryflow-logs", "index, the date is appended")
    log_fluentbit_host: str = setting("", "Fluent Bit that logs go to (forward protocol)")
    log_fluentbit_port: int = tcp_port(24224, "its port")

    otel_enabled: str = setting(
        "auto",
        "whether all processes send their own telemetry by OTLP; auto: those of `telemetryflow up`",
        choices=("auto", "true", "false"),
    )
    otel_exporter_otlp_endpoint: str = setting(
        "", "where its own telemetry goes, OTLP/HTTP; empty: into itself"
    )
    otel_exporter_otlp_headers: str = setting(
        "", "headers for that, in OpenTelemetry's format", secret=True
    )
    otel_service_name: str = setting("telemetryflow-backend", "service.name, with the process")
    otel_traces_sampler_arg: str = setting("0.1", "share of traces that are kept, 0 to 1")

    default_region_code: str = setting("aps3", "code of the first region")
    default_organization: str = setting("default", "slug of the first organization")
    default_workspace_code: str = setting("default", "slug of the first workspace")
    default_tenant_code: str = setting("default", "slug of the first tenant")
    admin_email: str = setting("admin@telemetryflow.local", "the first administrator")

    @property
    def is_database_embedded(self) -> bool:
        """Whether this machine serves its own PostgreSQL."""
        return not self.db_host

    @property
    def api_listen_host(self) -> str:
        """Address that the API is served on."""
        return self.api_host or ("127.0.0.1" if self.is_database_embedded else "0.0.0.0")  # noqa: S104
