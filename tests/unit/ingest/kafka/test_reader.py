"""Reads of what a broker may answer, without a broker."""

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from ingest.kafka_log.batches import batches
from ingest.kafka_log.reader import Reader

PLACE = ("logs", 0)


def batch(base: int, *values: bytes) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    for number, value in enumerate(values):
        builder.append(number, 1, None, value, [])
    # The broker writes the base offset, which no checksum covers.
    return base.to_bytes(8, "big") + bytes(builder.build())[8:]


class Answering:
    """A cluster whose leader gives one answer after the other."""

    def __init__(self, *answers: tuple[bytes, int]) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []

    async def to_leader(self, place: tuple[str, int], request: Any, *, lane: str) -> Any:
        ((_topic, ((_partition, offset, _size),)),) = request.topics
        self.asked.append(offset)
        data, end = self.answers.pop(0)
        return SimpleNamespace(topics=[(place[0], [(place[1], 0, end, data)])])

    async def patiently(self, operation: Callable[[], Awaitable[Any]]) -> Any:
        return await operation()


async def read(cluster: Answering, offset: int) -> tuple[list[bytes], int]:
    reader = Reader(cluster)  # type: ignore[arg-type]
    records, following = await reader.read(PLACE, offset, records_max=100, bytes_max=1_000)
    return [one.value for one in records], following


async def test_I12_records_that_are_newer_than_the_end_in_the_answer_are_read() -> None:
    cluster = Answering((batch(5, b"a"), 5))
    assert await read(cluster, 5) == ([b"a"], 6)


async def test_records_before_the_offset_are_left_out() -> None:
    cluster = Answering((batch(3, b"a", b"b", b"c") + batch(6, b"d"), 7))
    assert await read(cluster, 4) == ([b"b", b"c", b"d"], 7)


async def test_F29_a_batch_that_was_damaged_on_the_wire_is_fetched_again() -> None:
    good = batch(0, b"value")
    cluster = Answering((good.replace(b"value", b"valve"), 1), (good, 1))
    assert await read(cluster, 0) == ([b"value"], 1)


async def test_F29_what_stands_before_a_damaged_batch_is_read_first() -> None:
    data = batch(0, b"a") + batch(1, b"value").replace(b"value", b"valve") + batch(2, b"c")
    cluster = Answering(*[(data, 3)] * 6)
    assert await read(cluster, 0) == ([b"a"], 1)
    assert await read(cluster, 1) == ([b"c"], 3)


async def test_a_batch_that_is_cut_off_is_left_for_the_next_fetch() -> None:
    data = batch(0, b"a") + batch(1, b"b")[:-3]
    assert [one.base_offset for one in batches(data)] == [0]
    assert await read(Answering((data, 2)), 0) == ([b"a"], 1)
