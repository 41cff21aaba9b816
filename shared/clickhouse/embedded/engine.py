"""The chDB engine: one per process and folder; a handle per request.

Every method here blocks and belongs into a thread. A handle serializes its own calls, so requests
never share one, except inside a session.
"""

import fcntl
import importlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from shared.clickhouse.embedded.surface import Surface
from shared.errors import Conflict, Invalid, TelemetryFlowError

_CODE: Final = re.compile(r"Code: (\d+)")
_UNKNOWN: Final = 1002  # UNKNOWN_EXCEPTION
_SETTINGS_CLAUSE: Final = re.compile(r"(.*?)(\s+settings\s+\w+\s*=.*)?", re.IGNORECASE | re.DOTALL)
_SETTING_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
# What separates a folder from options for the engine.
_SEPARATORS: Final = frozenset("?&")
_DATABASE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
UNKNOWN_SETTING: Final = 115
_TOO_LARGE: Final = 307
# The data of one INSERT is gathered in memory; the writer sends a tenth of this.
INSERT_BYTES_MAX: Final = 1 << 30
# What stays in memory of the columns and of the indices that reads unpacked. The engine keeps none
# by itself; a search for a word unpacks 32 KB of index for each 8 192 log records of its range.
DATA_CACHE_BYTES_MAX: Final = 512 << 20
INDEX_CACHE_BYTES_MAX: Final = 512 << 20
_CONFIGURATION: Final = f"""<clickhouse>
  <uncompressed_cache_size>{DATA_CACHE_BYTES_MAX}</uncompressed_cache_size>
  <index_uncompressed_cache_size>{INDEX_CACHE_BYTES_MAX}</index_uncompressed_cache_size>
</clickhouse>
"""


class EngineError(TelemetryFlowError):
    """What the engine says, with ClickHouse's exception code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Summary:
    """What a statement read and wrote."""

    rows_read: int = 0
    bytes_read: int = 0
    rows_written: int = 0
    bytes_written: int = 0
    result_rows: int = 0


def _engine_error(error: Exception) -> EngineError:
    # A message may quote data that is no UTF-8; the binding then fails to make its own error.
    raw = error.object if isinstance(error, UnicodeDecodeError) else str(error)
    text = raw if isinstance(raw, str) else raw.decode(errors="replace")
    match = _CODE.search(text)
    return EngineError(text, int(match[1]) if match else _UNKNOWN)


class Handle:
    """One connection to the engine, with its own settings, database and temporary tables."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._stream: Stream | None = None

    def set(self, settings: Mapping[str, str]) -> None:
        """Apply settings to all statements that follow."""
        assignments = []
        for name, text in settings.items():
            if not _SETTING_NAME.fullmatch(name):
                raise EngineError(
                    f"Code: {UNKNOWN_SETTING}. Setting {name!r} (UNKNOWN_SETTING)", UNKNOWN_SETTING
                )
            quoted = text.replace("\\", "\\\\").replace("'", "\\'")
            assignments.append(f"{name} = '{quoted}'")
        if assignments:
            self.run(f"SET {', '.join(assignments)}")

    def changed(self, names: Iterable[str]) -> dict[str, str]:
        """The values of those of the settings *names* that differ from their defaults."""
        quoted = ", ".join(f"'{name}'" for name in names if _SETTING_NAME.fullmatch(name))
        sql = f"SELECT name, value FROM system.settings WHERE changed AND name IN ({quoted})"  # noqa: S608
        data, _summary = self.run(sql, "JSONCompactEachRow")
        return dict(orjson.loads(line) for line in data.splitlines())

    def restore(self, values: Mapping[str, str], names: Iterable[str]) -> None:
        """Give the settings *names* the *values* that they had, or their defaults."""
        for name in names:
            if name not in values:
                self.run(f"SET {name} = DEFAULT")
        self.set(values)

    def use(self, database: str) -> None:
        """Make *database* the one that unqualified names are looked up in."""
        self.run(f"USE `{database.replace('`', '')}`")

    def statement_count(self, sql: str) -> int:
        """How many statements *sql* holds, and 0 when it does not parse."""
        return int(self._raw.classify_query(sql)["statement_count"])

    def only_reads(self, sql: str) -> bool:
        """Whether *sql* changes nothing."""
        return str(self._raw.classify_query(sql)["query_class"].name) == "READ_ONLY"

    def run(
        self, sql: str, output_format: str = "TSV", parameters: Mapping[str, str] | None = None
    ) -> tuple[bytes, Summary]:
        """Carry out a statement and give its whole result."""
        try:
            result = self._raw.query(sql, output_format, params=dict(parameters or {}))
        except (RuntimeError, ValueError) as error:
            raise _engine_error(error) from None
        return bytes(result.bytes() or b""), Summary(
            # What the engine calls "read" otherwise is the result.
            rows_read=result.storage_rows_read(),
            bytes_read=result.storage_bytes_read(),
            rows_written=result.rows_written(),
            bytes_written=result.bytes_written(),
        )

    def stream(self, sql: str, output_format: str, parameters: Mapping[str, str]) -> "Stream":
        """Start a query whose result is fetched in pieces."""
        try:
            result = self._raw.send_query(sql, output_format, params=dict(parameters))
        except (RuntimeError, ValueError) as error:
            raise _engine_error(error) from None
        self._stream = Stream(self._raw, result)
        return self._stream

    @property
    def is_streaming(self) -> bool:
        """Whether the query that `stream` started was neither read to its end nor stopped."""
        return self._stream is not None and not self._stream.ended

    def end_stream(self) -> None:
        """Stop the query that `stream` started, also when nobody got to know of it."""
        if self._stream is not None:
            self._stream.cancel()

    def insert(self, statement: str, input_format: str) -> "Inserting":
        """Start an INSERT whose data is appended in pieces."""
        return Inserting(self, statement, input_format)

    def close(self) -> None:
        """Give the handle back."""
        self._raw.close()


class Stream:
    """The pieces of a result."""

    def __init__(self, raw: Any, result: Any) -> None:
        self._raw = raw
        self._result = result
        self.ended = False
        self._rows_read = 0
        self._bytes_read = 0

    @property
    def summary(self) -> Summary:
        """What was read so far."""
        return Summary(rows_read=self._rows_read, bytes_read=self._bytes_read)

    def fetch(self) -> bytes:
        """The next piece, empty at the end."""
        try:
            piece = self._raw.streaming_fetch_result(self._result)
        except (RuntimeError, ValueError) as error:
            self.ended = True
            raise _engine_error(error) from None
        data = b"" if piece is None else bytes(piece.bytes() or b"")
        if piece is None or not data:
            self.ended = True
            return b""
        self._rows_read += piece.storage_rows_read()
        self._bytes_read += piece.storage_bytes_read()
        return data

    def cancel(self) -> None:
        """Stop the query, if it did not end: the engine has forgotten one that did."""
        if self.ended:
            return
        self.ended = True
        self._raw.streaming_cancel_query(self._result)


class Inserting:
    """An INSERT that is being fed; nothing is stored before `finish`.

    The data is gathered in memory and read by the engine as a file. The engine's own streaming
    insert would need no copy, but it reports success when the rows could not be written: memory
    or disk used up, too many parts, a constraint, a failing view.
    """

    def __init__(self, handle: Handle, statement: str, input_format: str) -> None:
        self._handle = handle
        match = _SETTINGS_CLAUSE.fullmatch(statement)
        self._head, self._settings = match.groups("") if match else (statement, "")
        self._format = input_format
        self._file = os.memfd_create("insert")
        self._bytes_free = INSERT_BYTES_MAX

    def append(self, data: bytes) -> None:
        """The next bytes of the data; refused beyond INSERT_BYTES_MAX."""
        self._bytes_free -= len(data)
        if self._bytes_free < 0:
            raise EngineError(
                f"Code: {_TOO_LARGE}. DB::Exception: one INSERT has at most {INSERT_BYTES_MAX} "
                "bytes, decompressed: send several (QUERY_IS_TOO_LARGE)",
                _TOO_LARGE,
            )
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file, rest) :]

    def finish(self) -> Summary:
        """Store everything."""
        source = f"FROM INFILE '/proc/self/fd/{self._file}'"
        try:
            _data, summary = self._handle.run(
                f"{self._head} {source}{self._settings} FORMAT {self._format}"
            )
        finally:
            self.cancel()
        return summary

    def cancel(self) -> None:
        """Let go of the data; stores nothing unless `finish` did."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


class Engine:
    """The engine on one folder; only one process may have it.

    Changes the working directory of the process: see `_forget_files`.
    """

    def __init__(self, folder: Path, database: str) -> None:
        if not _DATABASE.fullmatch(database) or database == "default":
            raise Invalid(f"{database!r} is not a name for the database of the embedded server")
        folder = folder.resolve()
        if not _SEPARATORS.isdisjoint(str(folder)):
            raise Invalid(f"{folder}: the path of the embedded server has no '?' and no '&' in it")
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder
        configuration = folder / "embedded.xml"
        self._address = f"{folder}?config-file={configuration}"
        self._database = database
        self._lock = _locked(folder)
        configuration.write_text(_CONFIGURATION)
        # Imported here, so that --help and errors like the above do not wait for half a gigabyte.
        chdb = importlib.import_module("chdb._chdb")
        self._connect = chdb.connect
        # The first handle opens the engine and, kept, holds it open.
        self._first = Handle(self._connect(self._address))
        self._first.run(f"CREATE DATABASE IF NOT EXISTS `{database}` ENGINE = Atomic")
        self._forget_files()
        self.surface = Surface(
            functions=self._names("table_functions"),
            engines=(*self._names("table_engines"), *self._names("database_engines")),
        )

    def handle(self, database: str = "") -> Handle:
        """A new handle with default settings; 'default' and '' mean the engine's own database."""
        try:
            handle = Handle(self._connect(self._address))
        except RuntimeError as error:
            raise _engine_error(error) from None
        try:
            handle.use(self._database if database in ("", "default") else database)
        except EngineError:
            handle.close()
            raise
        return handle

    def kill(self, comment: str) -> None:
        """Stop the queries that run with the setting log_comment = *comment*."""
        handle = self.handle()
        try:
            handle.run(
                "KILL QUERY WHERE Settings['log_comment'] = {comment:String} ASYNC",
                parameters={"comment": comment},
            )
        finally:
            handle.close()

    def close(self) -> None:
        """Flush and release the folder; no handle may be used afterwards."""
        self._first.close()
        os.close(self._lock)

    def _forget_files(self) -> None:
        """Replace the database `default`: in this engine its tables are the machine's files.

        It cannot be dropped while it has tables, which are the files in the working directory, and
        it must exist, since new handles begin there.
        """
        empty = self._path / "empty"
        empty.mkdir(exist_ok=True)
        os.chdir(empty)
        self._first.use(self._database)
        self._first.run("DROP DATABASE IF EXISTS default SYNC")
        self._first.run("CREATE DATABASE default ENGINE = Atomic")

    def _names(self, table: str) -> list[str]:
        data, _summary = self._first.run(f"SELECT name FROM system.{table}")  # noqa: S608
        return data.decode().split()


def _locked(folder: Path) -> int:
    """A file descriptor that holds *folder*; Conflict when another process has it."""
    lock = os.open(folder / "telemetryflow.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Conflict(
            f"another ClickHouse server uses {folder}: stop it, or choose another folder"
        ) from None
    return lock
