"""What a cell has made travels from one store to another whole."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench import parcel
from bench.cell import Cell, Record
from bench.store import Store
from bench.whole import Damaged, check_stage, stage

CELL = Cell("sim-ehr", "sim-ehr", "d1", "random", "ou", "ou", "1", "{}", 0, tune='{"per": "replicate"}')


@pytest.fixture
def made(tmp_path: Path) -> Store:
    """A store with all that a tuned cell makes, and some of another cell's."""
    store = Store.open(tmp_path / "made")
    for cell in (CELL, replace(CELL, replicate=1)):
        for folder in (store.fit(cell.fit_key), store.samples(cell.key)):
            with stage(folder) as new:
                (new / "a.bin").write_bytes(bytes(range(256)))
                (new / "b.json").write_text("{}")
        store.save_fit_cost(cell, {"seconds": 1.0})
        store.add(cell)
        store.log(cell.key).write_text("a log")
        store.save_study_result(cell.study.key, {"params": {}})
        store.save_note(cell.key, "scores", {})
        store.save_note(cell.key, "cost", {})
        store.save_record(Record(cell, "done"))
    return store


def contents(store: Store) -> dict[str, bytes]:
    files = (p for p in store.root.rglob("*") if p.is_file())
    kept = {str(p.relative_to(store.root)): p.read_bytes() for p in files if p.suffix != ".lock" and p.name != "lock"}
    return {k: v for k, v in kept.items() if ".r1." not in k and not k.endswith(("cell.json", "store.json"))}


def test_all_of_a_cell_and_nothing_of_another(made: Store, tmp_path: Path) -> None:
    other = Store.open(tmp_path / "other")
    sent = parcel.packed(made, CELL)
    assert list(sent)[-1].endswith("record.json")  # what has a record is whole
    parcel.unpack(other, sent)
    assert contents(other) == contents(made)
    assert check_stage(other.fit(CELL.fit_key))
    assert check_stage(other.samples(CELL.key))
    parcel.unpack(other, sent)  # once more changes nothing
    assert contents(other) == contents(made)


def test_what_is_unchanged_does_not_travel_back(made: Store) -> None:
    sent = parcel.packed(made, CELL)
    assert parcel.new(sent, {}) == sent
    made.save_note(CELL.key, "scores", {"ks_gap": {}})
    back = parcel.new(parcel.packed(made, CELL), sent)
    assert f"cells/{CELL.key}/scores.json" in back
    assert not [name for name in back if "fits/" in name and "/a.bin" in name]


def test_a_stage_that_was_made_anew_travels_whole(made: Store) -> None:
    sent = parcel.packed(made, CELL)
    with stage(made.samples(CELL.key)) as new:
        (new / "a.bin").write_bytes(bytes(range(256)))  # as before
        (new / "b.json").write_text("[]")
    back = parcel.new(parcel.packed(made, CELL), sent)
    assert f"data/samples/{CELL.key}/a.bin" in back


def test_what_was_changed_on_the_way_is_not_taken_over(made: Store, tmp_path: Path) -> None:
    other = Store.open(tmp_path / "other")
    sent = parcel.packed(made, CELL)
    name = f"data/samples/{CELL.key}/a.bin"
    with pytest.raises(Damaged, match=r"a\.bin is damaged"):
        parcel.unpack(other, {**sent, name: sent[name][:-1]})
    assert not other.samples(CELL.key).exists()
    assert not list(other.root.rglob("*.part"))
    assert other.record(CELL.key) is None
