"""A trace in the shapes of others: OTLP/JSON as it came in, and what Jaeger's API gives.

Values of attributes are kept as texts, and so are texts here. Sources: opentelemetry-proto
(trace/v1), its JSON mapping; jaeger model/json.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from control.telemetry.queries.catalogue import KINDS, STATUSES

Row = Mapping[str, Any]


def otlp_of(rows: Sequence[Row]) -> dict[str, Any]:
    """A TracesData message of spans, in order, by resource and scope."""
    resources: dict[bytes, dict[str, Any]] = {}
    scopes: dict[bytes, dict[str, Any]] = {}
    for row in rows:
        resource_key = orjson.dumps(
            [row["resource"], row["resource_schema_url"], row["resource_dropped"],
             row["resource_entities"]]
        )  # fmt: skip
        scope_key = resource_key + orjson.dumps(
            [row["scope_name"], row["scope_version"], row["scope_attributes"],
             row["scope_schema_url"], row["scope_dropped"]]
        )  # fmt: skip
        if resource_key not in resources:
            resources[resource_key] = _resource(row)
        if scope_key not in scopes:
            scopes[scope_key] = _scope(row)
            resources[resource_key]["scopeSpans"].append(scopes[scope_key])
        scopes[scope_key]["spans"].append(_span(row))
    return {"resourceSpans": list(resources.values())}


def _resource(row: Row) -> dict[str, Any]:
    resource = {
        "attributes": _attributes(row["resource"]),
        "droppedAttributesCount": row["resource_dropped"],
    }
    if row["resource_entities"]:
        resource["entityRefs"] = orjson.loads(row["resource_entities"])
    return {"resource": resource, "scopeSpans": [], "schemaUrl": row["resource_schema_url"]}


def _scope(row: Row) -> dict[str, Any]:
    return {
        "scope": {
            "name": row["scope_name"],
            "version": row["scope_version"],
            "attributes": _attributes(row["scope_attributes"]),
            "droppedAttributesCount": row["scope_dropped"],
        },
        "spans": [],
        "schemaUrl": row["scope_schema_url"],
    }


def _span(row: Row) -> dict[str, Any]:
    events = zip(
        row["event_times"], row["event_names"], row["event_attributes"], row["event_dropped"],
        strict=True,
    )  # fmt: skip
    links = zip(
        row["link_traces"], row["link_spans"], row["link_states"], row["link_attributes"],
        row["link_dropped"], row["link_flags"],
        strict=True,
    )  # fmt: skip
    return {
        "traceId": row["trace"],
        "spanId": row["span"],
        "traceState": row["trace_state"],
        "parentSpanId": row["parent"],
        "flags": row["flags"],
        "name": row["operation"],
        "kind": KINDS.index(row["kind"]),
        "startTimeUnixNano": str(row["start_ns"]),
        "endTimeUnixNano": str(row["start_ns"] + row["duration_ns"]),
        "attributes": _attributes(row["attributes"]),
        "droppedAttributesCount": row["dropped_attributes"],
        "events": [
            {
                "timeUnixNano": str(time_ns),
                "name": name,
                "attributes": _attributes(attributes),
                "droppedAttributesCount": dropped,
            }
            for time_ns, name, attributes, dropped in events
        ],
        "droppedEventsCount": row["dropped_events"],
        "links": [
            {
                "traceId": trace,
                "spanId": span,
                "traceState": state,
                "attributes": _attributes(attributes),
                "droppedAttributesCount": dropped,
                "flags": flags,
            }
            for trace, span, state, attributes, dropped, flags in links
        ],
        "droppedLinksCount": row["dropped_links"],
        "status": {"message": row["status_message"], "code": STATUSES.index(row["status"])},
    }


def _attributes(found: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in found.items()]


def jaeger_of(rows: Sequence[Row]) -> dict[str, Any]:
    """The answer of Jaeger's /api/traces/{id}; its times are microseconds."""
    processes: dict[bytes, tuple[str, dict[str, Any]]] = {}
    spans = []
    for row in rows:
        key = orjson.dumps([row["service"], row["resource"]])
        if key not in processes:
            process = {"serviceName": row["service"], "tags": _tags(row["resource"])}
            processes[key] = (f"p{len(processes) + 1}", process)
        spans.append(_jaeger_span(row, processes[key][0]))
    return {
        "data": [
            {
                "traceID": rows[0]["trace"],
                "spans": spans,
                "processes": dict(processes.values()),
                "warnings": None,
            }
        ],
        "errors": None,
    }


def _jaeger_span(row: Row, process: str) -> dict[str, Any]:
    references = [
        {"refType": "FOLLOWS_FROM", "traceID": trace, "spanID": span}
        for trace, span in zip(row["link_traces"], row["link_spans"], strict=True)
    ]
    if row["parent"]:
        parent = {"refType": "CHILD_OF", "traceID": row["trace"], "spanID": row["parent"]}
        references.insert(0, parent)
    tags = _tags(row["attributes"])
    if row["kind"] != "Unspecified":
        tags += _tags({"span.kind": row["kind"].lower()})
    if row["status"] != "Unset":
        tags += _tags({"otel.status_code": row["status"].upper()})
    if row["status"] == "Error":
        tags.append({"key": "error", "type": "bool", "value": True})
    if row["status_message"]:
        tags += _tags({"otel.status_description": row["status_message"]})
    events = zip(row["event_times"], row["event_names"], row["event_attributes"], strict=True)
    return {
        "traceID": row["trace"],
        "spanID": row["span"],
        "operationName": row["operation"],
        "references": references,
        "startTime": row["start_ns"] // 1000,
        "duration": row["duration_ns"] // 1000,
        "tags": tags,
        "logs": [
            {"timestamp": time_ns // 1000, "fields": _tags({"event": name, **attributes})}
            for time_ns, name, attributes in events
        ],
        "processID": process,
        "warnings": None,
    }


def _tags(found: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "type": "string", "value": value} for key, value in found.items()]
