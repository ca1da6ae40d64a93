"""README against the code it describes: its tables, its commands, its examples run as a reader would run them."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.cli import app
from bench.data_verbs import data_app
from bench.datasets import DATASETS
from bench.pages import PAGES
from bench.suite import Tune, find_suite, known_suites
from conftest import ROOT, write
from generators import REGISTRY

README = (ROOT / "README.md").read_text()
TUNED = 'name = "t"\ndatasets = ["breast-cancer"]\ngenerators = ["smote"]\n'


def table(heading: str) -> list[list[str]]:
    """The rows of the first table after a heading or text."""
    lines = README[README.index(heading) :].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|---"))
    rows = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_table_of_verbs_is_the_command_line() -> None:
    described = {names(row[0])[0].removeprefix("bench ") for row in table("| verb | what")}
    commands = {c.name or c.callback.__name__ for c in app.registered_commands if not c.hidden}
    assert described == commands | {g.name for g in app.registered_groups}
    assert {c.name for c in data_app.registered_commands} == {"list", "check", "fetch"}


def test_the_table_of_datasets_is_the_registry() -> None:
    described = {names(row[0])[0]: (row[1], row[2]) for row in table("## Datasets")}
    assert described == {name: (row.shape, row.access) for name, row in DATASETS.items()}


def test_the_table_of_generators_is_the_registry() -> None:
    rows = table("## Generators")
    assert [name for row in rows for name in names(row[0])] == list(REGISTRY)
    for row in rows:
        for name in names(row[0]):
            assert REGISTRY[name].family == row[1]


def test_the_page_of_metrics_is_the_registry() -> None:
    """Write it anew with `bench list metrics --markdown > metrics/README.md`."""
    assert (ROOT / "metrics" / "README.md").read_text() == PAGES["metrics"]()


def test_the_page_of_datasets_is_the_registry() -> None:
    """Write it anew with `bench list datasets --markdown > bench/datasets/README.md`."""
    assert (ROOT / "bench" / "datasets" / "README.md").read_text() == PAGES["datasets"]()


def test_the_commands_named_exist() -> None:
    for script in re.findall(r"bash (ci/\w+\.sh)", README):
        assert (ROOT / script).is_file()
    for suite in re.findall(r"--suite (\w+)\b(?!\.toml)", README):
        assert suite in known_suites() or suite == "NAME"
    known = {c.name or c.callback.__name__ for c in app.registered_commands} | {g.name for g in app.registered_groups}
    for verb in re.findall(r"(?m)^bench (\w+)", "\n".join(blocks("bash"))):
        assert verb in known


def test_the_board_shown_is_one_this_code_renders() -> None:
    shown = README[README.index("<!-- board -->") :]
    heads = re.search(r"(?m)^\|.*generator.*\|$", shown)
    assert heads
    cells = [c.strip() for c in heads[0].strip("|").split("|")]
    assert cells == ["generator", "fidelity ↑", "utility ↑", "privacy ↑", "cells done"]
    assert "*copycat*" in shown


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_examples_work_as_they_stand(bench, tmp_path: Path) -> None:
    (generator,) = blocks("python")
    tune, roles, suite = blocks("toml")
    assert len(generator.splitlines()) < 20
    assert len(roles.splitlines()) + len(suite.splitlines()) < 20
    assert find_suite(str(write(tmp_path / "t.toml", TUNED + tune))).tune == Tune(trials=20, trial_s=600)
    write(tmp_path / "mine.py", generator)
    write(tmp_path / "loans.toml", roles)
    write(tmp_path / "mine.toml", suite.replace("replicates = 3", "replicates = 1"))
    rng = np.random.default_rng(0)
    n = 300
    y = rng.random(n) < 0.2
    loans = pd.DataFrame({"customer": [f"c{i}" for i in range(n)], "full_name": [f"name {i}" for i in range(n)],
                          "age": rng.integers(20, 80, n), "region": rng.choice(["north", "south"], n),
                          "income": rng.normal(size=n) + y, "defaulted": y.astype(int)})  # fmt: skip
    loans.to_csv(tmp_path / "loans.csv", index=False)
    done = bench("run", "--suite", "mine.toml", "--no-track")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 done" in done.stdout
    examined = bench("doctor", "mine:Jitter", "-p", "scale=0.2")
    assert "pass" in examined.stdout
    for name, part in {"train": loans[:150], "holdout": loans[150:], "synth": loans[:150]}.items():
        part.drop(columns=["customer", "full_name"]).to_csv(tmp_path / f"{name}.csv", index=False)
    (line,) = [b.strip() for b in blocks("bash") if b.startswith("bench score")]
    scored = bench(*line.split()[1:], "--metrics", "ks_gap,mia_distance_auroc_gap")
    assert scored.returncode == 0, scored.stderr
    assert "1.0000" in scored.stdout


def test_nothing_names_a_machine() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("*.toml"), *ROOT.glob("ci/*"), *ROOT.glob("bench/**/*.py")]:
        assert not re.search(r"(?<![\w.])/(home|root|work|Users)/", path.read_text()), path
