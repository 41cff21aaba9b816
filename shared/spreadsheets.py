"""Tables as CSV that is safe in spreadsheets: no cell is taken for a formula."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

# Also behind spaces and quotes, and in full width, as some programs read them.
_FORMULA: Final = re.compile(r"[\s\"']*[=+\-@\t\r\n|\uff1d\uff0b\uff0d\uff20]")
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")


def csv_of(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    """UTF-8, RFC 4180; texts that a spreadsheet would compute get an apostrophe in front."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([cell_of(row.get(column)) for column in columns])
    return text.getvalue().encode()


def cell_of(value: Any) -> str:
    """One value as text that is only ever text."""
    if value is None:
        return ""
    if isinstance(value, dict | list):
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    else:
        text = str(value)
    text = text.replace("\x00", "")
    if _FORMULA.match(text) and not _NUMBER.fullmatch(text):
        return f"'{text}"
    return text
