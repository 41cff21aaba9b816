"""Logs to elsewhere: Loki, OpenSearch, Fluent Bit; a target that is away hurts nobody.

Lines wait in a bounded queue and leave from a thread of their own. What does not fit is dropped and
counted, never waited for.
"""

import atexit
import copy
import logging
import queue
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from typing import Any, Final

from fluent.asynchandler import FluentHandler
from fluent.handler import FluentRecordFormatter
from opensearchpy import OpenSearch
from opensearchpy.exceptions import OpenSearchException
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from prometheus_client import Counter

from shared.logger.formatters import document_of
from shared.logger.redaction import redacted
from shared.settings import Settings

LINES_WAITING_MAX: Final = 10_000
SECONDS_MAX: Final = 3.0
DROPPED: Final = Counter(
    "telemetryflow_log_lines_dropped_total", "Log lines that a target did not take", ["target"]
)


class DroppingQueueHandler(QueueHandler):
    """Puts lines into the queue of a target; a full queue drops them."""

    def __init__(self, lines: "queue.Queue[Any]", target: str) -> None:
        super().__init__(lines)
        self._target = target

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """A copy that is text alone, without secrets: the target formats it elsewhere."""
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{logging.Formatter().formatException(record.exc_info)}"
        prepared = copy.copy(record)
        prepared.msg, prepared.args = redacted(text), None
        prepared.exc_info = prepared.exc_text = prepared.stack_info = None
        return prepared

    def enqueue(self, record: logging.LogRecord) -> None:
        """Never waits."""
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            DROPPED.labels(self._target).inc()


class OpenSearchHandler(logging.Handler):
    """One document a line, into an index a day."""

    def __init__(self, url: str, index: str, process: str) -> None:
        super().__init__()
        self._client = OpenSearch([url], timeout=SECONDS_MAX, max_retries=0, http_compress=True)
        self._index = index
        self._process = process

    def emit(self, record: logging.LogRecord) -> None:
        """Send it, from the listener's thread."""
        index = f"{self._index}-{datetime.fromtimestamp(record.created, UTC):%Y.%m.%d}"
        try:
            self._client.index(index=index, body=document_of(record, self._process))
        except (OpenSearchException, OSError):
            DROPPED.labels("opensearch").inc()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
        super().close()


class _Documents(FluentRecordFormatter):  # type: ignore[misc]
    """Lines as maps, as Fluent Bit keeps them."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> dict[str, Any]:
        """The fields of *record*."""
        return document_of(record, self._process)


def shipping_handlers(settings: Settings, process: str) -> list[logging.Handler]:
    """A handler for each target that the settings name."""
    handlers: list[logging.Handler] = []
    if settings.log_loki_url:
        handlers.append(_queued("loki", _to_loki(settings, process)))
    if settings.log_opensearch_url:
        target = OpenSearchHandler(
            settings.log_opensearch_url, settings.log_opensearch_index, process
        )
        handlers.append(_queued("opensearch", target))
    if settings.log_fluentbit_host:
        fluent = FluentHandler(
            "telemetryflow",
            host=settings.log_fluentbit_host,
            port=settings.log_fluentbit_port,
            timeout=SECONDS_MAX,
            queue_maxsize=LINES_WAITING_MAX,
            queue_circular=True,
        )
        fluent.setFormatter(_Documents(process))
        atexit.register(fluent.close)
        handlers.append(fluent)
    return handlers


def _queued(name: str, target: logging.Handler) -> logging.Handler:
    lines: queue.Queue[Any] = queue.Queue(LINES_WAITING_MAX)
    listener = QueueListener(lines, target)
    listener.start()
    atexit.register(target.close)
    atexit.register(listener.stop)
    return DroppingQueueHandler(lines, name)


def _to_loki(settings: Settings, process: str) -> logging.Handler:
    """Loki takes OTLP itself, from version 3 on."""
    resource = Resource.create(
        {
            "service.name": f"{settings.otel_service_name}-{process}",
            "deployment.environment.name": settings.telemetryflow_env,
        }
    )
    provider = LoggerProvider(resource, shutdown_on_exit=False)
    exporter = OTLPLogExporter(f"{settings.log_loki_url.rstrip('/')}/v1/logs", timeout=SECONDS_MAX)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    atexit.register(provider.shutdown)
    return LoggingHandler(logger_provider=provider)
