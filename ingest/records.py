"""What one record of an `otlp.*.v1` topic says about the block it holds, as record headers.

The value is one compressed frame (zstd or lz4) of one ClickHouse Native block of one table. The
headers have short keys; what repeats is packed, because one block may hold hundreds of requests:

    v   schema version, one byte          t   table, text
    n   rows, u32                         r   retention in days, u32
    lo  earliest item time, Unix ns, i64  hi  latest item time, Unix ns, i64
    e   encoding of the value, text
    m   Unix minute in which the gateway closed the block, u32; may be missing
    c   per tenant and key: varint length, text of the tenant, varint rows
    q   per request: 16 bytes id, varint index into c, varint part, varint first row, varint rows
    k   per entry of c: varint length, the key: 16 bytes, the hex of its id, or none; may be missing
    b   per entry of q: varint bytes of the request's body; may be missing

Integers are little-endian, varints are unsigned LEB128 as in protobuf. A record without k and b is
of an older gateway: its keys are not known and its bytes are 0. An older writer ignores them, and
adds up the entries of a tenant.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from ingest.log import Headers
from shared.errors import Invalid

SCHEMA_VERSION: Final = 1
ENCODINGS: Final = ("zstd", "lz4")
REQUEST_ID_BYTES: Final = 16
KEY_BYTES: Final = 16
# Ids of keys are this and the hex of their bytes.
KEY_PREFIX: Final = "tfk_"
_VARINT_BYTES_MAX: Final = 10
_U32: Final = struct.Struct("<I")
_I64: Final = struct.Struct("<q")

_Entry = TypeVar("_Entry")


class TenantRows(NamedTuple):
    """How many rows of the block came with one key of a tenant; `key` is "" when not known."""

    tenant: str
    rows: int
    key: str = ""


class RequestRows(NamedTuple):
    """Where in the block the rows of one request stand; `id` identifies the request (16 bytes).

    `body_bytes` is the size of its body as decompressed protobuf in the first block that holds rows
    of it, and 0 in the others, so that it counts once.
    """

    id: bytes
    tenant: str
    part: int
    first_row: int
    rows: int
    key: str = ""
    body_bytes: int = 0


@dataclass(frozen=True, slots=True)
class RecordInfo:
    """Everything the writer must know of a block without opening it. Times are Unix ns.

    `minute` is the Unix minute under which the ledger counts its rows, 0 when that is not known.
    """

    table: str
    rows: int
    retention_days: int
    time_min_ns: int
    time_max_ns: int
    encoding: str
    tenants: tuple[TenantRows, ...]
    requests: tuple[RequestRows, ...]
    minute: int = 0
    schema_version: int = SCHEMA_VERSION


def to_headers(info: RecordInfo) -> Headers:
    """The headers of a record. Raises Invalid if a request's tenant is not among the tenants."""
    tenants, keys = _pack_tenants(info.tenants)
    requests, sizes = _pack_requests(info.requests, info.tenants)
    return (
        ("v", bytes((info.schema_version,))),
        ("t", info.table.encode()),
        ("n", _U32.pack(info.rows)),
        ("r", _U32.pack(info.retention_days)),
        ("lo", _I64.pack(info.time_min_ns)),
        ("hi", _I64.pack(info.time_max_ns)),
        ("e", info.encoding.encode()),
        *((("m", _U32.pack(info.minute)),) if info.minute else ()),
        ("c", tenants),
        ("q", requests),
        *((("k", keys),) if any(keys) else ()),
        *((("b", sizes),) if any(sizes) else ()),
    )


def from_headers(headers: Headers) -> RecordInfo:
    """Reads what `to_headers` wrote; raises Invalid on an unknown version or on damaged headers."""
    fields = dict(headers)
    version = fields.get("v", b"")
    if version != bytes((SCHEMA_VERSION,)):
        raise Invalid(f"record of schema version {version.hex() or 'none'}, want 01", field="v")
    try:
        return _info_of(fields)
    except (KeyError, IndexError, struct.error, ValueError) as error:
        raise Invalid(f"damaged record headers: {error!r}") from error


def rows_of(headers: Headers) -> int:
    """The row count of a record of any topic: header "n", 0 where there is none."""
    for key, value in headers:
        if key == "n" and len(value) == _U32.size:
            return int.from_bytes(value, "little")
    return 0


def _info_of(fields: dict[str, bytes]) -> RecordInfo:
    encoding = fields["e"].decode()
    if encoding not in ENCODINGS:
        raise Invalid(f"record encoded as {encoding!r}, want one of {ENCODINGS}", field="e")
    tenants = _unpack(fields["c"], _tenant_at)
    if "k" in fields:
        keys = _unpack(fields["k"], _key_at)
        tenants = tuple(
            TenantRows(tenant, rows, key)
            for (tenant, rows, _), key in zip(tenants, keys, strict=True)
        )
    return RecordInfo(
        table=fields["t"].decode(),
        rows=_U32.unpack(fields["n"])[0],
        retention_days=_U32.unpack(fields["r"])[0],
        time_min_ns=_I64.unpack(fields["lo"])[0],
        time_max_ns=_I64.unpack(fields["hi"])[0],
        encoding=encoding,
        minute=_U32.unpack(fields["m"])[0] if "m" in fields else 0,
        tenants=tenants,
        requests=_unpack_requests(fields["q"], fields.get("b"), tenants),
    )


def _pack_tenants(tenants: tuple[TenantRows, ...]) -> tuple[bytes, bytes]:
    packed, keys = bytearray(), bytearray()
    for tenant, rows, key in tenants:
        name = tenant.encode()
        _put_varint(packed, len(name))
        packed += name
        _put_varint(packed, rows)
        key_bytes = bytes.fromhex(key.removeprefix(KEY_PREFIX))
        _put_varint(keys, len(key_bytes))
        keys += key_bytes
    return bytes(packed), bytes(keys)


def _pack_requests(
    requests: tuple[RequestRows, ...], tenants: tuple[TenantRows, ...]
) -> tuple[bytes, bytes]:
    index_of = {(tenant, key): index for index, (tenant, _, key) in enumerate(tenants)}
    packed, sizes = bytearray(), bytearray()
    for request_id, tenant, part, first_row, rows, key, body_bytes in requests:
        index = index_of.get((tenant, key))
        if index is None or len(request_id) != REQUEST_ID_BYTES:
            raise Invalid(f"request of tenant {tenant!r} does not fit its block")
        packed += request_id
        # There are as many as requests, and most are small: a call for each would be dear.
        if 0 <= index | part | first_row | rows < 0x80:
            packed += bytes((index, part, first_row, rows))
        else:
            for number in (index, part, first_row, rows):
                _put_varint(packed, number)
        if 0x80 <= body_bytes < 0x4000:
            sizes += bytes((body_bytes & 0x7F | 0x80, body_bytes >> 7))
        else:
            _put_varint(sizes, body_bytes)
    return bytes(packed), bytes(sizes)


def _unpack(
    packed: bytes, entry_at: Callable[[bytes, int], tuple[_Entry, int]]
) -> tuple[_Entry, ...]:
    entries = []
    at = 0
    while at < len(packed):
        entry, at = entry_at(packed, at)
        entries.append(entry)
    return tuple(entries)


def _tenant_at(packed: bytes, at: int) -> tuple[TenantRows, int]:
    length, at = _varint_at(packed, at)
    end = at + length
    rows, after = _varint_at(packed, end)
    return TenantRows(packed[at:end].decode(), rows), after


def _key_at(packed: bytes, at: int) -> tuple[str, int]:
    length, at = _varint_at(packed, at)
    key = packed[at : at + length]
    if len(key) not in {0, KEY_BYTES} or len(key) != length:
        raise Invalid(f"damaged record headers: a key of {length} bytes", field="k")
    return f"{KEY_PREFIX}{key.hex()}" if key else "", at + length


def _unpack_requests(
    packed: bytes, packed_sizes: bytes | None, tenants: tuple[TenantRows, ...]
) -> tuple[RequestRows, ...]:
    requests = []
    at = size_at = body_bytes = 0
    while at < len(packed):
        id_end = at + REQUEST_ID_BYTES
        numbers = packed[id_end : id_end + 4]
        # As in packing: four small numbers are four bytes.
        if len(numbers) == 4 and numbers.isascii():
            (tenant, part, first_row, rows), after = numbers, id_end + 4
        else:
            tenant, part_at = _varint_at(packed, id_end)
            part, first_row_at = _varint_at(packed, part_at)
            first_row, rows_at = _varint_at(packed, first_row_at)
            rows, after = _varint_at(packed, rows_at)
        if packed_sizes is not None:
            body_bytes, size_at = _varint_at(packed_sizes, size_at)
        name, _, key = tenants[tenant]
        requests.append(
            RequestRows(packed[at:id_end], name, part, first_row, rows, key, body_bytes)
        )
        at = after
    if size_at != len(packed_sizes or b""):
        raise Invalid("damaged record headers: more sizes than requests", field="b")
    return tuple(requests)


def _put_varint(packed: bytearray, number: int) -> None:
    if number < 0:
        raise Invalid(f"a record cannot count {number} rows")
    while number > 0x7F:
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    packed.append(number)


def _varint_at(packed: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 7 * _VARINT_BYTES_MAX, 7):
        byte = packed[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise Invalid("damaged record headers: a number is longer than 10 bytes")
