"""Datasets: names and cuts, simulators whose process is known, real files as distributed, splits, a user's own."""

import gzip
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.datasets import DATASETS, open_dataset
from bench.datasets import sim_codes as sim
from bench.datasets.data import Absent, DataError
from bench.datasets.icd import category9
from bench.datasets.icd_names import category_names
from bench.datasets.law import faults, per_subject, subjects
from bench.datasets.split import split
from bench.errors import BenchError
from conftest import write

SIMULATED = [name for name, row in DATASETS.items() if row.draw]
SMALL = {"sim-ehr": "sim-ehr[codes=40,rows=3000]", "sim-visits": "sim-visits[codes=40,rows=2000]",
         "sim-icu": "sim-icu[rows=2000]", "sim-fraud": "sim-fraud[rows=20000]"}  # fmt: skip


# --- names ---


def test_names_have_one_spelling() -> None:
    source = open_dataset("sim-ehr[rows=100, codes=20]", None)
    assert str(source.name) == "sim-ehr[codes=20,rows=100]"
    assert open_dataset("sim-ehr[rows=5000]", None).name == open_dataset("sim-ehr", None).name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("sim-her", "unknown dataset 'sim-her': did you mean 'sim-ehr'?"),
        ("sim-ehr[row=5]", "unknown cut of dataset 'sim-ehr' 'row': did you mean 'rows'?"),
        ("sim-ehr[rows=0]", "rows=0 is not a positive whole number"),
        ("sim-ehr[rows]", "'rows' is not of the form key=value"),
        ("sim-ehr[rows=5,rows=6]", "rows stands twice"),
        ("sim-ehr[rows=5", "not of the form name"),
        ("breast-cancer[rows=1000]", "rows=1000: the dataset has 569 subjects"),
        ("nowhere.toml", "nowhere.toml: no such file"),
    ],
)
def test_wrong_names_are_one_clear_line(name: str, says: str) -> None:
    with pytest.raises(BenchError) as error:
        open_dataset(name, None).load()
    assert says in str(error.value)


def test_cuts_are_part_of_the_identity() -> None:
    whole, cut = open_dataset("breast-cancer", None), open_dataset("breast-cancer[rows=200]", None)
    assert whole.identity != cut.identity
    assert len(cut.load().table) == 200
    assert cut.load().table.equals(cut.load().table)
    share = [s.load().table["malignant"].mean() for s in (whole, cut)]
    assert share[0] == pytest.approx(share[1], abs=0.005)


@pytest.mark.parametrize("name", ["breast-cancer", "sim-fraud"])
def test_fewer_positives_in_train_leave_the_holdout_as_it_is(name: str) -> None:
    whole, cut = open_dataset(name, None), open_dataset(f"{name}[train_positives=20]", None)
    assert whole.identity != cut.identity
    data = cut.load()
    pd.testing.assert_frame_equal(data.table, whole.load().table)
    plain = split(data, seed=3)
    few, again, other = (split(data, seed=s, positives=cut.train_positives) for s in (3, 3, 4))
    target = data.roles.target
    pd.testing.assert_frame_equal(few.holdout, plain.holdout)
    assert few.train[target].sum() == other.train[target].sum() == 20
    assert (~few.train[target]).sum() == (~plain.train[target]).sum()
    assert set(few.train.index) <= set(plain.train.index)
    pd.testing.assert_frame_equal(few.train, again.train)
    with pytest.raises(BenchError, match="train_positives=5000: train has"):
        split(data, seed=3, positives=5_000)
    if cut.simulated:
        assert cut.redraw(50, {target: True}, seed=0)[target].all()


# --- simulators ---


@pytest.mark.parametrize("name", SIMULATED)
def test_simulated_tables_are_lawful_and_repeatable(name: str) -> None:
    source = open_dataset(SMALL[name], None)
    one, two = source.load(), source.load()
    assert faults(one.table, one.roles) == []
    pd.testing.assert_frame_equal(one.table, two.table)
    fresh = source.redraw(len(subjects(one.table)), None, seed=1)
    assert list(fresh.columns) == list(one.table.columns)
    assert (fresh.dtypes == one.table.dtypes).all()
    assert not fresh.reset_index(drop=True).equals(one.table.reset_index(drop=True))


@pytest.mark.parametrize("name", SIMULATED)
def test_the_oracle_meets_conditions(name: str) -> None:
    source = open_dataset(SMALL[name], None)
    target = source.load().roles.target
    drawn = source.redraw(150, {target: True}, seed=2)
    assert len(subjects(drawn)) == 150
    assert drawn[target].all()
    with pytest.raises(BenchError, match="found 0 of 5 subjects"):
        source.redraw(5, {"age" if "age" in drawn else "amount": -1}, seed=2)


@pytest.mark.parametrize(
    ("name", "share"), [("sim-ehr", 0.08), ("sim-visits", 0.08), ("sim-icu", 0.10), ("sim-fraud", 0.01)]
)
def test_targets_are_as_rare_as_said(name: str, share: float) -> None:
    source = open_dataset(name, None)
    table = source.redraw(20_000, None, seed=3)
    found = per_subject(table, source.load().roles.target).mean()
    assert found == pytest.approx(share, abs=4 * np.sqrt(share / 20_000) + 0.1 * share)


def test_sim_ehr_has_the_prevalences_and_effects_it_says() -> None:
    table = sim.draw(40_000, seed=5, codes=200)
    names = list(sim.process(200).codes)
    prevalence = table[names].mean()
    wanted = 0.30 * (0.001 / 0.30) ** (np.arange(200) / 199)
    assert np.abs(np.log(prevalence.to_numpy() + 1e-4) - np.log(wanted + 1e-4)).mean() < 0.1
    assert prevalence.max() < 0.35
    assert prevalence.min() < 0.003
    women, men = table[table["sex"] == "female"], table[table["sex"] == "male"]
    assert men["N40"].mean() > 20 * women["N40"].mean()  # prostate
    assert women["C50"].mean() > 20 * men["C50"].mean()  # breast
    old, young = table[table["age"] > 70], table[table["age"] < 40]
    assert old["I10"].mean() > 1.5 * young["I10"].mean()
    p = sim.process(200)
    child = max(np.flatnonzero(p.parent >= 0), key=lambda j: p.v[j] * prevalence.iloc[j])
    with_parent = table[table[names[p.parent[child]]]]
    assert with_parent[names[child]].mean() > 1.5 * prevalence.iloc[child]
    same = np.flatnonzero(p.cluster == p.cluster[0])[:6]
    together = np.corrcoef(table[[names[j] for j in same]].to_numpy().T.astype(float))
    assert together[np.triu_indices(len(same), 1)].mean() > 0.02


def test_sim_visits_are_the_same_people() -> None:
    flat, visits = sim.draw(800, seed=7, codes=60), sim.draw_visits(800, seed=7, codes=60)
    names = list(sim.process(60).codes)
    pd.testing.assert_frame_equal(visits.groupby(level="subject")[names].any(), flat[names])
    lengths = visits.groupby(level="subject").size()
    assert lengths.min() == 1
    assert 2 <= lengths.max() <= sim.MAX_VISITS
    chronic = [c for c in names if c[0] in sim.CHRONIC]
    acute = [c for c in names if c[0] not in sim.CHRONIC]
    assert stays(visits, chronic) > 0.7 > 0.3 > stays(visits, acute)


def stays(visits: pd.DataFrame, codes: list[str]) -> float:
    """Share of codes present at a visit that are present at the next one too."""
    now = visits[codes].to_numpy()[:-1]
    after = visits[codes].to_numpy()[1:]
    same = visits.index.get_level_values("subject")
    same = np.asarray(same[1:] == same[:-1])
    return (now & after)[same].sum() / now[same].sum()


def test_sim_icu_is_driven_by_severity_and_its_gaps_tell() -> None:
    table = open_dataset("sim-icu[rows=4000]", None).load().table
    per = table.groupby(level="subject")
    died = per["died"].first()
    assert per["HR"].mean()[died].mean() > per["HR"].mean()[~died].mean() + 5
    hr = table["HR"].unstack().to_numpy()
    pairs = np.column_stack([hr[:, :-1].ravel(), hr[:, 1:].ravel()])
    assert np.corrcoef(pairs[~np.isnan(pairs).any(axis=1)].T)[0, 1] > 0.8
    missing = table["Temp"].isna().groupby(level="subject").mean()
    assert missing[died].mean() < missing[~died].mean() - 0.05
    between = (table["MBP"] - (table["SBP"] + 2 * table["DBP"]) / 3).abs().mean()
    assert between < 4


def test_sim_fraud_has_three_clusters_and_a_skewed_amount() -> None:
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    table = open_dataset("sim-fraud", None).redraw(40_000, None, seed=1)
    assert table["amount"].skew() > 5
    fraud = table[table["fraud"]]
    x = fraud.filter(regex="^F").to_numpy() / table.filter(regex="^F").std().to_numpy()
    fits = {k: silhouette_score(x, KMeans(k, n_init=5, random_state=0).fit_predict(x)) for k in (2, 3, 4, 5)}
    assert max(fits, key=fits.get) in (2, 3)
    assert np.abs(np.corrcoef(table.filter(regex="^F").to_numpy().T)).mean() > 0.2


def test_too_many_codes_are_refused() -> None:
    with pytest.raises(ValueError, match="ICD-10 has"):
        sim.process(5_000)


# --- ICD ---


def test_icd_categories_have_names() -> None:
    assert category_names(10)["E11"] == "Type 2 diabetes mellitus"
    assert category_names(10)["I10"] == "Essential (primary) hypertension"
    assert category_names(10)["I50"] == "Heart failure"
    assert category_names(9)["428"] == "Heart failure"
    assert category9("E9320") == "E932"
    assert all(category_names(10)[c] for c in sim.process(200).codes)


# --- splits ---


@pytest.mark.parametrize("name", [*SMALL.values(), "breast-cancer"])
def test_splits_are_disjoint_stratified_and_repeatable(name: str) -> None:
    data = open_dataset(name, None).load()
    one, again, other = split(data, seed=1), split(data, seed=1), split(data, seed=2)
    train, holdout = set(subjects(one.train)), set(subjects(one.holdout))
    assert not train & holdout
    assert len(train) + len(holdout) == len(subjects(data.table))
    assert len(holdout) == pytest.approx(0.2 * (len(train) + len(holdout)), abs=1)
    shares = [per_subject(t, data.roles.target).mean() for t in (one.train, one.holdout)]
    assert shares[0] == pytest.approx(shares[1], abs=1 / len(holdout) + 0.002)
    pd.testing.assert_frame_equal(one.train, again.train)
    assert set(subjects(other.train)) != train


def test_time_splits_put_the_latest_in_the_holdout(tmp_path: Path) -> None:
    path = own(tmp_path, order="when")
    data = open_dataset(str(path), None).load()
    parts = split(data, seed=1, how="time")
    assert data.order[subjects(parts.train)].max() < data.order[subjects(parts.holdout)].min()
    assert "when" not in data.table
    with pytest.raises(BenchError, match="no time order"):
        split(open_dataset("breast-cancer", None).load(), seed=1, how="time")


def test_a_target_too_rare_to_split_is_one_clear_line(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": np.arange(20.0), "y": [1] + [0] * 19})
    frame.to_csv(tmp_path / "rare.csv", index=False)
    path = write(tmp_path / "rare.toml", 'file = "rare.csv"\ntarget = "y"\n')
    with pytest.raises(BenchError, match="1 positives of 20: too few to split"):
        split(open_dataset(str(path), None).load(), seed=0)


# --- a user's own ---


def test_the_order_of_subjects_is_theirs_whatever_the_order_of_rows(tmp_path: Path) -> None:
    """Read beside the table after that was sorted, it went to other subjects: a split by time then leaks."""
    rows = [(s, m, s % 2, 100 - 10 * s) for s in (3, 0, 2, 1) for m in (1, 0)]
    frame = pd.DataFrame(rows, columns=["id", "month", "y", "opened"])
    frame["x"] = [0.5, 1.5] * 4
    frame.to_csv(tmp_path / "long.csv", index=False)
    toml = write(
        tmp_path / "long.toml",
        'file = "long.csv"\ntarget = "y"\nsubject = "id"\ntime = "month"\norder = "opened"\n',
    )
    order = open_dataset(str(toml), None).load().order
    assert order.loc[[0, 1, 2, 3]].is_monotonic_decreasing


def own(folder: Path, order: str = "", more: str = "", n: int = 60) -> Path:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": [f"p{i}" for i in rng.permutation(n)], "when": pd.date_range("2020-01-01", periods=n).astype(str),
            "age": rng.integers(20, 80, n), "income": rng.normal(size=n).round(3), "place": rng.choice(["x", "y"], n),
            "grade": rng.choice(["low", "high"], n), "smokes": rng.choice(["True", "False"], n),
            "defaulted": rng.integers(0, 2, n),
        }
    )  # fmt: skip
    frame.loc[3, "income"] = np.nan
    frame.to_csv(folder / "loans.csv", index=False)
    order = f'order = "{order}"' if order else 'drop = ["when"]'
    text = (
        f'file = "loans.csv"\ntarget = "defaulted"\nsubject = "id"\n{order}\nordinal = {{ grade = ["low", "high"] }}\n'
    )
    return write(folder / "loans.toml", text + more)


def test_a_users_csv_becomes_a_lawful_table(tmp_path: Path) -> None:
    data = open_dataset(str(own(tmp_path, more='quasi = ["age"]\n')), None).load()
    kinds = {c: str(data.table[c].dtype) for c in data.table}
    assert kinds == {"age": "int64", "income": "float64", "place": "category", "grade": "category", "smokes": "bool",
                     "defaulted": "bool"}  # fmt: skip
    assert list(data.table.index) == list(range(60))  # no identifier of the source is kept
    assert data.table["grade"].cat.ordered
    assert data.roles.sensitive == ("defaulted",)


def test_real_columns_with_the_names_of_an_index_stay(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = ["index", "level_0", "subject", "time", "n_steps", "target"]
    frame = pd.DataFrame({name: rng.integers(0, 9, 60) for name in names} | {"y": rng.integers(0, 2, 60)})
    frame.to_csv(tmp_path / "d.csv", index=False)
    frame.sample(frac=1).to_parquet(tmp_path / "shuffled.parquet")
    frame.rename_axis("subject").to_parquet(tmp_path / "d.parquet")
    for file in ("d.csv", "d.parquet", "shuffled.parquet"):
        data = open_dataset(str(write(tmp_path / "d.toml", f'file = "{file}"\ntarget = "y"\n')), None).load()
        assert list(data.table.columns) == [*names, "y"]
        assert sorted(data.table["index"]) == sorted(frame["index"])


@pytest.mark.parametrize("index", [["subject"], ["who"], [None], ["hospital", "bed"]])
def test_a_stored_index_is_no_column(tmp_path: Path, index: list[str | None]) -> None:
    frame = pd.DataFrame({"age": np.arange(30) // 2, "y": [0, 1] * 15})
    at = [np.arange(30)[::-1]] if len(index) == 1 else [np.arange(30), np.arange(30) // 2]
    frame.index = pd.MultiIndex.from_arrays(at, names=index) if len(index) > 1 else pd.Index(at[0], name=index[0])
    frame.to_parquet(tmp_path / "d.parquet")
    toml = write(tmp_path / "d.toml", 'file = "d.parquet"\ntarget = "y"\n')
    assert list(open_dataset(str(toml), None).load().table.columns) == ["age", "y"]


def test_an_index_that_a_toml_names_is_used(tmp_path: Path) -> None:
    frame = pd.DataFrame({"who": np.repeat(np.arange(30), 2), "t": [0, 1] * 30, "v": np.arange(60.0)})
    frame["y"] = frame["who"] % 2 == 0
    text = 'file = "d.parquet"\ntarget = "y"\nsubject = "who"\ntime = "t"\n'
    toml = write(tmp_path / "d.toml", text)
    frame.to_parquet(tmp_path / "d.parquet")
    plain = open_dataset(str(toml), None).load().table
    for stored in (["who", "t"], ["t"], ["who"], ["y"], ["t", "y", "who"]):
        frame.set_index(stored).to_parquet(tmp_path / "d.parquet")
        pd.testing.assert_frame_equal(open_dataset(str(toml), None).load().table[["v", "y"]], plain)
    lawful = frame.set_index(["who", "t"]).rename_axis(["subject", "time"])
    lawful.to_parquet(tmp_path / "d.parquet")
    write(toml, 'file = "d.parquet"\ntarget = "y"\nsubject = "subject"\ntime = "time"\n')
    pd.testing.assert_frame_equal(open_dataset(str(toml), None).load().table[["v", "y"]], plain)
    write(toml, 'file = "d.parquet"\ntarget = "y"\n')
    with pytest.raises(BenchError, match=r"no key 'time', but the index of d\.parquet is subject and time: expected"):
        open_dataset(str(toml), None).load()


def test_a_number_of_each_row_is_refused_unless_it_is_declared(tmp_path: Path) -> None:
    frame = pd.DataFrame({"patient": np.arange(1_000, 1_040), "age": np.arange(40) // 2, "y": [0, 1] * 20})
    frame.to_csv(tmp_path / "d.csv", index=False)
    text = 'file = "d.csv"\ntarget = "y"\n'
    with pytest.raises(
        BenchError, match=r"d\.csv: column 'patient' has a different value in each of 40 rows, as an iden"
    ):
        open_dataset(str(write(tmp_path / "d.toml", text)), None).load()
    for more, columns in (
        ('drop = ["patient"]', ["age", "y"]),
        ('subject = "patient"', ["age", "y"]),
        ('order = "patient"', ["age", "y"]),
        *((f'{key} = ["patient"]', ["patient", "age", "y"]) for key in ("keep", "quasi", "sensitive")),
    ):
        data = open_dataset(str(write(tmp_path / "d.toml", text + more)), None).load()
        assert list(data.table.columns) == columns


def test_a_users_longitudinal_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame({"who": ["b", "b", "a", "a", "c"], "t": [1, 0, 0, 1, 0], "v": [2.0, 1.0, 3.0, 4.0, 5.0],
                          "y": [True, True, False, False, False]})  # fmt: skip
    frame.to_parquet(tmp_path / "s.parquet")
    text = 'file = "s.parquet"\ntarget = "y"\nsubject = "who"\ntime = "t"\n'
    source = open_dataset(str(write(tmp_path / "s.toml", text)), None)
    data = source.load()
    assert source.row.shape == "series"
    assert data.table["v"].tolist() == [3.0, 4.0, 1.0, 2.0, 5.0]
    assert data.roles.static == ("y",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('file = "loans.csv"\ntarget = "default"\n', "unknown column 'default': did you mean 'defaulted'?"),
        ('file = "loans.csv"\ntarget = "age"\ndrop = ["id", "when"]\n', "target column 'age' is int64, expected bool"),
        ('file = "loans.csv"\n', "key 'target' is missing"),
        (
            'file = "loans.csv"\ntarget = "defaulted"\nsubjcet = "id"\n',
            "unknown key 'subjcet': did you mean 'subject'?",
        ),
        ('file = "loans.csv"\ntarget = "defaulted', "not valid TOML"),
        ('file = "gone.csv"\ntarget = "defaulted"\n', "gone.csv is missing"),
        (
            'file = "loans.csv"\ntarget = "defaulted"\nordinal = { place = ["x"] }\ndrop = ["when"]\n',
            "not among its levels",
        ),
        ('file = "loans.toml"\ntarget = "defaulted"\n', "expected a .csv or .parquet file"),
    ],
)
def test_a_wrong_toml_is_one_clear_line(tmp_path: Path, text: str, says: str) -> None:
    own(tmp_path)
    with pytest.raises(BenchError) as error:
        open_dataset(str(write(tmp_path / "bad.toml", text)), None).load()
    assert says in str(error.value)


def test_a_column_of_identifiers_is_refused(tmp_path: Path) -> None:
    own(tmp_path, n=400)
    path = write(tmp_path / "bad.toml", 'file = "loans.csv"\ntarget = "defaulted"\ndrop = ["when"]\n')
    with pytest.raises(BenchError, match=r"'id' has 400 different texts in 400 rows: an identifier\?"):
        open_dataset(str(path), None).load()


def test_duplicates_are_dropped_where_the_row_says_so(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": [1.0, 1.0, 2.0, 3.0], "y": [0, 0, 1, 1]})
    frame.to_csv(tmp_path / "d.csv", index=False)
    for flag, left in (("true", 3), ("false", 4)):
        path = write(tmp_path / f"{flag}.toml", f'file = "d.csv"\ntarget = "y"\ndrop_duplicates = {flag}\n')
        assert len(open_dataset(str(path), None).load().table) == left


# --- real files ---

REAL = [name for name, row in DATASETS.items() if row.access == "open"]


def test_absent_data_say_what_to_put_where(tmp_path: Path) -> None:
    source = open_dataset("creditcard", tmp_path)
    assert "put creditcard.csv into DATA/creditcard" in str(source.absence())
    with pytest.raises(Absent):
        source.load()


@pytest.mark.parametrize("name", ["breast-cancer", *SIMULATED])
def test_sizes_on_rows_are_those_of_the_tables(name: str) -> None:
    data = open_dataset(name, None).load()
    positives = int(per_subject(data.table, data.roles.target).sum())
    assert DATASETS[name].size == (len(subjects(data.table)), data.table.shape[1], positives)


@pytest.mark.parametrize("name", REAL)
def test_real_data_have_the_counts_known(name: str, data_dir: Path) -> None:
    source = open_dataset(name, data_dir)
    if source.absence():
        pytest.skip(f"{name}: {source.absence()}")
    data = source.load()
    assert faults(data.table, data.roles) == []
    if "subset" not in data.facts:
        assert {k: data.facts[k] for k in source.row.expected} == dict(source.row.expected)
        dropped = int(data.facts.get("duplicates", 0))
        assert len(subjects(data.table)) + dropped == source.row.size[0]
        assert data.table.shape[1] == source.row.size[1]


def test_diabetes130_as_published(data_dir: Path) -> None:
    flat, visits = (open_dataset(n, data_dir).load() for n in ("diabetes130", "diabetes130-visits"))
    diagnoses = [c for c in flat.roles.codes if not c.startswith("drug ")]
    assert len(diagnoses) == 881
    assert flat.table[diagnoses].sum(axis=1).mean() == pytest.approx(3.67, abs=0.01)  # ICD categories a patient
    ever = visits.table[list(flat.roles.codes)].groupby(level="subject").any()
    pd.testing.assert_frame_equal(ever, flat.table[list(flat.roles.codes)])
    assert flat.roles.describe["428"] == "Heart failure"
    cut = open_dataset("diabetes130[codes=300,rows=2000]", data_dir).load()
    assert len(cut.roles.codes) == 300
    assert len(cut.table) == 2_000


def test_cinc2012_grid_against_the_file(data_dir: Path) -> None:
    """One stay's first hour, by hand from its file."""
    folder = data_dir / "cinc2012"
    data = open_dataset("cinc2012[sets=a]", data_dir).load()
    with tarfile.open(folder / "set-a.tar.gz") as files:
        names = sorted(n for n in files.getnames() if n.endswith(".txt"))
        body = files.extractfile(names[0]).read().decode().splitlines()
    rows = [line.split(",") for line in body[1:]]
    stay = data.table.loc[0]  # stays are numbered in order of their record id
    first = [float(v) for t, p, v in rows if t.startswith("00:") and p == "HR"]
    assert stay.loc[0, "HR"] == pytest.approx(np.mean(first))
    urine = [float(v) for t, p, v in rows if t.startswith("00:") and p == "Urine"]
    assert stay.loc[0, "Urine"] == pytest.approx(sum(urine))
    age = next(float(v) for t, p, v in rows if p == "Age")
    assert stay.loc[0, "Age"] == age
    height = next(float(v) for t, p, v in rows if p == "Height")
    assert pd.isna(stay.loc[0, "Height"]) == (not 100 <= height <= 250)
    assert int(per_subject(data.table, "died").sum()) == 554


def test_creditcard_subset_says_it_is_one(data_dir: Path) -> None:
    data = open_dataset("creditcard", data_dir).load()
    if data.facts["rows"] == 284_807:
        pytest.skip("the whole of creditcard.csv is here")
    assert data.facts["subset"] == "1,722 of 284,807 rows"
    assert "Time" not in data.table


def broken(name: str, data_dir: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of a dataset's folder, and its first file, to be damaged."""
    source = open_dataset(name, data_dir)
    if source.folder is None:
        pytest.skip(f"{name}: {source.absence()}")
    folder = shutil.copytree(source.folder, tmp_path / source.folder.name, copy_function=shutil.copy)
    for file in folder.iterdir():
        file.chmod(0o600)
    folder.chmod(0o700)
    return folder, folder / next(iter(source.row.files))


@pytest.mark.parametrize("name", ["diabetes130", "cinc2012", "creditcard", "mammography"])
def test_truncated_files_are_one_clear_line(name: str, data_dir: Path, tmp_path: Path) -> None:
    _, file = broken(name, data_dir, tmp_path)
    body = file.read_bytes()
    file.write_bytes(body[: len(body) // 2])
    with pytest.raises(DataError) as error:
        open_dataset(name, tmp_path).load()
    assert file.name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["diabetes130", "cinc2012", "creditcard", "mammography"])
@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\x00\xff\xfe" * 500])
def test_other_files_are_one_clear_line(name: str, content: bytes, data_dir: Path, tmp_path: Path) -> None:
    _, file = broken(name, data_dir, tmp_path)
    file.write_bytes(content)
    with pytest.raises(DataError, match=file.name):
        open_dataset(name, tmp_path).load()


def test_archives_of_something_else_are_one_clear_line(data_dir: Path, tmp_path: Path) -> None:
    _, file = broken("diabetes130", data_dir, tmp_path)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("other.csv", "a,b\n")
    with pytest.raises(DataError, match="holds no diabetic_data"):
        open_dataset("diabetes130", tmp_path).load()
    _, file = broken("cinc2012", data_dir, tmp_path)
    file.write_bytes(gzip.compress(b"not a tar"))
    with pytest.raises(DataError, match="set-a"):
        open_dataset("cinc2012", tmp_path).load()


def test_a_missing_file_is_named(data_dir: Path, tmp_path: Path) -> None:
    folder, _ = broken("cinc2012", data_dir, tmp_path)
    (folder / "Outcomes-b.txt").unlink()
    with pytest.raises(Absent, match=r"cinc2012 lacks Outcomes-b\.txt: put"):
        open_dataset("cinc2012", tmp_path).load()
    assert len(subjects(open_dataset("cinc2012[sets=a]", tmp_path).load().table)) == 4_000
