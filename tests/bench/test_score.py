"""`bench score`: tables made by anything, from CSV or parquet."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import metrics
from bench.datasets import open_dataset
from bench.datasets.split import split


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
