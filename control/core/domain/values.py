"""Values of people and their places, checked when they are made."""

import re
from dataclasses import dataclass
from typing import Final
from zoneinfo import available_timezones

from shared.email.addresses import is_address
from shared.errors import Invalid

NAME_CHARACTERS_MAX: Final = 100
_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(?:-[A-Z]{2})?")
_TIMEZONES: Final = frozenset(available_timezones())


@dataclass(frozen=True, slots=True)
class Email:
    """An address of mail, in lower case: people do not tell addresses apart by case."""

    address: str

    def __post_init__(self) -> None:
        address = self.address.strip().lower()
        if not is_address(address):
            raise Invalid("not an e-mail address", field="email")
        object.__setattr__(self, "address", address)


def checked_name(text: str, field: str = "name") -> str:
    """*text* without spaces around it; 1 to 100 characters on one line."""
    text = " ".join(text.split())
    if not 1 <= len(text) <= NAME_CHARACTERS_MAX or not text.isprintable():
        raise Invalid(f"give 1 to {NAME_CHARACTERS_MAX} characters", field=field)
    return text


def checked_slug(text: str, field: str = "slug") -> str:
    """A name that fits into an address: lower-case letters, digits and hyphens."""
    if not _SLUG.fullmatch(text):
        raise Invalid(
            "use lower-case letters, digits and hyphens, at most 63 characters", field=field
        )
    return text


def slug_of(name: str) -> str:
    """A slug that resembles *name*."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-")
    return slug or "unnamed"


def checked_timezone(text: str) -> str:
    """A zone of the IANA database."""
    if text not in _TIMEZONES:
        raise Invalid("not a time zone, such as Europe/Berlin", field="timezone")
    return text


def checked_language(text: str) -> str:
    """A language as ISO 639 names it, with a region if need be."""
    if not _LANGUAGE.fullmatch(text):
        raise Invalid("not a language, such as en or pt-BR", field="language")
    return text
