"""`telemetryflow check`: what is wrong, and what to do about it."""

import asyncio
import shutil
from argparse import Namespace
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from rich.console import Console

from ingest.app import LOG_FILE, open_log
from ingest.directory_follower import DIRECTORY_FILE
from ingest.kafka_log import KafkaLog
from ingest.log import CountingLog, TelemetryLog
from ingest.partition_writer import WRITER_GROUP
from ingest.signals import TOPIC_OF_SIGNAL
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.clickhouse.migrate import Migrator
from shared.directory.state import DirectoryState
from shared.errors import TelemetryFlowError, Unavailable
from shared.postgres.database import address_of
from shared.postgres.migrate import migrations, pending
from shared.settings import Settings

BYTES_FREE_WARN: Final = 5 * 1024**3
BACKLOG_SECONDS_WARN: Final = 60.0


class State(StrEnum):
    """How a finding is to be taken."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    state: State
    subject: str
    text: str


def check(settings: Settings, _options: Namespace) -> int:
    """Print all findings; 1 when one of them is a failure."""
    findings = asyncio.run(_all(settings))
    console = Console(highlight=False, soft_wrap=True)
    colours = {State.OK: "green", State.WARN: "yellow", State.FAIL: "red"}
    for finding in findings:
        state = f"[{colours[finding.state]}]{finding.state:<4}[/]"
        console.print(f"{state}  {finding.subject:<12} ", end="")
        console.print(finding.text, markup=False)
    return 1 if any(finding.state is State.FAIL for finding in findings) else 0


async def _all(settings: Settings) -> list[Finding]:
    parts: list[Callable[[Settings], Awaitable[list[Finding]]]] = [
        _settings,
        _folder,
        _directory,
        _log,
        _clickhouse,
        _postgres,
    ]
    findings: list[Finding] = []
    for part in parts:
        try:
            findings += await part(settings)
        except (TelemetryFlowError, OSError) as error:
            subject = part.__name__.strip("_")
            findings.append(Finding(State.FAIL, subject, str(error)))
    return findings


async def _settings(settings: Settings) -> list[Finding]:
    where = "embedded" if settings.is_embedded else settings.clickhouse_host
    log = f"in Kafka at {settings.kafka_brokers}" if settings.kafka_brokers else "embedded"
    text = f"environment {settings.telemetryflow_env}, ClickHouse {where}, log {log}"
    return [Finding(State.OK, "settings", text)]


async def _folder(settings: Settings) -> list[Finding]:
    data = settings.data_dir
    if not data.exists():
        text = f"{data} does not exist yet: 'telemetryflow up' makes it"
        return [Finding(State.WARN, "data folder", text)]
    free = shutil.disk_usage(data).free
    text = f"{data.resolve()}, {free / 1024**3:.1f} GiB free"
    if free < BYTES_FREE_WARN:
        return [Finding(State.WARN, "data folder", f"{text}: make room before it is full")]
    return [Finding(State.OK, "data folder", text)]


async def _directory(settings: Settings) -> list[Finding]:
    path = settings.data_dir / DIRECTORY_FILE
    if not path.exists():
        return [Finding(State.WARN, "keys", "no directory yet: the gateway makes it at its start")]
    state = DirectoryState.load(path)
    text = f"{len(state.tenants)} tenants, {state.keys_count} keys, as the gateway knows them"
    return [Finding(State.OK, "keys", text)]


async def _log(settings: Settings) -> list[Finding]:
    if not settings.kafka_brokers and not (settings.data_dir / LOG_FILE).parent.exists():
        return [Finding(State.WARN, "log", "no log yet: the gateway makes it at its start")]
    log = await open_log(settings)
    try:
        unsafe = log.unsafe if isinstance(log, KafkaLog) else []
        findings = [Finding(State.WARN, "log", f"not safe for production: {one}") for one in unsafe]
        return findings + [await _topic(log, topic) for topic in TOPIC_OF_SIGNAL.values()]
    finally:
        await log.close()


async def _topic(log: TelemetryLog, topic: str) -> Finding:
    """What was acknowledged and is not stored yet, and for how long it waits."""
    backlog = await log.backlog(WRITER_GROUP, topic)
    text = f"{topic}: {backlog.records} records in flight"
    if isinstance(log, CountingLog):
        partitions = range(await log.partitions(topic))
        rows = sum([(await log.totals(topic, number)).rows for number in partitions])
        text = f"{topic}: {rows} rows ever, {backlog.rows} in flight"
    if backlog.age_seconds > BACKLOG_SECONDS_WARN:
        text += f", the oldest for {backlog.age_seconds:.0f} s: is the writer running?"
        return Finding(State.WARN, "log", text)
    return Finding(State.OK, "log", text)


async def _clickhouse(settings: Settings) -> list[Finding]:
    address = ClickHouseAddress.of(settings)
    async with await ClickHouse.connect(address) as clickhouse:
        version = (await clickhouse.query("SELECT version()"))[0][0]
        migrator = Migrator(
            clickhouse.command, clickhouse.query, database=settings.clickhouse_database
        )
        pending = [migration.name for migration in await migrator.pending()]
        problems = await migrator.problems()
    findings = [Finding(State.OK, "clickhouse", f"{version} at {address.host}:{address.port}")]
    if pending:
        text = f"pending: {', '.join(pending)}: run 'telemetryflow migrate'"
        return [*findings, Finding(State.FAIL, "tables", text)]
    findings += [
        Finding(State.FAIL, "tables", f"{problem.table} {problem.text}") for problem in problems
    ]
    return findings


async def _postgres(settings: Settings) -> list[Finding]:
    address = address_of(settings)
    try:
        waiting = await pending(address, migrations("control"))
    except Unavailable as error:
        # The data plane works without it, and a machine may run that alone.
        state = State.WARN if settings.is_database_embedded else State.FAIL
        return [Finding(state, "postgres", f"{error}: the API and the worker need it")]
    if waiting:
        text = f"pending: {', '.join(waiting)}: run 'telemetryflow migrate'"
        return [Finding(State.FAIL, "postgres", text)]
    return [Finding(State.OK, "postgres", f"at {address.host}:{address.port}, up to date")]
