"""What is sent when: seven days of requests, the last one dense, cut into batches.

A batch is one INSERT into each table that it touches, so it lies within one day. Everything follows
from the scale and the seed alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from benchmarks.dataset.points import BLOCKS_OF_REQUEST, SERIES_OF_BLOCK, point_template
from benchmarks.dataset.skew import ALL_TENANTS, DAYS, LAST_DAY_SHARE, Tenant
from benchmarks.dataset.spans import ITEMS, log_template, span_template
from benchmarks.dataset.templates import Filling, Template, mask_of

SECOND_NS: Final = 1_000_000_000
DAY_NS: Final = 86_400 * SECOND_NS
SPANS: Final = 50_000_000
RECORDS: Final = 50_000_000
POINTS: Final = 100_000_000
# Every series has a point a minute on the last day, and one in nine minutes before.
LAST_DAY_SCRAPES: Final = 1_440
SCRAPES: Final = 160
BATCH_ROWS: Final = 500_000
# Different requests of each size of tenant; small data sets have fewer, they take long to build.
VARIANTS_MAX: Final = 24
VARIANTS_OF_SCALE: Final = 240


@dataclass(frozen=True)
class Batch:
    """Part *part* of *parts* of a day of a signal; day 0 is the first."""

    signal: str
    day: int
    part: int
    parts: int

    @property
    def name(self) -> str:
        """Unique, and the same for the same scale."""
        return f"{self.signal}-{self.day}-{self.part}"


@dataclass(frozen=True)
class Plan:
    """How much, of which seed, up to when (a midnight, UTC)."""

    scale: float
    seed: int
    end_ns: int

    def batches(self) -> Iterator[Batch]:
        """All of them, as time goes on."""
        for day in range(DAYS):
            of_signal = {
                "traces": sum(self.requests_of(one, day) for one in ALL_TENANTS) * ITEMS,
                "logs": sum(self.requests_of(one, day) for one in ALL_TENANTS) * ITEMS,
                "metrics": sum(map(self.series_of, ALL_TENANTS)) * scrapes_of(day),
            }
            for signal, rows in of_signal.items():
                parts = max(1, round(rows / BATCH_ROWS))
                yield from (Batch(signal, day, part, parts) for part in range(parts))

    def requests_of(self, tenant: Tenant, day: int) -> int:
        """Requests of spans that the tenant sends on that day, and as many of log records."""
        share = LAST_DAY_SHARE if day == DAYS - 1 else (1 - LAST_DAY_SHARE) / (DAYS - 1)
        return max(1, round(SPANS * self.scale * share * tenant.share / ITEMS))

    def series_of(self, tenant: Tenant) -> int:
        """How many series the tenant has, in whole blocks."""
        of_all = POINTS * self.scale / (LAST_DAY_SCRAPES + (DAYS - 1) * SCRAPES)
        # At least a gauge and a counter.
        return max(2, round(of_all * tenant.share / SERIES_OF_BLOCK)) * SERIES_OF_BLOCK

    def bodies(self, batch: Batch) -> Iterator[tuple[Tenant, bytes]]:
        """The requests of a batch, and whose they are."""
        for number, tenant in enumerate(ALL_TENANTS):
            if batch.signal == "metrics":
                yield from ((tenant, body) for body in self._points(batch, tenant))
                continue
            requests = self.requests_of(tenant, batch.day)
            length_ns = DAY_NS // requests
            begin_ns = self.begin_ns(batch.day)
            for request in range(requests):
                if request * batch.parts // requests != batch.part:
                    continue
                mask = mask_of(self.seed, number, batch.day, request)
                template = _template(batch.signal, tenant.services, mask % self.variants)
                yield (
                    tenant,
                    template.filled(
                        Filling(
                            mask,
                            begin_ns + request * length_ns,
                            length_ns,
                            # The same calls take longer now, shorter then.
                            stretch=0.5 + (mask >> 32) % 1_024 / 1_024,
                        )
                    ),
                )

    @property
    def variants(self) -> int:
        """How many templates there are for each size of tenant."""
        return max(1, min(VARIANTS_MAX, round(self.scale * VARIANTS_OF_SCALE)))

    def begin_ns(self, day: int) -> int:
        """When that day begins."""
        return self.end_ns - (DAYS - day) * DAY_NS

    def _points(self, batch: Batch, tenant: Tenant) -> Iterator[bytes]:
        scrapes = scrapes_of(batch.day)
        first, last = (scrapes * part // batch.parts for part in (batch.part, batch.part + 1))
        blocks = self.series_of(tenant) // SERIES_OF_BLOCK
        for scrape in range(first, last):
            begin_ns = self.begin_ns(batch.day)
            for block in range(0, blocks, BLOCKS_OF_REQUEST):
                template = _points_template(
                    block, min(BLOCKS_OF_REQUEST, blocks - block), tenant.services
                )
                yield template.filled(
                    Filling(
                        mask_of(self.seed, ALL_TENANTS.index(tenant), scrape, block, batch.day),
                        begin_ns + DAY_NS // scrapes * scrape,
                        length_ns=0,
                        # Processes begin anew each midnight.
                        start_ns=begin_ns,
                        step=scrape,
                    )
                )


def scrapes_of(day: int) -> int:
    """Points of a series on that day."""
    return LAST_DAY_SCRAPES if day == DAYS - 1 else SCRAPES


@cache
def _template(signal: str, services: int, variant: int) -> Template:
    build = span_template if signal == "traces" else log_template
    return build(f"{services}/{variant}", services)


@cache
def _points_template(first_block: int, blocks: int, services: int) -> Template:
    return point_template(first_block, blocks, services)
