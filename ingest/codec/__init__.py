"""OTLP requests to ClickHouse Native blocks.

`Encoder` is compiled; `ingest.codec.reference` is its plain-Python twin and specification.
"""

from ingest.codec.encoder import Encoder
from ingest.codec.results import Appended, Block, BlockFull, Malformed, RowRange

__all__ = ["Appended", "Block", "BlockFull", "Encoder", "Malformed", "RowRange"]
