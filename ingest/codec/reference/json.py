"""OTLP/JSON requests to protobuf, with Python's own `json` and the published descriptors.

The mapping is that of the OTLP specification: lowerCamelCase names only, ids as hex, enums as
numbers; 64-bit integers as numbers or strings. Members that are unknown are ignored, `null` is a
member that is absent, of members with one name the last one counts.
"""

import base64
import json
import math
import re
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

from ingest.codec.reference.wire import REQUEST_OF_SIGNAL
from ingest.codec.results import Malformed

DEPTH_MAX: Final = 64  # nested objects and arrays, known and unknown ones together
INTEGER_DIGITS_MAX: Final = 20
# No id has one byte, so that the encoder rejects the item, and only the item.
NO_ID: Final = b"\xff"

_NUMBER: Final = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_SPECIAL: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_BOUNDS: Final = {
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_ENUM: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
}


class _Members(list[tuple[str, Any]]):
    """An object as it was written: a dict would forget members of equal names, right or wrong."""


class _Number(str):
    """A number as it was written: a float would lose digits of integers."""

    __slots__ = ()


def to_protobuf(signal: str, body: bytes) -> bytes:
    """The protobuf request that says what the OTLP/JSON request says.

    An id that is not hex becomes one that no item can have. Raises Malformed, with the path of the
    field if there is one, for anything that is not JSON in UTF-8, or not of the type that its field
    has.
    """
    request = REQUEST_OF_SIGNAL[signal]()
    _fill(request, _Place(""), _parsed(body))
    return request.SerializeToString()


class _Place(str):
    """The path of a value, as an error tells it."""

    __slots__ = ()

    def member(self, name: str) -> "_Place":
        return _Place(f"{self}.{name}" if self else name)

    def element(self, index: int) -> "_Place":
        return _Place(f"{self}[{index}]")

    def expected(self, what: str) -> Malformed:
        return Malformed(f"expected {what}", field=str(self))


def _parsed(body: bytes) -> Any:
    try:
        value = json.loads(
            body.decode(),
            object_pairs_hook=_Members,
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError) as error:
        raise Malformed("the body is not JSON in UTF-8") from error
    _check_depth(value, 1)
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check_depth(value: Any, depth: int) -> None:
    if isinstance(value, list) and depth > DEPTH_MAX:
        raise Malformed(f"nested deeper than {DEPTH_MAX} levels")
    inside = [one for _name, one in value] if isinstance(value, _Members) else value
    for one in inside if isinstance(inside, list) else ():
        _check_depth(one, depth + 1)


def _fill(message: Any, place: _Place, value: Any) -> None:
    if not isinstance(value, _Members):
        raise place.expected("an object")
    fields = {field.json_name: field for field in message.DESCRIPTOR.fields}
    last = {name: number for number, (name, _one) in enumerate(value)}
    for number, (name, one) in enumerate(value):
        if name in fields and one is not None:
            # A member that does not count must still be one that could.
            target = message if number == last[name] else type(message)()
            _set(target, fields[name], place.member(name), one)


def _set(message: Any, field: Any, place: _Place, value: Any) -> None:
    if field.is_repeated:
        _extend(message, field, place, value)
    elif field.message_type is not None:
        child = getattr(message, field.name)
        child.SetInParent()
        _fill(child, place, value)
    else:
        setattr(message, field.name, _scalar(field, place, value))


def _extend(message: Any, field: Any, place: _Place, value: Any) -> None:
    if not isinstance(value, list) or isinstance(value, _Members):
        raise place.expected("an array")
    elements = getattr(message, field.name)
    for index, one in enumerate(value):
        if field.message_type is None:
            elements.append(_scalar(field, place.element(index), one))
        elif one is None and message.DESCRIPTOR.name == "ArrayValue":
            elements.add()  # a list may hold nothing, in some place of it
        else:
            _fill(elements.add(), place.element(index), one)


def _scalar(field: Any, place: _Place, value: Any) -> Any:
    read: Callable[[Any, _Place, Any], Any] = _SCALARS.get(field.type, _integer)
    return read(field, place, value)


def _string(_field: Any, place: _Place, value: Any) -> str:
    if not isinstance(value, str) or isinstance(value, _Number):
        raise place.expected("a string")
    return _SURROGATE.sub("\ufffd", value)


def _bool(_field: Any, place: _Place, value: Any) -> bool:
    if not isinstance(value, bool):
        raise place.expected("true or false")
    return value


def _id(field: Any, place: _Place, value: Any) -> bytes:
    text = _string(field, place, value)
    return bytes.fromhex(text) if re.fullmatch("(?:[0-9a-fA-F]{2})*", text) else NO_ID


def _bytes(field: Any, place: _Place, value: Any) -> bytes:
    """An id as hex; all other bytes as base64 of either alphabet, padded or not."""
    if field.name != "bytes_value":
        return _id(field, place, value)
    text = _string(field, place, value)
    whole = text.rstrip("=") if len(text) % 4 == 0 and not text.endswith("===") else text
    if len(whole) % 4 == 1 or not re.fullmatch("[A-Za-z0-9+/_-]*", whole):
        raise place.expected("base64")
    padded = whole + "=" * (-len(whole) % 4)
    return base64.b64decode(padded.translate({0x2D: "+", 0x5F: "/"}))


def _double(_field: Any, place: _Place, value: Any) -> float:
    if isinstance(value, str) and value in _SPECIAL:
        return _SPECIAL[value]
    number = float(_number_text(place, "a number", value))
    if math.isinf(number):
        raise place.expected("a number")
    return number


def _integer(field: Any, place: _Place, value: Any) -> int:
    what = "an integer"
    if field.type == FieldDescriptor.TYPE_ENUM and not isinstance(value, _Number):
        raise place.expected(what)
    number = _whole(_number_text(place, what, value))
    low, high = _BOUNDS[field.type]
    if number is None or not low <= number <= high:
        raise place.expected(what)
    return number


def _number_text(place: _Place, what: str, value: Any) -> str:
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        raise place.expected(what)
    return value


def _whole(text: str) -> int | None:
    """The integer that a number is; None for one with a fraction, or of too many digits."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    sign, whole, fraction, exponent = found.groups(default="")
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return 0
    zeros = _bounded(exponent or "0") - len(fraction)
    zeros += len(digits) - len(digits.rstrip("0"))
    digits = digits.rstrip("0")
    if zeros < 0 or len(digits) + zeros > INTEGER_DIGITS_MAX:
        return None
    return int(f"{sign}{digits}{'0' * zeros}")


def _bounded(exponent: str) -> int:
    # An exponent may have a million digits; from ten on it is only large.
    sign, digits = exponent[0] == "-", exponent.lstrip("+-").lstrip("0")
    size = int(digits[:10] or "0") if len(digits) <= 10 else 10**10
    return -size if sign else size


_SCALARS: Final[dict[int, Callable[[Any, _Place, Any], Any]]] = {
    FieldDescriptor.TYPE_STRING: _string,
    FieldDescriptor.TYPE_BOOL: _bool,
    FieldDescriptor.TYPE_BYTES: _bytes,
    FieldDescriptor.TYPE_DOUBLE: _double,
}
