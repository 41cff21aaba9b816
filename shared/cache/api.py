"""Routes of the cache, for who runs the platform."""

from pydantic import Field

from shared.cache.cache import Cache
from shared.errors import Invalid
from shared.http.call import Call
from shared.http.models import View
from shared.http.routes import Routes
from shared.platform.events import note_maintenance_alone

# As the description of the API says of texts in paths.
PATTERN_CHARACTERS_MAX = 200

routes = Routes("Cache", "What is remembered for a while: how well, and forgetting it.")


class MemoryStats(View):
    """The memory of the process that answered."""

    size: int = Field(description="entries")
    bytes: int
    max_size: int = Field(description="entries at most")
    hit_rate: float = Field(description="share of look-ups since the start, 0 to 1")


class RedisStats(View):
    """What all processes share."""

    keys: int
    memory: int = Field(description="bytes")
    hit_rate: float
    up: bool = Field(description="false also when none is set: caches are in memory only")


class CacheStats(View):
    """Both levels."""

    l1: MemoryStats
    l2: RedisStats


class Cleared(View):
    """How many entries were forgotten."""

    deleted: int


@routes.get("/admin/cache/stats", permission="cache:read", answer=CacheStats)
async def get_cache_stats(call: Call) -> CacheStats:
    """Get how full both levels are, and how often they had the answer."""
    return CacheStats.model_validate(await call.service(Cache).stats())


@routes.post("/admin/cache/clear", permission="cache:write", answer=Cleared)
async def clear_cache(call: Call) -> Cleared:
    """Forget everything."""
    await note_maintenance_alone(call, "cache.clear", "*")
    return Cleared(deleted=await call.service(Cache).clear())


@routes.post("/admin/cache/clear/{pattern}", permission="cache:write", answer=Cleared)
async def clear_cache_below(call: Call) -> Cleared:
    """Forget what is below a prefix, such as `platform:platform`; `*` stands for any part."""
    pattern = call.text("pattern")
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        raise Invalid(f"a pattern has at most {PATTERN_CHARACTERS_MAX} characters")
    await note_maintenance_alone(call, "cache.clear", pattern)
    return Cleared(deleted=await call.service(Cache).delete_pattern(pattern))
