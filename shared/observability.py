"""Logs: structured JSON in rotating files of the data folder, short lines on the screen.

Secrets never reach either: what looks like one is masked, wherever it stands in the text.
"""

import logging
import re
import sys
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from typing import Final

import orjson

from shared.settings import Settings

FILE_BYTES_MAX: Final = 10_000_000
FILES_MAX: Final = 5
MESSAGE_CHARACTERS_MAX: Final = 10_000
_MASK: Final = "********"
_SECRETS: Final = re.compile(
    r"tfs[_-][0-9a-fA-F]{16,}|(?<=[Bb]earer )[^\s,;\"']+|(?<=[Bb]asic )[^\s,;\"']+|"
    r"(?i:(?<=password=)|(?<=x-api-key: )|(?<=x-api-key-secret: ))[^\s,;&\"']+"
)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def redacted(text: str) -> str:
    """*text* with secrets masked and bounded in length."""
    return _SECRETS.sub(_MASK, text)[:MESSAGE_CHARACTERS_MAX]


class JsonFormatter(logging.Formatter):
    """One JSON object a line; JSON's escapes keep any text from faking a second line."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The line of *record*."""
        document = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "process": self._process,
            "logger": record.name,
            "message": redacted(record.getMessage()),
        }
        if record.exc_info:
            document["exception"] = redacted(self.formatException(record.exc_info))
        return orjson.dumps(document).decode()


class ScreenFormatter(logging.Formatter):
    """`process level: message`, on one line, without control characters."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The line of *record*."""
        text = _CONTROL.sub(" ", redacted(record.getMessage()).replace("\n", " "))
        return f"{self._process} {record.levelname.lower()}: {text}"


def set_up_logging(settings: Settings, process: str) -> None:
    """Log everything from INFO on into <data>/logs/<process>.jsonl, warnings on the screen too."""
    folder = settings.data_dir / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    file = RotatingFileHandler(
        folder / f"{process}.jsonl", maxBytes=FILE_BYTES_MAX, backupCount=FILES_MAX - 1
    )
    file.setFormatter(JsonFormatter(process))
    screen = logging.StreamHandler(sys.stderr)
    screen.setFormatter(ScreenFormatter(process))
    screen.setLevel(logging.WARNING)
    logging.basicConfig(level=logging.INFO, handlers=[file, screen], force=True)
    # A full disk must not stop the product: a line that cannot be written is given up.
    logging.raiseExceptions = False
