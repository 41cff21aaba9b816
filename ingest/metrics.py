"""Every metric of the data plane, declared once with its meaning and unit.

Names follow Prometheus conventions (base units, `_total` for counters). Tenants are never labels:
their number is unbounded, and the metrics port is not per tenant.
"""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from ingest.plain_metrics import PlainCounter, PlainHistogram
from ingest.signals import Signal

_LATENCY_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

# --- receivers ---------------------------------------------------------------------------------
REQUESTS = Counter(
    "telemetryflow_ingest_requests",
    "OTLP requests answered, by transport (http, grpc), signal and outcome "
    "(ok, partial, invalid, too_large, unsupported, unauthenticated, forbidden, rate_limited, "
    "unavailable, cancelled, error)",
    ["transport", "signal", "outcome"],
)
WIRE_BYTES = Counter(
    "telemetryflow_ingest_wire_bytes",
    "Bytes of request bodies as they came over the wire, before decompression",
    ["transport"],
)
CONNECTIONS = Gauge(
    "telemetryflow_ingest_connections",
    "Open client connections",
    ["transport"],
)
CONNECTIONS_REFUSED = Counter(
    "telemetryflow_ingest_connections_refused",
    "Connections closed by a limit or a protocol error, by reason",
    ["transport", "reason"],
)
TLS_RELOADS = Counter(
    "telemetryflow_ingest_tls_reloads",
    "Changes of the certificate's files that were noticed, by outcome (done, failed)",
    ["outcome"],
)
TLS_CERTIFICATE_EXPIRES = Gauge(
    "telemetryflow_ingest_tls_certificate_expires_seconds",
    "Unix time at which the certificate of the receivers ends: alert before",
)

# --- gateway -----------------------------------------------------------------------------------
ITEMS_ACKED = PlainCounter(
    "telemetryflow_ingest_items_acked",
    "Spans, log records or data points answered as accepted, all of them durable in the log",
    "signal",
    tuple(Signal),
)
ITEMS_REJECTED = Counter(
    "telemetryflow_ingest_items_rejected",
    "Spans, log records or data points refused one by one inside accepted requests, by reason",
    ["signal", "reason"],
)
REJECTED_SAMPLED = Counter(
    "telemetryflow_ingest_rejected_sampled",
    "Rejected items of which name, ids, time and attribute keys were kept as samples",
    ["signal"],
)
ITEM_WARNINGS = Counter(
    "telemetryflow_ingest_item_warnings",
    "Repairs made to accepted items (for example text that was not UTF-8), by kind",
    ["signal", "kind"],
)
ADMISSION_REFUSALS = Counter(
    "telemetryflow_ingest_admission_refusals",
    "Requests refused for want of room, by reason: a limit of an API key (key_requests, key_items, "
    "key_bytes) or of a tenant (tenant_…), the month's quota (quota), a tenant's share of the "
    "memory (memory_share) or all of it (memory)",
    ["reason"],
)
MEMORY_HELD_BYTES = Gauge(
    "telemetryflow_ingest_memory_held_bytes",
    "Bytes of requests in flight that are held against INGEST_MEMORY_BYTES_MAX",
)
CARDINALITY_BYTES = Gauge(
    "telemetryflow_ingest_cardinality_bytes",
    "Memory of the series and attribute keys that are known of tenants with a limit to new ones",
)
EXPORT_SECONDS = PlainHistogram(
    "telemetryflow_ingest_export_seconds",
    "Time from a complete request to its durable answer",
    "signal",
    tuple(Signal),
    bounds=_LATENCY_SECONDS,
)
BLOCK_ROWS = Histogram(
    "telemetryflow_ingest_block_rows",
    "Rows per block sent to the log: small blocks are what makes ClickHouse inserts dear",
    ["signal"],
    buckets=(1, 10, 100, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 100_000),
)
BLOCK_BYTES = Counter(
    "telemetryflow_ingest_block_bytes",
    "Bytes of blocks, raw (Native) and as compressed for the log",
    ["signal", "form"],
)
DIRECTORY_REVISION = Gauge(
    "telemetryflow_ingest_directory_revision",
    "Revision of the directory of tenants and keys that is in force",
)
DIRECTORY_AGE_SECONDS = Gauge(
    "telemetryflow_ingest_directory_age_seconds",
    "Seconds since the directory of tenants and keys was last found to be current",
)

# --- log ---------------------------------------------------------------------------------------
LOG_APPEND_SECONDS = Histogram(
    "telemetryflow_log_append_seconds",
    "Time from the hand-over of a record to its durable acknowledgement",
    buckets=_LATENCY_SECONDS,
)
LOG_BYTES = Gauge("telemetryflow_log_bytes", "Size of the embedded log on disk")
LOG_DAMAGED_RECORDS = Counter(
    "telemetryflow_log_damaged_records",
    "Records set aside because their checksum did not match",
)
LOG_APPENDS_REFUSED = Counter(
    "telemetryflow_log_appends_refused",
    "Appends refused with a retryable answer, by reason (disk_full, size, "
    "damage, pending, unavailable, closing, defect)",
    ["reason"],
)

# --- writer ------------------------------------------------------------------------------------
ROWS_APPENDED = Gauge(
    "telemetryflow_writer_rows_appended",
    "Rows ever appended to the log, as the writer sees it (survives restarts)",
    ["topic"],
)
ROWS_STORED = Gauge(
    "telemetryflow_writer_rows_stored",
    "Rows ever stored in ClickHouse (kept with the committed offset, survives restarts)",
    ["topic"],
)
ROWS_DEAD_LETTERED = Gauge(
    "telemetryflow_writer_rows_dead_lettered",
    "Rows ever set aside in the dead-letter topic (survives restarts)",
    ["topic"],
)
ROWS_REPEATED = Gauge(
    "telemetryflow_writer_rows_repeated",
    "Rows ever dropped because a client had sent them before (survives restarts)",
    ["topic"],
)
ROWS_IN_FLIGHT = Gauge(
    "telemetryflow_writer_rows_in_flight",
    "Rows in the log behind the committed offset: acknowledged, not yet stored",
    ["topic"],
)
CONSERVATION_DIFFERENCE = Gauge(
    "telemetryflow_writer_conservation_difference",
    "Rows appended minus stored, dead-lettered, repeated and in flight: all but 0 is a defect",
    ["topic"],
)
BACKLOG_AGE_SECONDS = Gauge(
    "telemetryflow_writer_backlog_age_seconds",
    "Age of the oldest record that is not yet stored",
    ["topic"],
)
INSERTS = Counter(
    "telemetryflow_writer_inserts",
    "INSERT statements by table and outcome (stored, unavailable, schema, data, cancelled)",
    ["table", "outcome"],
)
INSERT_SECONDS = Histogram(
    "telemetryflow_writer_insert_seconds",
    "Duration of one INSERT",
    ["table"],
    buckets=(*_LATENCY_SECONDS, 30, 60),
)
INSERT_ROWS = Histogram(
    "telemetryflow_writer_insert_rows",
    "Rows per INSERT",
    ["table"],
    buckets=(1, 100, 1_000, 10_000, 50_000, 100_000, 200_000),
)
BACKLOG_RECORDS = Gauge(
    "telemetryflow_writer_backlog_records",
    "Records of the log that are not yet stored",
    ["topic"],
)
LOG_ANOMALIES = Counter(
    "telemetryflow_writer_log_anomalies",
    "The log was not what it was, by reason (retention deleted unread records, truncated, "
    "recreated, offsets gone): alert on it",
    ["reason"],
)
RECORDS_LOST = Counter(
    "telemetryflow_writer_records_lost",
    "Records that the log lost before they were stored, by reason: alert on it",
    ["reason"],
)
RETRY_WINDOW_SECONDS = Gauge(
    "telemetryflow_writer_retry_window_seconds",
    "How far back repeated requests are recognised at present, the least of all partitions",
)
PARTITIONS_ASSIGNED = Gauge(
    "telemetryflow_writer_partitions_assigned",
    "Partitions that this writer was given by its group",
)
PARTITIONS_PAUSED = Gauge(
    "telemetryflow_writer_partitions_paused",
    "Partitions that wait for an operator, by reason (schema, version, dead_letters): alert on it",
    ["reason"],
)
DEAD_LETTERS = Counter(
    "telemetryflow_writer_dead_letters",
    "Records set aside in the dead-letter topic, by reason",
    ["reason"],
)

# --- ledger ------------------------------------------------------------------------------------
LEDGER_MISSING_ITEMS = Gauge(
    "telemetryflow_ledger_missing_items",
    "Items of the last day that clients were told are accepted, and that are nowhere: alert on it",
    ["signal"],
)
