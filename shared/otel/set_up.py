"""The product observes itself: traces, metrics and logs leave by OTLP, by default into the product.

Of the data plane there are no spans: a request about requests would never end, and a span for each
would cost more than the request.
"""

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Final

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.util.re import parse_env_headers

from shared.endings import end_within
from shared.errors import Invalid
from shared.logger.formatters import ContextFilter
from shared.logger.otlp import OtlpLogHandler
from shared.otel.prometheus import WithPrometheus
from shared.settings import Settings

METRICS_SECONDS: Final = 60.0
EXPORT_SECONDS_MAX: Final = 5
SPANS_WAITING_MAX: Final = 4_096
# What the end of the process waits for the last of all three; a target that serves takes 0.1 s.
END_SECONDS_MAX: Final = 2.0


def set_up_telemetry(settings: Settings, process: str) -> Callable[[], None]:
    """Begin to observe this process; what is returned sends the rest and ends it.

    A target that is away costs bounded memory and nothing else. Off, it costs nothing.
    """
    if settings.otel_enabled != "true":
        return lambda: None
    # The exporters would write a line for each batch that a target did not take.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    logging.getLogger("opentelemetry.sdk").setLevel(logging.CRITICAL)
    resource = Resource.create(
        {
            "service.name": f"{settings.otel_service_name}-{process}",
            "service.version": version("telemetryflow"),
            "service.instance.id": str(uuid.uuid4()),
            "deployment.environment.name": settings.telemetryflow_env,
        }
    )
    endpoint = settings.otel_exporter_otlp_endpoint.rstrip("/") or (
        f"http://127.0.0.1:{settings.ingest_http_port}"
    )
    headers = parse_env_headers(settings.otel_exporter_otlp_headers)
    tracers = TracerProvider(
        sampler=ParentBasedTraceIdRatio(_ratio(settings.otel_traces_sampler_arg)),
        resource=resource,
        shutdown_on_exit=False,
    )
    spans = OTLPSpanExporter(f"{endpoint}/v1/traces", headers=headers, timeout=EXPORT_SECONDS_MAX)
    tracers.add_span_processor(BatchSpanProcessor(spans, max_queue_size=SPANS_WAITING_MAX))
    points = OTLPMetricExporter(
        f"{endpoint}/v1/metrics", headers=headers, timeout=EXPORT_SECONDS_MAX
    )
    reader = PeriodicExportingMetricReader(
        WithPrometheus(points, resource), export_interval_millis=METRICS_SECONDS * 1_000
    )
    meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)
    _measure_uptime()
    lines = OtlpLogHandler(f"{endpoint}/v1/logs", headers, resource)
    lines.addFilter(ContextFilter())
    logging.getLogger().addHandler(lines)

    def end() -> None:
        logging.getLogger().removeHandler(lines)
        end_within(END_SECONDS_MAX, [tracers.shutdown, meters.shutdown, lines.end])

    return end


def _measure_uptime() -> None:
    begun = time.monotonic()

    def uptime(_options: CallbackOptions) -> Iterator[Observation]:
        yield Observation(time.monotonic() - begun)

    metrics.get_meter("telemetryflow.process").create_observable_gauge(
        "process.uptime", [uptime], unit="s", description="Time since the process began"
    )


def _ratio(text: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        raise Invalid(f"OTEL_TRACES_SAMPLER_ARG={text}: give a share from 0 to 1")
    return ratio
