"""bench/check.py: exit codes, reports, new references with their history, and errors as one clear line."""

from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from bench import check as module
from bench.check import check
from bench.errors import BenchError
from bench.store import Store
from bench.suite import Suite, find_suite
from conftest import write
from leaderboards import COLUMNS, scores

SUITE = """
name = "tiny"
about = "Two metrics."
datasets = ["breast-cancer"]
generators = ["copycat", "marginal"]
metrics = ["tstr_auroc", "c2st_auroc_gap"]
replicates = 4
"""
SPREAD = (-0.02, -0.01, 0.01, 0.02)


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return find_suite(str(write(tmp_path / "tiny.toml", SUITE)))


def table(shift: float = 0.0, *, replicates: int = 4, generators=("copycat", "marginal"), dataset="d") -> pd.DataFrame:
    """A long table; marginal's tstr_auroc is lower by `shift`."""
    rows = [
        (dataset, generator, r, metric, 0.7 + SPREAD[r])
        for generator in generators for r in range(replicates) for metric in ("tstr_auroc", "c2st_auroc_gap")
    ]  # fmt: skip
    found = pd.DataFrame(rows, columns=["dataset", "generator", "replicate", "metric", "value"])
    moved = (found["generator"] == "marginal") & (found["metric"] == "tstr_auroc")
    return found.assign(value=found["value"] - shift * moved)


def saved(path: Path, found: pd.DataFrame, **about) -> Path:
    """A file of scores of the kind that the path's ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        found.to_parquet(path)
    else:
        found.to_csv(path.with_suffix(".csv"), index=False)
    if path.suffix == ".json":
        path.write_text(scores.to_text(scores.read_table(path.with_suffix(".csv")), **about))
    return path


def run(suite: Suite, tmp_path: Path, now: Path | None, against: Path | None = None, **more) -> int:
    asked = {"update": "", "markdown": None, "junit": None} | more
    return check(suite, Store(tmp_path / "store"), None, against=against, scores=now, **asked)


@pytest.mark.parametrize("kind", ["json", "csv", "parquet"])
def test_exit_codes_and_reports(suite: Suite, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture) -> None:
    reference = saved(tmp_path / "reference.json", table())
    assert run(suite, tmp_path, saved(tmp_path / f"same.{kind}", table()), reference) == 0
    assert "Nothing is worse than the reference." in capsys.readouterr().out
    text, report = tmp_path / "out" / "check.md", tmp_path / "out" / "check.xml"
    worse = saved(tmp_path / f"worse.{kind}", table(0.3, replicates=3))
    assert run(suite, tmp_path, worse, reference, markdown=text, junit=report) == 1
    assert "| regression | d | marginal | tstr_auroc |" in " ".join(capsys.readouterr().out.split())
    assert text.read_text().startswith("**Worse than the reference.**")
    assert ElementTree.parse(report).getroot().get("failures") == "1"
    assert run(suite, tmp_path, saved(tmp_path / f"better.{kind}", table(-0.2)), reference) == 0


def test_a_vanished_row_fails_and_a_new_one_does_not(suite: Suite, tmp_path: Path) -> None:
    both, one = saved(tmp_path / "both.csv", table()), saved(tmp_path / "one.csv", table(generators=("copycat",)))
    assert run(suite, tmp_path, one, both) == 1
    assert run(suite, tmp_path, both, one) == 0


def test_which_metrics_are_compared(suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    now = saved(tmp_path / "now.csv", table(0.3))
    assert run(suite, tmp_path, now, saved(tmp_path / "a.json", table())) == 1  # the suite's
    assert run(suite, tmp_path, now, saved(tmp_path / "b.json", table(), headline=["c2st_auroc_gap"])) == 0
    assert run(suite, tmp_path, now, tmp_path / "b.json", metric_names=["tstr_auroc"]) == 1
    every = suite.model_copy(update={"metrics": ()})  # more than eight: the boards' key metrics that both sides have
    assert run(every, tmp_path, now, tmp_path / "a.json") == 1


def test_a_new_reference_has_a_reason_and_a_history(
    suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BOARDS", tmp_path / "boards")
    place = tmp_path / "boards" / "tiny.json"
    assert run(suite, tmp_path, saved(tmp_path / "first.csv", table()), update="first") == 0
    assert "reference written" in capsys.readouterr().out
    now = saved(tmp_path / "now.csv", table(0.3))
    assert run(suite, tmp_path, now) == 1
    capsys.readouterr()
    assert run(suite, tmp_path, now, update="a harder split") == 0
    assert "| regression |" in capsys.readouterr().out  # what it changes is said
    assert run(suite, tmp_path, now) == 0
    frame, facts = scores.read(place)
    assert facts["headline"] == ["c2st_auroc_gap", "tstr_auroc"] or facts["headline"] == [
        "tstr_auroc",
        "c2st_auroc_gap",
    ]
    assert (facts["suite"], facts["about"]) == ("tiny", "Two metrics.")
    assert [entry["reason"] for entry in facts["history"]] == ["first", "a harder split"]
    assert {"python", "numpy", "torch", "xgboost", "scikit-learn"} <= set(facts["history"][0]["versions"])
    assert len(frame) == 16
    assert [p.name for p in place.parent.iterdir()] == ["tiny.json"]


def test_what_is_no_reference_is_refused_and_the_old_one_stays(suite: Suite, tmp_path: Path) -> None:
    place = saved(tmp_path / "reference.json", table())
    before = place.read_bytes()
    two = saved(tmp_path / "two.csv", table(replicates=2))
    with pytest.raises(BenchError, match=r"no reference of 2 replicates \(d · copycat\): expected 3 or more"):
        run(suite, tmp_path, two, place, update="why not")
    whole = saved(tmp_path / "off.json", table())
    done, failed = '"status": "done", "reason": ""', '"status": "failed", "reason": "in fit: E"'
    text = whole.read_text().replace(f'"replicate": 1, {done}', f'"replicate": 1, {failed}', 1)
    whole.write_text(text)
    with pytest.raises(BenchError, match="cells that are not done: d · copycat · r1: failed: in fit: E"):
        run(suite, tmp_path, whole, place, update="why not")
    now = saved(tmp_path / "now.csv", table())
    with pytest.raises(BenchError, match="--update: expected the reason"):
        run(suite, tmp_path, now, place, update=" ")
    with pytest.raises(BenchError, match=r"a reference is a \.json file"):
        run(suite, tmp_path, now, now, update="why not")
    assert place.read_bytes() == before


def test_where_nothing_can_be_compared(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BOARDS", tmp_path / "boards")
    now = saved(tmp_path / "now.csv", table())
    with pytest.raises(BenchError, match=r"no reference \S+/boards/tiny.json: write one with --update"):
        run(suite, tmp_path, now)
    with pytest.raises(BenchError, match="no dataset and generator in common"):
        run(suite, tmp_path, now, saved(tmp_path / "other.csv", table(dataset="e")))
    with pytest.raises(BenchError, match="suite tiny has no done cell: run it first: bench run --suite tiny"):
        run(suite, tmp_path, None, now)
    with pytest.raises(BenchError, match="no score of metric 'ks_gap' on either side: known: c2st_auroc_gap, tstr_"):
        run(suite, tmp_path, now, now, metric_names=["ks_gap"])
    with pytest.raises(BenchError, match="9 metrics, expected 1 to 8"):
        run(suite, tmp_path, now, now, metric_names=["tstr_auroc"] * 9)
    single = saved(tmp_path / "single.csv", table(replicates=1))
    with pytest.raises(BenchError, match="one replicate on both sides"):
        run(suite, tmp_path, single, single)
    with pytest.raises(BenchError, match="cannot be written"):
        run(suite, tmp_path, now, now, junit=now / "check.xml")


GOOD = "dataset,generator,replicate,metric,value\nd,a,0,ks_gap,0.1\n"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("s.csv", GOOD.replace(",value", ",valu"), "no column 'value', expected dataset, generator, replicate, metric"),
        ("s.csv", GOOD + "d,a,1,ks_gap,much\n", "row 2: value is no finite number"),
        ("s.csv", GOOD + "d,a,1,ks_gap,inf\n", "row 2: value is no finite number"),
        ("s.csv", GOOD + "d,a,1.5,ks_gap,0.1\n", "row 2: replicate is no whole number from 0"),
        ("s.csv", GOOD + "d,,1,ks_gap,0.1\n", "row 2: generator is blank"),
        ("s.csv", GOOD + "d,a,0,ks_gap,0.2\n", "row 2: this score stands there before"),
        ("s.csv", GOOD.splitlines()[0], "no rows, expected one per dataset, generator, replicate and metric"),
        ("s.csv", "", "not a table, expected a CSV or parquet file"),
        ("s.parquet", GOOD, "not a table, expected a CSV or parquet file"),
        ("s.json", GOOD, "not a file of scores"),
        ("s.txt", GOOD, "expected a .json, .csv or .parquet file of scores"),
        ("absent.csv", None, "No such file"),
        ("absent.json", None, "No such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_clear_line(suite: Suite, tmp_path: Path, name, text, says) -> None:
    if text is not None:
        write(tmp_path / name, text)
    with pytest.raises(BenchError) as error:
        run(suite, tmp_path, tmp_path / name, saved(tmp_path / "reference.json", table()))
    assert says in str(error.value)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_a_users_table_is_a_frame_like_any_other(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", GOOD + "7,b,0,ks_gap,\n")
    found = scores.read_table(path)
    assert list(found.columns) == COLUMNS
    assert found["dataset"].tolist() == ["d", "7"]
    assert found["undefined"].tolist() == ["", "no value in s.csv"]
    back, _ = scores.from_text(scores.to_text(found))
    pd.testing.assert_frame_equal(back, found, check_dtype=False)
