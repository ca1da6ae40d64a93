"""Cells that differ only in how they sample share one fit: once made, the same as each alone, marked in the costs."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import generators
from bench.cell import Cell, Record
from bench.collect import cost_frame, spent
from bench.doctor import TABLES, Broken, Patient, shares_fits
from bench.run import run_cell
from bench.store import Busy, Store
from bench.suite import Tune, cells, find_suite
from bench.whole import check_stage
from conftest import environment, write
from generators import REGISTRY, at_sample, load_class

ARMS = """
name = "arms"
datasets = ["sim-fraud[rows=1200]"]
generators = [{ name = "fakes:Arms", label = "none", params = { noise = 0.0, seconds = SECONDS } },
              { name = "fakes:Arms", label = "much", params = { noise = 0.5, seconds = SECONDS } }]
metrics = ["ks_gap"]
"""
CELL = Cell("sim-ehr", "sim-ehr", "d1", "random", "ou", "ou", "1", '{"lr": 0.1, "steps": 5}', 0, at_sample='["steps"]')
OTHER = replace(CELL, params='{"lr": 0.1, "steps": 9}', label="more")
PLAIN = replace(CELL, params='{"lr": 0.1}', label="plain", at_sample="")


def plan(trials: int) -> str:
    """A cell's tuning, without bounds on privacy."""
    return json.dumps(Tune(trials=trials, privacy={}).plan, sort_keys=True)


def start(folder: Path, *args: str) -> subprocess.Popen[str]:
    """A run of the arms; each fit adds a line to the folder's file `fits`."""
    write(folder / "arms.toml", ARMS.replace("SECONDS", "1.0"))
    return subprocess.Popen(
        [sys.executable, "-m", "bench", "run", "--suite", "arms.toml", "--no-track", *args], cwd=folder, text=True,
        env=environment(FITS=str(folder / "fits")), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    said, _ = process.communicate(timeout=120)
    assert process.returncode == code, said
    return said


def fits(folder: Path) -> list[str]:
    path = folder / "fits"
    return path.read_text().splitlines() if path.exists() else []


def planned(folder: Path, seconds: float = 1.0, more: str = "") -> dict[str, Cell]:
    path = write(folder / "planned.toml", ARMS.replace("SECONDS", str(seconds)) + more)
    return {cell.label: cell for cell, _, _ in cells(find_suite(str(path)), None)}


def outcome(store: Store, cell: Cell) -> dict[str, bytes]:
    """All that a cell leaves but its cost: samples and record."""
    drawn = {p.name: p.read_bytes() for p in store.samples(cell.key).iterdir()}
    return drawn | {"record": (store.cell(cell.key) / "record.json").read_bytes()}


def alone(cell: Cell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A fresh store in which only this cell has run, in this process."""
    monkeypatch.setenv("FITS", str(folder / "fits"))
    store = Store.open(folder / "store")
    store.add(cell)
    assert run_cell(cell, store, data_dir=None, metric_names=["ks_gap"], phase=lambda name: None).status == "done"
    return store


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    """A folder with both arms run by two workers at once."""
    folder = tmp_path_factory.mktemp("shared")
    finish(start(folder, "--workers", "2"))
    return folder


# --- identity ---


def test_the_fit_key_leaves_out_how_a_cell_samples() -> None:
    arms = (CELL, OTHER, PLAIN, replace(CELL, samples=7, conditions="[]", prompts="[]", label="x", source="./y"))
    assert len({c.fit_key for c in arms}) == 1
    assert len({c.key for c in arms}) == len(arms)
    assert CELL.fit_key.startswith("sim-ehr.ou.r0.")
    assert CELL.key != replace(CELL, at_sample="").key  # it decides the seeds


@pytest.mark.parametrize(
    "change",
    [{"data": "d2"}, {"split": "time"}, {"version": "2"}, {"params": '{"lr": 0.2, "steps": 5}'}, {"replicate": 1},
     {"threads": 2}, {"dataset": "sim-ehr[rows=9]"}, {"generator": "smote"}, {"at_sample": ""}],
)  # fmt: skip
def test_the_fit_key_changes_with_all_that_decides_the_fit(change: dict) -> None:
    assert replace(CELL, **change).fit_key != CELL.fit_key


def test_arms_have_one_fit_and_draw_from_the_same_noise() -> None:
    for purpose in ("fit", "sample", "minority", "guidance"):
        assert CELL.seed(purpose) == OTHER.seed(purpose) == PLAIN.seed(purpose)
        assert CELL.seed(purpose) != replace(CELL, at_sample="").seed(purpose)


def test_a_tuned_cell_shares_with_nobody() -> None:
    tuned = [replace(c, tune='{"trials": 2}') for c in (CELL, OTHER)]
    assert len({c.fit_key for c in (*tuned, CELL)}) == 3


def test_a_suite_plans_which_parameters_come_after_the_fit(tmp_path: Path) -> None:
    arms = planned(tmp_path)
    assert [c.at_sample for c in arms.values()] == ['["noise"]'] * 2
    assert len({c.fit_key for c in arms.values()}) == 1
    text = 'name = "s"\ndatasets = ["sim-ehr"]\ngenerators = ["ehr-d3pm", { name = "smote", params = { k = 3 } }]\n'
    ehr, smote = (cell for cell, _, _ in cells(find_suite(str(write(tmp_path / "s.toml", text))), None))
    assert (ehr.at_sample, smote.at_sample) == ("", '["k"]')


def test_trials_that_differ_in_how_they_sample_share_one_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = replace(planned(tmp_path)["none"], generator="fakes:Tunes", params="{}", tune=plan(4))
    kept = {}
    for shares in (True, False):
        if not shares:
            monkeypatch.setattr(generators, "at_sample", lambda name: ())
        folder = tmp_path / str(shares)
        store = alone(cell, folder, monkeypatch)
        kept[shares] = [(t["params"], t["values"]) for t in store.study_result(cell.study.key)["trials"]]
        assert len(fits(folder)) == (2 if shares else 5)  # the last is the cell's own
        assert not store.trials(cell.key).exists()
    assert kept[True] == kept[False]
    assert len({str(values) for _, values in kept[True]}) == 4


def test_trials_of_a_generator_that_cannot_be_saved_are_fitted_each(tmp_path: Path, monkeypatch) -> None:
    cell = replace(planned(tmp_path)["none"], generator="fakes:TunesUnsaved", params="{}", tune=plan(3))
    store = alone(cell, tmp_path, monkeypatch)
    assert [t["values"] is not None for t in store.study_result(cell.study.key)["trials"]] == [True] * 3
    assert len(fits(tmp_path)) == 3 + 1


# --- what generators say ---


@pytest.mark.parametrize("name", REGISTRY)
def test_at_sample_read_from_source_is_the_classes_and_names_parameters(name: str) -> None:
    assert at_sample(name) == getattr(load_class(REGISTRY[name].load), "AT_SAMPLE", ())
    assert set(at_sample(name)) <= set(generators.parameters(name))


@pytest.mark.parametrize(
    ("name", "says"),
    [("bad_generators:NamesNoParameter", "AT_SAMPLE names 'steps', which is no constructor parameter: known: scale"),
     ("bad_generators:NamesByAText", "AT_SAMPLE is 'scale', expected a tuple of names")],
)  # fmt: skip
def test_a_wrong_at_sample_is_one_clear_line(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        generators.check(name, {})


@pytest.mark.parametrize(
    ("name", "says"),
    [("bad_generators:ReadsAtFit", "fit reads 'scale', which AT_SAMPLE names"),
     ("bad_generators:TakesOver", "load changes 'scale', which AT_SAMPLE names"),
     ("bad_generators:Renames", "the constructor does not store 'scale', which AT_SAMPLE names")],
)  # fmt: skip
def test_the_contract_catches_a_fit_that_must_not_be_shared(name: str, says: str) -> None:
    with pytest.raises(Broken, match=says):
        shares_fits(Patient(name, TABLES["table"], {}))


def test_the_contract_passes_one_that_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITS", str(tmp_path / "fits"))
    shares_fits(Patient("fakes:Arms", TABLES["table"], {"noise": 0.3}))
    assert len(fits(tmp_path)) == 2  # the patient's own, and the one made without the parameters: it did look


# --- running ---


def test_two_arms_are_fitted_once_and_are_what_each_is_alone(shared, tmp_path: Path, monkeypatch) -> None:
    assert len(fits(shared)) == 1
    store, arms = Store(shared / "bench-store"), planned(tmp_path)
    for label, cell in arms.items():
        single = alone(cell, tmp_path / label, monkeypatch)
        assert outcome(store, cell) == outcome(single, cell)
        assert fits(tmp_path / label) == fits(shared)  # the same seed too
    drawn = [outcome(store, cell)["synth.parquet"] for cell in arms.values()]
    assert drawn[0] != drawn[1]
    assert {p.parent for p in shared.rglob("*") if arms["none"].fit_key in p.name} == {store.private / "fits"}


def test_two_runs_at_once_fit_once(tmp_path: Path) -> None:
    both = [start(tmp_path, "--workers", "1") for _ in range(2)]
    for process in both:
        finish(process)
    assert len(fits(tmp_path)) == 1


def test_a_fit_that_was_killed_is_made_again(tmp_path: Path) -> None:
    process = start(tmp_path, "--workers", "2")
    end = time.monotonic() + 60
    while not fits(tmp_path):
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not list((tmp_path / "bench-store/data/fits").glob("*/stage.json"))
    assert "2 done" in finish(start(tmp_path, "--workers", "2"))
    assert len(fits(tmp_path)) == 2
    assert not list((tmp_path / "bench-store").rglob("*.part"))


def test_a_damaged_fit_is_made_again_once_for_all(tmp_path: Path, monkeypatch) -> None:
    arms = planned(tmp_path, seconds=0.0)

    def run() -> set[str]:
        return {
            run_cell(cell, store, data_dir=None, metric_names=["ks_gap"], phase=lambda name: None).reason
            for cell in arms.values()
        }

    for cell in arms.values():
        store = alone(cell, tmp_path, monkeypatch)
    before = {label: outcome(store, cell) for label, cell in arms.items()}
    (store.fit(arms["none"].fit_key) / "state.json").write_text("{")
    for cell in arms.values():
        shutil.rmtree(store.samples(cell.key))
    (why,) = run()
    assert why.startswith("in reload: Damaged: ")
    store.mend(arms.values())
    assert run() == {""}
    assert len(fits(tmp_path)) == 2
    assert {label: outcome(store, cell) for label, cell in arms.items()} == before


def test_tuned_arms_are_fitted_each_with_its_own_parameters(tmp_path: Path, monkeypatch) -> None:
    arms = planned(tmp_path, seconds=0.0, more="[tune]\ntrials = 4\nuntuned = false\nprivacy = {}\n")
    expected = []
    for cell in arms.values():
        store = alone(cell, tmp_path, monkeypatch)
        assert check_stage(store.fit(cell.key))
        tuned = store.study_result(cell.study.key)
        depths = [trial["params"]["depth"] for trial in tuned["trials"]]
        changed = [d for d, before in zip(depths, [None, *depths], strict=False) if d != before]
        assert len(depths) == 4
        assert len(changed) > 1
        expected += [f"{depth} {cell.seed('tune')}" for depth in changed]
        expected.append(f"{tuned['params']['depth']} {cell.seed('fit')}")
    assert fits(tmp_path) == expected


def test_a_cell_whose_fit_is_being_made_waits_and_is_no_failure(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("FITS", str(tmp_path / "fits"))
    store, cell = Store.open(tmp_path / "store"), planned(tmp_path, seconds=0.0)["much"]
    store.add(cell)
    with store.fitting(cell.fit_key), pytest.raises(Busy, match=f"{cell.fit_key}: another process is at work on it"):
        run_cell(cell, store, data_dir=None, metric_names=["ks_gap"], phase=lambda name: None)
    assert store.record(cell.key) is None
    assert not fits(tmp_path)


# --- costs ---


def test_a_shared_fit_is_shown_with_what_it_cost_and_marked(shared, tmp_path: Path) -> None:
    store, arms = Store(shared / "bench-store"), planned(tmp_path)
    made = store.fit_cost(arms["none"].fit_key)
    assert made["cell"] == arms["none"].key
    phases = {label: spent(cell, store) for label, cell in arms.items()}
    assert [marked for _, marked in phases.values()] == [False, True]
    own, lent = (found["fit"] for found, _ in phases.values())
    assert own == lent == {k: made[k] for k in ("seconds", "cpu_s", "peak_memory_mb")}
    assert own["peak_memory_mb"] > 10
    assert "fit" not in json.loads((store.cell(arms["much"].key) / "cost.json").read_text())["phases"]
    table = (shared / "bench-store/boards/arms/cost.md").read_text()
    assert "fit_shared" in table


def test_a_fit_of_unknown_cost_is_a_gap_and_one_reloaded_by_its_maker_is_not_shared(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    record = Record(OTHER, "done", None, {}, {"n_synth": 10, "n_parameters": 1})
    phases = {name: {"seconds": 0.1, "peak_memory_mb": 5.0} for name in ("split", "reload", "sample")}
    store.cell(OTHER.key).mkdir()
    store.save_note(OTHER.key, "cost", {"phases": phases})
    store.save_fit_cost(CELL, {"seconds": 9.0, "peak_memory_mb": 50.0})
    assert spent(OTHER, store) == (phases, False)  # nothing is kept of a fit that is not stored
    store.fit(CELL.fit_key).mkdir(parents=True)
    store.save_fit_cost(CELL, {"seconds": 9.0, "peak_memory_mb": 50.0})
    (row,) = cost_frame([(OTHER, None, record)], store).to_dict("records")
    assert (row["fit_s"], row["fit_shared"], row["peak_memory_mb"]) == (9.0, 1.0, 50.0)
    store.save_fit_cost(OTHER, {"seconds": 8.0, "peak_memory_mb": 50.0})
    (row,) = cost_frame([(OTHER, None, record)], store).to_dict("records")
    assert (row["fit_s"], row["fit_shared"]) == (8.0, 0.0)
