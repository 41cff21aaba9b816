"""Secrets at rest: AES-256-GCM under keys that only the processes have, never the database.

A ciphertext names its key, so that old ones stay readable while values are encrypted anew under the
current key; and it is bound to its context, so that it is worth nothing in another row or column.
"""

import base64
import binascii
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.errors import Invalid, Unavailable

KEY_BYTES: Final = 32
# 96 random bits do not repeat within the 2**32 values that one key is good for (NIST SP 800-38D).
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
VERSION: Final = b"v1"
KEY_FILE_BYTES_MAX: Final = 65_536

_KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")


class SecretBox:
    """Encrypts with the key *current* of *keys* (32 bytes each, by id), decrypts with any of them.

    To rotate a key, put a new one first, store each value that is not `is_current` again as
    `encrypt(decrypt(value))`, then take the old key out.
    """

    def __init__(self, keys: Mapping[str, bytes], current: str) -> None:
        for key_id, key in keys.items():
            if not _KEY_ID.fullmatch(key_id):
                raise Invalid("the id of an encryption key has 1 to 32 letters, digits, _ and -")
            if len(key) != KEY_BYTES:
                raise Invalid(f"the encryption key {key_id} is not {KEY_BYTES} bytes long")
        if current not in keys:
            raise Invalid(f"there is no encryption key {current}")
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._current = current

    @classmethod
    def from_text(cls, encryption_keys: str) -> "SecretBox":
        """The box of ENCRYPTION_KEYS: `id:base64,id:base64,…`, the current key first.

        Invalid if that is not what it is; the text of the error holds no part of a key.
        """
        keys: dict[str, bytes] = {}
        for number, part in enumerate(encryption_keys.split(","), 1):
            key_id, separator, encoded = part.strip().partition(":")
            fault = ""
            if not separator or not _KEY_ID.fullmatch(key_id):
                fault = "is not id:base64"
            elif key_id in keys:
                fault = "has the id of another one"
            else:
                keys[key_id] = _key_of(encoded)
                if len(keys[key_id]) != KEY_BYTES:
                    fault = f"is not the base64 of {KEY_BYTES} bytes"
            if fault:
                raise Invalid(
                    f"ENCRYPTION_KEYS: key {number} {fault}; "
                    "make one with `openssl rand -base64 32`",
                    field="ENCRYPTION_KEYS",
                )
        return cls(keys, next(iter(keys)))

    @classmethod
    def from_file(cls, path: Path) -> "SecretBox":
        """The box of the text in *path*; a file that is not there is made, with a new key.

        Invalid if others than its owner may read it.
        """
        if not path.exists():
            _make_key_file(path)
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise Invalid(f"others may read {path}: run chmod 600 on it")
            return cls.from_text(file.read(KEY_FILE_BYTES_MAX).decode(errors="replace"))

    @property
    def head(self) -> bytes:
        """What every ciphertext under the current key begins with."""
        return VERSION + b":" + self._current.encode() + b":"

    def encrypt(self, plaintext: bytes, *, context: str) -> bytes:
        """*plaintext* under the current key, readable with the same *context* only.

        *context* says where the value lives: "tenant|table|column|row".
        """
        head = self.head
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._ciphers[self._current].encrypt(nonce, plaintext, head + context.encode())
        return head + nonce + sealed

    def decrypt(self, ciphertext: bytes, *, context: str) -> bytes:
        """The plaintext of *ciphertext*.

        Unavailable if its key is not here; Invalid if it was changed or belongs elsewhere.
        """
        key_id, body = _parts_of(ciphertext)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise Unavailable(f"the encryption key {key_id} is missing: add it to ENCRYPTION_KEYS")
        head = ciphertext[: len(ciphertext) - len(body)]
        nonce, sealed = body[:NONCE_BYTES], body[NONCE_BYTES:]
        try:
            return cipher.decrypt(nonce, sealed, head + context.encode())
        except InvalidTag as error:
            raise Invalid(f"the secret of {context} was changed or belongs elsewhere") from error

    def is_current(self, ciphertext: bytes) -> bool:
        """Whether *ciphertext* is under the current key; if not, encrypt it anew."""
        return _parts_of(ciphertext)[0] == self._current


def _key_of(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _parts_of(ciphertext: bytes) -> tuple[str, bytes]:
    """The id of the key, and nonce with sealed text; Invalid if *ciphertext* is none of ours."""
    version, separator, rest = ciphertext.partition(b":")
    key_id, colon, body = rest.partition(b":")
    text = key_id.decode("ascii", errors="replace")
    is_whole = version == VERSION and separator and colon and _KEY_ID.fullmatch(text)
    if not is_whole or len(body) < NONCE_BYTES + TAG_BYTES:
        raise Invalid("this is no encrypted secret")
    return text, body


def _make_key_file(path: Path) -> None:
    """Write a new key; when another process does so at the same time, the first one stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    # Files of tempfile are 0600 from their first moment on.
    with tempfile.NamedTemporaryFile("w", dir=path.parent) as draft:
        draft.write(f"k{secrets.token_hex(4)}:{key}\n")
        draft.flush()
        os.fsync(draft.fileno())
        try:
            path.hardlink_to(draft.name)
        except FileExistsError:
            return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
