"""Leaderboards: from a frame of records to ranks, intervals and boards. Runs nothing; knows the metrics' rows only.

The frame has one row per (dataset, generator, replicate, full metric name), and one with an empty metric for a cell
that has no scores. Columns: dataset, shape, subset, generator (its label), arm_of (the label of the first row of the
same generator), native, reference, replicate, status, reason, metric, value, se, undefined, n_train, n_holdout.
"""

COLUMNS = (
    "dataset shape subset generator arm_of native reference replicate status reason "
    "metric value se undefined n_train n_holdout"
).split()
