"""Settings of the gateway, the log, the writer and ClickHouse."""

from dataclasses import dataclass

from shared.settings.declare import setting, tcp_port


@dataclass(frozen=True, kw_only=True)
class DataPlaneSettings:
    """What the data plane is told."""

    ingest_host: str = setting(
        "", "address that OTLP is received on; default 127.0.0.1 embedded, 0.0.0.0 otherwise"
    )
    ingest_grpc_port: int = tcp_port(4317, "port of OTLP/gRPC")
    ingest_http_port: int = tcp_port(4318, "port of OTLP/HTTP")
    ingest_grpc_engine: str = setting(
        "ngh2", "what serves gRPC; grpcio is slower and the fallback", choices=("ngh2", "grpcio")
    )
    ingest_workers: int = setting(1, "gateway processes on the same ports", least=1, most=256)
    ingest_metrics_port: int = tcp_port(
        9464, "port of the gateway's Prometheus metrics; loopback only"
    )
    ingest_body_bytes_max: int = setting(
        67_108_864, "largest request body, compressed and decompressed", least=1_024, most=1 << 30
    )
    ingest_memory_bytes_max: int = setting(
        268_435_456, "bytes of requests in flight per gateway process", least=1 << 20, most=1 << 40
    )
    throttle_ingestion_limit: int = setting(
        1_000,
        "requests a minute with an API key that has no limit of its own, per gateway process; "
        "0: no limit",
        least=0,
        most=1_000_000_000,
    )
    ingest_lanes: int = setting(
        1, "partitions of each topic of the embedded log, fixed when it is made", least=1, most=64
    )
    ingest_block_rows_max: int = setting(65_536, "rows per block", least=1, most=1_000_000)
    ingest_block_bytes_max: int = setting(
        8_000_000, "raw bytes per block, and so per item", least=65_536, most=1 << 30
    )
    ingest_block_wait_ms: int = setting(
        5, "milliseconds that a block waits for more requests", least=0, most=10_000
    )
    ingest_compression: str = setting("zstd", "of blocks", choices=("zstd", "lz4"))
    ingest_tls_cert_file: str = setting("", "certificate chain (PEM); switches TLS on")
    ingest_tls_key_file: str = setting("", "private key of the certificate (PEM)")
    ingest_tls_client_ca_file: str = setting(
        "", "CA (PEM) that client certificates must come from; empty asks for none"
    )
    ingest_cors_origins: str = setting(
        "", "origins, separated by commas, that browsers may send from"
    )
    api_key_pepper: str = setting(
        "",
        "secret that API keys are hashed with; empty: made in the data folder; rotation: new,old",
        secret=True,
    )
    directory_address: str = setting(
        "", "host:port of the control plane's directory; empty: only the default tenant is known"
    )
    directory_token: str = setting(
        "", "what gateways show to it; empty: made in the data folder", secret=True
    )
    directory_tls_ca_file: str = setting(
        "", "authority of the directory's certificate, PEM; empty: no TLS"
    )

    log_retention_hours: int = setting(
        72, "hours that stored records stay in the embedded log", least=0, most=24 * 365
    )
    log_retention_bytes: int = setting(
        10_737_418_240,
        "size of the embedded log; unread data is refused beyond it, never deleted",
        least=1 << 24,
        most=1 << 50,
    )
    log_retry_window_seconds: int = setting(
        300,
        "a client's retry is recognised for so long; the same for all gateways and writers, 0: off",
        least=0,
        most=3_600,
    )
    log_retry_requests_max: int = setting(
        1_000_000,
        "requests of one partition that are remembered for that, whichever is less",
        least=0,
        most=4_000_000,
    )

    kafka_brokers: str = setting("", "host:port,…; empty: the embedded log of this machine")
    kafka_security_protocol: str = setting(
        "PLAINTEXT",
        "how brokers are spoken to",
        choices=("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    )
    kafka_sasl_mechanism: str = setting(
        "SCRAM-SHA-512",
        "how SASL proves who this is",
        choices=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
    )
    kafka_sasl_username: str = setting("", "user of SASL")
    kafka_sasl_password: str = setting("", "password of SASL", secret=True)
    kafka_ssl_ca_file: str = setting(
        "", "CA (PEM) of the brokers' certificates; default: the system's"
    )
    kafka_ssl_cert_file: str = setting("", "client certificate (PEM), where brokers ask for one")
    kafka_ssl_key_file: str = setting("", "private key of the client certificate (PEM)")
    kafka_topic_prefix: str = setting(
        "", "goes before the names of topics and groups, where a cluster is shared"
    )
    kafka_partitions: int = setting(
        6, "partitions of each signal's topic when it is made", least=1, most=512
    )
    kafka_replication_factor: int = setting(
        3, "replicas of topics when they are made; 1 is for trials", least=1, most=9
    )
    kafka_min_insync_replicas: int = setting(
        2, "replicas that must have a record before it is acknowledged", least=1, most=9
    )
    kafka_retention_hours: int = setting(
        72, "hours that topics keep records when they are made", least=1, most=24 * 365
    )

    writer_instance_id: str = setting(
        "", "static name of this writer in its Kafka group: a quick restart keeps its partitions"
    )
    writer_session_timeout_ms: int = setting(
        6_000,
        "milliseconds after which a silent writer's partitions go to others",
        least=1_000,
        most=300_000,
    )
    writer_metrics_port: int = tcp_port(
        9465, "port of the writer's Prometheus metrics; loopback only"
    )
    writer_batch_rows_max: int = setting(100_000, "rows per INSERT", least=1, most=10_000_000)
    writer_batch_bytes_max: int = setting(
        33_554_432, "compressed bytes per INSERT", least=65_536, most=1 << 30
    )
    writer_batch_wait_ms: int = setting(
        1_000,
        "milliseconds that a record waits for more before it is inserted",
        least=0,
        most=60_000,
    )

    clickhouse_host: str = setting("", "ClickHouse server; empty: the embedded one")
    clickhouse_port: int = tcp_port(
        8123, "its HTTP port, or the one that the embedded server listens on"
    )
    clickhouse_database: str = setting("telemetry", "database of all tables")
    clickhouse_username: str = setting("default", "user")
    clickhouse_password: str = setting("", "password", secret=True)

    telemetry_traces_retention_days: int = setting(
        14, "days that traces of a new tenant are kept", least=1, most=395
    )
    telemetry_logs_retention_days: int = setting(
        30, "days that logs of a new tenant are kept", least=1, most=395
    )
    telemetry_metrics_retention_days: int = setting(
        90, "days that metrics of a new tenant are kept", least=1, most=395
    )
