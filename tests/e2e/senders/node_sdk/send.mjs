// Sends known telemetry through the OpenTelemetry SDK for JavaScript and prints what it sent.
//
// Arguments: protocol (grpc, http or json) and service name. Endpoint and compression come from
// the environment, as in any program that uses the SDK.

import { readFileSync } from "node:fs";
import { ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { SeverityNumber } from "@opentelemetry/api-logs";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchLogRecordProcessor, LoggerProvider } from "@opentelemetry/sdk-logs";
import {
  AggregationType, MeterProvider, PeriodicExportingMetricReader,
} from "@opentelemetry/sdk-metrics";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";

const SUFFIXES = { grpc: "grpc", http: "proto", json: "http" };
const KINDS = { [SpanKind.SERVER]: "Server", [SpanKind.CLIENT]: "Client" };
const TRACES = 3;
const LOGS = 5;

const [protocol, service] = process.argv.slice(2);
const items = JSON.parse(readFileSync(new URL("../items.json", import.meta.url)));
const attributes = items.attributes;
const resource = resourceFromAttributes({ ...items.resource, "service.name": service });

async function exporterOf(signal, name) {
  const module = await import(`@opentelemetry/exporter-${signal}-otlp-${SUFFIXES[protocol]}`);
  return new module[name]();
}

function nanoseconds([seconds, rest]) {
  return BigInt(seconds) * 1_000_000_000n + BigInt(rest);
}

function described(span) {
  const { traceId, spanId } = span.spanContext();
  return {
    traceId,
    spanId,
    parentSpanId: span.parentSpanContext?.spanId ?? "0".repeat(16),
    name: span.name,
    kind: KINDS[span.kind],
    startNs: String(nanoseconds(span.startTime)),
    durationNs: String(nanoseconds(span.endTime) - nanoseconds(span.startTime)),
  };
}

async function sendTraces() {
  const exporter = await exporterOf("trace", "OTLPTraceExporter");
  const provider = new BasicTracerProvider({
    resource, spanProcessors: [new BatchSpanProcessor(exporter)],
  });
  const tracer = provider.getTracer("sdk.check", "0.9", { schemaUrl: "https://example.org/1.0" });
  const sent = [];
  for (let number = 0; number < TRACES; number += 1) {
    const server = tracer.startSpan(
      `serve ${number}`, { kind: SpanKind.SERVER, attributes }, ROOT_CONTEXT,
    );
    server.addEvent("halfway", { step: number });
    const client = tracer.startSpan(
      "call",
      { kind: SpanKind.CLIENT, links: [{ context: server.spanContext(), attributes: { why: "follows" } }] },
      trace.setSpan(ROOT_CONTEXT, server),
    );
    client.setStatus({ code: SpanStatusCode.ERROR, message: "no answer" });
    client.end();
    server.end();
    sent.push(described(client), described(server));
  }
  await provider.forceFlush();
  await provider.shutdown();
  return sent;
}

async function sendLogs() {
  const exporter = await exporterOf("logs", "OTLPLogExporter");
  const provider = new LoggerProvider({
    resource, processors: [new BatchLogRecordProcessor({ exporter })],
  });
  const logger = provider.getLogger("sdk.check", "0.9");
  const nowMs = Date.now();
  const sent = [];
  for (let number = 0; number < LOGS; number += 1) {
    const body = number ? `zeile ${number}: 世界` : undefined;
    logger.emit({
      timestamp: [Math.floor(nowMs / 1000), number * 1001],
      severityNumber: SeverityNumber.WARN,
      severityText: "WARN",
      body,
      attributes,
      eventName: "checked",
    });
    sent.push({
      timeNs: String(nanoseconds([Math.floor(nowMs / 1000), number * 1001])),
      body: body ?? "",
      severity: "WARN",
      number: 13,
    });
  }
  await provider.forceFlush();
  await provider.shutdown();
  return sent;
}

async function sendMetrics() {
  const exporter = await exporterOf("metrics", "OTLPMetricExporter");
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 });
  const provider = new MeterProvider({
    resource,
    readers: [reader],
    views: [{
      instrumentName: "check.size",
      aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM },
    }],
  });
  const meter = provider.getMeter("sdk.check", "0.9");
  meter.createCounter("check.requests", { unit: "1", description: "how many" }).add(5, attributes);
  meter.createUpDownCounter("check.pending").add(-2, attributes);
  meter.createObservableGauge("check.temperature")
    .addCallback((result) => result.observe(36.6, attributes));
  const latency = meter.createHistogram("check.latency", { unit: "ms" });
  const size = meter.createHistogram("check.size", { unit: "By" });
  for (const value of [1, 20, 300]) {
    latency.record(value, attributes);
    size.record(value, attributes);
  }
  await provider.shutdown(); // exports once, at the end
}

const spans = await sendTraces();
const logs = await sendLogs();
await sendMetrics();
console.log(JSON.stringify({ spans, logs }));
