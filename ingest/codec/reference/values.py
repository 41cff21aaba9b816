"""Attribute values as text, as the OpenTelemetry ClickHouse exporter writes them.

Source: `pcommon.Value.AsString` of the OpenTelemetry Collector; lists become the JSON that Go's
encoding/json makes of them.
"""

import base64
import math
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

# encoding/json escapes what would end a script element or a line of JavaScript, too.
_ESCAPED: Final = re.compile('["\\\\<>&\x00-\x1f\u2028\u2029]')
_SHORT_ESCAPES: Final = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}


def attributes(pairs: Iterable[KeyValue]) -> dict[str, str]:
    """As texts, sorted by the UTF-8 bytes of their keys; of equal keys the last one counts."""
    return {key: text(value) for key, value in _last_of_each(pairs)}


def text(value: AnyValue) -> str:
    """A value as it is stored in a map of texts: '' when it is unset."""
    member = value.WhichOneof("value")
    if member == "string_value":
        return value.string_value
    if member is None or member == "string_value_strindex":
        return ""
    if member == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    if member == "double_value":
        return number(value.double_value)
    return as_json(value)


def as_json(value: AnyValue) -> str:
    """A value as it is written inside of a list."""
    member = value.WhichOneof("value")
    if member is None:
        return "null"
    if member == "bool_value":
        return "true" if value.bool_value else "false"
    if member == "int_value" or (member == "double_value" and math.isfinite(value.double_value)):
        return number(getattr(value, member))
    if member == "array_value":
        return "[" + ",".join(map(as_json, value.array_value.values)) + "]"
    if member == "kvlist_value":
        pairs = _last_of_each(value.kvlist_value.values)
        return "{" + ",".join(f"{json_text(key)}:{as_json(one)}" for key, one in pairs) + "}"
    return json_text(text(value))


def json_text(plain: str) -> str:
    """A JSON string."""

    def escape(found: re.Match[str]) -> str:
        return _SHORT_ESCAPES.get(found[0], f"\\u{ord(found[0]):04x}")

    return '"' + _ESCAPED.sub(escape, plain) + '"'


def number(value: float) -> str:
    """Go's shortest form; of a double, with an exponent below 1e-6 and from 1e21 on."""
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    sign = "-" if math.copysign(1, value) < 0 else ""
    parts = Decimal(repr(abs(value))).as_tuple()
    digits = "".join(map(str, parts.digits)).lstrip("0")
    exponent = len(digits) - 1 + int(parts.exponent)  # of the first digit
    digits = digits.rstrip("0") or "0"
    if value == 0:
        return sign + "0"
    if exponent < -6 or exponent >= 21:
        fraction = "." + digits[1:] if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{fraction}e{exponent:+d}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    whole, fraction = digits[: exponent + 1].ljust(exponent + 1, "0"), digits[exponent + 1 :]
    return f"{sign}{whole}.{fraction}" if fraction else sign + whole


def _last_of_each(pairs: Iterable[KeyValue]) -> list[tuple[str, AnyValue]]:
    last = {pair.key: pair.value for pair in pairs}
    return sorted(last.items(), key=lambda item: item[0].encode())
