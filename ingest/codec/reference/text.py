"""Attribute values as text, as the OpenTelemetry ClickHouse exporter writes them.

Source: `pcommon.Value.AsString` of the OpenTelemetry Collector and Go's encoding/json.
"""

import math
from base64 import b64encode
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

Map = list[tuple[bytes, bytes]]

_ESCAPES: Final = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


def attributes(pairs: Iterable[KeyValue]) -> Map:
    """Sorted by the bytes of the keys; of equal keys the last one counts."""
    last = {pair.key.encode(): value_text(pair.value).encode() for pair in pairs}
    return sorted(last.items())


def value_text(value: AnyValue) -> str:
    """A value as text; '' when it is unset."""
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "bool_value":
            return "true" if value.bool_value else "false"
        case "int_value":
            return str(value.int_value)
        case "double_value":
            return double_text(value.double_value)
        case "bytes_value":
            return b64encode(value.bytes_value).decode()
        case "array_value" | "kvlist_value":
            return json_value(value)
        case _:
            return ""


def double_text(value: float) -> str:
    """Go's shortest form: without an exponent between 1e-6 and 1e21."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    text = "".join(map(str, digits))
    power = int(exponent) + len(text) - 1 if value else 0
    minus = "-" if sign else ""
    if power < -6 or power >= 21:
        tail = f".{text[1:]}" if len(text) > 1 else ""
        return f"{minus}{text[0]}{tail}e{'-' if power < 0 else '+'}{abs(power)}"
    if power < 0:
        return f"{minus}0.{'0' * (-power - 1)}{text}"
    whole = text[: power + 1].ljust(power + 1, "0")
    fraction = text[power + 1 :]
    return f"{minus}{whole}.{fraction}" if fraction else f"{minus}{whole}"


def json_value(value: AnyValue) -> str:
    """A value as compact JSON; what JSON has no number for is a string."""
    match value.WhichOneof("value"):
        case None:
            return "null"
        case "array_value":
            return f"[{','.join(json_value(item) for item in value.array_value.values)}]"
        case "kvlist_value":
            last = {pair.key.encode(): pair.value for pair in value.kvlist_value.values}
            members = (
                f"{json_text(key.decode())}:{json_value(item)}"
                for key, item in sorted(last.items())
            )
            return f"{{{','.join(members)}}}"
        case "double_value" if not math.isfinite(value.double_value):
            return f'"{value_text(value)}"'
        case "string_value" | "bytes_value" | "string_value_strindex":
            return json_text(value_text(value))
        case _:
            return value_text(value)


def json_text(text: str) -> str:
    """A JSON string with the escapes of Go's encoding/json, which also spares HTML."""
    return f'"{"".join(_escaped(character) for character in text)}"'


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return f"\\u{ord(character):04x}" if character < " " else character


def entity_refs(resource: Resource) -> bytes:
    """The resource's entity_refs as a JSON array, '' without any."""
    entries = [
        f'{{"schemaUrl":{json_text(ref.schema_url)},"type":{json_text(ref.type)},'
        f'"idKeys":[{",".join(map(json_text, ref.id_keys))}],'
        f'"descriptionKeys":[{",".join(map(json_text, ref.description_keys))}]}}'
        for ref in resource.entity_refs
    ]
    return f"[{','.join(entries)}]".encode() if entries else b""
