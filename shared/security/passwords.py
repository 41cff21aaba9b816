"""Password hashes: Argon2id in threads of its own, so that the event loop never waits for one.

One hash takes `memory_kib` of memory and some tenths of a second of four cores; both are what an
attacker can make the product spend, so that the threads and those who wait for one are limited.
"""

import asyncio
import base64
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import argon2
from argon2.exceptions import HashingError, InvalidHashError, VerificationError, VerifyMismatchError

from shared.errors import Invalid, Unavailable

PASSWORD_BYTES_MAX: Final = 1_024
TIME_COST: Final = 3
PARALLELISM: Final = 4
SALT_BYTES: Final = 16
HASH_BYTES: Final = 32
RETRY_AFTER_SECONDS: Final = 2.0

Result = TypeVar("Result")


class PasswordHasher:
    """Hashes and verifies passwords exactly as received: nothing is trimmed or normalised.

    At most *threads_max* hashes of *memory_kib* are computed at a time; when *waiting_max* more
    wait, calls raise Unavailable.
    """

    def __init__(self, memory_kib: int, threads_max: int = 2, waiting_max: int = 64) -> None:
        self._argon2 = argon2.PasswordHasher(
            time_cost=TIME_COST,
            memory_cost=memory_kib,
            parallelism=PARALLELISM,
            hash_len=HASH_BYTES,
            salt_len=SALT_BYTES,
        )
        self._hash_of_nobody = _hash_that_nothing_matches(memory_kib)
        self._threads = ThreadPoolExecutor(threads_max, thread_name_prefix="argon2")
        self._calls = 0
        self._calls_max = threads_max + waiting_max

    async def hash(self, password: str) -> str:
        """The hash to store, with its parameters and salt; Invalid if *password* is too long."""
        password_bytes = _bytes_of(password)
        if password_bytes is None:
            raise Invalid(
                f"use a password of Unicode text of at most {PASSWORD_BYTES_MAX} bytes",
                field="password",
            )
        return await self._in_thread(lambda: self._argon2.hash(password_bytes))

    async def verify(self, password: str, password_hash: str) -> bool:
        """Whether *password* is the one that *password_hash* was made of."""
        password_bytes = _bytes_of(password)
        if password_bytes is None:
            return False
        return await self._in_thread(lambda: self._is_match(password_hash, password_bytes))

    async def verify_nobody(self, password: str) -> None:
        """Take as long as `verify`, for an account that does not exist."""
        await self.verify(password, self._hash_of_nobody)

    def needs_rehash(self, password_hash: str) -> bool:
        """Whether *password_hash* was made with other parameters than those of today."""
        try:
            return self._argon2.check_needs_rehash(password_hash)
        except InvalidHashError:
            return True

    def close(self) -> None:
        """End the threads; calls that wait are cancelled, those that run are finished."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _is_match(self, password_hash: str, password: bytes) -> bool:
        try:
            return self._argon2.verify(password_hash, password)
        except (VerifyMismatchError, InvalidHashError):
            return False

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        if self._calls >= self._calls_max:
            raise Unavailable(
                "too many passwords are being checked", retry_after_seconds=RETRY_AFTER_SECONDS
            )
        self._calls += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except (HashingError, VerificationError) as error:
            # Neither depends on the password: the memory for the hash is not there.
            raise Unavailable(
                "no memory to check a password", retry_after_seconds=RETRY_AFTER_SECONDS
            ) from error
        finally:
            self._calls -= 1


def _bytes_of(password: str) -> bytes | None:
    """*password* in UTF-8; None if it is too long, or holds half a surrogate pair."""
    try:
        password_bytes = password.encode()
    except UnicodeEncodeError:
        return None
    return password_bytes if len(password_bytes) <= PASSWORD_BYTES_MAX else None


def _hash_that_nothing_matches(memory_kib: int) -> str:
    """A hash with the parameters of real ones, whose digest is random instead of computed."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(size)).rstrip(b"=").decode()
        for size in (SALT_BYTES, HASH_BYTES)
    )
    return f"$argon2id$v=19$m={memory_kib},t={TIME_COST},p={PARALLELISM}${salt}${digest}"
