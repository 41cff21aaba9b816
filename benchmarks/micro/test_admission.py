"""What it costs to decide whether a request is taken: before its body is read, and after.

Each call is one request; 1 000 ns is the most that a request without limits may cost here.
"""

from typing import TYPE_CHECKING, Any, Final

import pytest

from ingest.admission import Admission
from ingest.directory import Principal
from ingest.signals import Signal
from shared.directory.directory_pb2 import Key, Limits, Quota, Tenant

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

PLENTY: Final = 1 << 50
LIMITS: Final = {
    "requests_per_minute": PLENTY,
    "items_per_second": PLENTY,
    "bytes_per_second": PLENTY,
}
NEARLY_USED: Final = Quota(signal="traces", resets_at=4_000_000_000, state=Quota.STATE_NEARLY_USED)
# Limits of the key, limits of the tenant, quotas of the tenant.
CASES: Final[dict[str, tuple[Any, Any, Any]]] = {
    "no limits": ({}, {}, []),
    "requests of the key": ({"requests_per_minute": PLENTY}, {}, []),
    "everything": (LIMITS, LIMITS, [NEARLY_USED]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_request_is_admitted(benchmark: "BenchmarkFixture", case: str) -> None:
    key, tenant, quotas = CASES[case]
    limits = Admission(key_requests_per_minute=0, unix_clock=lambda: 0.0)
    who = Principal(
        "acme",
        30,
        key=Key(id="tfk_" + "0" * 32, limits=Limits(**key) if key else None),
        tenant=Tenant(name="acme", limits=Limits(**tenant) if tenant else None, quotas=quotas),
    )

    def admit() -> None:
        limits.account(who).check(Signal.TRACES)
        account = limits.account(who)
        account.admit(2_000)
        account.took(5)
        account.notice(Signal.TRACES)

    benchmark.group = "admission"
    benchmark(admit)
