"""Lines of logs, for programs and for people."""

import logging
import re
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from shared.logger.context import line_context
from shared.logger.redaction import redacted

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
# What `logger.info(..., extra={...})` may add to a line.
EXTRA_FIELDS: Final = ("method", "route", "status", "duration_ms")


def document_of(record: logging.LogRecord, process: str) -> dict[str, Any]:
    """A record as fields; secrets are masked."""
    document = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
        "level": record.levelname,
        "process": process,
        "logger": record.name,
        "message": redacted(record.getMessage()),
        **getattr(record, "line_context", {}),
    }
    for name in EXTRA_FIELDS:
        if name in record.__dict__:
            document[name] = record.__dict__[name]
    if record.exc_info:
        document["exception"] = redacted(logging.Formatter().formatException(record.exc_info))
    return document


class ContextFilter(logging.Filter):
    """Notes the context while the line is made: handlers may write it in another thread."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record."""
        record.line_context = line_context()
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line; JSON's escapes keep any text from faking a second line."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The line of *record*."""
        return orjson.dumps(document_of(record, self._process)).decode()


class ScreenFormatter(logging.Formatter):
    """`process level [trace]: message`, on one line, without control characters."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The line of *record*."""
        text = _CONTROL.sub(" ", redacted(record.getMessage()).replace("\n", " "))
        trace_id = getattr(record, "line_context", {}).get("traceId", "")
        trace = f" [{trace_id[:8]}]" if trace_id else ""
        return f"{self._process} {record.levelname.lower()}{trace}: {text}"
