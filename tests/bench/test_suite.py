"""Suites: read whole, refused in one line; cells: identity, keys and seeds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench import collect
from bench.cell import Cell
from bench.errors import BenchError
from bench.store import Store
from bench.suite import cells, find_suite, known_suites
from conftest import write
from generators import REGISTRY

GOOD = 'name = "mine"\ndatasets = ["breast-cancer"]\ngenerators = ["marginal"]\n'


def suite(folder: Path, text: str):
    return find_suite(str(write(folder / "s.toml", text)))


def test_packaged_suites_are_sound() -> None:
    assert known_suites() == "ci codes frauds full guided guides open rare smoke survey".split()
    for name in known_suites():
        found = find_suite(name)
        assert found.name == name
        assert found.about


def test_full_has_every_dataset_and_generator() -> None:
    from bench.datasets import DATASETS
    from bench.datasets.name import base
    from generators import REGISTRY

    full = find_suite("full")
    assert {base(d.name) for d in full.datasets} == set(DATASETS)
    assert {g.name for g in full.generators} == set(REGISTRY)
    assert full.replicates == 5
    assert full.tune is not None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            GOOD.replace("breast-cancer", "breast-canser"),
            "unknown dataset 'breast-canser': did you mean 'breast-cancer'?",
        ),
        (GOOD.replace("marginal", "margnal"), "unknown generator 'margnal': did you mean 'marginal'?"),
        (GOOD + 'metrics = ["tstr_aurok"]', "unknown metric 'tstr_aurok': did you mean 'tstr_auroc'?"),
        (GOOD + "replicate = 3", "unknown key 'replicate': did you mean 'replicates'?"),
        (GOOD + "[limits]\ntime = 3", "unknown key 'limits.time'"),
        (GOOD + "replicates = 0", "key 'replicates': Input should be greater than 0"),
        (GOOD + 'replicates = "many"', "key 'replicates': Input should be a valid integer"),
        (GOOD + "replicates", "not valid TOML"),
        ('name = "mine"\ngenerators = ["marginal"]\n', "key 'datasets' is missing"),
        (GOOD.replace('["marginal"]', "[]"), "key 'generators'"),
        (GOOD.replace('["marginal"]', '["smote", "smote"]'), "generator 'smote' stands twice: give one a label"),
        (GOOD.replace('["marginal"]', '[{ name = "smote", params = { kk = 3 } }]'), "no parameter 'kk'"),
        (GOOD.replace('["breast-cancer"]', '[{ name = "breast-cancer", split = "time" }]'), "no time order"),
        (GOOD.replace('["breast-cancer"]', '[{ name = "breast-cancer", split = "tiem" }]'), "key 'datasets.0.split'"),
        (
            GOOD.replace('["breast-cancer"]', '[{ name = "breast-cancer", prompts = "final" }]'),
            "unknown dataset with prompts 'breast-cancer':",
        ),
        (GOOD.replace('["breast-cancer"]', '[{ name = "sim-ehr", prompts = "finl" }]'), "key 'datasets.0.prompts'"),
        (GOOD.replace('"mine"', '"../mine"'), "key 'name'"),
    ],
)
def test_a_wrong_suite_is_one_clear_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BenchError) as error:
        suite(tmp_path, text)
    assert says in str(error.value)
    assert "s.toml" in str(error.value)
    assert "\n" not in " ".join(str(error.value).split("\n")[:1])


OWN = 'file = "d.csv"\ntarget = "y"\n'


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ("breast-cancer", "breast-cancer", "breast-cancer"),
        ("breast-cancer", " breast-cancer", "breast-cancer"),
        ("sim-ehr[codes=30,rows=900]", "sim-ehr[rows=900, codes=30]", "sim-ehr[codes=30,rows=900]"),
        ("sim-ehr", "sim-ehr[rows=5_000]", "sim-ehr"),  # its default
        ("breast-cancer", "breast-cancer.toml", "breast-cancer"),
        ("sim-ehr[rows=900]", "named.toml", "sim-ehr[rows=900]"),
        ("a/loans.toml", "b/loans.toml", "loans"),
        ("a/loans.toml", "./a/loans.toml", "loans"),
        ("a/loans.toml", "b/called.toml", "loans"),
    ],
)
def test_two_datasets_of_one_name_are_refused(tmp_path: Path, monkeypatch, first: str, second: str, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("breast-cancer.toml", "a/loans.toml", "b/loans.toml"):
        write(tmp_path / path, OWN)
    write(tmp_path / "b/called.toml", OWN + 'name = "loans"')
    write(tmp_path / "named.toml", OWN + 'name = "sim-ehr[rows=900]"')
    for one, other in ((first, second), (second, first)):
        with pytest.raises(BenchError) as error:
            suite(tmp_path, GOOD.replace('"breast-cancer"', f'"{one}", "{other}"'))
        assert str(error.value) == (
            f"s.toml: datasets '{one}' and '{other}' have one name, '{name}', and would be averaged as replicates: "
            "leave one out, or give a TOML another `name`"
        )


def test_datasets_that_differ_in_a_cut_or_a_name_stand_together(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a/loans.toml", OWN)
    write(tmp_path / "b/loans.toml", OWN + 'name = "other loans"')
    names = ["sim-ehr", "sim-ehr[rows=900]", "sim-ehr[draw=2,rows=900]", "a/loans.toml", "b/loans.toml"]
    found = suite(tmp_path, GOOD.replace('["breast-cancer"]', json.dumps(names)))
    assert [d.name for d in found.datasets] == names


@pytest.mark.parametrize("label", REGISTRY)
def test_a_label_that_is_another_generators_name_is_refused(tmp_path: Path, label: str) -> None:
    other = "smote" if label != "smote" else "gaussian"
    for name in (other, "generators.reference:Copycat"):
        with pytest.raises(
            BenchError, match=f"s.toml: generator '{name}': label '{label}' is the name of another: give"
        ):
            suite(tmp_path, GOOD.replace('"marginal"', f'{{ name = "{name}", label = "{label}" }}'))
    own = GOOD.replace('"marginal"', f'{{ name = "{label}", label = "{label}" }}')
    assert suite(tmp_path, own).generators[0].label == label


@pytest.mark.parametrize("name", [row.name for row in REGISTRY.values() if row.family == "reference"])
def test_a_reference_keeps_its_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(BenchError, match=f"generator '{name}': label 'mine': a reference keeps its name"):
        suite(tmp_path, GOOD.replace('"marginal"', f'{{ name = "{name}", label = "mine" }}'))


def test_an_unknown_suite_names_the_nearest() -> None:
    with pytest.raises(BenchError, match="unknown suite 'smoek': did you mean 'smoke'"):
        find_suite("smoek")


def test_cells_are_enumerated_once_with_their_reasons(tmp_path: Path) -> None:
    found = suite(tmp_path, GOOD.replace('["breast-cancer"]', '["breast-cancer", "creditcard"]')
                  .replace('["marginal"]', '["marginal", "oracle"]') + "replicates = 2")  # fmt: skip
    listed = list(cells(found, None))
    assert len(listed) == 8
    assert len({c.key for c, _, _ in listed}) == 8
    reasons = {(c.dataset, c.label): why for c, _, why in listed}
    assert reasons["breast-cancer", "marginal"] == ""
    assert reasons["breast-cancer", "oracle"] == "the process behind this dataset is not known"
    assert reasons["creditcard", "marginal"].startswith("absent: put creditcard.csv")


def test_a_generator_whose_package_is_absent_cannot_run_and_says_how_to_get_it(tmp_path: Path, monkeypatch) -> None:
    import generators

    rows = dict(generators.REGISTRY)
    rows["ctgan"] = replace(rows["ctgan"], extra="no_such_package")
    monkeypatch.setattr(generators, "REGISTRY", rows)
    ((_, _, reason),) = cells(suite(tmp_path, GOOD.replace("marginal", "ctgan")), None)
    assert reason == "needs the package no_such_package: pip install 'synth-health-bench[no_such_package]'"
    assert generators.absence(replace(rows["ctgan"], extra="pandas")) == ""


CELL = Cell("sim-ehr", "sim-ehr", "d1", "random", "ou", "ou", "1", json.dumps({"steps": 5}), 0)


@pytest.mark.parametrize(
    "change",
    [{"data": "d2"}, {"split": "time"}, {"version": "2"}, {"params": "{}"}, {"replicate": 1}, {"samples": 9},
     {"threads": 2},
     {"tune": "{}"}, {"dataset": "sim-ehr[rows=9]"}, {"generator": "smote"}],
)  # fmt: skip
def test_the_key_changes_with_all_that_decides_the_result(change: dict) -> None:
    assert replace(CELL, **change).key.rsplit(".", 1)[1] != CELL.key.rsplit(".", 1)[1]


def test_the_key_does_not_change_with_what_decides_nothing() -> None:
    assert replace(CELL, label="other", source="./sim-ehr").key.rsplit(".", 1)[1] == CELL.key.rsplit(".", 1)[1]


def test_seeds_by_purpose() -> None:
    other = replace(CELL, generator="smote", label="smote", params="{}")
    assert CELL.seed("split") == other.seed("split")
    assert CELL.seed("score") == other.seed("score")
    assert CELL.seed("fit") != other.seed("fit")
    purposes = ["split", "score", "tune", "fit", "sample", "minority"]
    assert len({CELL.seed(p) for p in purposes}) == len(purposes)
    assert CELL.seed("split") != replace(CELL, replicate=1).seed("split")
    assert replace(CELL, threads=4, label="x").seed("fit") == CELL.seed("fit")
    with pytest.raises(ValueError, match="unknown purpose"):
        CELL.seed("luck")


def test_rows_of_one_generator_are_arms_of_its_first(tmp_path: Path) -> None:
    suite = find_suite("guided")
    found = collect.frame(collect.records(suite, Store.open(tmp_path / "store"), None), suite.metric_names)
    arm_of = dict(zip(found["generator"], found["arm_of"], strict=True))
    assert [arm_of[name] for name in ("copycat", "tardiff", "tardiff guided", "tardiff label")] == [
        "copycat", "tardiff", "tardiff", "tardiff",
    ]  # fmt: skip


def test_a_suite_of_native_combinations_alone(tmp_path: Path) -> None:
    text = 'name = "n"\ndatasets = ["breast-cancer", "sim-icu"]\ngenerators = ["copycat", "ou", "tardiff"]\n'
    everything = find_suite(str(write(tmp_path / "n.toml", text)))
    native = find_suite(str(write(tmp_path / "n.toml", text + "native = true\n")))
    assert len(list(cells(everything, None))) == 6
    kept = {(cell.dataset, cell.generator): cell.key for cell, _, _ in cells(native, None)}
    assert set(kept) == {
        ("breast-cancer", "copycat"),
        ("breast-cancer", "ou"),
        ("sim-icu", "copycat"),
        ("sim-icu", "tardiff"),
    }
    assert set(kept.values()) < {cell.key for cell, _, _ in cells(everything, None)}  # the same cells
