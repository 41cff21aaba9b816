"""What an e-mail address is: the part of RFC 5322 that mail servers deliver to."""

import re
from typing import Final

ADDRESS_CHARACTERS_MAX: Final = 254
# One address: no quotes, comments, groups or lists, which could name a second recipient.
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS: Final = re.compile(rf"(?=.{{1,64}}@){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})+")


def is_address(text: str) -> bool:
    """Whether *text* is one address that mail can be sent to."""
    return len(text) <= ADDRESS_CHARACTERS_MAX and _ADDRESS.fullmatch(text) is not None
