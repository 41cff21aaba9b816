"""Ending a connection of a test at once, whatever is still unsent."""

import asyncio
import contextlib


async def cut(writer: asyncio.StreamWriter) -> None:
    """Close without waiting for bytes that nobody will read, and see it closed.

    A transport that is merely closed lives on until its buffer is sent; the end of its event loop
    would then leave it to the garbage collector, which complains in somebody else's test.
    """
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
