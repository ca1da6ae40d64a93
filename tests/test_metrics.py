"""Laws over every row of METRICS: range, order, seed, units, direction against floors, degenerate tables."""

from dataclasses import asdict
from functools import cache

import numpy as np
import pandas as pd
import pytest

import generators
import metrics
from bench.datasets import open_dataset
from bench.datasets.law import per_subject, subjects
from bench.datasets.split import split
from metrics import METRICS, Score, Undefined
from metrics.tables import Tables

SHAPES = {
    "codes": "sim-ehr[codes=40,rows=4000]",
    "table": "sim-fraud[rows=6000]",
    "series": "sim-icu[rows=900]",
    "visits": "sim-visits[codes=30,rows=2500]",
}
FULL = {name: f"{name}/{suffix}" if suffix else name for name, suffix in {
    **dict.fromkeys(METRICS, ""),
    **{m: "xgb/100/half/gain" for m in METRICS if m.startswith("boost")},
}.items()}  # fmt: skip


@cache
def real(shape: str):
    """A dataset, its data and its split."""
    source = open_dataset(SHAPES[shape], None)
    data = source.load()
    return source, data, split(data, seed=0)


@cache
def tables(shape: str, generator: str, seed: int = 1) -> Tables:
    source, data, parts = real(shape)
    handed = {"redraw": source.redraw} if generator == "oracle" else {}
    target, static = data.roles.target, data.roles.static
    made = generators.make(generator, **handed).fit(parts.train, target=target, static=static, seed=seed)
    n = len(subjects(parts.train))
    y = per_subject(parts.train, target)
    minority = made.sample(n - 2 * int(y.sum()), given={target: True}, seed=seed + 1)
    return Tables(parts.train, parts.holdout, made.sample(n, seed=seed), minority=minority, roles=asdict(data.roles))


@cache
def scores(shape: str, generator: str, seed: int = 1) -> dict:
    return metrics.score(tables(shape, generator, seed), seed=0)


def value(shape: str, generator: str, name: str) -> float:
    found = scores(shape, generator)[FULL[name]]
    assert isinstance(found, Score), found
    return found.value


def rebuilt(t: Tables, change, roles=None) -> Tables:
    """The same tables, each changed."""
    known = {n: change(t[n].copy(), n) for n in ("train", "holdout", "synth", "minority") if n in t}
    return Tables(known["train"], known["holdout"], known["synth"], minority=known.get("minority"),
                  roles=roles or {"target": t.target, "static": t.static, "codes": t.codes,
                                  "sensitive": t.sensitive, "quasi": t.quasi})  # fmt: skip


CHEAP = [m for m in METRICS if not m.startswith("boost")]  # the boost scores fit sixteen models


# --- rows ---


def test_directions_are_the_endings_of_names() -> None:
    for name, row in METRICS.items():
        assert row.name == name
        assert row.up != name.endswith(metrics.DOWN) or row.family == "control", name
        assert row.low < row.high
        assert row.about
        assert row.reference
        assert row.floor in (None, "marginal", "uniform", "copycat")
        assert (row.null is not None) == (row.family == "privacy")


def test_names_families_and_typos() -> None:
    assert metrics.names(["privacy"]) == ["air_excess_risk", "mir_excess_risk", "mia_distance_auroc_gap"]
    assert metrics.names(["ks_gap", "ks_gap"]) == ["ks_gap"]
    with pytest.raises(ValueError, match=r"unknown metric 'ks_gpa': did you mean 'ks_gap'\?"):
        metrics.names(["ks_gpa"])


def test_a_score_must_be_finite() -> None:
    with pytest.raises(ValueError, match="return Undefined with the reason"):
        Score(float("nan"), None, 1)


# --- laws ---


@pytest.mark.parametrize("generator", ["copycat", "marginal", "uniform", "oracle", "smote"])
@pytest.mark.parametrize("shape", SHAPES)
def test_finite_and_in_range_or_undefined(shape: str, generator: str) -> None:
    found = scores(shape, generator)
    assert {name.split("/")[0] for name in found} == set(METRICS)
    for name, score in found.items():
        row = METRICS[name.split("/")[0]]
        if isinstance(score, Undefined):
            assert score.reason
            assert shape not in row.shapes or name in ("missing_rate_gap", "ks_gap", "tvd_gap"), (name, score)
        else:
            assert row.low <= score.value <= row.high, name
            assert score.se is None or score.se >= 0
            assert score.n > 0


@pytest.mark.parametrize("shape", SHAPES)
def test_any_row_and_column_order_gives_the_same(shape: str) -> None:
    t = tables(shape, "smote")
    rng = np.random.default_rng(3)

    def shuffle(table: pd.DataFrame, name: str) -> pd.DataFrame:
        who = rng.permutation(subjects(table).to_numpy())
        table = pd.concat([table.loc[[s]] for s in who]) if table.index.nlevels == 2 else table.loc[who]
        return table[rng.permutation(table.columns)]

    asked = METRICS if shape == "codes" else CHEAP
    found = metrics.score(rebuilt(t, shuffle), asked, seed=0)
    assert found == {name: score for name, score in scores(shape, "smote").items() if name in found}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_seed_decides(shape: str) -> None:
    asked = METRICS if shape == "codes" else CHEAP
    again = metrics.score(rebuilt(tables(shape, "smote"), lambda table, name: table), asked, seed=0)
    assert again == {name: score for name, score in scores(shape, "smote").items() if name in again}
    other = metrics.score(rebuilt(tables(shape, "smote"), lambda table, name: table), ["c2st_auroc_gap"], seed=1)
    assert other["c2st_auroc_gap"] != again["c2st_auroc_gap"]


@pytest.mark.parametrize("shape", ["table", "series"])
def test_units_do_not_matter(shape: str) -> None:
    """Multiplying a column by a power of two in all tables changes nothing but the last bits."""
    t = tables(shape, "smote")
    numeric = [c for c in t["train"] if t["train"][c].dtype.kind == "f"]

    def rescale(table: pd.DataFrame, name: str) -> pd.DataFrame:
        return table.assign(**{c: table[c] * 2.0 ** (i % 5 - 2) for i, c in enumerate(numeric)})

    found, before = metrics.score(rebuilt(t, rescale), CHEAP, seed=0), scores(shape, "smote")
    for name, score in found.items():
        if isinstance(score, Score):
            assert score.value == pytest.approx(before[name].value, abs=1e-6), name


JOINT = [m for m, row in METRICS.items() if row.floor == "marginal"]
ONE_COLUMN = [m for m, row in METRICS.items() if row.floor == "uniform"]
PRIVACY = [m for m, row in METRICS.items() if row.family == "privacy"]


def pairs(names: list[str]) -> list[tuple[str, str]]:
    """(shape, metric) where the metric is defined on the shape and its columns are there."""
    without = {"missing_rate_gap": ("codes", "table", "visits")}
    return [(s, m) for m in names for s in METRICS[m].shapes if s not in without.get(m, ())]


@pytest.mark.parametrize(("shape", "name"), pairs(JOINT))
def test_a_fresh_real_draw_beats_the_floor(shape: str, name: str) -> None:
    row = METRICS[name]
    best, floor = value(shape, "oracle", name), value(shape, "marginal", name)
    assert (best > floor) == row.up
    if (shape, name) not in (("codes", "cmd_distance"), ("visits", "cmd_distance")):  # nearly all sampling noise there
        assert abs(best - floor) > 3 * scores(shape, "oracle")[FULL[name]].se


@pytest.mark.parametrize(("shape", "name"), pairs(ONE_COLUMN))
def test_one_column_scores_collapse_on_uniform(shape: str, name: str) -> None:
    row = METRICS[name]
    best, floor = value(shape, "oracle", name), value(shape, "uniform", name)
    assert best > floor + 0.5 if row.up else best < 0.5 * floor
    # and marginal is at their ceiling
    assert abs(value(shape, "marginal", name) - best) < 0.35 * abs(best - floor)


@pytest.mark.parametrize("name", PRIVACY)
@pytest.mark.parametrize("shape", SHAPES)
def test_copycat_is_worst_on_privacy_and_strangers_leak_nothing(shape: str, name: str) -> None:
    copycat = value(shape, "copycat", name)
    assert copycat > 0.3
    for other, margin in {"marginal": 0.1, "uniform": 0.1, "oracle": 0.1, "smote": 0.0}.items():
        assert value(shape, other, name) < copycat - margin
    for stranger in ("marginal", "oracle"):
        found = scores(shape, stranger)[name]
        assert abs(found.value) < 3.5 * found.se + 0.02


@pytest.mark.parametrize("shape", SHAPES)
def test_permuted_columns_collapse_on_joint_scores(shape: str) -> None:
    """Each column of a perfect sample shuffled on its own: marginals kept, all else gone."""
    t = tables(shape, "oracle")
    rng = np.random.default_rng(5)
    longitudinal = t["synth"].index.nlevels == 2

    def permute(table: pd.DataFrame, name: str) -> pd.DataFrame:
        if name not in ("synth", "minority"):
            return table
        out = {}
        for column in table:
            if longitudinal and column in t.static:
                each = per_subject(table, column)
                new = pd.Series(each.array[rng.permutation(len(each))], each.index)
                out[column] = new.reindex(table.index.get_level_values("subject")).array
            else:
                out[column] = table[column].array[rng.permutation(len(table))]
        return pd.DataFrame(out, table.index)

    found = metrics.score(rebuilt(t, permute), JOINT, seed=0)
    for name in JOINT:
        if shape in METRICS[name].shapes:
            mixed, best = found[name].value, value(shape, "oracle", name)
            assert mixed < best - 0.05 if METRICS[name].up else mixed > 1.15 * best, name


def test_noise_makes_scores_worse_in_order() -> None:
    """Copies of train with a growing share of cells replaced: fidelity falls, and so does the risk."""
    t = tables("codes", "copycat")
    rng = np.random.default_rng(7)

    def noisy(share: float):
        def change(table: pd.DataFrame, name: str) -> pd.DataFrame:
            if name != "synth":
                return table
            out = {}
            for c in table:
                mixed = table[c].array[rng.permutation(len(table))]
                out[c] = pd.Series(table[c].array, table.index).where(rng.random(len(table)) >= share, mixed)
            return pd.DataFrame(out).astype(table.dtypes)

        return change

    asked = ["c2st_auroc_gap", "cmd_distance", "mia_distance_auroc_gap", "air_excess_risk", "tstr_auroc"]
    found = [metrics.score(rebuilt(t, noisy(share)), asked, seed=0) for share in (0.0, 0.3, 0.9)]
    gap, cmd, mia, air, tstr = ([f[m].value for f in found] for m in asked)
    assert gap[0] < gap[1] < gap[2]
    assert cmd[0] < cmd[2]
    assert mia[0] > mia[1] > mia[2]
    assert air[0] > air[1] > air[2]
    assert min(tstr[:2]) > tstr[2] + 0.05


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("holdout", [150, 400])
def test_privacy_is_at_chance_on_strangers(sparse: bool, holdout: int) -> None:
    """Synth independent of train: every stored risk averages 0 within two standard errors over seeds."""
    found: dict[str, list[float]] = {name: [] for name in PRIVACY}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rates = np.full(24, 0.03) if sparse else rng.uniform(0.1, 0.5, 24)

        def draw(n: int, rng=rng, rates=rates) -> pd.DataFrame:
            table = pd.DataFrame(rng.random((n, 24)) < rates, columns=[f"c{i:02d}" for i in range(24)])
            return table.assign(y=rng.random(n) < 0.3).rename_axis("subject")

        t = Tables(
            draw(400), draw(holdout), draw(400), roles={"target": "y", "codes": [f"c{i:02d}" for i in range(24)]}
        )
        for name, score in metrics.score(t, PRIVACY, seed=seed).items():
            found[name].append(score.value)
    for name, values in found.items():
        assert abs(np.mean(values)) < 2.5 * np.std(values, ddof=1) / np.sqrt(20) + 1e-9, name


# --- degenerate tables ---


def table(n: int, seed: int, **columns) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    made = {"x": rng.normal(size=n), "c": rng.random(n) < 0.3, "d": rng.random(n) < 0.4, "y": rng.random(n) < 0.3}
    return pd.DataFrame(made | columns, index=pd.RangeIndex(n, name="subject"))


DEGENERATE = {
    "constant columns in synth": lambda: (table(60, 0), table(40, 1), table(60, 2, x=1.0, c=True, d=False)),
    "constant columns everywhere": lambda: [table(60, s, x=1.0, c=False, d=False) for s in range(3)],
    "all codes absent in synth": lambda: (table(60, 0), table(40, 1), table(60, 2, c=False, d=False)),
    "one class in synth": lambda: (table(60, 0), table(40, 1), table(60, 2, y=False)),
    "one class in holdout": lambda: (table(60, 0), table(40, 1, y=False), table(60, 2)),
    "one positive in train": lambda: (table(60, 0, y=np.arange(60) == 3), table(40, 1), table(60, 2)),
    "missing everywhere in synth": lambda: (table(60, 0), table(40, 1), table(60, 2, x=np.nan)),
    "missing everywhere": lambda: [table(60, s, x=np.nan) for s in range(3)],
    "a handful of subjects": lambda: (table(8, 0), table(4, 1), table(8, 2)),
    "two subjects": lambda: (table(2, 0), table(2, 1), table(2, 2)),
}


@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_tables_give_a_score_or_a_reason(case: str) -> None:
    train, holdout, synth = DEGENERATE[case]()
    t = Tables(train, holdout, synth, minority=synth.assign(y=True), roles={"target": "y", "codes": ["c", "d"]})
    for name, score in metrics.score(t, seed=0).items():
        row = METRICS[name.split("/")[0]]
        if isinstance(score, Undefined):
            assert score.reason
        else:
            assert row.low <= score.value <= row.high, (name, score)


def test_a_class_that_synth_lacks_stays_in_the_score() -> None:
    """Dropping the holdout rows of a class that synth lacks would reward mode collapse."""
    train, holdout, synth = DEGENERATE["one class in synth"]()
    t = Tables(train, holdout, synth, roles={"target": "y"})
    found = metrics.score(t, ["tstr_auroc", "tstr_auprc"], seed=0)
    assert found["tstr_auroc"].value == 0.5
    assert found["tstr_auprc"].value == pytest.approx(holdout["y"].mean())
