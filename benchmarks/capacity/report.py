"""The report: one page that needs nothing else, with plots inside."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

OURS: Final = "#1f6feb"
PEER: Final = "#9a9a9a"
COLOURS: Final = ("#1f6feb", "#2da44e", "#bf8700", "#8250df")
LATENCY_SAYS: Final = (
    "Requests are due at a fixed rate; latency counts from when a request was due, so waiting is "
    "not hidden. The rate is raised in steps until one of a hundred answers takes more than 250 "
    "ms, or one is refused: the step before is what the gateway carries. Beyond that it refuses "
    "what it cannot take, and its memory stays."
)
VISIBLE_SAYS: Final = (
    "How long it takes from an answer until what was sent can be queried: single spans are sent "
    "beside the load, and the engine is asked again and again which of them it shows. What is told "
    "is too much by up to the time between two looks. Most of it is the writer waiting up to a "
    "second for more rows (WRITER_BATCH_WAIT_MS), because large INSERTs cost less."
)
VISIBLE: Final = ("p50", "p95", "p99", "most", "between looks")
# What is not a bar beside others.
OTHER_PLOTS: Final = ("load", "ramp", "warm", "end to end", "plain", "soak")
LATENCIES: Final = ("p50", "p90", "p99", "p99.9")


@dataclass(frozen=True)
class Goal:
    """A goal, and the figure that decides it: what is under *key* in its *kind*."""

    stage: str
    figure: str
    key: str
    goal: float
    kind: str = "cpu"


UNITS: Final = {
    "cpu": "s per million",
    "microseconds_a_request": "µs",
    "latency_ms": "ms",
    "visible_ms": "ms",
}
GOALS: Final = (
    Goal("gRPC receive + decode, spans", "receive+decode/grpc/traces/500", "receiver", 0.6),
    Goal("HTTP receive + decode, spans", "receive+decode/http/traces/500", "receiver", 0.5),
    Goal("gRPC receive + decode, log records", "receive+decode/grpc/logs/500", "receiver", 0.4),
    Goal("gRPC receive + decode, points", "receive+decode/grpc/metrics/500", "receiver", 0.35),
    Goal(
        "gRPC request of one span",
        "receive+decode/grpc/traces/1",
        "receiver",
        8.0,
        "microseconds_a_request",
    ),
    Goal(
        "HTTP request of one span",
        "receive+decode/http/traces/1",
        "receiver",
        9.0,
        "microseconds_a_request",
    ),
    Goal("gateway → embedded log", "gateway → embedded log/grpc/traces/500", "gateway", 1.0),
    Goal("gateway → Kafka, acks=all", "gateway → Kafka/grpc/traces/500", "gateway", 1.2),
    Goal("writer alone, embedded log", "writer alone, embedded log/traces", "writer", 0.15),
    Goal("writer alone, Kafka", "writer alone, Kafka/traces", "writer", 0.35),
    Goal("insert of spans", "end to end, embedded log/grpc/traces/500", "clickhouse", 2.5),
    Goal("insert of log records", "end to end, embedded log/grpc/logs/500", "clickhouse", 1.6),
    Goal("insert of points", "end to end, embedded log/grpc/metrics/500", "clickhouse", 0.9),
    Goal("answered at half load, p99", "load 50%/grpc/traces/500", "p99", 25.0, "latency_ms"),
    *(
        Goal(
            f"answered until queryable at half load, {log}, p99",
            f"load 50% of end to end, {log}/grpc/traces/500",
            "p99",
            2_000.0,
            "visible_ms",
        )
        for log in ("embedded log", "Kafka")
    ),
)

STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1f2328 }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; margin: 1rem 0 }
th, td { border-bottom: 1px solid #d0d7de; padding: 0.3rem 0.6rem; text-align: left }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
.met { color: #1a7f37 } .missed { color: #cf222e }
svg { max-width: 100%; height: auto }
"""


def page(result: Mapping[str, Any]) -> str:
    """The page of a result of `benchmarks.capacity`."""
    figures = result["figures"]
    sections = [
        "<h1>What a core carries</h1>",
        _about(result),
        "<h2>Goals</h2>",
        _goals(figures),
        *_plots(figures),
        _values(result),
        "<h2>All figures</h2>",
        "<p>Medians over rounds, with the lowest and the highest in brackets.</p>",
        _all(figures),
    ]
    body = "\n".join(sections)
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8">'
        f"<title>Capacity</title><style>{STYLE}</style>\n<body>\n{body}\n</body></html>\n"
    )


def _about(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    missing = "".join(
        f"<p><b>Missing:</b> {escape(name)}: {escape(why)}.</p>"
        for name, why in result["missing"].items()
    )
    return (
        f"<p>{escape(machine['processor'])}, {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB, {escape(machine['system'])}, Python "
        f"{machine['python']}; {result['began']}, {result['seconds']} s. What is measured ran on "
        f"cores {machine['cores_measured']}, the load and engines on "
        f"{machine['cores_of_load_and_engines']}. Load average at the end: "
        f"{machine['load_average'][0]:.1f}. {_neighbours(machine)}</p>"
        "<p>CPU travels between machines better than requests a second, so that is what counts "
        "here: 1.0 s of CPU per million spans means that one core carries a million spans a "
        "second. All processes of a run meet the same machine and the same bodies, so compare bars "
        "of one plot rather than digits of two reports.</p>" + missing
    )


def _neighbours(machine: Mapping[str, Any]) -> str:
    slowdown = machine["slowdown_by_neighbours"]
    return (
        f"The same work takes {slowdown:.1f} times as much CPU while the other cores are busy, as "
        "they are here."
    )


def _goals(figures: Mapping[str, Any]) -> str:
    rows = []
    for goal in GOALS:
        unit = UNITS[goal.kind]
        value = figures.get(goal.figure, {}).get(goal.kind, {}).get(goal.key)
        if value is None:
            rows.append((goal.stage, _text(goal.goal, unit), "not measured", ""))
            continue
        met = value <= goal.goal
        mark = f'<span class="{"met" if met else "missed"}">{"met" if met else "missed"}</span>'
        rows.append((goal.stage, _text(goal.goal, unit), _text(value, unit), mark))
    return _table(("stage", "goal", "measured", ""), rows)


def _text(value: float, unit: str) -> str:
    if unit == "ms":
        return f"{value:,.0f} ms"
    return f"{value:.1f} {unit}" if unit == "µs" else f"{value:.2f} {unit}"


def _plots(figures: Mapping[str, Any]) -> list[str]:
    sections = []
    for title, says, end, kind in (
        (
            "A request of 500 spans",
            "CPU seconds per million spans: how much of a core a stream of spans costs.",
            "/traces/500",
            "cpu",
        ),
        (
            "A request of one span",
            "CPU microseconds a request: what remains when there is next to nothing to decode.",
            "/traces/1",
            "microseconds_a_request",
        ),
    ):
        names = [
            name for name in figures if name.endswith(end) and not name.startswith(OTHER_PLOTS)
        ]
        if names:
            values = [sum(figures[name][kind].values()) for name in names]
            sections += [f"<h2>{title}</h2>", f"<p>{says}</p>", _bars(names, values, end)]
    sections += _pipeline(figures)
    sections += _latency(figures)
    return sections


def _bars(names: Sequence[str], values: Sequence[float], end: str) -> str:
    order = sorted(range(len(names)), key=lambda each: -values[each])
    labels = [names[each].removesuffix(end) for each in order]
    figure, axes = plt.subplots(figsize=(9, 0.4 * len(names) + 0.8))
    peers = ("collector", "rotel", "grpc.aio")
    colours = [PEER if label.startswith(peers) else OURS for label in labels]
    drawn = axes.barh(labels, [values[each] for each in order], color=colours)
    axes.bar_label(drawn, fmt="%.2f", padding=3)
    axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure) + "<p>Blue: TelemetryFlow. Grey: what one would use instead.</p>"


def _pipeline(figures: Mapping[str, Any]) -> list[str]:
    names = [name for name in figures if name.startswith("end to end")]
    if not names:
        return []
    figure, axes = plt.subplots(figsize=(9, 0.5 * len(names) + 1.2))
    left = [0.0] * len(names)
    for process, colour in zip(("ingest", "writer", "clickhouse", "rotel"), COLOURS, strict=True):
        widths = [figures[name]["cpu"].get(process, 0.0) for name in names]
        axes.barh(names, widths, left=left, label=process, color=colour)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return [
        "<h2>The whole way</h2>",
        "<p>CPU seconds per million items until they can be queried, by process.</p>",
        _svg(figure),
    ]


def _latency(figures: Mapping[str, Any]) -> list[str]:
    found = [(name, one) for name, one in figures.items() if name.startswith(("ramp", "load "))]
    if not found:
        return []
    steps = [one for name, one in found if name.startswith("ramp")]
    rows = [
        (
            name.split("/")[0].removeprefix("ramp, "),
            f"{one['latency_ms']['p50']:.1f}, {one['latency_ms']['p99']:.1f}",
            str(one["answered"].get("ok", 0)),
            ", ".join(f"{key}: {n}" for key, n in one["answered"].items() if key != "ok"),
            str(one["dropped"]),
            f"{next(iter(one['rss_bytes_max'].values())) / 1e6:.0f} MB",
        )
        for name, one in found
    ]
    return [
        "<h2>Latency against load</h2>",
        f"<p>{LATENCY_SAYS}</p>",
        _ramp(steps) if steps else "",
        _table(("load", "p50, p99 ms", "answered", "refused", "not sent", "gateway's RSS"), rows),
        *_visible(found),
    ]


def _ramp(steps: Sequence[Mapping[str, Any]]) -> str:
    figure, axes = plt.subplots(figsize=(9, 4))
    for quantile, colour in zip(LATENCIES, COLOURS, strict=True):
        axes.plot(
            [one["items_a_second"] / 1e3 for one in steps],
            [one["latency_ms"][quantile] for one in steps],
            marker="o",
            label=quantile,
            color=colour,
        )
    axes.set_yscale("log")
    axes.set_ylabel("ms from due to answered")
    axes.set_xlabel("thousand spans a second offered")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def _visible(found: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    rows = [
        (
            name.split("/")[0],
            f"{one['items_a_second']:,.0f}",
            *(f"{one['visible_ms'][key]:,.0f}" for key in VISIBLE),
        )
        for name, one in found
        if one.get("visible_ms")
    ]
    head = ("load", "items/s", *(f"{key}, ms" for key in VISIBLE))
    return [f"<p>{VISIBLE_SAYS}</p>", _table(head, rows)] if rows else []


def _values(result: Mapping[str, Any]) -> str:
    rows = [
        (name, f"{value:,.0f}" if value >= 100 else f"{value:.2f}")
        for name, value in result["values"].items()
    ]
    return "<h2>Rates and costs</h2>" + _table(("what", ""), rows) if rows else ""


def _all(figures: Mapping[str, Any]) -> str:
    rows = []
    for name, one in figures.items():
        for process, cpu in one["cpu"].items():
            rows.append(
                (
                    f"{name}: {process}",
                    f"{cpu:.2f} ({one['cpu_least'][process]:.2f}-{one['cpu_most'][process]:.2f})",
                    f"{one['microseconds_a_request'][process]:.1f}",
                    f"{one['switches_a_request'][process]:.2f}",
                    f"{one['rss_bytes_max'][process] / 1e6:.0f}",
                    f"{one['items_a_second']:,.0f}",
                    f"{one['latency_ms']['p99']:.1f}",
                )
            )
    head = ("scenario", "s per million", "µs a request", "switches", "MB", "items/s", "p99 ms")
    return _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(
        f'<th class="{"number" if column else ""}">{escape(name)}</th>'
        for column, name in enumerate(head)
    )
    lines = [
        "<tr>"
        + "".join(
            f'<td class="{"number" if column else ""}">'
            + (text if text.startswith("<span") else escape(text))
            + "</td>"
            for column, text in enumerate(row)
        )
        + "</tr>"
        for row in rows
    ]
    return f"<table><tr>{cells}</tr>{''.join(lines)}</table>"


def _svg(figure: Any) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    text = out.getvalue()
    return text[text.index("<svg") :]
