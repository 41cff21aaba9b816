"""The codec in plain Python: slow, short, and the specification of the compiled one.

It decodes with protobuf's own library and writes the same bytes, so that random input can be put
through both and compared. Read it in this order: `wire` (what is a request at all), `values`
(attributes as text), `items` (times, limits, what items share), `traces`, `logs`, `metrics` (rows),
`native` (blocks), `encoder`.
"""

from ingest.codec.reference.encoder import Encoder
from ingest.codec.results import Appended, Block, BlockFull, Malformed, RowRange

__all__ = ["Appended", "Block", "BlockFull", "Encoder", "Malformed", "RowRange"]
