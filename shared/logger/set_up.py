"""Where lines go: files of the data folder, the screen, and the targets that settings name."""

import logging
import sys
from logging.handlers import RotatingFileHandler
from typing import Final

from shared.logger.formatters import ContextFilter, JsonFormatter, ScreenFormatter
from shared.settings import Settings

FILE_BYTES_MAX: Final = 10_000_000
FILES_MAX: Final = 5
LEVELS: Final = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    # Everything, libraries included.
    "verbose": 5,
}


def set_up_logging(settings: Settings, process: str) -> None:
    """Log from LOG_LEVEL on into <data>/logs/<process>.jsonl, on the screen from its own level."""
    folder = settings.data_dir / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    file = RotatingFileHandler(
        folder / f"{process}.jsonl",
        maxBytes=FILE_BYTES_MAX,
        backupCount=FILES_MAX - 1,
        encoding="utf-8",
    )
    file.setFormatter(JsonFormatter(process))
    screen = logging.StreamHandler(sys.stderr)
    as_json = settings.log_json == "true"
    screen.setFormatter(JsonFormatter(process) if as_json else ScreenFormatter(process))
    screen.setLevel(LEVELS[settings.log_console_level])
    handlers: list[logging.Handler] = [file, screen]
    if settings.log_loki_url or settings.log_opensearch_url or settings.log_fluentbit_host:
        # Their libraries are loaded only where they are wanted.
        from shared.logger.shipping import shipping_handlers  # noqa: PLC0415

        handlers += shipping_handlers(settings, process)
    for handler in handlers:
        handler.addFilter(ContextFilter())
    logging.basicConfig(level=LEVELS[settings.log_level], handlers=handlers, force=True)
    # A full disk must not stop the product: a line that cannot be written is given up.
    logging.raiseExceptions = False
