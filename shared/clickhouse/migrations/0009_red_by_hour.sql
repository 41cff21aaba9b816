-- Rates, errors and durations by the hour, so that long ranges merge 60 times fewer t-digests. Kept
-- by the engine with each part, so it is complete whenever data came. Read by
-- control/telemetry/queries/services.py: the expressions are the same, letter for letter.

ALTER TABLE ${database}.tf_red_1m MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';

ALTER TABLE ${database}.tf_red_1m ADD PROJECTION IF NOT EXISTS by_hour
(
    SELECT TenantId, ServiceName, toStartOfHour(Minute, 'UTC'), sum(Spans), sum(Errors), sum(DurationSum), max(DurationMax),
           quantilesTDigestMergeState(0.5, 0.9, 0.99)(DurationQ)
    GROUP BY TenantId, ServiceName, toStartOfHour(Minute, 'UTC')
);

ALTER TABLE ${database}.tf_red_1m MATERIALIZE PROJECTION by_hour;
