-- Hourly points served nothing: they lacked what came late, and so could answer no question exactly.

DROP TABLE IF EXISTS ${database}.tf_metrics_1h SYNC;
