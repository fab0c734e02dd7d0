"""Scoring: predictions for whole CSV files, without a server.

The room owns how a CSV file is read (`table`, `records`), how its rows are validated and predicted
(`scorer`), and how a run writes its files so that an interrupted run can resume (`resuming`). An
open file and a loaded `Model` enter; lines of CSV leave. It imports `contract` and `bundle`, and
knows neither Flask nor the command line: `cli/score.py` connects it to both. Begin reading at
`scorer.Scorer`.
"""
