"""`bench score`: tables made by anything, from CSV or parquet."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import metrics
from bench.datasets import open_dataset
from bench.datasets.split import split
from bench.errors import BenchError
from bench.score import score_files


def files(folder: Path, *, parquet: bool = False, n: int = 300) -> list[str]:
    rng = np.random.default_rng(0)
    out = []
    for name in ("train", "holdout", "synth"):
        y = rng.random(n) < 0.3
        frame = pd.DataFrame(
            {
                "age": rng.integers(20, 80, n),
                "income": rng.normal(size=n) + y,
                "place": rng.choice(["x", "y"], n),
                "flag": rng.integers(0, 2, n),
                "y": y.astype(int),
            }
        )
        if name == "train":
            frame.loc[0, "income"] = np.nan
        if parquet:
            frame.to_parquet(folder / f"{name}.parquet")
        else:
            frame.to_csv(folder / f"{name}.csv", index=False)
        out += [f"--{name}", f"{name}.{'parquet' if parquet else 'csv'}"]
    return [*out, "--target", "y"]


@pytest.mark.parametrize("parquet", [True, False])
def test_scores_of_files(bench, tmp_path: Path, parquet: bool) -> None:
    done = bench("score", *files(tmp_path, parquet=parquet), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert 0.5 < found["tstr_auroc"]["value"] < 1
    assert found["tstr_auroc"]["se"] > 0
    assert found["prevalence_pearson_score"] == {"undefined": "not defined on table"}
    assert found["boost_f1_score"] == {"undefined": "no --minority table was given"}


def test_only_the_metrics_asked_for(bench, tmp_path: Path) -> None:
    args = files(tmp_path)
    found = json.loads(bench("score", *args, "--metrics", "ks_gap,privacy", "--json").stdout)
    assert {name.split("/")[0] for name in found} == {"ks_gap", *metrics.names(["privacy"])}
    table = bench("score", *args, "--metrics", "ks_gap").stdout
    assert table.splitlines()[0].split() == ["metric", "value", "se", "undefined", "because"]
    coded = json.loads(
        bench("score", *args, "--codes", "all", "--metrics", "prevalence_pearson_score", "--json").stdout
    )
    assert coded["prevalence_pearson_score"]["undefined"].startswith("all codes have the same prevalence")


def test_longitudinal_files(bench, tmp_path: Path) -> None:
    data = open_dataset("sim-icu[rows=120]", None).load()
    parts = split(data, seed=0)
    for name, table in {"train": parts.train, "holdout": parts.holdout, "synth": parts.train}.items():
        table.reset_index().to_csv(tmp_path / f"{name}.csv", index=False)
    args = [x for name in ("train", "holdout", "synth") for x in (f"--{name}", f"{name}.csv")]
    done = bench("score", *args, "--target", "died", "--subject", "subject", "--time", "time",
                 "--static", "age,sex,unit", "--metrics", "fidelity,mia_distance_auroc_gap", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["mia_distance_auroc_gap"]["value"] == 1  # synth is train
    assert "value" in found["missing_rate_gap"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--target", "incme"], "train: unknown column 'incme': did you mean 'income'?"),
        (["--target", "age"], "target column 'age' is int64, expected bool"),
        (["--metrics", "ks_gpa"], "unknown metric 'ks_gpa': did you mean 'ks_gap'?"),
        (["--synth", "gone.csv"], "gone.csv: no such file"),
        (["--synth", "text.txt"], "expected a .csv or .parquet file"),
        (["--synth", "other.csv"], "synth: lacks column 'age', unlike train"),
        (["--synth", "broken.parquet"], "not a readable parquet file"),
        (["--synth", "empty.csv"], "not a readable csv file"),
        (["--holdout", "short.csv"], "holdout: 1 subjects are too few to score"),
        (["--train", "oneclass.csv"], "target 'y' has one class"),
        (["--time", "age"], "--time needs --subject"),
    ],
)
def test_bad_files_are_one_clear_line(bench, tmp_path: Path, change: list[str], says: str) -> None:
    args = files(tmp_path)
    train = pd.read_csv(tmp_path / "train.csv")
    train.drop(columns="age").to_csv(tmp_path / "other.csv", index=False)
    train.iloc[1:2].to_csv(tmp_path / "short.csv", index=False)
    train.assign(y=0).to_csv(tmp_path / "oneclass.csv", index=False)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "text.txt").write_text("a")
    given = dict(zip(args[::2], args[1::2], strict=True)) | dict([change])
    done = bench("score", *[x for pair in given.items() for x in pair])
    assert done.returncode == 2, done.stdout
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


# --- a stored index and identifiers ---

ROLES = {
    "target": "y", "subject": None, "time": None, "static": (), "codes": (), "sensitive": (), "quasi": (), "drop": (),
    "seed": 0,
}  # fmt: skip
COPIED = ["copy_risk", "mia_distance_auroc_gap"]


def copied(n: int = 120, seed: int = 0) -> dict[str, pd.DataFrame]:
    """Train, holdout, and an exact copy of train in another order; real columns have the names an index may have."""
    rng = np.random.default_rng(seed)
    y = rng.random(2 * n) < 0.3
    real = pd.DataFrame(
        {
            "age": rng.integers(20, 80, 2 * n), "income": rng.normal(size=2 * n) + y, "index": rng.normal(size=2 * n),
            "level_0": rng.integers(0, 9, 2 * n), "place": rng.choice(["x", "y"], 2 * n), "y": y,
        }
    )  # fmt: skip
    train, holdout = real[:n], real[n:]
    synth = train.sample(frac=1, random_state=1)
    return {"train": train, "holdout": holdout, "synth": synth}


def saved(folder: Path, tables: dict[str, pd.DataFrame], ending: str = "parquet", **options: bool) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    paths = {name: folder / f"{name}.{ending}" for name in tables}
    for name, path in paths.items():
        getattr(tables[name], f"to_{ending}")(path, **options)
    return paths


def scored(paths: dict[str, Path], **roles: object) -> dict[str, dict]:
    return score_files(paths, **ROLES | roles, metric_names=COPIED)


INDEXES = {
    "none": lambda n: pd.RangeIndex(n),
    "numbers": lambda n: pd.Index(np.random.default_rng(n).permutation(n)),
    "subject": lambda n: pd.RangeIndex(n, name="subject"),
    "named": lambda n: pd.Index([f"p{i}" for i in range(n)], name="patient"),
    "as a column": lambda n: pd.Index(np.arange(n)[::-1], name="index"),
    "two": lambda n: pd.MultiIndex.from_arrays([np.arange(n), np.arange(n) % 3], names=["hospital", "bed"]),
    "two, nameless": lambda n: pd.MultiIndex.from_arrays([np.arange(n), np.arange(n) % 3]),
}


@pytest.mark.parametrize("kind", INDEXES)
def test_a_stored_index_is_no_feature(tmp_path: Path, kind: str) -> None:
    """An exact copy of train has the scores of one, the same as from CSV without an index."""
    tables = copied()
    plain = scored(saved(tmp_path, {n: t.reset_index(drop=True) for n, t in tables.items()}, "csv", index=False))
    assert plain["copy_risk"]["value"] == 1
    assert plain["mia_distance_auroc_gap"]["value"] == 1
    numbered = {name: table.set_axis(INDEXES[kind](len(table))) for name, table in tables.items()}
    assert scored(saved(tmp_path, numbered)) == plain


@pytest.mark.parametrize("levels", [1, 2])
def test_a_row_number_in_a_csv_is_no_feature(tmp_path: Path, levels: int, capsys: pytest.CaptureFixture) -> None:
    tables = copied()
    plain = scored(saved(tmp_path, {n: t.reset_index(drop=True) for n, t in tables.items()}, "csv", index=False))
    capsys.readouterr()
    rows = np.random.default_rng(2).permutation(120)
    index = pd.Index(rows) if levels == 1 else pd.MultiIndex.from_arrays([rows, rows % 3])
    assert scored(saved(tmp_path, {name: t.set_axis(index) for name, t in tables.items()}, "csv")) == plain
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert said[0].startswith("bench: warning: train.csv: its index is left out")


def test_an_index_that_is_named_is_used(tmp_path: Path) -> None:
    tables = copied()
    plain = scored(saved(tmp_path, {n: t.reset_index(drop=True) for n, t in tables.items()}, "csv", index=False))
    assert scored(saved(tmp_path, {n: t.set_index("y") for n, t in tables.items()})) == plain
    who = {name: table.assign(who=np.arange(len(table))) for name, table in tables.items()}
    assert scored(saved(tmp_path, {n: t.set_index(["who", "age"]) for n, t in who.items()}),
                  subject="who", quasi=("age",)) == plain  # fmt: skip
    assert scored(saved(tmp_path, who, "csv"), subject="Unnamed: 0", drop=("who",)) == plain


def test_a_longitudinal_index_is_subject_and_time(tmp_path: Path) -> None:
    parts = split(open_dataset("sim-icu[rows=120]", None).load(), seed=0)
    tables = {"train": parts.train, "holdout": parts.holdout, "synth": parts.train}
    roles = {"target": "died", "static": ("age", "sex", "unit")}
    named = {"subject": "subject", "time": "time"}
    plain = scored(saved(tmp_path, {n: t.reset_index() for n, t in tables.items()}, "csv", index=False),
                   **roles, **named)  # fmt: skip
    assert plain["mia_distance_auroc_gap"]["value"] == 1
    paths = saved(tmp_path, tables)
    assert scored(paths, **roles) == scored(paths, **roles, **named) == plain
    turned = {name: t.reorder_levels(["time", "subject"]) for name, t in tables.items()}
    assert scored(saved(tmp_path, turned), **roles) == plain
    other = saved(tmp_path / "other", {"holdout": tables["holdout"].reset_index(drop=True)})
    with pytest.raises(BenchError, match="holdout: its index is 'subject', that of train is 'subject' and 'time'"):
        scored(paths | other, **roles)


IDENTIFIERS = {
    "counted": lambda n: np.arange(n),
    "drawn": lambda n: np.random.default_rng(0).choice(10**12, n, replace=False),
    "nullable": lambda n: pd.array(np.arange(n), "Int64"),
    "text": lambda n: [f"p{i}" for i in range(n)],
    "category": lambda n: pd.Categorical([f"p{i}" for i in range(n)]),
}


@pytest.mark.parametrize("kind", IDENTIFIERS)
@pytest.mark.parametrize("n", [20, 120])
def test_an_identifier_is_refused_unless_declared(tmp_path: Path, kind: str, n: int) -> None:
    tables = copied(n)
    plain = scored(saved(tmp_path, tables))
    paths = saved(tmp_path, {name: table.assign(patient=IDENTIFIERS[kind](n)) for name, table in tables.items()})
    with pytest.raises(BenchError, match=r"column 'patient' has .* different"):
        scored(paths)
    assert scored(paths, drop=("patient",)) == plain
    assert scored(paths, subject="patient") == plain
    for role in ("keep", "quasi", "sensitive"):
        assert scored(paths, **{role: ("patient",)})["copy_risk"]["value"] < 1  # a feature, as was asked for


def test_fractions_and_tables_of_a_few_rows_have_no_identifiers(tmp_path: Path) -> None:
    assert scored(saved(tmp_path, copied()))["copy_risk"]["value"] == 1  # income differs in every row
    few = {name: table.assign(visits=np.arange(19)) for name, table in copied(19).items()}
    scored(saved(tmp_path, few))


def test_a_number_of_each_subject_in_a_longitudinal_table_is_an_identifier(tmp_path: Path) -> None:
    parts = split(open_dataset("sim-icu[rows=80]", None).load(), seed=0)
    tables = {"train": parts.train, "holdout": parts.holdout, "synth": parts.train}
    stays = {n: t.assign(stay=t.index.get_level_values("subject").astype("int64") + 7_000) for n, t in tables.items()}
    with pytest.raises(BenchError, match="train: column 'stay' has a different value in each of 64 subjects"):
        scored(saved(tmp_path, stays), target="died")


def test_the_option_that_keeps_a_column(bench, tmp_path: Path) -> None:
    args = files(tmp_path)
    for name in ("train", "holdout", "synth"):
        table = pd.read_csv(tmp_path / f"{name}.csv")
        table.assign(amount=np.random.default_rng(0).permutation(len(table))).to_csv(
            tmp_path / f"{name}.csv", index=False
        )
    refused = bench("score", *args, "--metrics", "ks_gap")
    assert refused.returncode == 2
    assert refused.stderr.strip() == (
        "bench: error: train: column 'amount' has a different value in each of 300 rows, as an identifier has: leave "
        "it out with `drop`, name it as `subject`, or list it in `keep` if it is a measurement"
    )
    assert bench("score", *args, "--metrics", "ks_gap", "--keep", "amount").returncode == 0
