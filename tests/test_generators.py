"""The generator contract, over every row of REGISTRY and every shape: the checks of `bench doctor`."""

import inspect
from functools import cache

import numpy as np
import pandas as pd
import pytest

from bench.datasets import DATASETS
from bench.doctor import CHECKS, TABLES, Broken, Patient, examine
from generators import ALL, REGISTRY, find, load_class, make, parameters
from generators.base import Unsupported

QUICK = {
    "bart": {"least_steps": 20, "most_steps": 20, "width": 16, "depth": 1, "heads": 2, "bins": 8, "cover": 0.9},
    "ctgan": {"epochs": 1, "batch": 20},
    "gan": {"steps": 10, "batch": 16, "width": 8, "noise": 4},
    "ou": {"steps": 30, "sample_steps": 5, "width": 16},
    "tardiff": {"steps": 10, "sample_steps": 3, "width": 8, "batch": 16},
    "ehr-d3pm": {"steps": 30, "sample_steps": 5, "width": 16},
    "healthforge": {"ae_steps": 30, "steps": 30, "sample_steps": 5, "width": 16, "hidden": 16, "texts": 20},
}


@cache
def patient(name: str, shape: str) -> Patient:
    return Patient(name, TABLES[shape], QUICK.get(name, {}))


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("shape", TABLES)
@pytest.mark.parametrize("name", REGISTRY)
def test_contract(name: str, shape: str, check) -> None:
    try:
        check(patient(name, shape))
    except Unsupported as reason:
        pytest.skip(f"{name} on {shape}: {reason}")


@pytest.mark.parametrize("name", [n for n in REGISTRY if n not in ("oracle", "ctgan", "uniform")])
def test_a_constant_added_to_a_column_comes_back_with_it(name: str) -> None:
    """Seconds since 1970 have nine digits before those that tell subjects apart: float32 would lose the latter."""
    rng = np.random.default_rng(3)
    y = rng.random(300) < 0.3
    seconds, price = (rng.normal(scale=40, size=300) + 20 * y).round(), rng.normal(scale=3, size=300).round(2)
    table = pd.DataFrame({"seconds": seconds, "price": price, "y": y}, pd.RangeIndex(300, name="subject"))
    far = table.assign(seconds=seconds + 1.7e9, price=(price + 1.7e9).round(2))
    near, drawn = (
        make(name, **QUICK.get(name, {})).fit(t, target="y", seed=0).sample(300, seed=1) for t in (table, far)
    )
    for column, offset, decimals in (("seconds", 1.7e9, 0), ("price", 1.7e9, 2)):
        x, shifted = near[column].to_numpy(), drawn[column].to_numpy() - offset
        assert np.abs(shifted - shifted.round(decimals)).max() < 1e-5
        assert len(np.unique(drawn[column])) > 0.8 * len(np.unique(near[column]))
        assert shifted.mean() == pytest.approx(x.mean(), abs=0.25 * x.std() + 0.01)
        assert shifted.std() == pytest.approx(x.std(), rel=0.25)


def test_rows_name_what_exists() -> None:
    for name, row in REGISTRY.items():
        assert row.name == name
        assert set(row.native) <= set(ALL)
        assert row.about
        assert row.reference
        assert make(name) is not None


def test_tables_cover_every_shape() -> None:
    assert set(TABLES) == {row.shape for row in DATASETS.values()} == set(ALL)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("smoet", "unknown generator 'smoet': did you mean 'smote'?"),
        ("fakes:Nobody", "module 'fakes' has no 'Nobody'"),
        ("nowhere:Nobody", "no module named 'nowhere'"),
        ("fakes:np", "expected a class with fit and sample"),
    ],
)
def test_unknown_names(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("?", r"\?")):
        find(name)


@pytest.mark.parametrize("name", REGISTRY)
def test_parameters_read_from_source_are_the_constructors(name: str) -> None:
    assert parameters(name) == list(inspect.signature(load_class(REGISTRY[name].load)).parameters)


def test_unknown_parameters() -> None:
    with pytest.raises(
        ValueError, match=r"no parameter 'kk': did you mean 'k'\? known: k, variant, m, clusters, pool, cover"
    ):
        make("smote", kk=3)


def test_the_checks_catch_a_bad_generator() -> None:
    outcomes = {(shape, check): out for shape, check, out, _ in examine("fakes:LacksAColumn", {})}
    assert outcomes["table", "obeys_the_law"] == "fail"
    assert outcomes["table", "leaves_train_alone"] == "pass"
    for bad, broken in [("fakes:GivesTooFew", "obeys_the_law"), ("bad_generators:Unseeded", "follows_the_seed"),
                        ("bad_generators:Vandal", "leaves_train_alone")]:  # fmt: skip
        check = next(c for c in CHECKS if c.__name__ == broken)
        with pytest.raises(Broken):
            check(Patient(bad, TABLES["table"], {}))
