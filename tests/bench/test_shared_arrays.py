"""What cells of one split share: kept once, read whole, never stale, and no different from what a cell makes alone."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

import metrics
from bench.cell import Cell
from bench.datasets import open_dataset
from bench.datasets.split import split
from bench.shared import Shared, code, split_key
from metrics.tables import Tables

CELL = Cell("sim-ehr", "sim-ehr", "d1", "random", "ou", "ou", "1", "{}", 0)


def test_arrays_come_back_and_damage_is_absence(tmp_path: Path) -> None:
    kept = Shared(tmp_path / "s")
    assert kept.get("a") is None
    kept.put("a", (np.arange(5.0), np.array(0.25)))
    first, second = kept.get("a")
    assert (first == np.arange(5)).all()
    assert float(second) == 0.25
    (file,) = (tmp_path / "s").iterdir()
    for broken in (b"", b"PK\x03\x04 not a zip", file.read_bytes()[:60]):
        file.write_bytes(broken)
        assert kept.get("a") is None


def test_a_split_has_its_own_folder() -> None:
    assert split_key(CELL) == split_key(replace(CELL, generator="smote", label="smote", params='{"k": 3}'))
    others = [
        replace(CELL, replicate=1),
        replace(CELL, data="d2"),
        replace(CELL, split="time"),
        replace(CELL, threads=2),
    ]
    assert len({split_key(c) for c in (CELL, *others)}) == 5
    assert len(code()) == 64


class Counting(Shared):
    """Counts what is asked of it in vain."""

    made = 0

    def put(self, name, arrays) -> None:
        self.made += 1
        super().put(name, arrays)


def test_scores_are_the_same_with_and_without_and_synth_is_never_shared(tmp_path: Path) -> None:
    data = open_dataset("sim-ehr[codes=20,rows=500]", None).load()
    parts = split(data, seed=0)
    asked = ["tstr_auroc", "trtr_weighted_auroc", "boost_f1_score", "dimension_prediction_auroc_gap"]

    def scores(synth, shared):
        t = Tables(
            parts.train, parts.holdout, synth, minority=synth[synth["died"]], roles=asdict(data.roles), shared=shared
        )
        return metrics.score(t, asked, seed=3)

    kept = Counting(tmp_path)
    alone = scores(parts.train, None)
    assert scores(parts.train, kept) == alone
    made = kept.made
    assert made == len(list(tmp_path.iterdir())) > 10  # judges on train, weighted, with controls; train's regressions
    other = parts.holdout
    assert scores(other, kept) == scores(other, None) != alone
    assert kept.made == made
