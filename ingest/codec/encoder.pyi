import builtins

from ingest.codec.cardinality import Guard
from ingest.codec.results import Appended, Block

class Encoder:
    def __init__(
        self,
        signal: str,
        *,
        retention_days: int,
        block_bytes_max: int = 8_000_000,
        block_rows_max: int = 65_536,
    ) -> None: ...
    @property
    def rows(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    def append(
        self,
        body: builtins.bytes,
        *,
        tenant: str,
        received_ns: int,
        workspace: str = "",
        guard: Guard | None = None,
    ) -> Appended: ...
    def close(self) -> list[Block]: ...
