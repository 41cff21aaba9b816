"""Answers about accounts last whole steps, whatever is done in them."""

import asyncio
from time import monotonic

import pytest

from shared.security.timing import lasting_steps_of


@pytest.mark.parametrize(("work", "steps"), [(0.0, 1), (0.01, 1), (0.06, 2)])
async def test_S16_a_block_lasts_whole_steps(work: float, steps: int) -> None:
    begun = monotonic()
    async with lasting_steps_of(0.05):
        await asyncio.sleep(work)

    # A loaded machine wakes late, never early.
    assert monotonic() - begun >= 0.05 * steps - 0.001


async def test_S16_an_error_takes_as_long() -> None:
    begun = monotonic()
    with pytest.raises(ValueError, match="no such account"):
        async with lasting_steps_of(0.05):
            raise ValueError("no such account")

    assert monotonic() - begun >= 0.049
