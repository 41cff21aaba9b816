"""Log lines as OTLP log records, for Loki and for the product itself."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource

from shared.logger.formatters import document_of, is_about_sending

EXPORT_SECONDS_MAX: Final = 3.0
LINES_WAITING_MAX: Final = 2_048
_SEVERITIES: Final = {
    logging.DEBUG: SeverityNumber.DEBUG,
    logging.INFO: SeverityNumber.INFO,
    logging.WARNING: SeverityNumber.WARN,
    logging.ERROR: SeverityNumber.ERROR,
    logging.CRITICAL: SeverityNumber.FATAL,
}
# Fields of our lines by their names in OpenTelemetry's semantic conventions.
_ATTRIBUTES: Final = {
    "method": "http.request.method",
    "route": "http.route",
    "status": "http.response.status_code",
    "duration_ms": "telemetryflow.duration_ms",
    "requestId": "telemetryflow.request.id",
    "userId": "user.id",
    "tenantId": "telemetryflow.tenant.id",
    "exception": "exception.stacktrace",
}


class OtlpLogHandler(logging.Handler):
    """Sends lines, without their secrets, from a thread of its own; what it cannot hold, it drops.

    The exporter takes OTEL_EXPORTER_OTLP_* of the environment too.
    """

    def __init__(self, url: str, headers: Mapping[str, str], resource: Resource) -> None:
        super().__init__()
        exporter = OTLPLogExporter(url, headers=headers, timeout=EXPORT_SECONDS_MAX)
        self._provider = LoggerProvider(resource, shutdown_on_exit=False)
        self._provider.add_log_record_processor(
            BatchLogRecordProcessor(exporter, max_queue_size=LINES_WAITING_MAX)
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Queue it; the span that it belongs to is the current one."""
        if is_about_sending(record):
            return
        document = document_of(record, process="")
        self._provider.get_logger(record.name).emit(
            LogRecord(
                timestamp=int(record.created * 1e9),
                observed_timestamp=time.time_ns(),
                severity_text=record.levelname,
                severity_number=_SEVERITIES.get(record.levelno, SeverityNumber.UNSPECIFIED),
                body=document["message"],
                attributes=_attributes(document),
            )
        )

    @property
    def end(self) -> Callable[[], None]:
        """Sends the rest."""
        return self._provider.shutdown


def _attributes(document: Mapping[str, Any]) -> dict[str, Any]:
    return {_ATTRIBUTES[name]: value for name, value in document.items() if name in _ATTRIBUTES}
