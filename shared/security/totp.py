"""One-time codes of authenticator apps (RFC 6238), and the codes for who lost the app."""

import hashlib
import hmac
import re
import secrets
from datetime import datetime
from typing import Final

import pyotp
import segno

STEP_SECONDS: Final = 30
SECRET_CHARACTERS: Final = 32
RECOVERY_CODES: Final = 10
# Crockford's letters: none is mistaken for another. 12 of 32 letters are 60 bits.
_LETTERS: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_LETTERS_OF_CODE: Final = 12
_MISREAD: Final = str.maketrans("oil", "011", " -")
# What it costs to try one code against a stolen digest: 16 MiB and some 40 ms.
_SCRYPT_N: Final = 1 << 14
_SCRYPT_R: Final = 8
_RECOVERY_TEXT_MAX: Final = 64

_CODE: Final = re.compile(r"[0-9]{6}")


def new_secret() -> str:
    """A new secret of 160 bits, in base32."""
    return pyotp.random_base32(length=SECRET_CHARACTERS)


def step_of(
    secret: str, code: str, *, now: datetime, window: int, last_step: int | None
) -> int | None:
    """The step that *code* is for, to be stored as the next *last_step*; None refuses the code.

    Steps up to *window* before and after that of *now* are tried, each in the same time; one that
    is not later than *last_step* is refused, so that a code is good once.
    """
    digits = code.replace(" ", "")
    if not _CODE.fullmatch(digits):
        return None
    generator = pyotp.TOTP(secret, interval=STEP_SECONDS)
    current = int(now.timestamp()) // STEP_SECONDS
    matching = None
    for step in range(max(0, current - window), current + window + 1):
        is_new = last_step is None or step > last_step
        if hmac.compare_digest(generator.generate_otp(step), digits) and is_new:
            matching = step
    return matching


def provisioning_uri(secret: str, *, account: str, issuer: str) -> str:
    """The otpauth:// address that authenticator apps read *secret* from."""
    return pyotp.TOTP(secret, interval=STEP_SECONDS).provisioning_uri(
        name=account, issuer_name=issuer
    )


def qr_data_url(uri: str) -> str:
    """*uri* as a QR code: the data URL of an SVG image."""
    return segno.make(uri, error="m", micro=False).svg_data_uri(scale=4, border=4)


def new_recovery_codes(count: int = RECOVERY_CODES) -> list[str]:
    """*count* codes `xxxx-xxxx-xxxx` of 60 random bits, each for one sign-in without the app."""
    codes = []
    for _ in range(count):
        letters = "".join(secrets.choice(_LETTERS) for _ in range(_LETTERS_OF_CODE))
        codes.append(f"{letters[:4]}-{letters[4:8]}-{letters[8:]}")
    return codes


def digest(code: str, *, salt: bytes) -> bytes:
    """What is stored of a recovery code; *salt* is the person's (16 bytes), one for their codes.

    Hyphens, spaces, case and letters that look alike make no difference. Takes some 40 ms: call it
    in a thread.
    """
    text = code[:_RECOVERY_TEXT_MAX].casefold().translate(_MISREAD)
    plain = text.encode(errors="surrogatepass")
    return hashlib.scrypt(plain, salt=salt, n=_SCRYPT_N, r=_SCRYPT_R, p=1, dklen=32)
