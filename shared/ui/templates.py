"""Templates (Jinja2): HTML is escaped, text is not, and a value that is missing is an error.

Templates are files of the product. What people typed is only ever a value, never a template.
"""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import FileSystemLoader, StrictUndefined, select_autoescape
from jinja2.sandbox import ImmutableSandboxedEnvironment

from shared.errors import Invalid

FOLDER = Path(__file__).parent / "templates"


def render(name: str, **values: Any) -> str:
    """The template *name* with *values*; jinja2.UndefinedError names one that is missing."""
    return _environment().get_template(name).render(**values)


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(FOLDER),
        autoescape=select_autoescape(disabled_extensions=("txt", "css"), default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # The files of a running process do not change: each is compiled once.
        auto_reload=False,
    )
    environment.filters.update(iso=_iso, utc=_utc, safe_url=_safe_url)
    return environment


def _iso(time: datetime) -> str:
    """For machines: 2026-01-31T23:59:00Z."""
    return f"{_in_utc(time):%Y-%m-%dT%H:%M:%SZ}"


def _utc(time: datetime) -> str:
    """For people: 2026-01-31 23:59 UTC."""
    return f"{_in_utc(time):%Y-%m-%d %H:%M} UTC"


def _in_utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise Invalid("a time without a zone")
    return time.astimezone(UTC)


def _safe_url(url: str) -> str:
    """*url* if it is http, https or a path of this site; else #, which leads nowhere."""
    # Browsers drop control characters and read \\ as /, so neither may hide what a link is.
    if "\\" in url or not url.isprintable() or url != url.strip():
        return "#"
    try:
        parts = urlsplit(url)
    except ValueError:
        return "#"
    if parts.scheme in {"http", "https"}:
        return url if parts.netloc else "#"
    return url if not parts.scheme and not parts.netloc else "#"
