"""Tuning a cell: the objective, budgets, bounds on privacy, leaks, faults, pruning, reuse."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import generators
from bench.cell import Cell
from bench.datasets import open_dataset
from bench.datasets.data import Data
from bench.datasets.law import subjects
from bench.datasets.split import split
from bench.errors import BenchError
from bench.objective import Inner, Objective, Scale
from bench.reuse import Tuned, export
from bench.run import run_cell
from bench.space import distributions, space
from bench.store import Store
from bench.suite import Tune, cells, find_suite, resolved_suite
from bench.tune import MEMORY_SHARE, Place, tuned
from conftest import write

DATASET = "breast-cancer[rows=300]"


def plan(**asked: Any) -> str:
    """A cell's tuning: one quick score and no bounds, unless others are asked for."""
    quick = {"trials": 4, "objective": ["ks_gap"], "privacy": {}, "draws": 1, "sampler": "random"}
    return json.dumps(Tune.model_validate({**quick, **asked}).plan, sort_keys=True)


def cell_of(generator: str, *, params: dict | None = None, dataset: str = DATASET, replicate: int = 0, **asked) -> Cell:
    version = generators.version(generator)
    return Cell(dataset, dataset, open_dataset(dataset, None).identity, "random", generator, generator, version,
                json.dumps(params or {}), replicate, tune=plan(**asked))  # fmt: skip


def study(folder: Path, cell: Cell, data: Data | None = None, *, memory_mb: float = float("inf")) -> dict[str, Any]:
    """A cell's study, run here."""
    source = open_dataset(cell.source, None)
    with open(folder / "log", "a") as log:
        place = Place(Store.open(folder / "store"), memory_mb=memory_mb, log=log.fileno())
        return tuned(cell, place, source, data or source.load())


def trials(found: dict[str, Any]) -> list[tuple[int, dict, list[float] | None]]:
    return [(t["number"], t["params"], t["values"]) for t in found["trials"]]


def states(found: dict[str, Any]) -> dict[str, str]:
    """Of fickle trials: how each was to end, and how it did."""
    return {t["params"]["how"]: t["state"] for t in found["trials"]}


# --- what a trial is worth ---


def test_an_objective_is_the_mean_over_families_of_normalised_scores() -> None:
    scales = {"c2st_auroc_gap": Scale(1.0, 0.0, 9), "cmd_denoised_distance": Scale(0.2, 0.0, 9),
              "tstr_auprc": Scale(0.1, 0.9, 9)}  # fmt: skip
    scores = {"c2st_auroc_gap": 0.25, "cmd_denoised_distance": 0.05, "tstr_auprc": 0.5, "copy_risk": 0.3}
    both = Objective(("balanced", "tstr_auprc"), {"copy_risk": 0.05}, scales)
    assert both.values(scores) == pytest.approx([(0.75 + 0.5) / 2, 0.5])
    assert both.excess(scores) == {"copy_risk": 0.25}
    assert both.excess({}) == {"copy_risk": pytest.approx(9.95)}  # what cannot be measured has not kept the bound
    assert both.values({**scores, "c2st_auroc_gap": 9.0})[0] == pytest.approx(((-1 + 0.75) / 2 + 0.5) / 2)  # clipped
    with pytest.raises(BenchError, match="tstr_auprc is undefined"):
        both.values({k: v for k, v in scores.items() if k != "tstr_auprc"})


def test_a_score_without_resolution_is_left_out() -> None:
    scales = {"c2st_auroc_gap": Scale(1.0, 0.0, 9), "cmd_denoised_distance": Scale(0.2, 0.0, 2.9),
              "tstr_auprc": Scale(0.1, 0.9, 9)}  # fmt: skip
    found = Objective(("balanced",), {}, scales)
    assert found.left_out == ["cmd_denoised_distance"]
    assert found.values({"c2st_auroc_gap": 0.5, "tstr_auprc": 0.9}) == [0.75]


def test_the_references_give_the_scale() -> None:
    data = open_dataset("breast-cancer", None).load()
    inner = Inner.of(split(data, seed=1).train, data, seed=2, how="random")
    found = Objective.on(inner, ["balanced", "privacy"], {"copy_risk": 0.05})
    for name, reference, value in [("copycat", 0, 1.0), ("marginal", 0, 0.0), ("copycat", 1, 0.0)]:
        model = generators.make(name).fit(inner.train, target=data.roles.target, seed=5)
        scores = {k: v.value for k, v in inner.score(model.sample(inner.n, seed=5), found.names).items()}
        assert found.values(scores)[reference] == pytest.approx(value, abs=0.25)
        assert (found.excess(scores)["copy_risk"] > 0) == (name == "copycat")


def test_no_score_with_resolution_leaves_the_defaults_and_says_so(tmp_path: Path) -> None:
    found = study(tmp_path, cell_of("fakes:Paced", dataset="breast-cancer[rows=40]", objective=["mmd_distance"]))
    assert found["mark"] == "no score of mmd_distance can tell good from bad on the inner split of 25 subjects"
    assert (found["params"], found["trials"]) == ({}, [])


# --- the study ---


def test_the_defaults_are_trial_0_and_the_best_is_taken(tmp_path: Path) -> None:
    found = study(tmp_path, cell_of("fakes:Paced", trials=8))
    assert found["trials"][0]["params"] == {"noise": 1.0, "pick": "a"}
    best = max(found["trials"], key=lambda t: t["values"][0])
    assert (found["best"], found["value"]) == (best["number"], best["values"])
    assert found["params"] == {**best["params"]}
    assert found["value"] > found["default"]
    assert found["params"]["noise"] < 0.5  # less noise is better
    assert found["spent_s"] == pytest.approx(sum(t["seconds"] for t in found["trials"]), abs=0.01)


def test_a_study_keeps_the_scale_it_was_begun_with(tmp_path: Path) -> None:
    cell = cell_of("fakes:Paced", trials=2)
    first = study(tmp_path, cell)
    folder = tmp_path / "store/studies" / cell.study.key
    kept = json.loads((folder / "objective.json").read_text())
    assert kept["scales"] == first["scales"]
    kept["scales"]["ks_gap"]["floor"] += 0.1
    write(folder / "objective.json", json.dumps(kept))
    (folder / "tuned.json").unlink()
    assert study(tmp_path, cell)["scales"] == kept["scales"]


def test_a_sample_of_another_size_is_no_sample(tmp_path: Path) -> None:
    found = study(tmp_path, cell_of("fakes:DrawsFewer"))
    assert found["mark"] == "no trial was finished"
    assert {t["why"] for t in found["trials"]} == {"samples: 48 subjects, expected 192"}


def test_set_parameters_are_not_tuned(tmp_path: Path) -> None:
    found = study(tmp_path, cell_of("fakes:Paced", params={"noise": 0.7}))
    assert found["params"]["noise"] == 0.7
    assert len(found["trials"]) == 2  # all that is left is "a" or "b"


def test_scrambling_the_holdout_changes_nothing_and_scrambling_train_does(tmp_path: Path) -> None:
    cell = cell_of("smote", trials=5, objective=["balanced"], sampler="tpe")
    data = open_dataset(DATASET, None).load()
    parts = split(data, seed=cell.seed("split"))
    found = {}
    for name, who in (("plain", []), ("holdout", subjects(parts.holdout)), ("train", subjects(parts.train))):
        table, rng = data.table.copy(), np.random.default_rng(0)
        rows = table.index.isin(who)
        for column in table.columns.drop(data.roles.target):
            table.loc[rows, column] = rng.permutation(table.loc[rows, column].to_numpy(copy=True))
        (tmp_path / name).mkdir()
        found[name] = study(tmp_path / name, cell, replace(data, table=table))
    assert trials(found["holdout"]) == trials(found["plain"])
    assert found["holdout"]["params"] == found["plain"]["params"]
    assert [v for _, _, v in trials(found["train"])] != [v for _, _, v in trials(found["plain"])]


def test_every_generator_of_a_replicate_has_the_same_inner_split(tmp_path: Path) -> None:
    one, other = cell_of("smote"), cell_of("fakes:Paced")
    assert one.seed("inner") == other.seed("inner") != cell_of("smote", replicate=1).seed("inner")
    assert one.seed("tune") != other.seed("tune")


def test_draws_are_averaged(tmp_path: Path) -> None:
    values = {}
    for draws in (1, 2, 3):
        (tmp_path / str(draws)).mkdir()
        values[draws] = study(tmp_path / str(draws), cell_of("fakes:Paced", trials=1, draws=draws))["default"][0]
    assert len(set(values.values())) == 3
    assert study(tmp_path, cell_of("fakes:Paced", trials=1, draws=0))["draws"] == 3  # train is small


# --- budgets and faults ---


def test_trials_that_do_not_end_well_are_recorded_and_the_study_goes_on(tmp_path: Path) -> None:
    ours = psutil.Process().memory_full_info().uss // 2**20  # a forked trial begins with about as much
    limit = (ours + 600) / MEMORY_SHARE
    found = study(tmp_path, cell_of("fakes:Fickle", trials=5, trial_s=8), memory_mb=limit)
    assert states(found) == {"fine": "done", "raises": "failed", "hangs": "timeout", "dies": "failed",
                             "grows": "failed"}  # fmt: skip
    why = {t["params"]["how"]: t["why"] for t in found["trials"]}
    assert why["raises"] == "FloatingPointError"  # and not its message, which may hold values
    assert why["hangs"] == "over 8 s"
    assert why["dies"] == "the process died of SIGKILL"
    assert why["grows"] == f"over {ours + 600:,.0f} MiB"
    assert found["params"] == {"how": "fine"}
    assert "17.25" in (tmp_path / "log").read_text()


def test_defaults_that_exceed_the_budget_stay_with_a_mark(tmp_path: Path) -> None:
    for budget in ({"trial_s": 1}, {"time_s": 1}):
        (tmp_path / next(iter(budget))).mkdir()
        found = study(tmp_path / next(iter(budget)), cell_of("fakes:Paced", params={"seconds": 60.0}, **budget))
        assert found["mark"] == "the defaults take longer than the budget allows a trial"
        assert found["params"] == {"seconds": 60.0}
        assert [t["state"] for t in found["trials"]] == ["timeout"]


def test_a_budget_in_seconds(tmp_path: Path) -> None:
    found = study(tmp_path, cell_of("fakes:Paced", params={"seconds": 0.5}, trials=None, time_s=2))
    assert 2 <= found["spent_s"] < 3
    assert 2 <= len(found["trials"]) <= 4


def test_no_trial_that_was_finished_leaves_the_defaults_with_a_mark(tmp_path: Path) -> None:
    found = study(tmp_path, cell_of("fakes:Fickle", params={"how": "raises"}))
    assert found["mark"] == "no trial was finished"
    assert found["params"] == {"how": "raises"}


# --- privacy ---


def test_tuning_drifts_to_memorising_unless_it_is_bounded(tmp_path: Path) -> None:
    found = {}
    for bounds in ({}, {"mia_distance_auroc_gap": 0.2, "copy_risk": 0.05}):
        (tmp_path / str(len(bounds))).mkdir()
        cell = cell_of("fakes:Memorises", trials=10, objective=["balanced"], sampler="tpe", privacy=bounds)
        found[len(bounds)] = study(tmp_path / str(len(bounds)), cell)
    assert found[0]["params"]["copies"] > 0.8
    assert found[2]["params"]["copies"] < 0.05
    assert {t["state"] for t in found[2]["trials"]} == {"done", "infeasible"}
    for trial in found[2]["trials"]:
        assert (trial["state"] == "infeasible") == (
            trial["scores"]["copy_risk"] > 0.05 or trial["scores"]["mia_distance_auroc_gap"] > 0.2
        )


def test_smote_is_not_bound_to_copy_when_it_must_not(tmp_path: Path) -> None:
    found = {}
    for bounds in ({}, {"mia_distance_auroc_gap": 0.3}):
        (tmp_path / str(len(bounds))).mkdir()
        cell = cell_of("smote", trials=6, objective=["balanced"], privacy=bounds)
        found[len(bounds)] = study(tmp_path / str(len(bounds)), cell)
    risk = {}
    for n, one in found.items():
        risk[n] = next(t["scores"] for t in one["trials"] if t["number"] == one["best"]).get("mia_distance_auroc_gap")
    assert risk[1] <= 0.3
    free = next(t for t in found[1]["trials"] if t["params"] == found[0]["params"])
    assert free["scores"]["mia_distance_auroc_gap"] > 0.3  # what tuning takes where nothing holds it


def test_where_every_trial_memorises_the_defaults_stay(tmp_path: Path) -> None:
    found = study(tmp_path, cell_of("copycat", trials=1, privacy={"copy_risk": 0.05}))
    assert found["mark"] == "no trial keeps the bounds on privacy"
    assert found["params"] == {}


# --- aims ---


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_two_aims_give_a_front(sampler: str, tmp_path: Path) -> None:
    cell = cell_of("fakes:Memorises", trials=8, objective=["fidelity", "privacy"], sampler=sampler)
    found = study(tmp_path, cell)
    assert all(len(t["values"]) == 2 for t in found["trials"])
    by = sorted((t["params"]["copies"], *t["values"]) for t in found["trials"])
    assert by[0][1] < by[-1][1]  # more copies: more faithful,
    assert by[0][2] > by[-1][2]  # less private
    best = max(found["trials"], key=lambda t: sum(t["values"]))
    assert found["best"] == best["number"]


# --- pruning ---


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_hopeless_trials_are_pruned_while_they_are_fitted(pruner: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("FITS", str(tmp_path / "fits"))
    found = study(tmp_path, cell_of("fakes:Learns", trials=12, pruner=pruner))
    pruned = [t for t in found["trials"] if t["state"] == "pruned"]
    assert pruned
    assert found["trials"][0]["state"] == "done"  # the defaults always end
    assert found["best"] not in [t["number"] for t in pruned]
    lines = (tmp_path / "fits").read_text().splitlines()
    ended = [line for line in lines if line.startswith("step ")]
    assert sum(line.startswith("step 16") for line in ended) >= len(found["trials"]) - len(pruned)
    alone = study(tmp_path, cell_of("fakes:Learns", trials=1))["trials"][0]
    assert found["trials"][0]["values"] == alone["values"]  # looking in on a fit does not change it


def test_a_network_is_looked_in_on(tmp_path: Path) -> None:
    """A look forks the process in the middle of training, ends the fit there, draws and scores."""
    params = {"steps": 800, "width": 32, "depth": 2, "sample_steps": 10}
    values = {}
    for pruner in ("none", "median"):
        (tmp_path / pruner).mkdir()
        cell = cell_of("ou", params=params, trials=1, pruner=pruner)
        values[pruner] = study(tmp_path / pruner, cell)["default"]
        journal = (tmp_path / pruner / "store/studies" / cell.study.key / "study.journal").read_text()
        assert ('"intermediate_value":' in journal) == (pruner == "median")
    assert values["none"] == values["median"]


# --- suites ---


SUITE = """
name = "tuned"
datasets = ["breast-cancer[rows=300]"]
generators = ["copycat", "marginal", "uniform", { name = "fakes:Paced", label = "paced" }]
metrics = ["ks_gap"]
replicates = 2
"""
TUNE = '[tune]\ntrials = 3\nobjective = "ks_gap"\nprivacy = {}\ndraws = 1\n'


def run_all(store: Store, suite: Any) -> list[tuple[Cell, Any]]:
    out = []
    for cell, _, why in cells(suite, None):
        assert not why
        store.add(cell)
        record = run_cell(cell, store, data_dir=None, metric_names=suite.metric_names, phase=lambda name: None)
        assert record.status == "done", record.reason
        out.append((cell, record))
    return out


def test_a_tuned_generator_stands_beside_itself_untuned(tmp_path: Path) -> None:
    suite = find_suite(str(write(tmp_path / "t.toml", SUITE + TUNE)))
    found = [c for c, _, _ in cells(suite, None) if c.replicate == 0]
    assert [c.label for c in found] == ["copycat", "marginal", "uniform", "paced", "paced untuned"]
    assert [c.searched for c in found] == [False] * 3 + [True, False]
    assert found[-1].untuned_of == "paced"
    alone = find_suite(str(write(tmp_path / "u.toml", SUITE)))
    assert found[-1].key.rsplit(".", 1)[1] in {c.key.rsplit(".", 1)[1] for c, _, _ in cells(alone, None)}
    off = find_suite(str(write(tmp_path / "v.toml", SUITE + TUNE + "untuned = false\n")))
    assert "paced untuned" not in {c.label for c, _, _ in cells(off, None)}


def test_a_generator_without_a_space_is_not_tuned(tmp_path: Path) -> None:
    suite = find_suite(str(write(tmp_path / "t.toml", SUITE.replace("Paced", "Nothing") + TUNE)))
    assert not any(c.tune for c, _, _ in cells(suite, None))


def test_one_study_for_a_dataset(tmp_path: Path) -> None:
    from bench.collect import write_boards

    store = Store.open(tmp_path / "store")
    suite = find_suite(str(write(tmp_path / "t.toml", SUITE + TUNE + 'per = "dataset"\n')))
    done = [(c, r) for c, r in run_all(store, suite) if c.searched]
    assert len({c.study.key for c, _ in done}) == 1
    assert len({c.key for c, _ in done}) == 2
    assert len(list((store.root / "studies").iterdir())) == 1
    assert done[0][1].facts["tuned"]["params"] == done[1][1].facts["tuned"]["params"]
    board = write_boards(suite, store, None)["board.md"].read_text()
    assert "Tuning: 3 trials a dataset, on replicate 0" in board
    assert "`paced`: tuned on replicate 0 alone, whose train holds holdout rows of the others" in board


def test_tuned_parameters_are_exported_and_used_again(tmp_path: Path) -> None:
    from bench.collect import write_boards

    store = Store.open(tmp_path / "store")
    suite = find_suite(str(write(tmp_path / "t.toml", SUITE + TUNE)))
    first = {(c.label, c.replicate): r for c, r in run_all(store, suite)}
    path, done, missing = export(suite, store, None, "mine", tmp_path / "out")
    assert (done, missing) == (2, 0)
    saved = json.loads(path.read_text())
    assert {s["replicate"]: s["tuned"] for s in saved["studies"]} == {
        r: first["paced", r].facts["tuned"]["params"] for r in (0, 1)
    }
    assert str(tmp_path) not in path.read_text()
    again = find_suite(str(write(tmp_path / "again.toml", f'tune = "from:{path}"\n' + SUITE)))
    other = Store.open(tmp_path / "other")
    second = {(c.label, c.replicate): r for c, r in run_all(other, again)}
    assert not (other.root / "studies").exists()
    for who, record in second.items():
        assert record.scores == first[who].scores
    assert "Tuning: parameters of `mine`" in write_boards(again, other, None)["board.md"].read_text()
    more = resolved_suite({**again.model_dump(), "tune": f"from:{path}", "replicates": 3}, Path("more"))
    marks = {c.replicate: json.loads(c.tune)["mark"] for c, _, _ in cells(more, None) if c.tune}
    assert marks == {0: "", 1: "", 2: "mine has no study of replicate 2"}


def test_parameters_tuned_on_something_else_are_not_used() -> None:
    cell = cell_of("fakes:Paced")
    kept = {"dataset": cell.dataset, "split": "random", "generator": cell.generator, "version": cell.version,
            "params": "{}", "replicate": 0, "data": cell.data, "per": "replicate", "mark": "", "default": [0.1],
            "value": [0.5], "objective": ["ks_gap"], "tuned": {"noise": 0.1}}  # fmt: skip
    assert Tuned("n", (kept,)).plan(cell)["params"] == {"noise": 0.1}
    for change, mark in [({"dataset": "sim-ehr"}, "n has no such study"), ({"data": "d"}, "tuned on other files"),
                         ({"version": "0"}, f"tuned at version 0, this is {cell.version}"),
                         ({"params": '{"a": 1}'}, "tuned with other parameters set")]:  # fmt: skip
        found = Tuned("n", ({**kept, **change},)).plan(cell)
        assert (found["params"], found["mark"]) == ({}, mark)


@pytest.mark.parametrize(
    ("tune", "says"),
    [
        ("[tune]\nsampler = 'tpe'\n", "tune: no budget: expected trials, time_s, or both"),
        ("[tune]\ntrial = 3\n", "unknown key 'tune.trial'"),
        ("tune = 'often'\n", 'key \'tune\': Value error, "often": expected a table, "from:NAME"'),
        ("tune = 'from:nowhere'\n", "unknown tuned parameters 'nowhere'"),
        ("[tune]\nreuse = 'x'\ntrials = 3\n", "tune: reuse = 'x' runs no study, so that 'trials' has no place"),
        ("[tune]\ntrials = 3\nobjective = 'tstr_aupr'\n", "unknown objective 'tstr_aupr': did you mean 'tstr_auprc'?"),
        ("[tune]\ntrials = 3\nobjective = 'copy_risk'\n", "unknown objective 'copy_risk'"),
        ("[tune]\ntrials = 3\nprivacy = { ks_gap = 1 }\n", "unknown measure of privacy 'ks_gap'"),
        ("[tune]\ntrials = 3\nobjective = ['fidelity', 'fidelity']\n", "expected one, or two that differ"),
        ("[tune]\ntrials = 3\nobjective = ['fidelity', 'privacy']\npruner = 'median'\n", "cannot be pruned"),
        ("[tune]\ntrials = 3\nobjective = ['fidelity', 'privacy']\nsampler = 'cmaes'\n", "it takes one objective"),
    ],
)
def test_impossible_tuning_is_one_clear_line(tune: str, says: str, tmp_path: Path) -> None:
    body = SUITE + tune if tune.startswith("[") else tune + SUITE
    with pytest.raises(BenchError) as error:
        find_suite(str(write(tmp_path / "t.toml", body)))
    assert says in str(error.value)


def test_a_label_that_an_untuned_row_would_take_is_refused(tmp_path: Path) -> None:
    text = SUITE.replace('"uniform"', '{ name = "smote", label = "paced untuned" }') + TUNE
    with pytest.raises(BenchError, match="generator 'paced untuned' stands twice: give one a label"):
        find_suite(str(write(tmp_path / "t.toml", text)))


def test_a_file_that_was_not_exported_is_one_clear_line(tmp_path: Path) -> None:
    for text in ("{", '{"format": 1}', '{"format": 1, "studies": [{"dataset": "sim-ehr"}]}', "[]"):
        with pytest.raises(BenchError, match="not a file that `bench tuned` writes"):
            Tuned.find(str(write(tmp_path / "t.json", text)))
    with pytest.raises(BenchError, match="format 9, this version reads 1"):
        Tuned.find(str(write(tmp_path / "t.json", '{"format": 9, "studies": []}')))
    with pytest.raises(BenchError, match="No such file"):
        Tuned.find(str(tmp_path / "nowhere.json"))


def test_short_forms() -> None:
    assert Tune.model_validate("per-dataset").per == "dataset"
    assert Tune.model_validate("per-replicate").trials == 20
    assert Tune.model_validate({"trials": 2, "objective": "utility"}).objective == ("utility",)


# --- spaces ---


def test_spaces_are_listed() -> None:
    rows = {r["parameter"]: r for r in space("ou")}
    assert rows["lr"] == {"parameter": "lr", "kind": "float", "low": 2e-4, "high": 5e-3, "log": True, "choices": [],
                          "default": 1e-3}  # fmt: skip
    assert rows["cfg"]["choices"] == [0.0, 0.5, 1.0]
    assert space("copycat") == []


def test_rates_are_drawn_evenly_over_their_logarithm() -> None:
    """A peer's bridge to Optuna drew log-scaled rates linearly."""
    import optuna

    ranges = {"lr": distributions("ou")["lr"]}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [study.ask(ranges).params["lr"] for _ in range(400)]
    middle = np.sqrt(2e-4 * 5e-3)
    assert 0.42 < np.mean(np.array(drawn) < middle) < 0.58
