"""What an operator sees: log lines, metrics and drift.

This room owns the log's format and its way to standard output, the Prometheus metrics, the files in
which all processes of a server count, and the comparison of live rows with the training rows. It
imports `contract` and `bundle`. `storage` alone uses private names of prometheus_client.

Begin with `metrics.Metrics`, then `prediction_counts.PredictionCounter` and `logs.StdoutHandler`.
"""
