"""The MLflow mirror: what a user finds in the pages, replay without doubles, a dead server."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import environment, write

SUITE = """
name = "tracked"
datasets = ["breast-cancer"]
generators = ["copycat", "marginal", { name = "smote", params = { k = 3 } }, "oracle"]
metrics = ["fidelity", "tstr_auroc", "mia_distance_auroc_gap"]
replicates = 2
"""


def verb(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "bench", *args], cwd=folder, env=environment(), capture_output=True,
                          text=True, check=False, timeout=200)  # fmt: skip


@pytest.fixture(scope="module")
def tracked(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tracked")
    write(folder / "tracked.toml", SUITE)
    done = verb(folder, "run", "--suite", "tracked.toml")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder


@pytest.fixture
def runs(tracked: Path, monkeypatch: pytest.MonkeyPatch):
    """All live runs of the experiment, by bench.id, and a client."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tracked}/bench-store/mlflow.db")
    experiment = client.get_experiment_by_name("tracked")
    assert str(tracked) in experiment.artifact_location
    found = client.search_runs([experiment.experiment_id], max_results=500)
    return {r.data.tags["bench.id"]: r for r in found}, client


@pytest.mark.filterwarnings("ignore")  # mlflow's own imports warn
def test_parents_children_and_boards(runs) -> None:
    found, client = runs
    parents = {k for k in found if k.startswith("breast-cancer/")}
    assert parents == {f"breast-cancer/{g}" for g in ("copycat", "marginal", "smote", "oracle")}
    smote = found["breast-cancer/smote"]
    assert smote.info.run_name == "breast-cancer · smote"
    assert smote.data.params == {"dataset": "breast-cancer", "generator": "smote"}
    assert (
        smote.data.metrics["tstr_auroc.low"] < smote.data.metrics["tstr_auroc"] < smote.data.metrics["tstr_auroc.high"]
    )
    children = [r for r in found.values() if r.data.tags.get("mlflow.parentRunId") == smote.info.run_id]
    assert len(children) == 2
    child = children[0]
    assert child.data.params["param.k"] == "3"
    assert child.data.metrics["fit_s"] >= 0
    assert child.data.metrics["peak_memory_mb"] > 10
    assert child.data.tags["env.xgboost"]
    assert {a.path for a in client.list_artifacts(child.info.run_id)} == {"record.json"}
    oracle = found["breast-cancer/oracle"]
    assert oracle.info.status == "KILLED"
    assert oracle.data.tags["status"] == "skipped"
    board = found["board"]
    assert {a.path for a in client.list_artifacts(board.info.run_id)} == {
        "board.md",
        "board.csv",
        "board.json",
        "cost.md",
        "ranking.json",
        "scores.json",
    }
    assert json.loads(board.data.tags["mlflow.loggedArtifacts"]) == [{"path": "ranking.json", "type": "table"}]
    assert smote.data.metrics["fidelity.low"] < smote.data.metrics["fidelity"]
    assert board.data.metrics["fidelity/smote"] == pytest.approx(smote.data.metrics["fidelity"])  # of one dataset
    assert len(smote.data.metrics) < 50


@pytest.mark.filterwarnings("ignore")
def test_replay_writes_nothing_twice(tracked: Path, runs) -> None:
    before = {k: r.info.run_id for k, r in runs[0].items()}
    assert "0 runs written" in verb(tracked, "track", "tracked.toml").stdout
    (tracked / "bench-store/tracking.json").unlink()  # even where it has forgotten what it wrote
    assert "0 runs written" in verb(tracked, "track", "tracked.toml").stdout
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tracked}/bench-store/mlflow.db")
    after = client.search_runs([client.get_experiment_by_name("tracked").experiment_id], max_results=500)
    assert {r.data.tags["bench.id"]: r.info.run_id for r in after} == before


@pytest.mark.filterwarnings("ignore")
def test_pictures_are_artifacts_of_the_parent(tracked: Path) -> None:
    drawn = verb(tracked, "draw", "tracked.toml", "--replicate", "1", "--json")
    assert drawn.returncode == 0, drawn.stderr
    paths = {row["generator"]: Path(row["picture"]).name for row in json.loads(drawn.stdout) if row["picture"]}
    assert set(paths) == {"marginal", "smote"}
    assert "0 runs written" in verb(tracked, "track", "tracked.toml").stdout
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tracked}/bench-store/mlflow.db")
    experiment = client.get_experiment_by_name("tracked").experiment_id
    for run in client.search_runs([experiment], "tags.kind = 'mean over replicates'"):
        generator = run.data.tags["generator"]
        kept = [a.path for a in client.list_artifacts(run.info.run_id, "pictures")]
        assert kept == ([f"pictures/{paths[generator]}"] if generator in paths else [])


def test_a_changed_record_replaces_its_run_and_a_lost_database_is_written_again(tracked: Path) -> None:
    path = next((tracked / "bench-store/cells").glob("*smote.r0*/record.json"))
    kept = path.read_text()
    record = json.loads(kept)
    record["scores"]["tstr_auroc"]["value"] = 0.123
    path.write_text(json.dumps(record))
    assert "3 runs written" in verb(tracked, "track", "tracked.toml").stdout  # the child, its parent, the boards
    path.write_text(kept)
    assert "3 runs written" in verb(tracked, "track", "tracked.toml").stdout
    (tracked / "bench-store/mlflow.db").unlink()
    assert "13 runs written" in verb(tracked, "track", "tracked.toml").stdout  # 4 parents, 8 children, the boards


def test_a_dead_server_costs_a_warning_and_nothing_else(tracked: Path, tmp_path: Path) -> None:
    write(tmp_path / "tracked.toml", SUITE.replace("replicates = 2", "replicates = 1"))
    start = time.monotonic()
    done = verb(tmp_path, "run", "--suite", "tracked.toml", "--tracking-uri", "http://user:secret@127.0.0.1:9")
    assert done.returncode == 0
    assert "3 done, 1 skipped" in done.stdout
    assert "bench: warning: MLflow at http://***@127.0.0.1:9" in done.stderr
    assert "replay with `bench track`" in done.stderr
    assert "secret" not in done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert time.monotonic() - start < 90
    again = verb(tmp_path, "track", "tracked.toml", "--tracking-uri", "http://127.0.0.1:9")
    assert again.returncode == 2  # asked for by itself, it is an error
