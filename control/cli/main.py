"""`telemetryflow`: every command and its options. What they do stands in the modules beside."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Final

from shared.errors import Invalid, TelemetryFlowError
from shared.settings import Settings

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130

Command = Callable[[Settings, argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; 0 done, 1 failed, 2 wrong usage or settings, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        if getattr(options, "data", None):
            os.environ["TELEMETRYFLOW_DATA_DIR"] = str(options.data)
        settings = Settings.from_env({**_env_file(Path(".env")), **os.environ})
    except Invalid as error:
        return _say(f"telemetryflow: {error}", EXIT_USAGE)
    try:
        return _command(options.module, options.function)(settings, options)
    except TelemetryFlowError as error:
        return _say(f"telemetryflow: {error}", EXIT_FAILED)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (head, less) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code


def _command(module: str, function: str) -> Command:
    """Imported only now: `--help` must not wait for what other commands need."""
    command: Command = getattr(import_module(module), function)
    return command


def _env_file(path: Path) -> dict[str, str]:
    """NAME=value lines of a `.env` file in the working folder; the environment goes before it."""
    if not path.is_file():
        return {}
    lines = [line.strip() for line in path.read_text().splitlines()]
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {name.strip(): text.strip().strip("'\"") for name, sign, text in pairs if sign}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="telemetryflow",
        description="OpenTelemetry data in, ClickHouse out, exactly once.",
    )
    parser.add_argument("--version", action="version", version=version("telemetryflow"))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_processes(commands)
    _add_tools(commands)
    _add_keys(commands)
    _add_audit(commands)
    _add_dead_letters(commands)
    return parser


_Commands = argparse._SubParsersAction  # noqa: SLF001 - has no public name


def _add(
    commands: "_Commands[argparse.ArgumentParser]", name: str, text: str, does: str
) -> argparse.ArgumentParser:
    """A command whose work is done by the function *does* ("module:function") of this package."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    module, _colon, function = does.partition(":")
    parser.set_defaults(module=f"control.{module}", function=function)
    return parser


def _add_processes(commands: "_Commands[argparse.ArgumentParser]") -> None:
    up = _add(commands, "up", "everything on this machine", "supervisor:up")
    up.add_argument("--data", type=Path, metavar="DIR", help="data folder (default ./data)")
    up.add_argument("--demo", action="store_true", help="send demonstration data once it is up")
    _add(commands, "ingest", "the OTLP gateway", "cli.processes:ingest")
    _add(commands, "writer", "the writer from the log into ClickHouse", "cli.processes:writer")
    _add(commands, "api", "the API of the control plane", "cli.processes:api")
    _add(commands, "worker", "its events, jobs and schedules", "cli.processes:worker")
    _add(commands, "postgres", "the embedded PostgreSQL server alone", "cli.processes:postgres")
    _add(commands, "clickhouse", "the embedded ClickHouse server", "cli.processes:clickhouse")
    migrate = _add(commands, "migrate", "create or update the tables", "cli.processes:migrate")
    migrate.add_argument("--check", action="store_true", help="only list what is pending")
    migrate.add_argument(
        "--store",
        default="all",
        choices=("all", "postgres", "clickhouse"),
        help="only in this store (default: all)",
    )
    init = _add(commands, "init", "make the first organization and admin", "cli.processes:init")
    init.add_argument("--demo", action="store_true", help="and a demo organization with people")


def _add_tools(commands: "_Commands[argparse.ArgumentParser]") -> None:
    _add(commands, "check", "what is wrong, and what to do about it", "cli.check:check")
    sql = _add(commands, "sql", "run a statement on ClickHouse", "cli.sql:sql")
    sql.add_argument("statement", help='for example "SELECT count() FROM otel_traces"')
    ledger = _add(
        commands, "ledger", "what became of items, by minute and tenant", "cli.ledger:ledger"
    )
    ledger.add_argument("--tenant", default="", help="only this one (default: all)")
    ledger.add_argument("--reasons", action="store_true", help="why what was not taken")
    ledger.add_argument("--minutes", type=int, default=15, help="so far back (default 15)")
    rejected = _add(
        commands, "rejected", "items that were rejected, and why: a sample", "cli.rejected:rejected"
    )
    rejected.add_argument("--tenant", default="", help="only this one (default: all)")
    rejected.add_argument("--minutes", type=int, default=60, help="so far back (default 60)")
    _add(commands, "drain", "move what the embedded log holds into Kafka", "cli.drain:drain")
    send = _add(commands, "send", "send realistic data through the OpenTelemetry SDK", "send:send")
    send.add_argument(
        "signal", nargs="?", default="all", choices=("traces", "logs", "metrics", "all")
    )
    send.add_argument("--rate", type=float, default=50.0, help="requests a second (default 50)")
    send.add_argument("--seconds", type=float, default=10.0, help="for so long (default 10)")
    size = _add(
        commands, "capacity", "how many cores a rate of items needs", "cli.capacity:capacity"
    )
    for what in ("spans", "log-records", "points"):
        size.add_argument(f"--{what}-per-second", type=float, default=0.0, metavar="N")
    size.add_argument("--log", choices=("embedded", "kafka"), default="kafka", help="default kafka")
    size.add_argument("--log-hours", type=float, default=24.0, help="kept in the log (default 24)")
    size.add_argument("--retention-days", type=float, default=30.0, help="default 30")
    size.add_argument("--replicas", type=int, default=1, help="copies of data (default 1)")
    _add(commands, "modules", "the bounded contexts of the product", "cli.modules:modules")
    new = _add(
        commands, "new-module", "begin another one, from templates", "cli.modules:new_module"
    )
    new.add_argument("number", type=int, metavar="NUMBER", help="a free one, such as 1600")
    new.add_argument("name", metavar="NAME", help="in snake_case, such as new_feature")


def _add_audit(commands: "_Commands[argparse.ArgumentParser]") -> None:
    audit = commands.add_parser("audit", help="the trail of who did what")
    actions = audit.add_subparsers(title="actions", metavar="ACTION", required=True)
    verify = _add(
        actions, "verify", "find what was altered, removed or put in between", "cli.audit:verify"
    )
    verify.add_argument(
        "--hot",
        action="store_true",
        help="only what PostgreSQL holds, when ClickHouse is away",
    )


def _add_keys(commands: "_Commands[argparse.ArgumentParser]") -> None:
    key = commands.add_parser("key", help="API keys that exporters send with")
    actions = key.add_subparsers(title="actions", metavar="ACTION", required=True)
    create = _add(actions, "create", "make a key; its secret is shown once", "cli.keys:create")
    create.add_argument("--name", default="default", help="what the key is for")
    create.add_argument("--signals", default="traces,metrics,logs", help="comma-separated")
    create.add_argument("--days", type=int, default=365, help="expires after (default 365)")
    create.add_argument(
        "--scope",
        choices=("tenant", "workspace"),
        default="tenant",
        help="workspace: it writes for every tenant of your workspace",
    )
    listing = _add(actions, "list", "your tenant's keys, without secrets", "cli.keys:list_keys")
    rotate = _add(actions, "rotate", "replace a key by a new one", "cli.keys:rotate")
    rotate.add_argument("--grace", type=int, default=30, help="minutes that the old one works on")
    revoke = _add(actions, "revoke", "refuse a key from now on", "cli.keys:revoke")
    for action in (rotate, revoke):
        action.add_argument("key_id", metavar="KEY_ID", help="tfk_ and 32 hex digits")
    for action in (create, listing, rotate, revoke):
        action.add_argument("--api", default="", metavar="URL", help="where the API is")
        action.add_argument("--email", default="", help="sign in as; TELEMETRYFLOW_TOKEN is better")
        action.add_argument("--tenant", default="", metavar="ID", help="instead of your first")


def _add_dead_letters(commands: "_Commands[argparse.ArgumentParser]") -> None:
    letters = commands.add_parser("dlq", help="records that ClickHouse refused (dead letters)")
    actions = letters.add_subparsers(title="actions", metavar="ACTION", required=True)
    shown = _add(actions, "list", "dead letters that are not settled", "cli.dlq:list_letters")
    shown.add_argument("--all", action="store_true", help="also those replayed or purged")
    shown.add_argument("--topic", default="", help="only from topics whose name has this in it")
    shown.add_argument("--reason", default="", help="only with this in the reason")
    shown.add_argument("--limit", type=int, default=100, help="at most so many (default 100)")
    show = _add(actions, "show", "one dead letter: origin, reason, rows", "cli.dlq:show")
    show.add_argument("number", type=int)
    again = _add(actions, "replay", "insert them, each once", "cli.dlq:replay")
    again.add_argument("numbers", nargs="*", type=int, help="only these (default: all)")
    purge = _add(actions, "purge", "give them up for good", "cli.dlq:purge")
    purge.add_argument("numbers", nargs="*", type=int)
    purge.add_argument("--all", action="store_true", help="all that are not settled")
    purge.add_argument("--yes", action="store_true", help="their data will be lost")
