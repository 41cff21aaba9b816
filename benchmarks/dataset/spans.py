"""Templates of spans, and of log records that belong to them.

A trace is a tree of 1 to 200 calls over several services (median 5, one of 50 above 40), and lies
whole in one request. Log records are of its spans, or of none.
"""

from dataclasses import dataclass
from itertools import groupby
from random import Random
from typing import Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from benchmarks.dataset.skew import METHODS, OPERATIONS, PODS, SERVICES, error_share, ranked
from benchmarks.dataset.templates import Marks, Template
from benchmarks.resources import pod_of, text

ITEMS: Final = 1_000
_SIZES: Final = ((1, 1), (2, 4), (5, 12), (13, 40), (41, 200))
_SIZE_WEIGHTS: Final = (15, 30, 40, 13, 2)
MS: Final = 1_000_000.0
DURATION_MAX: Final = 30_000 * MS


@dataclass(frozen=True)
class Call:
    """A span to be: when it begins is a share of the request's time and so much later."""

    trace: int
    number: int
    parent: int | None
    service: int
    operation: str
    share: float
    after_ns: float
    duration_ns: float
    has_failed: bool


def calls_of(seed: str, services: int) -> list[Call]:
    """`ITEMS` calls of whole traces (the last trace is cut)."""
    random = Random(seed)
    found: list[Call] = []
    trace = 0
    while len(found) < ITEMS:
        size = random.randint(*random.choices(_SIZES, _SIZE_WEIGHTS)[0])
        own: list[Call] = []
        share = random.random()
        for _ in range(min(size, ITEMS - len(found))):
            own.append(_call(random, own, (trace, len(found) + len(own), services), share))
        found += own
        trace += 1
    return found


def _call(random: Random, own: list[Call], at: tuple[int, int, int], share: float) -> Call:
    trace, number, services = at
    parent = own[random.randrange(max(0, len(own) - 8), len(own))] if own else None
    if parent is None:
        service = ranked(random, services)
        after_ns, duration_ns = 0.0, min(random.lognormvariate(4.0, 1.3) * MS, DURATION_MAX)
    else:
        service = parent.service if random.random() < 0.5 else ranked(random, services)
        after_ns = parent.after_ns + random.random() * 0.6 * parent.duration_ns
        left_ns = parent.after_ns + parent.duration_ns - after_ns
        duration_ns = min(left_ns, parent.duration_ns * random.uniform(0.1, 0.9))
    operation = OPERATIONS[ranked(random, len(OPERATIONS))].format(SERVICES[service])
    has_failed = random.random() < error_share(service)
    return Call(
        trace, number, None if parent is None else parent.number, service, operation, share,
        after_ns, duration_ns, has_failed,
    )  # fmt: skip


def resource_of(service: str, pod: int) -> Resource:
    """The same pod has the same attributes in every template."""
    return pod_of(Random(f"{service}/{pod}"), service, hosts=200, hosts_of_subnet=50)


def _pod(seed: str, service: int) -> int:
    """One pod of each service speaks in a template."""
    return Random(f"{seed}/{service}").randrange(PODS)


def span_template(seed: str, services: int) -> Template:
    """A request of `ITEMS` spans."""
    random, marks = Random(f"spans {seed}"), Marks()
    request = ExportTraceServiceRequest()
    calls = sorted(calls_of(seed, services), key=lambda one: one.service)
    for service, own in groupby(calls, lambda one: one.service):
        resource_spans = request.resource_spans.add(
            resource=resource_of(SERVICES[service], _pod(seed, service)),
            schema_url="https://opentelemetry.io/schemas/1.37.0",
        )
        scope = resource_spans.scope_spans.add()
        scope.scope.name = "opentelemetry.instrumentation.http"
        scope.scope.version = "0.66b1"
        for call in own:
            _fill_span(scope.spans.add(), call, random, marks)
    return Template(request, marks, items=ITEMS)


def _fill_span(span: Span, call: Call, random: Random, marks: Marks) -> None:
    span.trace_id = marks.trace(call.trace)
    span.span_id = marks.span(call.number)
    if call.parent is not None:
        span.parent_span_id = marks.span(call.parent)
    span.name = call.operation
    span.kind = Span.SPAN_KIND_SERVER if call.parent is None else random.choice((1, 2, 3, 3))  # type: ignore[assignment]
    span.start_time_unix_nano = marks.time(call.share, call.after_ns)
    end_ns = call.after_ns + call.duration_ns
    span.end_time_unix_nano = marks.time(call.share, end_ns)
    status = 500 if call.has_failed else random.choice((200, 200, 200, 201, 204, 404))
    path = f"/api/{SERVICES[call.service]}/{marks.text(call.number)}"
    span.attributes.extend(
        (
            text("http.request.method", random.choice(METHODS)),
            text("http.route", f"/api/{SERVICES[call.service]}/{{id}}"),
            text("url.path", path),
            KeyValue(key="http.response.status_code", value=AnyValue(int_value=status)),
            text("server.address", f"{SERVICES[call.service]}.shop.svc.cluster.local"),
            KeyValue(key="server.port", value=AnyValue(int_value=8080)),
            text("user_agent.original", f"Mozilla/5.0 Chrome/{random.randrange(120, 140)}.0"),
            text("enduser.id", f"user-{marks.text(0x500000 + call.trace)}"),
            text("order.id", f"order-{marks.text(0x400000 + call.trace)}"),
            text("session.id", marks.text(0x600000 + call.trace)),
            KeyValue(key="cache.hit", value=AnyValue(bool_value=random.random() < 0.5)),
            text("cloud.availability_zone", f"eu-central-1{random.choice('abc')}"),
        )
    )
    if call.has_failed or random.random() < 0.15:
        event = span.events.add(name="exception", time_unix_nano=marks.time(call.share, end_ns))
        event.attributes.append(text("exception.type", "TimeoutError"))
        event.attributes.append(
            text("exception.message", f"no answer in {random.randrange(5_000)}")
        )
    if random.random() < 0.05:
        link = span.links.add(trace_id=marks.trace(call.trace), span_id=marks.span(call.number))
        link.attributes.append(text("link.reason", "batch"))
    if call.has_failed:
        span.status.code = Status.STATUS_CODE_ERROR
        span.status.message = "deadline exceeded"


# Lines by weight: the word `timeout` stands in one of 50, `declined` in one of 500, `deadlock` in
# one of 2 000; the number of an order stands in a few lines at all.
_LINES: Final = (
    (400, 9, "handled {method} {path} for user-{user} in {ms} ms"),
    (250, 9, "order {order} of user-{user} placed, {ms} items in the cart"),
    (150, 5, "cache miss for key session:{session}, loading from the database"),
    (100, 9, "payment of order {order} authorized by provider {user}"),
    (60, 13, "slow query: {ms} ms for SELECT of {path}"),
    (20, 17, "timeout after {ms} ms while waiting for {path}"),
    (10, 13, "retrying order {order} in {ms} ms"),
    (2, 17, "payment of order {order} declined: insufficient funds of user-{user}"),
    (0.5, 21, "deadlock detected between transactions {session} and {order}"),
)
_SEVERITIES: Final = {5: "DEBUG", 9: "INFO", 13: "WARN", 17: "ERROR", 21: "FATAL"}


def log_template(seed: str, services: int) -> Template:
    """A request of `ITEMS` log records; seven of ten belong to spans of the same seed."""
    random, marks = Random(f"logs {seed}"), Marks()
    request = ExportLogsServiceRequest()
    calls = sorted(random.choices(calls_of(seed, services), k=ITEMS), key=lambda one: one.service)
    for service, own in groupby(calls, lambda one: one.service):
        resource = resource_of(SERVICES[service], _pod(seed, service))
        resource_logs = request.resource_logs.add(resource=resource)
        scope = resource_logs.scope_logs.add()
        scope.scope.name = f"shop.{SERVICES[service]}"
        for call in own:
            _fill_record(scope.log_records.add(), call, random, marks)
    return Template(request, marks, items=ITEMS)


def _fill_record(record: LogRecord, call: Call, random: Random, marks: Marks) -> None:
    _weight, severity, line = random.choices(_LINES, [one[0] for one in _LINES])[0]
    is_of_span = random.random() < 0.7
    share = call.share if is_of_span else random.random()
    after_ns = call.after_ns + random.random() * call.duration_ns
    record.time_unix_nano = marks.time(share, after_ns)
    record.observed_time_unix_nano = marks.time(share, after_ns + MS)
    record.severity_number = severity  # type: ignore[assignment]
    record.severity_text = _SEVERITIES[severity]
    record.body.string_value = line.format(
        method=random.choice(METHODS),
        path=f"/api/{SERVICES[call.service]}/{random.randrange(1_000)}",
        user=marks.text(0x500000 + call.trace),
        ms=random.randrange(2_000),
        order=marks.text(0x400000 + call.trace),
        session=marks.text(0x600000 + call.trace),
    )
    record.attributes.extend(
        (
            text("code.function.name", f"shop.{SERVICES[call.service]}.handle"),
            KeyValue(key="code.line.number", value=AnyValue(int_value=random.randrange(500))),
            text("thread.name", f"worker-{random.randrange(16)}"),
            text("enduser.id", f"user-{marks.text(0x500000 + call.trace)}"),
            text("logger.name", f"shop.{SERVICES[call.service]}"),
            text("deployment.cell", f"eu-central-1{random.choice('abc')}"),
        )
    )
    if is_of_span:
        record.trace_id = marks.trace(call.trace)
        record.span_id = marks.span(call.number)
        record.flags = 1
