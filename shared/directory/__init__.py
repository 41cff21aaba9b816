"""The directory: tenants and API keys as gateways know them (proto/telemetryflow/directory/v1)."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Final

from shared.directory.directory_pb2 import Tenant
from shared.errors import Invalid

# Each class is a partition of every table and day, so there are few (ClickHouse keeps parts apart).
RETENTION_CLASSES_DAYS: Final = (3, 7, 14, 30, 90, 395)
DEFAULT_TENANT: Final = "default"
# What the product sends about itself, with a key that every installation has.
PLATFORM_TENANT: Final = "platform"
PLATFORM_KEY_ID: Final = f"tfk_{0:032x}"
PLATFORM_RETENTION_DAYS: Final = 7
TENANT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def retention_class(days: int) -> int:
    """The smallest class that keeps data for at least *days*."""
    for candidate in RETENTION_CLASSES_DAYS:
        if candidate >= days > 0:
            return candidate
    raise Invalid(f"retention of {days} days: choose 1 to {RETENTION_CLASSES_DAYS[-1]}")


def new_tenant(
    name: str, retention_days: Mapping[str, int], *, changed: int = 0, is_active: bool = True
) -> Tenant:
    """A tenant, its retention rounded up to classes; Invalid when the name is not usable."""
    if not TENANT_NAME.fullmatch(name):
        raise Invalid(
            f"tenant {name!r}: use 1 to 64 letters, digits, '-' and '_', "
            "beginning with a letter or digit"
        )
    return Tenant(
        name=name,
        changed=changed,
        is_active=is_active,
        traces_retention_days=retention_class(retention_days["traces"]),
        metrics_retention_days=retention_class(retention_days["metrics"]),
        logs_retention_days=retention_class(retention_days["logs"]),
    )


def platform_secret(pepper: bytes) -> str:
    """The secret of the product's own key: whoever holds the pepper can make it."""
    return f"tfs_{hmac.digest(pepper, b'telemetry of the product itself', hashlib.sha256).hex()}"
