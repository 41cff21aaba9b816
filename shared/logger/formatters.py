"""Lines of logs, for programs and for people."""

import logging
import re
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from shared.logger.context import line_context
from shared.logger.redaction import redacted

# What moves a terminal's cursor or begins a line, somewhere: C0, DEL, C1, and Unicode's separators.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# JSON may hold these as they are; not every reader of lines knows that.
_RAW_IN_JSON: Final = re.compile(r"[\x7f-\x9f\u2028\u2029]")
# What `logger.info(..., extra={...})` may add to a line.
EXTRA_FIELDS: Final = ("method", "route", "status", "duration_ms")


def document_of(record: logging.LogRecord, process: str) -> dict[str, Any]:
    """A record as fields; secrets are masked."""
    document = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
        "level": record.levelname,
        "process": process,
        "logger": record.name,
        "message": redacted(text_of(record)),
        **getattr(record, "line_context", {}),
    }
    for name in EXTRA_FIELDS:
        if name in record.__dict__:
            document[name] = record.__dict__[name]
    if record.exc_info:
        document["exception"] = redacted(logging.Formatter().formatException(record.exc_info))
    return {
        name: _encodable(value) if isinstance(value, str) else value
        for name, value in document.items()
    }


def text_of(record: logging.LogRecord) -> str:
    """The message; one whose arguments do not fit its text is told as it is, and never lost."""
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return f"{record.msg} {record.args!r}"


def _encodable(text: str) -> str:
    """*text* with what is no Unicode, such as bytes of a file name, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def is_about_sending(record: logging.LogRecord) -> bool:
    """Whether a record comes from what sends records: sent too, there would be no end of them."""
    return record.name.startswith(("opensearch", "opentelemetry", "requests", "urllib3"))


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
        line = orjson.dumps(document_of(record, self._process), default=str).decode()
        return _RAW_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", line)


class ScreenFormatter(logging.Formatter):
    """`process level [trace]: message`, on one line, without control characters."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The line of *record*."""
        text = _CONTROL.sub(" ", _encodable(redacted(text_of(record))))
        trace_id = getattr(record, "line_context", {}).get("traceId", "")
        trace = f" [{trace_id[:8]}]" if trace_id else ""
        return f"{self._process} {record.levelname.lower()}{trace}: {text}"
