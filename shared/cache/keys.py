"""Keys of the cache, and patterns that name many of them.

A key is parts joined by colons: what is cached, whose it is, then every parameter that the value
depends on, as in `dashboard:<tenant>:<id>`. Parts are percent-encoded, so none can hold a colon or
a star: two different lists of parts never make the same key, and no key reads as a pattern.

In a pattern `*` stands for any one part, and `**` at the end for any further parts, or none.
"""

import hashlib
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import quote
from uuid import UUID

from shared.errors import Invalid

EVERYTHING: Final = "**"
PREFIX_CHARACTERS_MAX: Final = 1_000
# Longer parts, such as the text of a query, are replaced by a digest of all of it. The digest with
# its mark is longer than this, so no part can pose as the digest of another.
PART_CHARACTERS_MAX: Final = 64
_DIGEST_MARK: Final = "~"
# A percent sign alone is the code of no character: None differs from every text.
_NONE: Final = "%"
_PREFIX: Final = re.compile(r"(?:[\w.~%-]*|\*)(?::(?:[\w.~%-]*|\*))*", re.ASCII)


def cache_key(tenant: str | UUID, kind: str, *parts: str | int | UUID | None) -> str:
    """The key of one value of *tenant*; *parts* are all parameters that the value depends on.

    What belongs to no tenant takes a word in its place, such as `platform`.
    """
    if not str(tenant) or not kind:
        raise ValueError("a cache key needs a tenant and a kind")
    return ":".join(_encoded(part) for part in (kind, tenant, *parts))


def keys_below(prefix: str) -> str:
    """The pattern of all keys whose first parts are *prefix*, in which `*` is any one part.

    Parts match whole: `logs:t1` covers `logs:t1` and `logs:t1:a`, not `logs:t12`. Invalid if
    *prefix* cannot be the beginning of a key.
    """
    if not prefix or len(prefix) > PREFIX_CHARACTERS_MAX or not _PREFIX.fullmatch(prefix):
        raise Invalid("a pattern is made of the parts of a key, or *, joined by colons")
    return f"{prefix}:{EVERYTHING}"


def is_one_key(pattern: str) -> bool:
    """Whether *pattern* names a single key."""
    return "*" not in pattern


def key_matcher(pattern: str) -> Callable[[str], object]:
    """A function whose answer is true for the keys that *pattern* names."""
    if pattern == EVERYTHING:
        return lambda _key: True
    head = pattern.removesuffix(f":{EVERYTHING}")
    parts = ("[^:]*" if part == "*" else re.escape(part) for part in head.split(":"))
    rest = "" if head == pattern else "(?::.*)?"
    return re.compile(":".join(parts) + rest).fullmatch


def _encoded(part: str | int | UUID | None) -> str:
    if part is None:
        return _NONE
    text = quote(str(part), safe="", errors="surrogatepass")
    if len(text) <= PART_CHARACTERS_MAX:
        return text
    return _DIGEST_MARK + hashlib.sha256(text.encode()).hexdigest()
