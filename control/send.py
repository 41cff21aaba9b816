"""`telemetryflow send`: realistic data of a small shop, through the real OpenTelemetry SDK.

Each request to the shop is a trace over four services, with log records inside and metrics beside,
so that everything that can be explored is there: errors, slow calls, correlated logs.
"""

import logging
import random
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from rich.console import Console
from rich.progress import Progress

from shared.settings import Settings

SECONDS_MAX: Final = 86_400.0
RATE_MAX: Final = 10_000.0
METRIC_INTERVAL_MS: Final = 1_000
DURATION_BOUNDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)
SERVICES: Final = ("web", "checkout", "payments", "catalogue")
_PRODUCTS: Final = ("kettle", "lamp", "chair", "notebook", "umbrella", "clock")
_ERROR_SHARE: Final = 0.04


@dataclass(frozen=True, slots=True)
class Service:
    """The three providers of one simulated service, and what they gave."""

    name: str
    tracer: trace.Tracer
    logger: logging.Logger
    count_request: Callable[[str, bool], None]
    record_seconds: Callable[[float, str], None]
    shutdown: Callable[[], None]


def send(settings: Settings, options: Namespace) -> int:
    """Send for a while, then say what was sent."""
    rate = min(max(options.rate, 0.1), RATE_MAX)
    seconds = min(max(options.seconds, 0.0), SECONDS_MAX)
    endpoint = f"127.0.0.1:{settings.ingest_grpc_port}"
    services = {name: _service(name, endpoint, options.signal) for name in SERVICES}
    console = Console(highlight=False)
    sent = 0
    with _ended(services), Progress(console=console) as progress:
        task = progress.add_task(f"sending {options.signal} to {endpoint}", total=seconds)
        begun = time.monotonic()
        while (elapsed := time.monotonic() - begun) < seconds:
            _shop_request(services)
            sent += 1
            progress.update(task, completed=elapsed)
            time.sleep(max(sent / rate - (time.monotonic() - begun), 0))
        progress.update(task, completed=seconds)
    console.print(f"{sent} requests sent: {5 * sent} spans in {sent} traces.")
    console.print("See them:")
    console.print(
        '  telemetryflow sql "SELECT ServiceName, SpanName, count() FROM otel_traces GROUP BY 1, 2"'
    )
    return 0


@contextmanager
def _ended(services: dict[str, Service]) -> Iterator[None]:
    """Everything that is still queued is sent at the end, also after Ctrl-C."""
    try:
        yield
    finally:
        for service in services.values():
            service.shutdown()


def _service(name: str, endpoint: str, signal: str) -> Service:
    resource = Resource.create(
        {
            "service.name": name,
            "service.version": "1.4.2",
            "service.namespace": "shop",
            "service.instance.id": f"{name}-1",
            "deployment.environment.name": "demo",
            "host.name": "shop-host-1",
        }
    )
    tracers = TracerProvider(resource=resource)
    meters = MeterProvider(
        resource=resource,
        metric_readers=[
            PeriodicExportingMetricReader(
                OTLPMetricExporter(endpoint=endpoint, insecure=True),
                export_interval_millis=METRIC_INTERVAL_MS,
            )
        ]
        if signal in ("metrics", "all")
        else [],
    )
    loggers = LoggerProvider(resource=resource)
    if signal in ("traces", "all"):
        exporter = OTLPSpanExporter(endpoint=endpoint, insecure=True)
        tracers.add_span_processor(BatchSpanProcessor(exporter))
    if signal in ("logs", "all"):
        log_exporter = OTLPLogExporter(endpoint=endpoint, insecure=True)
        loggers.add_log_record_processor(BatchLogRecordProcessor(log_exporter))
    logger = logging.getLogger(f"shop.{name}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(LoggingHandler(logger_provider=loggers))
    meter = meters.get_meter("shop")
    requests = meter.create_counter("shop.requests", unit="{request}", description="Requests")
    durations = meter.create_histogram(
        "shop.request.duration",
        unit="s",
        description="Duration of requests",
        # The SDK's own bounds, 0 5 10 …, are for milliseconds: all would be in one bucket.
        explicit_bucket_boundaries_advisory=DURATION_BOUNDS,
    )

    def shutdown() -> None:
        tracers.shutdown()
        meters.shutdown()
        loggers.shutdown()

    return Service(
        name=name,
        tracer=tracers.get_tracer("shop", "1.4.2"),
        logger=logger,
        count_request=lambda route, failed: requests.add(1, {"http.route": route, "error": failed}),
        record_seconds=lambda seconds, route: durations.record(seconds, {"http.route": route}),
        shutdown=shutdown,
    )


def _shop_request(services: dict[str, Service]) -> None:
    """One order: web asks the catalogue, then checkout, which asks payments."""
    product = random.choice(_PRODUCTS)  # noqa: S311 - demonstration data
    failed = random.random() < _ERROR_SHARE  # noqa: S311
    order = random.randrange(10**9)  # noqa: S311
    begun = time.monotonic()
    with _span(services["web"], "POST /orders", SpanKind.SERVER) as web:
        web.set_attribute("http.request.method", "POST")
        web.set_attribute("http.route", "/orders")
        web.set_attribute("url.path", f"/orders/{order}")
        with _span(services["catalogue"], "GET /products/{name}", SpanKind.SERVER) as catalogue:
            catalogue.set_attribute("shop.product", product)
            catalogue.add_event("cache.miss", {"cache.key": product})
        with _span(services["checkout"], "place order", SpanKind.INTERNAL) as checkout:
            checkout.set_attribute("shop.order.id", order)
            services["checkout"].logger.info("order %d placed for %s", order, product)
            with _span(services["payments"], "charge card", SpanKind.CLIENT) as payment:
                payment.set_attribute("shop.amount", round(random.uniform(5, 500), 2))  # noqa: S311
                if failed:
                    payment.set_status(StatusCode.ERROR, "card declined")
                    services["payments"].logger.error("card declined for order %d", order)
            with _span(services["checkout"], "INSERT orders", SpanKind.CLIENT) as database:
                database.set_attribute("db.system.name", "postgresql")
        web.set_attribute("http.response.status_code", 502 if failed else 201)
        if failed:
            web.set_status(StatusCode.ERROR, "payment failed")
        # Within the span, so that measurements have exemplars of it.
        for name in ("web", "checkout"):
            services[name].count_request("/orders", failed)
            services[name].record_seconds(time.monotonic() - begun, "/orders")


@contextmanager
def _span(service: Service, name: str, kind: SpanKind) -> Iterator[trace.Span]:
    with service.tracer.start_as_current_span(name, kind=kind) as span:
        yield span
