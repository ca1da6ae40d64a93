"""The store: whole or not at all, private where it must be, damage found when read."""

import json
import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.cell import Cell, Fault, Record
from bench.datasets import open_dataset
from bench.store import Busy, Store
from bench.whole import Damaged, StoreError, check_stage, stage

CELL = Cell("sim-ehr", "sim-ehr", "d1", "random", "ou", "ou", "1", "{}", 0)


def test_a_stage_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "stage"
    with pytest.raises(RuntimeError), stage(folder) as new:
        (new / "half.txt").write_text("half")
        raise RuntimeError
    assert not folder.exists()
    assert list(folder.parent.iterdir()) == []
    with stage(folder) as new:
        (new / "whole.txt").write_text("whole")
    assert check_stage(folder)
    with stage(folder) as new:
        (new / "other.txt").write_text("other")
    assert sorted(p.name for p in folder.iterdir()) == ["other.txt", "stage.json"]


def test_leftovers_of_a_killed_process_are_swept(tmp_path: Path) -> None:
    leftover = tmp_path / ".stage.0123abcd.part"
    leftover.mkdir()
    with stage(tmp_path / "stage") as new:
        (new / "f").write_text("x")
    assert not leftover.exists()


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "manifest"])
def test_damage_is_found(tmp_path: Path, damage: str) -> None:
    with stage(tmp_path / "stage") as new:
        (new / "f").write_bytes(b"0123456789")
    file = tmp_path / "stage" / "f"
    if damage == "flip":
        file.write_bytes(b"0123456780")
    elif damage == "cut":
        file.write_bytes(b"01234")
    elif damage == "gone":
        file.unlink()
    else:
        (tmp_path / "stage" / "stage.json").write_text("{")
    with pytest.raises(Damaged, match="is damaged: remove"):
        check_stage(tmp_path / "stage")


def test_what_may_hold_rows_is_private(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s")
    assert stat.S_IMODE(store.private.stat().st_mode) == 0o700
    for path in (store.fit("k"), store.samples("k"), store.log("k")):
        assert store.private in path.parents


def test_records_survive(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s")
    store.add(CELL)
    record = Record(
        CELL, "failed", Fault("fit", "ValueError", "no"), {"m": {"value": 1.0, "se": None, "n": 3}}, {"a": 1}
    )
    store.save_record(record)
    assert store.record(CELL.key) == record
    assert store.read_cell(CELL.key) == CELL
    assert store.record("other") is None
    assert record.reason == "in fit: ValueError: no"
    with pytest.raises(StoreError, match="no cell 'other'"):
        store.read_cell("other")


def test_a_damaged_record_is_one_clear_line(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s")
    store.add(CELL)
    (store.cell(CELL.key) / "record.json").write_text("{")
    with pytest.raises(Damaged, match=r"record\.json is damaged"):
        store.record(CELL.key)


OTHERS = [{"dataset": "sim-icu"}, {"data": "d2"}, {"generator": "copycat", "label": "copycat"}, {"replicate": 1},
          {"params": '{"steps": 5}'}, {"version": "2"}, {"split": "time"}]  # fmt: skip


@pytest.mark.parametrize("change", OTHERS)
def test_a_record_of_another_cell_is_damage(tmp_path: Path, change: dict) -> None:
    store, other = Store.open(tmp_path / "s"), replace(CELL, **change)
    for cell in (CELL, other):
        store.add(cell)
    store.save_record(Record(other, "done", None, {"m": {"value": 1.0, "se": None, "n": 3}}))
    store.save_note(other.key, "scores", {"m": {"version": 1, "seconds": 0.1, "scores": {}}})
    for name in ("record.json", "scores.json"):
        shutil.copy(store.cell(other.key) / name, store.cell(CELL.key))
    for scores in (True, False):
        with pytest.raises(Damaged) as error:
            store.record(CELL.key, scores=scores)
        assert str(error.value) == (
            f"{store.cell(CELL.key)}/record.json is damaged: it is of cell {other.key}, expected {CELL.key}: "
            "`bench run` has it made again"
        )
    assert store.record(other.key) is not None
    store.add(CELL)
    assert store.record(CELL.key) is None
    assert store.note(CELL.key, "scores") is None  # may be the other cell's too
    assert store.read_cell(CELL.key) == CELL


def test_a_record_of_the_same_cell_under_another_name_is_its_own(tmp_path: Path) -> None:
    store, named = Store.open(tmp_path / "s"), replace(CELL, source="./sim-ehr", untuned_of="x")
    store.add(CELL)
    store.save_record(Record(named, "done"))
    assert store.record(CELL.key) == Record(named, "done")


def test_a_cell_that_is_described_as_another_is_damage(tmp_path: Path) -> None:
    store, other = Store.open(tmp_path / "s"), replace(CELL, replicate=1)
    for cell in (CELL, other):
        store.add(cell)
    shutil.copy(store.cell(other.key) / "cell.json", store.cell(CELL.key))
    with pytest.raises(Damaged, match=r"cell\.json is damaged: it is of cell sim-ehr\.ou\.r1\."):
        store.read_cell(CELL.key)
    store.add(CELL)
    assert store.read_cell(CELL.key) == CELL


def test_locks_are_exclusive_and_die_with_their_process(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s")
    with store.lock("k"):
        assert store.busy("k")
        with pytest.raises(Busy), store.lock("k"):
            pass
    assert not store.busy("k")
    pid = os.fork()
    if pid == 0:
        with store.lock("k"):
            os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    assert not store.busy("k")


def test_a_store_of_another_format_is_refused(tmp_path: Path) -> None:
    Store.open(tmp_path / "s")
    (tmp_path / "s" / "store.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(StoreError, match="format 99, this version reads 1"):
        Store.open(tmp_path / "s")


def test_a_store_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        Store.open(tmp_path / "file" / "s")


def test_tables_are_parsed_once_and_checked(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s")
    source = open_dataset("sim-icu[rows=30]", None)
    data, again = store.table(source), store.table(source)
    pd.testing.assert_frame_equal(data.table, source.load().table)
    pd.testing.assert_frame_equal(again.table, data.table)
    assert again.roles == source.load().roles
    (folder,) = (store.private / "tables").iterdir()
    (folder / "table.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(Damaged):
        store.table(source)
    store.mend([])
    pd.testing.assert_frame_equal(store.table(source).table, data.table)


def test_a_time_order_is_kept(tmp_path: Path) -> None:
    frame = pd.DataFrame({"t": np.arange(40)[::-1], "x": np.arange(40.0), "y": [0, 1] * 20})
    frame.to_csv(tmp_path / "d.csv", index=False)
    (tmp_path / "d.toml").write_text('file = "d.csv"\ntarget = "y"\norder = "t"\n')
    store, source = Store.open(tmp_path / "s"), open_dataset(str(tmp_path / "d.toml"), None)
    assert store.table(source).order.tolist() == source.load().order.tolist() == list(range(40, 0, -1))


def test_halves_of_files_are_tidied_away_and_a_writer_at_work_writes_again(tmp_path: Path, monkeypatch) -> None:
    store = Store(tmp_path)
    store.add(CELL)
    leftover = store.cell(CELL.key) / ".cost.json.0123abcd.part"
    leftover.write_text("{")
    store.tidy(CELL.key)
    assert not leftover.exists()
    replace, swept = os.replace, []

    def replace_after_tidying(new: Path, path: Path) -> None:
        if not swept:
            swept.append(new)
            store.tidy(CELL.key)
        replace(new, path)

    monkeypatch.setattr(os, "replace", replace_after_tidying)
    store.save_note(CELL.key, "cost", {"phases": {}})
    assert swept
    assert store.note(CELL.key, "cost") == {"phases": {}}
