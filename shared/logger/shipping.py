"""Logs to elsewhere: Loki, OpenSearch, Fluent Bit; a target that is away hurts nobody.

Lines wait in a bounded queue and leave from a thread of their own. What does not fit is dropped and
counted, never waited for; at its end the process gives targets a few seconds, whatever they do.
"""

import contextlib
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from fluent.asynchandler import FluentHandler
from fluent.handler import FluentRecordFormatter
from opensearchpy import OpenSearch
from opensearchpy.exceptions import OpenSearchException
from opentelemetry.sdk.resources import Resource
from prometheus_client import Counter

from shared.endings import end_at_exit
from shared.logger.formatters import document_of, is_about_sending
from shared.logger.otlp import OtlpLogHandler
from shared.settings import Settings

LINES_WAITING_MAX: Final = 10_000
LINES_OF_A_REQUEST_MAX: Final = 500
SECONDS_BETWEEN_REQUESTS: Final = 1.0
SECONDS_MAX: Final = 3.0
# All targets together, when the process ends.
EXIT_SECONDS_MAX: Final = 5.0
DROPPED: Final = Counter(
    "telemetryflow_log_lines_dropped_total", "Log lines that a target did not take", ["target"]
)


class OpenSearchHandler(logging.Handler):
    """A document a line, into an index a day, many in one request."""

    def __init__(self, url: str, index: str, process: str) -> None:
        super().__init__()
        self._client = OpenSearch([url], timeout=SECONDS_MAX, max_retries=0, http_compress=True)
        self._index = index
        self._process = process
        self._lines: queue.Queue[bytes | None] = queue.Queue(LINES_WAITING_MAX)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._send_all, daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Never waits."""
        if is_about_sending(record):
            return
        index = f"{self._index}-{datetime.fromtimestamp(record.created, UTC):%Y.%m.%d}"
        action = orjson.dumps({"index": {"_index": index}})
        line = orjson.dumps(document_of(record, self._process), default=str)
        try:
            self._lines.put_nowait(action + b"\n" + line + b"\n")
        except queue.Full:
            DROPPED.labels("opensearch").inc()

    def end(self) -> None:
        """Send the rest."""
        self._ending.set()
        # When it is full, the thread does not wait for it.
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        self._thread.join()
        self._client.close()

    def _send_all(self) -> None:
        while not (self._ending.is_set() and self._lines.empty()):
            waiting = [self._lines.get()]
            # So that lines travel together; the end of the process waits for nothing.
            self._ending.wait(SECONDS_BETWEEN_REQUESTS)
            while len(waiting) < LINES_OF_A_REQUEST_MAX:
                try:
                    waiting.append(self._lines.get_nowait())
                except queue.Empty:
                    break
            if lines := [line for line in waiting if line is not None]:
                self._send(lines)

    def _send(self, lines: list[bytes]) -> None:
        try:
            answer = self._client.bulk(body=b"".join(lines).decode())
        except (OpenSearchException, OSError):
            DROPPED.labels("opensearch").inc(len(lines))
            return
        if answer.get("errors"):
            refused = sum(one["index"]["status"] >= 300 for one in answer["items"])
            DROPPED.labels("opensearch").inc(refused)


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
    endings: list[Callable[[], object]] = []
    if settings.log_loki_url:
        resource = Resource.create(
            {
                "service.name": f"{settings.otel_service_name}-{process}",
                "deployment.environment.name": settings.telemetryflow_env,
            }
        )
        with _without_exporter_settings():
            # Loki takes OTLP itself, from version 3 on.
            url = f"{settings.log_loki_url.rstrip('/')}/v1/logs"
            loki = OtlpLogHandler(url, headers={}, resource=resource)
        handlers.append(loki)
        endings.append(loki.end)
    if settings.log_opensearch_url:
        opensearch = OpenSearchHandler(
            settings.log_opensearch_url, settings.log_opensearch_index, process
        )
        handlers.append(opensearch)
        endings.append(opensearch.end)
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
        handlers.append(fluent)
        endings.append(fluent.close)
    end_at_exit(EXIT_SECONDS_MAX, endings)
    return handlers


@contextlib.contextmanager
def _without_exporter_settings() -> Iterator[None]:
    """OTEL_EXPORTER_OTLP_* is for the receiver of the product's own telemetry, its key included."""
    hidden = {name: os.environ[name] for name in os.environ if name.startswith("OTEL_EXPORTER_")}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)
