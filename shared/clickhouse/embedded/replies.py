"""Answers: headers, content types, and errors with ClickHouse's codes and HTTP statuses."""

from typing import Final

import orjson
from aiohttp import web

from shared.clickhouse.embedded.engine import EngineError, Summary

# Source: ClickHouse, src/Server/HTTP/exceptionCodeToHTTPStatus.cpp; 500 for all others.
_STATUS_OF_CODE: Final = {
    **dict.fromkeys((194,), 401),
    **dict.fromkeys((192, 193, 497, 516), 403),
    **dict.fromkeys((36, 38, 41, 43, 53, 62, 70, 72, 117, 130, 164, 386, 456, 457), 400),
    **dict.fromkeys((16, 46, 47, 50, 60, 81, 115, 372), 404),
    **dict.fromkeys((307,), 413),
    **dict.fromkeys((48,), 501),
    **dict.fromkeys((202, 373), 503),
}
_CODES: Final = {
    "ACCESS_DENIED": 497,
    "AUTHENTICATION_FAILED": 516,
    "BAD_ARGUMENTS": 36,
    "CANNOT_DECOMPRESS": 271,
    "INVALID_SESSION_TIMEOUT": 374,
    "NOT_IMPLEMENTED": 48,
    "QUERY_IS_TOO_LARGE": 307,
    "READONLY": 164,
    "SESSION_IS_LOCKED": 373,
    "SESSION_NOT_FOUND": 372,
    "SYNTAX_ERROR": 62,
    "TOO_MANY_SIMULTANEOUS_QUERIES": 202,
}


def refusal(name: str, text: str) -> EngineError:
    """An error of the server itself, with ClickHouse's name and code for it."""
    return EngineError(f"Code: {_CODES[name]}. DB::Exception: {text} ({name})", _CODES[name])


def failure(error: EngineError) -> web.Response:
    """The answer to what failed before anything was sent."""
    return web.Response(
        status=_STATUS_OF_CODE.get(error.code, 500),
        text=f"{error}\n",
        headers={"X-ClickHouse-Exception-Code": str(error.code)},
    )


def headers(query_id: str, summary: Summary, chosen: str | None = None) -> dict[str, str]:
    """The headers of an answer; *chosen* is the format of its body, None when it has none."""
    values = {
        "read_rows": summary.rows_read,
        "read_bytes": summary.bytes_read,
        "written_rows": summary.rows_written,
        "written_bytes": summary.bytes_written,
        "result_rows": summary.result_rows,
        "elapsed_ns": 0,
    }
    found = {
        "X-ClickHouse-Summary": orjson.dumps({k: str(v) for k, v in values.items()}).decode(),
        "X-ClickHouse-Query-Id": query_id,
        "X-ClickHouse-Timezone": "UTC",
        "Content-Type": "text/plain; charset=UTF-8",
    }
    if chosen is not None:
        found["X-ClickHouse-Format"] = chosen
        found["Content-Type"] = content_type(chosen)
    return found


def content_type(chosen: str) -> str:
    """Media type of a format."""
    if chosen.startswith("JSONEachRow"):
        return "application/x-ndjson; charset=UTF-8"
    if chosen.startswith("JSON"):
        return "application/json; charset=UTF-8"
    if chosen.startswith(("Native", "RowBinary", "Arrow", "Parquet")):
        return "application/octet-stream"
    if chosen.startswith("CSV"):
        return "text/csv; charset=UTF-8"
    return "text/tab-separated-values; charset=UTF-8"
