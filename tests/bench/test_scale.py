"""What is quick on long suites gives what the plain way gives: keys, records without scores, versions, numbers."""

import json
import pickle
import random
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cell import Cell, Fault, Record
from bench.store import Store
from bench.whole import Damaged
from leaderboards import scores

CELL = Cell("sim-ehr", "sim-ehr", "d1", "random", "ou", "ou", "1", "{}", 0)
SCORES = {f"ks_gap/{i}": {"value": i / 7, "se": 0.1, "n": 40} for i in range(200)} | {"c2st": {"undefined": 'a "b"'}}
FACTS = {"n_train": 80, "subset": "", "tuned": {"scores": {"status": "done"}}}


def test_a_copy_of_a_cell_has_keys_of_its_own() -> None:
    tuned = replace(CELL, tune='{"per": "dataset", "trials": 3}')
    later = replace(tuned, replicate=1)
    assert len({CELL.key, tuned.key, later.key}) == len({CELL.fit_key, tuned.fit_key, later.fit_key}) == 3
    assert later.study.key == tuned.study.key
    again = pickle.loads(pickle.dumps(tuned))
    assert (again, again.key, hash(again)) == (tuned, tuned.key, hash(tuned))


@pytest.mark.parametrize(
    "record",
    [
        Record(CELL, "done", None, SCORES, FACTS),
        Record(CELL, "done", None, SCORES, FACTS | {"tuned": {"note": "x" * 20_000}}),
        Record(CELL, "failed", Fault("fit", "ValueError", 'no "scores": {'), {}, {}),
        Record(CELL, "timeout", Fault("score", "", "over 3,600 s"), dict(list(SCORES.items())[:2]), FACTS),
    ],
    ids=["done", "long", "failed", "timeout"],
)
def test_a_record_without_its_scores_has_all_else(tmp_path: Path, record: Record) -> None:
    store = Store.open(tmp_path)
    store.add(CELL)
    store.save_record(record)
    assert store.record(CELL.key) == record
    assert store.record(CELL.key, scores=False) == replace(record, scores={})


def test_a_record_that_was_cut_short_is_damaged_with_and_without_scores(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.add(CELL)
    assert store.record(CELL.key, scores=False) is None
    store.save_record(Record(CELL, "done", None, SCORES, FACTS))
    path = store.cell(CELL.key) / "record.json"
    whole = path.read_bytes()
    for length in (0, 100, 5_000, len(whole) - 5):
        path.write_bytes(whole[:length])
        for with_them in (True, False):
            with pytest.raises(Damaged):
                store.record(CELL.key, scores=with_them)


def test_versions_are_those_of_the_kept_scores(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.add(CELL)
    assert store.versions(CELL.key) == {}
    kept = {
        "ks_gap": {"scores": {"ks_gap": {"value": 1.0, "version": 7}}, "seconds": 0.1, "version": 12},
        "c2st_auroc_gap": {"scores": {"c2st_auroc_gap": {"undefined": '"version": 3'}}, "seconds": 0.0, "version": 1},
    }
    store.save_note(CELL.key, "scores", kept)
    assert store.versions(CELL.key) == {"ks_gap": 12, "c2st_auroc_gap": 1}
    path = store.cell(CELL.key) / "scores.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(Damaged):
        store.versions(CELL.key)


def test_keys_of_a_store_are_its_folders(tmp_path: Path) -> None:
    assert Store(tmp_path / "none").keys("") == []
    store = Store.open(tmp_path)
    store.add(CELL)
    (tmp_path / "cells" / "sim-ehr.note").write_text("no folder")
    assert store.keys("") == store.keys("sim-ehr.") == [CELL.key]
    assert store.keys("sim-icu") == []


def test_numbers_of_a_file_of_scores_are_json_of_eight_digits() -> None:
    rng = random.Random(0)
    values = [0.0, -0.0, 1.0, -3.0, 2.9999999999, 99999999.5, 123456789.0, 1e15, 1e16, 1e-5, 5e-324, float("inf")]
    values += [rng.gauss(0, 1) * 10.0 ** rng.randint(-12, 18) for _ in range(500)]
    cell = dict.fromkeys(scores.CELL, "") | {"scores": {f"ks_gap/{i}": (v, None) for i, v in enumerate(values)}}
    text = scores.text_of([cell])
    written = json.loads(text)["cells"][0]["scores"]
    plain = [int(v) if v.is_integer() and abs(v) < 1e15 else float(f"{v:.8g}") for v in values]
    assert [value for value, _ in written.values()] == plain
    assert all(f"[{json.dumps(v)}, null]" in text for v in plain)
