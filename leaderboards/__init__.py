"""Leaderboards: from a frame of records to ranks, intervals and boards. Runs nothing; knows the metrics' rows only.

The frame has one row per (dataset, generator, replicate, full metric name), and one with an empty metric for a cell
that has no scores. Columns: dataset, shape, subset, generator (its label), arm_of (the label of the first row of the
same generator), untuned_of (the label of the tuned row that it stands beside untuned, or ""), tuning (how the cell was
tuned, as bench/run.py's `tuning_facts` says, or None), native, reference, replicate, status, reason, metric, value, se,
undefined, n_train, n_holdout.
"""

COLUMNS = (
    "dataset shape subset generator arm_of untuned_of tuning native reference replicate status reason "
    "metric value se undefined n_train n_holdout"
).split()
