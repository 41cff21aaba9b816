"""Secrets never reach a log: what looks like one is masked, wherever it stands in the text."""

import re
from typing import Final

MESSAGE_CHARACTERS_MAX: Final = 10_000
MASK: Final = "********"
_SECRETS: Final = re.compile(
    # Secrets of keys and the product's opaque tokens, by their prefixes.
    r"tf[srwvid][_-][0-9A-Za-z_-]{16,}"
    # Signed tokens.
    r"|eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]+\.[0-9A-Za-z_-]+"
    r"|(?<=[Bb]earer )[^\s,;\"']+|(?<=[Bb]asic )[^\s,;\"']+"
    r"|(?i:(?<=password=)|(?<=x-api-key: )|(?<=x-api-key-secret: ))[^\s,;&\"']+"
)
# "password": "…" and the like, as JSON has them.
_FIELDS: Final = re.compile(
    r"(?i)([\"'](?:[a-z_-]*password|[a-z_-]*secret|[a-z_-]*token|code|authorization)[\"']\s*:\s*)"
    r"([\"'])(?:\\.|(?!\2).)*\2"
)


def redacted(text: str) -> str:
    """*text* with secrets masked and bounded in length."""
    # Cut first, so that the work is bounded too; a secret at the cut is masked to its end.
    text = text[: 2 * MESSAGE_CHARACTERS_MAX]
    if '"' in text or "'" in text:
        text = _FIELDS.sub(rf"\1\2{MASK}\2", text)
    # Every pattern has one of these: words and addresses are not looked at any further.
    if "_" in text or "-" in text or "=" in text or " " in text or "eyJ" in text:
        text = _SECRETS.sub(MASK, text)
    return text[:MESSAGE_CHARACTERS_MAX]
