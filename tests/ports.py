"""Ports for servers of tests."""

import contextlib
import random
import socket
from typing import Final

# Below the ephemeral range: a client that retries a dead port inside that range can connect to
# itself, and then holds the port.
PORTS: Final = range(20_000, 32_000)
# Handed out once each: one that is not bound yet is not given to a second asker.
_UNUSED_PORTS: Final = iter(random.sample(PORTS, len(PORTS)))


def free_ports(count: int) -> list[int]:
    """Distinct ports of the loopback interface that nobody listens on."""
    found: list[int] = []
    for port in _UNUSED_PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"no {count} free ports in {PORTS}")


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]
