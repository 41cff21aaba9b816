"""Requests with a key of a workspace: each resource names the tenant that it belongs to.

A resource says so in its attribute `telemetryflow.tenant.id`. An Export request is a sequence of
resources, so what belongs to one tenant is the bytes of its resources, one after another, and is
from there on a request of that tenant like any other: decoded, kept, counted and answered for it.
What names no tenant of the workspace, or none at all, goes to nobody: the codec rejects each of its
items with the reason. A workspace of one tenant is no exception, or data that was taken would be
refused from the day on which there is a second one.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from ingest.codec import Appended, Encoder
from ingest.codec.resources import resources_of
from ingest.directory import Principal
from ingest.signals import Signal


def requests_by_tenant(
    signal: Signal, body: bytes, of_tenant: Callable[[str], Principal]
) -> list[tuple[Principal, bytes]]:
    """The requests that *body* (protobuf) holds, one for each principal that *of_tenant* tells for
    the tenants that resources name ('' when they name none).

    Which resources make up a tenant's request follows from the body, so a repeat of the body
    repeats each of them. Raises Malformed for a body that cannot be decoded, whole.
    """
    shares: dict[str, tuple[Principal, list[bytes]]] = {}
    for name, first, end in resources_of(signal.value, body):
        principal = of_tenant(name)
        _, pieces = shares.setdefault(principal.tenant_id, (principal, []))
        pieces.append(body[first:end])
    return [(principal, b"".join(pieces)) for principal, pieces in shares.values()]


def all_rejected(signal: Signal, body: bytes, reason: str) -> Appended:
    """What becomes of a request of which no item is taken, for a *reason* of its tenant."""
    # Without a tenant an encoder writes nothing, but counts and describes.
    told = Encoder(signal.value, retention_days=1).append(body, tenant="", received_ns=0)
    samples = tuple(item._replace(reason=reason) for item in told.samples)
    return Appended(0, {reason: told.items} if told.items else {}, {}, (), samples=samples)


def summed(outcomes: Iterable[Appended]) -> Appended:
    """What became of a request whose parts became these; where rows stand is not told."""
    accepted = 0
    rejected: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    for outcome in outcomes:
        accepted += outcome.accepted
        rejected.update(outcome.rejected)
        warnings.update(outcome.warnings)
    return Appended(accepted, dict(rejected), dict(warnings), ())
