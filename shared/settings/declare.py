"""How a setting is declared: a field of a frozen dataclass with its limits and its meaning."""

from dataclasses import field
from typing import Any


def setting(
    default: str | int,
    text: str,
    *,
    least: int | None = None,
    most: int | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    """A field with its default; a number lies from *least* to *most*, a text may have *choices*."""
    metadata = {"text": text, "least": least, "most": most, "choices": choices, "secret": secret}
    return field(default=default, metadata=metadata)


def tcp_port(default: int, text: str) -> Any:
    """A TCP port."""
    return setting(default, text, least=0, most=65_535)


def switch(default: str, text: str) -> Any:
    """true or false, as text."""
    return setting(default, text, choices=("true", "false"))
