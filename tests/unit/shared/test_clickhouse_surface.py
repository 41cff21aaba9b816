"""What statements may not reach from the embedded server."""

import pytest

from shared.clickhouse.embedded.surface import Surface

SURFACE = Surface(
    functions=("file", "url", "s3", "remote", "numbers", "executable", "filesystem", "newInFuture"),
    engines=("File", "URL", "MergeTree", "Memory", "S3", "Filesystem", "Atomic", "NewInFuture"),
)

OUTSIDE = (
    "SELECT * FROM file('/etc/passwd')",
    "SELECT * FROM FILE ('/etc/passwd')",
    "SELECT * FROM `file`('/etc/passwd')",
    "SELECT * FROM \"file\"('/etc/passwd')",
    "SELECT * FROM file/**/('/etc/passwd')",
    "SELECT * FROM file -- x\n('/etc/passwd')",
    "SELECT * FROM file\u200b('/etc/passwd')",
    "SELECT * FROM file\u00a0('/etc/passwd')",
    "SELECT $$'$$, * FROM file('/etc/passwd') WHERE '1' = $$1$$",
    "SELECT $a$'$a$, * FROM file('/etc/passwd') WHERE '1' = $$1$$",
    "# it's\nSELECT * FROM file('/etc/passwd') WHERE 1 = '1'",
    "#!it's\nSELECT * FROM file('/etc/passwd') WHERE 1 = '1'",
    "-- it's\nSELECT * FROM file('/etc/passwd') WHERE 1 = '1'",
    "SELECT \"'\", * FROM file('/etc/passwd'), (SELECT '')",
    "SELECT `'`, * FROM file('/etc/passwd'), (SELECT '')",
    "SELECT x'\\', * FROM file('/etc/passwd'), (SELECT '')",
    "SELECT /* a /* ' */ b */ * FROM file('/etc/passwd') WHERE 1 = '1'",
    "SELECT ‘'’, * FROM file('/etc/passwd') WHERE 1 = '1'",  # noqa: RUF001
    "SELECT file('/etc/passwd')",
    "DESCRIBE TABLE url('http://127.0.0.1/')",
    "INSERT INTO FUNCTION file('/tmp/x', 'CSV', 'a String') SELECT 1",
    "INSERT INTO TABLE FUNCTION s3('http://x/') SELECT 1",
    "CREATE TABLE t AS remote('127.0.0.1', 'a.b')",
    "CREATE TABLE t (a Int8) ENGINE = File(CSV)",
    "CREATE TABLE t (a Int8) ENGINE File(CSV)",
    "CREATE TABLE t (a Int8) ENGINE = `File`(CSV)",
    "CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = 'local')",
    "CREATE DATABASE d ENGINE = Filesystem('/')",
    "CREATE DICTIONARY d (a Int8) PRIMARY KEY a SOURCE(FILE(path '/etc/passwd')) LAYOUT(FLAT())",
    "SELECT 1 INTO OUTFILE '/tmp/x'",
    "SELECT 1 INTO/**/OUTFILE '/tmp/x'",
    "INSERT INTO t FROM INFILE '/etc/passwd' FORMAT CSV",
    "SELECT * FROM default.`/etc/passwd`",
    'SELECT * FROM "default" . "/etc/passwd"',
    "USE default",
    "DROP DATABASE IF EXISTS default",
    "BACKUP DATABASE telemetry TO File('/tmp/x')",
    "RESTORE ALL FROM File('/tmp/x')",
    "SYSTEM SHUTDOWN",
    "SELECT * FROM newInFuture('x')",
    "CREATE TABLE t (a Int8) ENGINE = NewInFuture",
)
INSIDE = (
    "SELECT 1",
    "SELECT * FROM numbers(10)",
    "SELECT file, url FROM t WHERE s3 = 'file(' AND engine = 'File'",
    "SELECT 'SELECT * FROM file(''/etc/passwd'')'",
    "SELECT 'it\\'s file(1)'",
    "SELECT 1 -- file('/etc/passwd')",
    "SELECT 1 /* file('/etc/passwd') */",
    "CREATE TABLE t (a Int8 DEFAULT 1, engine String) ENGINE = ReplacingMergeTree ORDER BY a",
    "CREATE TABLE t (a Int8) ENGINE = Memory",
    "CREATE DATABASE IF NOT EXISTS d ENGINE = Atomic",
    "SELECT name, engine FROM system.databases",
    "INSERT INTO t (a, b) VALUES (1, 'x')",
    "SELECT '‘quoted’', 'ä'",  # noqa: RUF001
)


@pytest.mark.parametrize("sql", OUTSIDE)
def test_s44_a_statement_that_reaches_outside_is_found(sql: str) -> None:
    assert SURFACE.outside(sql)


@pytest.mark.parametrize("sql", INSIDE)
def test_a_statement_that_stays_inside_is_let_through(sql: str) -> None:
    assert SURFACE.outside(sql) is None
