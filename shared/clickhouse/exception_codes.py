"""What a ClickHouse exception code says about an INSERT: is it us, the schema, or the data?

One table, because everything that the writer does about a failure follows from it. Codes and names
are ClickHouse's own (`src/Common/ErrorCodes.cpp`, also `SELECT errorCodeToName(n)`).
"""

import re
from enum import Enum
from typing import Final

from shared.errors import Conflict, Invalid, TelemetryFlowError, Unavailable


class SchemaMismatch(TelemetryFlowError):
    """Tables and data do not fit together: somebody has to migrate. Never the data's fault."""


class Cause(Enum):
    """Who has to change something before the same statement succeeds."""

    SERVER = "server"  # nobody: wait, then repeat
    SCHEMA = "schema"  # an operator: migrate, or change the server's configuration
    DATA = "data"  # the sender: these very bytes will never be accepted


# Anything that is missing here counts as SERVER: waiting loses nothing, dropping does.
CAUSES: Final[dict[int, Cause]] = {
    # The bytes cannot be read as what they claim to be.
    6: Cause.DATA,  # CANNOT_PARSE_TEXT
    26: Cause.DATA,  # CANNOT_PARSE_QUOTED_STRING
    27: Cause.DATA,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
    32: Cause.DATA,  # ATTEMPT_TO_READ_AFTER_EOF
    33: Cause.DATA,  # CANNOT_READ_ALL_DATA
    41: Cause.DATA,  # CANNOT_PARSE_DATETIME
    50: Cause.DATA,  # UNKNOWN_TYPE: in the block's header
    53: Cause.DATA,  # TYPE_MISMATCH
    69: Cause.DATA,  # ARGUMENT_OUT_OF_BOUND
    70: Cause.DATA,  # CANNOT_CONVERT_TYPE
    72: Cause.DATA,  # CANNOT_PARSE_NUMBER
    117: Cause.DATA,  # INCORRECT_DATA
    128: Cause.DATA,  # TOO_LARGE_ARRAY_SIZE
    130: Cause.DATA,  # CANNOT_READ_ARRAY_FROM_TEXT
    131: Cause.DATA,  # TOO_LARGE_STRING_SIZE
    190: Cause.DATA,  # SIZES_OF_ARRAYS_DONT_MATCH
    261: Cause.DATA,  # UNKNOWN_BLOCK_INFO_FIELD
    271: Cause.DATA,  # CANNOT_DECOMPRESS
    321: Cause.DATA,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
    349: Cause.DATA,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
    354: Cause.DATA,  # ZLIB_INFLATE_FAILED
    407: Cause.DATA,  # DECIMAL_OVERFLOW
    432: Cause.DATA,  # UNKNOWN_CODEC
    469: Cause.DATA,  # VIOLATED_CONSTRAINT
    561: Cause.DATA,  # ZSTD_DECODER_FAILED
    # Table and block differ, or the server is not set up for us.
    10: Cause.SCHEMA,  # NOT_FOUND_COLUMN_IN_BLOCK
    16: Cause.SCHEMA,  # NO_SUCH_COLUMN_IN_TABLE
    20: Cause.SCHEMA,  # NUMBER_OF_COLUMNS_DOESNT_MATCH
    36: Cause.SCHEMA,  # BAD_ARGUMENTS
    43: Cause.SCHEMA,  # ILLEGAL_TYPE_OF_ARGUMENT: in a view
    47: Cause.SCHEMA,  # UNKNOWN_IDENTIFIER
    60: Cause.SCHEMA,  # UNKNOWN_TABLE
    62: Cause.SCHEMA,  # SYNTAX_ERROR
    73: Cause.SCHEMA,  # UNKNOWN_FORMAT
    81: Cause.SCHEMA,  # UNKNOWN_DATABASE
    115: Cause.SCHEMA,  # UNKNOWN_SETTING
    192: Cause.SCHEMA,  # UNKNOWN_USER
    193: Cause.SCHEMA,  # WRONG_PASSWORD
    194: Cause.SCHEMA,  # REQUIRED_PASSWORD
    218: Cause.SCHEMA,  # TABLE_IS_DROPPED
    452: Cause.SCHEMA,  # SETTING_CONSTRAINT_VIOLATION
    497: Cause.SCHEMA,  # ACCESS_DENIED
    516: Cause.SCHEMA,  # AUTHENTICATION_FAILED
    # Known to pass; listed so that they are not reported as unknown.
    49: Cause.SERVER,  # LOGICAL_ERROR: a defect of the server, burying data would hide it
    95: Cause.SERVER,  # CANNOT_READ_FROM_SOCKET
    158: Cause.SERVER,  # TOO_MANY_ROWS
    159: Cause.SERVER,  # TIMEOUT_EXCEEDED
    160: Cause.SERVER,  # TOO_SLOW
    164: Cause.SERVER,  # READONLY
    173: Cause.SERVER,  # CANNOT_ALLOCATE_MEMORY
    198: Cause.SERVER,  # DNS_ERROR
    201: Cause.SERVER,  # QUOTA_EXCEEDED
    202: Cause.SERVER,  # TOO_MANY_SIMULTANEOUS_QUERIES
    203: Cause.SERVER,  # NO_FREE_CONNECTION
    209: Cause.SERVER,  # SOCKET_TIMEOUT
    210: Cause.SERVER,  # NETWORK_ERROR
    216: Cause.SERVER,  # QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING
    225: Cause.SERVER,  # NO_ZOOKEEPER
    236: Cause.SERVER,  # ABORTED
    241: Cause.SERVER,  # MEMORY_LIMIT_EXCEEDED
    242: Cause.SERVER,  # TABLE_IS_READ_ONLY
    243: Cause.SERVER,  # NOT_ENOUGH_SPACE
    252: Cause.SERVER,  # TOO_MANY_PARTS
    254: Cause.SERVER,  # NO_ACTIVE_REPLICAS
    279: Cause.SERVER,  # ALL_CONNECTION_TRIES_FAILED
    285: Cause.SERVER,  # TOO_FEW_LIVE_REPLICAS
    286: Cause.SERVER,  # UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
    319: Cause.SERVER,  # UNKNOWN_STATUS_OF_INSERT
    341: Cause.SERVER,  # UNFINISHED
    394: Cause.SERVER,  # QUERY_WAS_CANCELLED
    425: Cause.SERVER,  # SYSTEM_ERROR
    439: Cause.SERVER,  # CANNOT_SCHEDULE_TASK
    473: Cause.SERVER,  # DEADLOCK_AVOIDED
    574: Cause.SERVER,  # DISTRIBUTED_TOO_MANY_PENDING_BYTES
    692: Cause.SERVER,  # TOO_MANY_MUTATIONS
    999: Cause.SERVER,  # KEEPER_EXCEPTION
    1000: Cause.SERVER,  # POCO_EXCEPTION
    1001: Cause.SERVER,  # STD_EXCEPTION
    1002: Cause.SERVER,  # UNKNOWN_EXCEPTION
}

_TABLE_ALREADY_EXISTS: Final = 57
# ClickHouse writes this into the message when the base table took the block and a view did not:
# the block must then be repeated whole, and never be cut.
_IN_A_VIEW: Final = "while pushing to view"


def error_of(code: int, message: str) -> TelemetryFlowError:
    """The error to raise for an exception of the server."""
    if code == _TABLE_ALREADY_EXISTS:
        return Conflict(message)
    cause = CAUSES.get(code, Cause.SERVER)
    if cause is Cause.SERVER:
        return Unavailable(message)
    if cause is Cause.SCHEMA or _IN_A_VIEW in message:
        return SchemaMismatch(message)
    return Invalid(message)


# What a read is told when it passes one of its limits, or asks what the engine cannot compute.
_NARROW: Final = "narrow the time range, name a service, or filter by more"
_READ_CODES: Final[dict[int, str]] = {
    158: f"this would read too many rows: {_NARROW}",  # TOO_MANY_ROWS
    307: f"this would read too many bytes: {_NARROW}",  # TOO_MANY_BYTES
    159: f"this takes too long: {_NARROW}",  # TIMEOUT_EXCEEDED
    160: f"this takes too long: {_NARROW}",  # TOO_SLOW
    241: f"this needs too much memory: {_NARROW}, or group by less",  # MEMORY_LIMIT_EXCEEDED
    # TOO_MANY_ROWS_OR_BYTES
    396: "this has too many results: group by less, or take a longer step",
    427: "this is no regular expression (RE2)",  # CANNOT_COMPILE_REGEXP
}
_BAD_ARGUMENTS: Final = 36
_ROWS: Final = re.compile(r"max rows: ([\d.]+(?: \w+)?), current rows: ([\d.]+(?: \w+)?)")


def read_error_of(code: int | None, message: str) -> Invalid | None:
    """The error for whoever asked, when they can do something about it."""
    if code == _BAD_ARGUMENTS and "Cannot load time zone" in message:
        return Invalid("the database does not know this time zone", field="timeZone")
    if code not in _READ_CODES:
        return None
    numbers = _ROWS.search(message)
    told = f" ({numbers[2]}, at most {numbers[1]} rows)" if numbers else ""
    return Invalid(_READ_CODES[code] + told)
