"""How many files the process may have open: each connection is one, and so are the log's files."""

import logging
import resource
from typing import Final

# What a gateway needs beside connections: the log, the directory, Kafka, its own telemetry.
RESERVED: Final = 200
RECEIVERS: Final = 2

logger = logging.getLogger(__name__)


def connections_allowed(wanted: int) -> int:
    """How many connections each receiver may have: *wanted*, or what the system allows.

    The soft limit, 1 024 in most places, is raised as far as is needed and as the hard limit goes.
    """
    needed = RESERVED + RECEIVERS * wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    allowed = min(wanted, max(1, (soft - RESERVED) // RECEIVERS))
    if allowed < wanted:
        logger.warning(
            "only %d connections per receiver instead of %d: raise the hard limit of open files "
            "(ulimit -Hn, LimitNOFILE) from %d to %d",
            *(allowed, wanted, hard, needed),
        )
    return allowed
