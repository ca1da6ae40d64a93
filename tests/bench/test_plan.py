"""Estimates follow from measured points and grow as the work does; a plan is the sum of its rows."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import generators
from bench.cell import Cell
from bench.datasets import DATASETS
from bench.datasets.source import Source
from bench.estimate import PASSES, Estimate, Estimates, load
from bench.plan import Cost, Plan, plan
from bench.store import Store
from bench.suite import Suite, cells, find_suite
from conftest import write

SHAPES = {"codes": "sim-ehr", "visits": "sim-visits", "series": "sim-icu", "table": "sim-fraud"}
TINY = """name = "tiny"
datasets = ["sim-ehr[codes=30,rows=400]", "breast-cancer"]
generators = ["copycat", "oracle", "gaussian", "ou", "fakes:Nothing"]
metrics = ["ks_gap", "tstr_auroc"]
replicates = 3
"""


def suite(folder: Path, text: str) -> Suite:
    return find_suite(str(write(folder / "s.toml", text)))


def planned(folder: Path, text: str, data: Path | None = None) -> Plan:
    return plan(suite(folder, text), Store(folder / "store"), data)


def one(folder: Path, dataset: str, generator: str, more: str = "", metrics: str = "ks_gap") -> Estimate | None:
    """The estimate of a suite's first cell."""
    text = f'name = "one"\ndatasets = ["{dataset}"]\ngenerators = [{generator}]\nmetrics = ["{metrics}"]\n{more}'
    found = suite(folder, text)
    cell, source, _ = next(iter(cells(found, None)))
    return load().of(cell, source, found.metric_names)


def seconds(*args: str) -> float:
    estimate = one(*args)  # type: ignore[arg-type]
    assert estimate is not None
    return estimate.seconds


# --- estimates ---


def test_every_generator_has_figures_of_every_shape() -> None:
    figures = load().saved["figures"]["generators"]
    for row in generators.REGISTRY.values():
        if row.extra is None:
            assert set(figures[row.name]) == set(SHAPES), row.name


def test_figures_follow_from_the_stored_points() -> None:
    from bench.cost_figures import figures
    from bench.measure import factors, held

    saved = json.loads(json.dumps(load().saved))
    assert json.loads(json.dumps(figures(saved["points"]))) == saved["figures"]
    assert factors(saved["held"]) == saved["factors"]
    estimates = load()
    told = {
        (cell.dataset, cell.generator): estimates.of(cell, source, found.metric_names)
        for found in held()
        for cell, source, _ in cells(found, None)
    }
    for row in saved["held"]:
        estimate = told[row["dataset"], row["generator"]]
        assert estimate is not None
        assert estimate.seconds == pytest.approx(row["estimated"], abs=0.01)
        assert estimate.memory_mb == pytest.approx(row["estimated_mb"], abs=1)


@pytest.mark.parametrize("planted", [(0.5, 0.2, 1.0, 1.3), (0.0, 0.3, 2.0, 0.0), (1.5, 0.0, 1.0, 0.4)])
def test_a_planted_cost_is_found(planted: tuple[float, float, float, float]) -> None:
    from bench.cost_figures import _curve

    floor, base, a, b = planted
    sizes = [(500, 30), (1_000, 30), (2_000, 30), (500, 60)]
    points = [
        {"n": n, "width": w, "seconds": {"fit": (floor + base * (n / 500) ** a) * (w / 30) ** b}} for n, w in sizes
    ]
    assert _curve(points, "fit", {"n": 500, "width": 30}) == pytest.approx(planted, abs=1e-3)


def test_defaults_are_those_of_the_generators() -> None:
    from bench.space import defaults
    from generators import gan
    from generators.diffusion import ehr_d3pm, healthforge

    for name, row in load().saved["figures"]["params"].items():
        known = defaults(name)
        assert row["defaults"] == {k: known[k] for k in row["defaults"]}, name
    for module, name in ((gan, "gan"), (ehr_d3pm, "ehr-d3pm")):
        assert PASSES[name]["steps"] == (module.PASSES, module.LEAST_STEPS, module.MOST_STEPS)
    forge = healthforge
    assert PASSES["healthforge"] == {
        "ae_steps": (forge.PASSES, forge.LEAST_AE_STEPS, forge.MOST_STEPS),
        "steps": (forge.PASSES, forge.LEAST_STEPS, forge.MOST_STEPS),
    }


@pytest.mark.parametrize(
    ("dataset", "generator", "more"),
    [
        ("sim-ehr[codes=60,rows=8000]", '{ name = "ou", params = { steps = 100 } }', ""),
        ("sim-ehr[codes=120,rows=2000]", '{ name = "ou", params = { steps = 100 } }', ""),
        ("sim-ehr[codes=60,rows=2000]", '{ name = "ou", params = { steps = 400 } }', ""),
        ("sim-ehr[codes=60,rows=2000]", '{ name = "ou", params = { steps = 100, width = 512 } }', ""),
        ("sim-ehr[codes=60,rows=2000]", '{ name = "ou", params = { steps = 100, sample_steps = 400 } }', ""),
        ("sim-ehr[codes=60,rows=2000]", '{ name = "ou", params = { steps = 100 } }', "[tune]\ntrials = 2"),
    ],
)
def test_more_work_takes_longer(tmp_path: Path, dataset: str, generator: str, more: str) -> None:
    least = one(tmp_path, "sim-ehr[codes=60,rows=2000]", '{ name = "ou", params = { steps = 100 } }')
    much = one(tmp_path, dataset, generator, more)
    assert least is not None
    assert much is not None
    assert much.seconds > 1.05 * least.seconds
    assert much.memory_mb >= least.memory_mb


def test_a_study_takes_its_trials_or_its_time(tmp_path: Path) -> None:
    where = (tmp_path, "sim-ehr[codes=60,rows=2000]", '{ name = "ou", params = { steps = 100 } }')
    plain, few, many, brief = (
        seconds(*where, more) for more in ("", "[tune]\ntrials = 5", "[tune]\ntrials = 10", "[tune]\ntime_s = 3")
    )
    assert many - plain == pytest.approx(2 * (few - plain))
    assert brief - plain == pytest.approx(3)


def test_a_study_for_all_replicates_is_paid_once(tmp_path: Path) -> None:
    text = TINY.replace('"fakes:Nothing"', '"bart"') + '[tune]\ntrials = 3\nper = "dataset"\nuntuned = false\n'
    found, estimates = suite(tmp_path, text), load()
    took = [
        estimates.of(cell, source, found.metric_names) for cell, source, _ in cells(found, None)
        if cell.generator == "ou" and cell.dataset == "breast-cancer"
    ]  # fmt: skip
    first, second, third = (e.seconds for e in took if e)
    assert first > 2 * second == 2 * third


def test_a_minority_is_counted_where_a_metric_asks_for_it(tmp_path: Path) -> None:
    where = (tmp_path, "sim-ehr[codes=60,rows=2000]", '"bart"', "")
    assert seconds(*where, "condition_rate_score") > seconds(*where, "missing_rate_gap")


def test_of_a_dataset_of_unknown_size_nothing_is_known_until_the_store_holds_it(tmp_path: Path) -> None:
    import pandas as pd

    pd.DataFrame({"a": [5, 6, 7] * 100, "b": [0.5, 1.5, 2.5] * 100, "y": [0, 1, 1] * 100}).to_csv(tmp_path / "mine.csv")
    toml = write(tmp_path / "mine.toml", 'file = "mine.csv"\ntarget = "y"\n')
    found = suite(tmp_path, f'name = "s"\ndatasets = ["{toml}"]\ngenerators = ["smote"]\n')
    (cell, source, _), store = next(iter(cells(found, None))), Store.open(tmp_path / "store")
    assert load(store).of(cell, source, found.metric_names) is None
    store.table(source)
    size = load(store).size(cell, source)
    assert size is not None
    assert (size.n, size.width) == (300, 3)  # the nameless index of the CSV is no column
    assert load(store).of(cell, source, found.metric_names) is not None


@pytest.mark.parametrize(
    ("name", "n", "width"),
    [
        ("sim-ehr[codes=60,rows=2000]", 2_000, 63), ("sim-visits[codes=30,rows=1000]", 1_000, 33 * 2.3),
        ("sim-icu[rows=800]", 800, 11 * 24), ("diabetes130[codes=300,rows=10000]", 10_000, 304),
        ("diabetes130-visits", 71_518, 908 * 101_766 / 71_518), ("cinc2012[sets=abc]", 12_000, 12 * 48),
        ("breast-cancer[rows=9999]", 569, 31),
    ],
)  # fmt: skip
def test_sizes_are_those_of_the_rows_with_their_cuts(tmp_path: Path, name: str, n: int, width: float) -> None:
    from bench.datasets import open_dataset

    source = open_dataset(name, None)
    size = load().size(bare(source), source)
    assert size is not None
    assert size.n == n
    assert size.width == pytest.approx(width, rel=0.05)


def bare(source: Source) -> Cell:
    return Cell(str(source.name), str(source.name), "", "random", "smote", "smote", "1", "{}", 0)


def test_changed_codes_have_no_known_width() -> None:
    from bench.datasets import open_dataset

    source = open_dataset("mimic3-codes[level=ccs]", None)
    assert load().size(bare(source), source) is None
    whole = open_dataset("mimic3-codes", None)
    assert load().size(bare(whole), whole) is not None


# --- plans ---


def test_a_plan_is_the_sum_of_its_rows(tmp_path: Path) -> None:
    found = planned(tmp_path, TINY)
    assert sum(row.cells for row in found.rows.values()) == 2 * 5 * 3
    whole = found.by(lambda dataset, label: "")[""]
    assert whole.todo == 2 * 5 * 3 - 3  # no process is known behind breast-cancer
    for key in (lambda dataset, label: dataset, lambda dataset, label: label):
        rows = found.by(key).values()
        assert sum(r.todo for r in rows) == whole.todo
        assert sum(r.cost.seconds for r in rows) == pytest.approx(whole.cost.seconds)
        assert max(r.cost.memory_mb for r in rows) == whole.cost.memory_mb
    heads, rows = found.by_generator()
    assert sum(row[heads.index("to run")] for row in rows) == whole.todo
    assert sum(row[heads.index("hours")] or 0 for row in rows) == pytest.approx(whole.cost.seconds / 3600, abs=0.01)


def test_a_generator_of_ones_own_has_no_estimate(tmp_path: Path) -> None:
    found = planned(tmp_path, TINY)
    assert found.unmeasured == ("fakes:Nothing",)
    assert found.by(lambda dataset, label: label)["fakes:Nothing"].cost == Cost(unknown=6)
    assert any("6 cells have no estimate: there are no figures of fakes:Nothing" in line for line in found.total())


def test_limits_end_what_goes_beyond_them(tmp_path: Path) -> None:
    found = planned(tmp_path, TINY.replace("replicates = 3", "replicates = 1\n[limits]\ntime_s = 2\n"))
    ou = found.by(lambda dataset, label: label)["ou"].cost
    assert (ou.over, ou.seconds) == (2, 4.0)
    assert any("are expected to meet a limit, 2 s or 8,192 MiB" in line for line in found.total())


def test_arms_that_share_a_fit_pay_it_once(tmp_path: Path) -> None:
    arms = ", ".join(f'{{ name = "ou", label = "{n}", params = {{ sample_steps = {n} }} }}' for n in (99, 100))
    text = f'name = "s"\ndatasets = ["breast-cancer"]\nmetrics = ["ks_gap"]\ngenerators = [{arms}]'
    rows = planned(tmp_path, text).by(lambda dataset, label: label)
    alone = one(tmp_path, "breast-cancer", '{ name = "ou", params = { sample_steps = 100 } }')
    assert alone is not None
    assert rows["100"].cost.seconds == pytest.approx(alone.seconds - alone.fit_s)
    assert rows["99"].cost.seconds > alone.fit_s


def test_absent_data_are_named_with_what_to_put_where(tmp_path: Path) -> None:
    found = plan(find_suite("full"), Store(tmp_path / "store"), tmp_path)
    away = [name for name, row in DATASETS.items() if row.access in ("open", "credentialed")]
    assert [name.split("[")[0] for name in found.absent] == [d for d in dataset_order() if d in away]
    heads, rows = found.told()
    said = {row[0]: row[heads.index("why not")] for row in rows}
    assert "mammography.csv into DATA/mammography" in said["mammography"]
    assert "CHARTEVENTS.csv.gz" in said["mimic3-stay"]
    assert said["breast-cancer"].startswith("oracle: the process behind this dataset is not known")
    whole = found.by(lambda dataset, label: "")[""]
    assert whole.absent.seconds > 0
    assert whole.absent.unknown > 0
    assert {"cinc2019", "eicu-stay"} < set(found.unsized)


def dataset_order() -> list[str]:
    return [use.name.split("[")[0] for use in find_suite("full").datasets]


def test_the_verb_tells_it(bench, tmp_path: Path) -> None:
    write(tmp_path / "tiny.toml", TINY)
    done = bench("plan", "--suite", "tiny.toml")
    assert done.returncode == 0, done.stderr
    assert "30 cells: 0 stored, 27 to run, 3 cannot run here" in done.stdout
    assert "estimates are of one core of" in done.stdout
    told = json.loads(bench("plan", "--suite", "tiny.toml", "--json").stdout)
    assert sum(row["to run"] for row in told) == 27
    assert {row["why not"] for row in told} == {"", "the process behind this dataset is not known"}


def test_estimates_differ_by_replicate_nowhere_else(tmp_path: Path) -> None:
    cell, source, _ = next(iter(cells(suite(tmp_path, TINY), None)))
    estimates: Estimates = load()
    assert estimates.of(cell, source, ["ks_gap"]) is estimates.of(replace(cell, replicate=2), source, ["ks_gap"])
