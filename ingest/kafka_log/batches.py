"""Record batches of Kafka (magic 2) as they stand in the answer to a fetch.

Format: https://kafka.apache.org/documentation/#recordbatch. Only the header is read here; aiokafka
decodes the records. A batch whose checksum is wrong costs itself, not its partition.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.default_records import DefaultRecordBatch

from ingest.log import Record

# Base offset, length of what follows, leader epoch, magic, checksum, attributes, last offset delta.
_HEADER: Final = struct.Struct(">qiibIhi")
_LENGTH_COUNTS_FROM: Final = 12
_MAGIC: Final = 2
_RECORDS_PER_BATCH_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Batch:
    """One whole batch of a fetch, not yet decoded; `next_offset` is the one behind it."""

    base_offset: int
    next_offset: int
    leader_epoch: int
    data: bytes

    def records(self, topic: str, partition: int) -> list[Record]:
        """Its records; none for a marker of a transaction. Raises Damaged."""
        batch = DefaultRecordBatch(self.data)
        try:
            if not batch.validate_crc():
                raise Damaged("its checksum does not match")
            if batch.is_control_batch:
                return []
            return [
                Record(
                    topic=topic,
                    partition=partition,
                    offset=one.offset,
                    timestamp_ms=one.timestamp,
                    value=one.value or b"",
                    headers=tuple((name, value or b"") for name, value in one.headers),
                    epoch=self.leader_epoch,
                )
                for one in batch
            ]
        except (CorruptRecordException, UnsupportedCodecError, ValueError, RuntimeError) as error:
            raise Damaged(str(error)) from error


class Damaged(Exception):
    """The records of a batch cannot be read."""


def batches(fetched: bytes) -> Iterator[Batch]:
    """The whole batches in *fetched*, in order; a last one that is cut off is left out."""
    at = 0
    while at + _HEADER.size <= len(fetched):
        base, length, epoch, magic, _checksum, _attributes, delta = _HEADER.unpack_from(fetched, at)
        end = at + _LENGTH_COUNTS_FROM + length
        if length <= 0 or end > len(fetched):
            return
        sound = magic == _MAGIC and 0 <= delta < _RECORDS_PER_BATCH_MAX
        yield Batch(base, base + (delta if sound else 0) + 1, epoch, fetched[at:end])
        at = end
