"""Routes of metrics, and the query of numbers of any source."""

from functools import partial
from typing import Any

from pydantic import Field, ValidationError

from control.telemetry.api.kit import ANSWER_HEADERS, answered, answered_in_range
from control.telemetry.queries import aggregate, metric_catalogue
from control.telemetry.queries.filters import filter_of
from control.telemetry.queries.logs import ValueList
from control.telemetry.queries.model import (
    Combination,
    Fill,
    MetricAggregation,
    MetricQuestion,
    QueryAnswer,
    QueryBody,
)
from control.telemetry.queries.time_range import Duration, TimeZone, iso, step_for
from shared.errors import Invalid
from shared.http.call import Answer, Call
from shared.http.models import Text
from shared.http.problems import InvalidFields
from shared.http.routes import Routes

routes = Routes(
    "Telemetry: metrics",
    "Metrics: names, labels, values, exemplars; any numbers.",
    is_open_to_keys=True,
    answer_headers=ANSWER_HEADERS,
)

_PERMISSIONS = {
    "metric": "metrics:read",
    "traces": "traces:read",
    "red": "traces:read",
    "logs": "logs:read",
}


class ValueQuery(metric_catalogue.OfMetric):
    """Which number of a metric."""

    aggregation: MetricAggregation = "avg"
    combine: Combination | None = None
    quantile: float | None = Field(None, ge=0, le=1, description="of aggregation quantile")
    group_by: Text | None = Field(
        None, max_length=300, description="labels, separated by commas", examples=["service"]
    )
    time_zone: TimeZone = "UTC"
    fill: Fill = "none"
    compare_to: Duration | None = None

    def question(self, step: str | None) -> MetricQuestion:
        """The same as the typed query."""
        if self.quantile is not None and self.aggregation != "quantile":
            raise Invalid("it is of aggregation=quantile", field="quantile")
        span = self.span
        given: dict[str, Any] = {
            "range": {
                "type": "absolute",
                "startTime": iso(span.start_ns),
                "endTime": iso(span.end_ns),
            },
            "source": "metric",
            "metric": self.metric_name,
            "metricType": self.metric_type,
            "aggregation": self.aggregation,
            "combine": self.combine,
            "groupBy": [one.strip() for one in self.group_by.split(",")] if self.group_by else [],
            "step": step,
            "timeZone": self.time_zone,
            "fill": self.fill,
            "compareTo": self.compare_to,
        }
        if self.quantile is not None:
            given["quantiles"] = [self.quantile]
        try:
            question = MetricQuestion.model_validate(given)
        except ValidationError as error:
            raise InvalidFields.of(error) from None
        if self.filter is None:
            return question
        return question.model_copy(update={"filter": filter_of(self.filter)})


class TimeseriesQuery(ValueQuery):
    """Which numbers of a metric, in which steps."""

    step: Duration | None = None


@routes.get(
    "/telemetry/metrics",
    permission="metrics:read",
    query=metric_catalogue.PointsQuery,
    answer=metric_catalogue.PointList,
    errors=(404,),
)
async def list_metric_points(call: Call, query: metric_catalogue.PointsQuery) -> Answer:
    """List the data points of a metric, the newest first."""
    return await answered_in_range(call, query, metric_catalogue.list_points)


@routes.get(
    "/telemetry/metrics/query",
    permission="metrics:read",
    query=ValueQuery,
    answer=QueryAnswer,
    errors=(404,),
)
async def query_metric(call: Call, query: ValueQuery) -> Answer:
    """Get one value of a metric for the whole range, by group."""
    load = partial(aggregate.answer_question, question=query.question(None))
    return await answered(call, query, load, span=query.fixed_span)


@routes.get(
    "/telemetry/metrics/timeseries",
    permission="metrics:read",
    query=TimeseriesQuery,
    answer=QueryAnswer,
    errors=(404,),
)
async def get_metric_timeseries(call: Call, query: TimeseriesQuery) -> Answer:
    """Get the values of a metric over time, by group."""
    step = query.step or f"{step_for(query.span, None)}s"
    load = partial(aggregate.answer_question, question=query.question(step))
    return await answered(call, query, load, span=query.fixed_span)


@routes.get(
    "/telemetry/metrics/names",
    permission="metrics:read",
    query=metric_catalogue.NamesQuery,
    answer=metric_catalogue.MetricNameList,
)
async def list_metric_names(call: Call, query: metric_catalogue.NamesQuery) -> Answer:
    """List the metrics that were sent, with type and unit."""
    return await answered_in_range(call, query, metric_catalogue.list_names)


@routes.get(
    "/telemetry/metrics/labels",
    permission="metrics:read",
    query=metric_catalogue.OfMetric,
    answer=metric_catalogue.LabelList,
    errors=(404,),
)
async def list_metric_labels(call: Call, query: metric_catalogue.OfMetric) -> Answer:
    """List the labels of a metric."""
    return await answered_in_range(call, query, metric_catalogue.list_labels)


@routes.get(
    "/telemetry/metrics/values",
    permission="metrics:read",
    query=metric_catalogue.LabelValuesQuery,
    answer=ValueList,
    errors=(404,),
)
async def list_metric_label_values(call: Call, query: metric_catalogue.LabelValuesQuery) -> Answer:
    """List the values of a label of a metric, those of the most series first, with their number."""
    return await answered_in_range(call, query, metric_catalogue.label_values)


@routes.get(
    "/telemetry/metrics/exemplars",
    permission="metrics:read",
    query=metric_catalogue.OfMetric,
    answer=metric_catalogue.ExemplarList,
    errors=(404,),
)
async def list_exemplars(call: Call, query: metric_catalogue.OfMetric) -> Answer:
    """List measurements of a metric with the traces in which they were made."""
    return await answered_in_range(call, query, metric_catalogue.list_exemplars)


@routes.post(
    "/telemetry/query",
    permission="queries:read",
    body=QueryBody,
    answer=QueryAnswer,
    errors=(404,),
)
async def run_query(call: Call, body: QueryBody) -> Answer:
    """Count or measure anything: spans, log records, services, data points.

    Needs the permission to read the source too, such as `logs:read`.
    """
    question = body.query
    call.caller.require(_PERMISSIONS[question.source])
    load = partial(aggregate.answer_question, question=question)
    return await answered(call, body, load, span=question.fixed_span)
