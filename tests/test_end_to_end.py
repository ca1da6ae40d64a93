"""From a suite to a board through the bench command: resuming, kills, faults, bad input, shared work."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from conftest import environment, write

TINY = """
name = "tiny"
datasets = ["sim-ehr[codes=12,rows=300]", "sim-icu[rows=150]"]
generators = ["copycat", "marginal", "uniform", "oracle", "smote",
              { name = "ou", params = { steps = 30, width = 16, sample_steps = 5 } }]
"""
SLOW = """
name = "slow"
datasets = ["sim-fraud[rows=1200]"]
generators = ["copycat", "marginal", "fakes:Slow"]
metrics = ["tvd_gap", "ks_gap"]
replicates = 2
"""
BOARDS = ("board.md", "board.csv", "board.json")


def boards(store: Path, suite: str) -> dict[str, bytes]:
    return {name: (store / "boards" / suite / name).read_bytes() for name in BOARDS}


def records(store: Path) -> dict[str, dict]:
    found = [json.loads(p.read_text()) for p in sorted((store / "cells").glob("*/record.json"))]
    return {r["cell"]["label"]: r for r in found}


def start(folder: Path, *args: str) -> subprocess.Popen:
    def heed_interrupts() -> None:  # a job in a shell's background is started deaf to them, and so are its children
        signal.signal(signal.SIGINT, signal.default_int_handler)

    return subprocess.Popen([sys.executable, "-m", "bench", *args], cwd=folder, env=environment(),
                            preexec_fn=heed_interrupts, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)  # fmt: skip


def children(store: Path) -> list[psutil.Process]:
    """Processes at work on a store's cells: those with a log of it open."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(store) in f.path and f.path.endswith(".log") for f in process.open_files()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(condition, seconds: float = 30.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


# --- the whole way ---


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A folder with the tiny suite run whole."""
    folder = tmp_path_factory.mktemp("tiny")
    write(folder / "tiny.toml", TINY)
    done = subprocess.run([sys.executable, "-m", "bench", "run", "--suite", "tiny.toml"], cwd=folder, env=environment(),
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return folder


def test_a_suite_ends_in_a_board(tiny: Path) -> None:
    board = (tiny / "bench-store/boards/tiny/board.md").read_text()
    assert "2 datasets × 6 generators × 1 replicate = 12 cells: 12 done." in board
    assert "*copycat*" in board
    assert " #1 " in board
    found = json.loads((tiny / "bench-store/boards/tiny/board.json").read_text())
    by = {r["generator"]: r for r in found["ranking"]}
    assert by["copycat"]["privacy"]["mean"] == 0
    assert by["copycat"]["reference"]
    assert by["copycat"]["privacy"]["rank"] is None
    assert {by["smote"]["privacy"]["rank"], by["ou"]["privacy"]["rank"]} == {1, 2}
    scores = {(s["dataset"], s["generator"], s["metric"]): s for s in found["scores"]}
    assert scores["sim-icu[rows=150]", "smote", "tstr_auroc"]["low"] is not None


def test_a_second_run_does_no_work_again(tiny: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (tiny / "bench-store/cells").rglob("*") if p.is_file()}
    done = subprocess.run([sys.executable, "-m", "bench", "run", "--suite", "tiny.toml"], cwd=tiny, env=environment(),
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0
    assert "12 stored, 0 to run" in done.stdout
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_plan_status_and_board_read_the_store(tiny: Path) -> None:
    def verb(*args: str) -> str:
        done = subprocess.run([sys.executable, "-m", "bench", *args], cwd=tiny, env=environment(), capture_output=True,
                              text=True, check=True)  # fmt: skip
        return done.stdout

    plan = json.loads(verb("plan", "--suite", "tiny.toml", "--json"))
    assert sum(row["stored"] for row in plan) == 12
    status = json.loads(verb("status", "--suite", "tiny.toml", "--json"))
    assert {row["status"] for row in status} == {"done"}
    assert json.loads(verb("board", "tiny.toml", "--json"))["title"] == "Board: tiny"
    assert verb("board", "tiny.toml") == (tiny / "bench-store/boards/tiny/board.md").read_text()


def test_costs_are_measured_from_outside_and_kept_apart(tiny: Path) -> None:
    cost = next((tiny / "bench-store/cells").glob("*ou*/cost.json"))
    phases = json.loads(cost.read_text())["phases"]
    assert set(phases) == {"start", "load", "split", "fit", "sample", "minority", "score"}
    assert phases["fit"]["seconds"] > 0
    assert phases["fit"]["peak_memory_mb"] > 50
    for name in BOARDS:
        assert "peak_memory" not in (tiny / "bench-store/boards/tiny" / name).read_text()


def test_a_cell_can_be_looked_at_alone(tiny: Path) -> None:
    key = next((tiny / "bench-store/cells").glob("*smote*")).name
    done = subprocess.run([sys.executable, "-m", "bench", "cell", key, "--suite", "tiny.toml"], cwd=tiny,
                          env=environment(), capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "done" in done.stdout


def test_a_changed_metric_scores_again_and_never_trains_again(tiny: Path, tmp_path: Path) -> None:
    store = shutil.copytree(tiny / "bench-store", tmp_path / "bench-store")
    write(tmp_path / "tiny.toml", TINY)
    for path in (store / "cells").glob("*/scores.json"):
        scores = json.loads(path.read_text())
        scores["ks_gap"]["version"] = 0
        path.write_text(json.dumps(scores))
    fits = {p: p.stat().st_mtime_ns for p in (store / "data").rglob("*.parquet")}
    done = subprocess.run([sys.executable, "-m", "bench", "run", "--suite", "tiny.toml", "--no-track"], cwd=tmp_path,
                          env=environment(), capture_output=True, text=True, check=False)  # fmt: skip
    assert "12 to run" in done.stdout
    assert {p: p.stat().st_mtime_ns for p in fits} == fits
    assert boards(store, "tiny") == boards(tiny / "bench-store", "tiny")


def test_part_of_a_suite(bench, tmp_path: Path) -> None:
    write(tmp_path / "tiny.toml", TINY)
    done = bench(
        "run", "--suite", "tiny.toml", "--datasets", "sim-icu", "--generators", "marginal,copycat", "--no-track"
    )
    assert done.returncode == 0, done.stderr
    assert "2 done" in done.stdout
    wrong = bench("run", "--suite", "tiny.toml", "--generators", "marginl")
    assert wrong.returncode == 2
    assert "unknown generator of this suite 'marginl': did you mean 'marginal'?" in wrong.stderr


# --- kills ---


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> dict[str, bytes]:
    """The boards of the slow suite, run without interruption."""
    folder = tmp_path_factory.mktemp("unbroken")
    write(folder / "slow.toml", SLOW)
    process = start(folder, "run", "--suite", "slow.toml", "--no-track")
    assert process.wait(timeout=120) == 0
    return boards(folder / "bench-store", "slow")


@pytest.mark.parametrize("moment", ["at once", "first cell", "in a fit", "last cell"])
def test_killing_the_parent_loses_nothing(moment: str, unbroken, bench, tmp_path: Path) -> None:
    write(tmp_path / "slow.toml", SLOW)
    store = tmp_path / "bench-store"
    process = start(tmp_path, "run", "--suite", "slow.toml", "--no-track")
    if moment == "at once":
        wait_for(lambda: (store / "store.json").exists())
    elif moment == "first cell":
        wait_for(lambda: list(store.glob("cells/*/record.json")))
    elif moment == "in a fit":
        wait_for(lambda: [p for p in store.glob("data/logs/*Slow*.log") if "fit" in p.read_text()])
    else:
        wait_for(lambda: len(list(store.glob("cells/*/record.json"))) >= 5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not children(store))  # the children die with their parent
    assert bench("run", "--suite", "slow.toml", "--no-track").returncode == 0
    assert boards(store, "slow") == unbroken
    assert not list(store.rglob("*.part"))


@pytest.mark.parametrize("times", [1, 2])
def test_killing_a_child_loses_nothing(times: int, unbroken, bench, tmp_path: Path) -> None:
    """A child killed once is started again; one killed twice is a failed row, run again by the next run."""
    write(tmp_path / "slow.toml", SLOW)
    store = tmp_path / "bench-store"
    process = start(
        tmp_path, "run", "--suite", "slow.toml", "--no-track", "--workers", "1", "--generators", "fakes:Slow"
    )
    killed: set[int] = set()
    for _ in range(times):
        child = wait_for(lambda: [c for c in children(store) if c.pid not in killed and running_fit(c)])[0]
        killed.add(child.pid)
        child.kill()
    code = process.wait(timeout=120)
    if times == 1:
        assert code == 0
    else:
        assert code == 1
        failed = [r for r in map(json.loads, (p.read_text() for p in store.glob("cells/*/record.json")))
                  if r["status"] == "failed"]  # fmt: skip
        assert [r["fault"]["type"] for r in failed] == ["Killed"]
        assert failed[0]["fault"]["message"] == "killed twice from outside (SIGKILL)"
    assert bench("run", "--suite", "slow.toml", "--no-track").returncode == 0
    assert boards(store, "slow") == unbroken


def running_fit(process: psutil.Process) -> bool:
    try:
        log = next(f.path for f in process.open_files() if f.path.endswith(".log"))
        return Path(log).read_text().rstrip().endswith("fit")
    except (psutil.Error, StopIteration, OSError):
        return False


def test_two_runs_at_once_share_the_work(unbroken, tmp_path: Path) -> None:
    write(tmp_path / "slow.toml", SLOW)
    both = [start(tmp_path, "run", "--suite", "slow.toml", "--no-track", "--workers", "2") for _ in range(2)]
    assert [p.wait(timeout=120) for p in both] == [0, 0]
    assert boards(tmp_path / "bench-store", "slow") == unbroken
    for log in (tmp_path / "bench-store/data/logs").glob("*Slow*.log"):
        assert log.read_text().count("] fit") == 1  # no cell was trained twice


def test_an_interrupt_stops_the_children(tmp_path: Path) -> None:
    write(tmp_path / "slow.toml", SLOW)
    process = start(tmp_path, "run", "--suite", "slow.toml", "--no-track")
    wait_for(lambda: children(tmp_path / "bench-store"))
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    wait_for(lambda: not children(tmp_path / "bench-store"))


# --- generators that fail ---

BAD = """
name = "bad"
datasets = ["sim-fraud[rows=1200]"]
generators = ["copycat", "fakes:Raises", "fakes:Sleeps", "fakes:EatsMemory", "fakes:Crashes", "fakes:Exits",
              "fakes:ExitsPolitely", "fakes:LacksAColumn", "fakes:WrongDtype", "fakes:GivesNaN", "fakes:GivesTooFew",
              "marginal"]
metrics = ["tvd_gap", "ks_gap"]
[limits]
time_s = 15
memory_mb = 900
"""
REASONS = {
    "fakes:Raises": ("failed", "in fit: RuntimeError: this generator always fails"),
    "fakes:Sleeps": ("timeout", "in fit: over the limit of 15 s"),
    "fakes:EatsMemory": ("failed", "MiB resident, the limit is 900 MiB"),
    "fakes:Crashes": ("failed", "in fit: Crashed: the process died of SIGSEGV"),
    "fakes:Exits": ("failed", "in fit: Exited: the process ended with code 7 and no record"),
    "fakes:ExitsPolitely": ("failed", "in fit: Exited: the process ended with code 3 and no record"),
    "fakes:LacksAColumn": ("failed", "in sample: LawError: samples: column 'F01' missing"),
    "fakes:WrongDtype": ("failed", "in sample: LawError: samples: column 'F01' has dtype float32, expected float64"),
    "fakes:GivesNaN": ("failed", "in sample: LawError: samples: column 'F01' has 1 missing values, train has none"),
    "fakes:GivesTooFew": ("failed", "in sample: LawError: samples: 959 subjects, expected 960"),
}


def test_each_failure_is_one_row_with_one_line(bench, tmp_path: Path) -> None:
    write(tmp_path / "bad.toml", BAD)
    done = bench("run", "--suite", "bad.toml", "--no-track")
    assert done.returncode == 1
    found = records(tmp_path / "bench-store")
    board = (tmp_path / "bench-store/boards/bad/board.md").read_text()
    for label, (status, line) in REASONS.items():
        assert found[label]["status"] == status
        assert found[label]["fault"]["phase"] in ("fit", "sample")
        assert line in board
        cost = json.loads(
            next((tmp_path / "bench-store/cells").glob(f"*{label.replace(':', '-')}*/cost.json")).read_text()
        )
        assert cost["phases"][found[label]["fault"]["phase"]]["seconds"] >= 0
    assert found["copycat"]["status"] == found["marginal"]["status"] == "done"
    assert found["fakes:EatsMemory"]["fault"]["type"] == "MemoryLimit"
    again = bench("run", "--suite", "bad.toml", "--no-track")
    assert "0 to run" in again.stdout  # a failure is a result
    retried = bench("run", "--suite", "bad.toml", "--no-track", "--retry", "failed", "--generators", "fakes:Raises")
    assert "1 to run" in retried.stdout
    assert retried.returncode == 1
    assert bench("run", "--suite", "bad.toml", "--retry", "faild").returncode == 2


def test_values_of_a_users_table_stay_out_of_reasons(bench, tmp_path: Path) -> None:
    frame = pd.DataFrame({"secret": [f"canary-{i % 7}" for i in range(60)], "y": [0, 1] * 30})
    frame.to_csv(tmp_path / "mine.csv", index=False)
    write(tmp_path / "mine.toml", 'file = "mine.csv"\ntarget = "y"\n')
    write(
        tmp_path / "s.toml", 'name = "s"\ndatasets = ["mine.toml"]\ngenerators = ["fakes:TellsTheValue", "marginal"]\n'
    )
    done = bench("run", "--suite", "s.toml")
    assert done.returncode == 1
    assert "KeyError: raised at fakes.py:" in done.stdout
    assert "canary" not in done.stdout + done.stderr
    store = tmp_path / "bench-store"
    public = [p for p in store.rglob("*") if p.is_file() and store / "data" not in p.parents]
    assert len(public) > 10
    for path in public:
        assert b"canary" not in path.read_bytes(), path
    log = next((store / "data/logs").glob("*TellsTheValue*"))
    assert "canary" in log.read_text()  # the private log has it
    assert log.stat().st_mode & 0o077 == 0


# --- bad input ---


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("run", "--suite", "smoek"), "unknown suite 'smoek': did you mean 'smoke'?"),
        (("run", "--suite", "gone.toml"), "gone.toml: no such file"),
        (("run", "--suite", "smoke", "--data", "gone"), "data folder gone does not exist"),
        (("plan", "--suite", "broken.toml"), "broken.toml: not valid TOML"),
        (("list", "genrators"), "unknown registry 'genrators': did you mean 'generators'?"),
        (("doctor", "smoet"), "unknown generator 'smoet': did you mean 'smote'?"),
        (("doctor", "smote", "-p", "kk=1"), "generator 'smote' has no parameter 'kk'"),
        (("data", "check", "creditcrd"), "unknown dataset 'creditcrd': did you mean 'creditcard'?"),
        (("data", "check", "creditcard"), "absent: put creditcard.csv into DATA/creditcard"),
        (("ui",), "no MLflow runs yet"),
        (("run", "--suite", "smoke", "--store", "broken.toml"), "cannot be written"),
    ],
)
def test_bad_input_is_one_clear_line(args, says, bench, tmp_path: Path) -> None:
    write(tmp_path / "broken.toml", "name = [")
    done = bench(*args)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_a_suite_without_its_data_says_so(bench) -> None:
    done = bench("run", "--suite", "open", "--no-track")
    assert done.returncode == 2
    assert "nothing is done: absent: put" in done.stderr
    assert "180 cannot run here" in done.stdout  # five datasets, twelve generators, three replicates


def test_a_damaged_stage_is_one_clear_line_and_made_again_on_request(bench, tmp_path: Path) -> None:
    write(tmp_path / "slow.toml", SLOW.replace('"fakes:Slow"', '"smote"').replace("replicates = 2", "replicates = 1"))
    assert bench("run", "--suite", "slow.toml", "--no-track").returncode == 0
    store = tmp_path / "bench-store"
    before = boards(store, "slow")
    cell = next(store.glob("cells/*marginal*"))
    (store / "data/samples" / cell.name / "synth.parquet").write_bytes(b"PAR1 broken PAR1")
    scores = json.loads((cell / "scores.json").read_text())
    scores["ks_gap"]["version"] = 0  # so that the samples are wanted again
    (cell / "scores.json").write_text(json.dumps(scores))
    done = bench("run", "--suite", "slow.toml", "--no-track")
    assert done.returncode == 1
    assert "synth.parquet is damaged: remove" in done.stdout
    assert bench("run", "--suite", "slow.toml", "--no-track", "--retry", "failed").returncode == 0
    assert boards(store, "slow") == before


def test_records_of_other_cells_are_left_out_and_made_again(bench, tmp_path: Path) -> None:
    suite = 'name = "s"\ndatasets = ["breast-cancer"]\ngenerators = ["copycat", "marginal", "uniform"]\n'
    write(tmp_path / "s.toml", suite + 'metrics = ["tvd_gap", "ks_gap"]\n')
    assert bench("run", "--suite", "s.toml", "--no-track").returncode == 0
    store = tmp_path / "bench-store"
    before = boards(store, "s")
    copycat, marginal, uniform = (next(store.glob(f"cells/*{name}*")) for name in ("copycat", "marginal", "uniform"))
    shutil.copy(copycat / "record.json", marginal)
    shutil.copytree(copycat, uniform, dirs_exist_ok=True)
    told = bench("board", "s.toml")
    assert told.stdout.count("not run yet") == 2
    assert [line.split(": ")[1:4] for line in told.stderr.splitlines()] == [
        ["warning", f"{cell}/record.json is damaged", f"it is of cell {copycat.name}, expected {cell.name}"]
        for cell in (marginal, uniform)
    ]
    done = bench("run", "--suite", "s.toml", "--no-track")
    assert done.returncode == 0, done.stderr
    assert "3: 1 stored, 2 to run" in done.stdout
    assert boards(store, "s") == before


def test_a_damaged_table_is_one_clear_line_and_made_again_on_request(bench, tmp_path: Path) -> None:
    suite = (
        'name = "s"\ndatasets = ["breast-cancer"]\ngenerators = ["marginal"]\nmetrics = ["ks_gap"]\nreplicates = 2\n'
    )
    write(tmp_path / "s.toml", suite.replace("replicates = 2", "replicates = 1"))
    assert bench("run", "--suite", "s.toml", "--no-track").returncode == 0
    next((tmp_path / "bench-store/data/tables").glob("*/table.parquet")).write_bytes(b"PAR1")
    write(tmp_path / "s.toml", suite)
    done = bench("run", "--suite", "s.toml", "--no-track")
    assert done.returncode == 1
    assert "table.parquet is damaged: remove" in done.stdout
    assert "1 done, 1 failed" in done.stdout
    assert bench("run", "--suite", "s.toml", "--no-track", "--retry", "failed").returncode == 0


def test_a_full_disk_stops_the_run_and_loses_nothing(small_disk: Path, bench, tmp_path: Path) -> None:
    write(tmp_path / "tiny.toml", TINY + 'metrics = ["tvd_gap", "ks_gap"]\n')
    fill = small_disk / "fill"
    store = small_disk / "s"
    args = ("--suite", "tiny.toml", "--store", str(store), "--no-track")
    assert bench("run", *args, "--datasets", "sim-icu", "--generators", "copycat").returncode == 0
    kept = (next(store.glob("cells/*/record.json"))).read_bytes()
    fill.write_bytes(b"x" * (os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize - 60_000))
    done = bench("run", *args)
    assert done.returncode == 2, done.stdout
    assert "No space left on device" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert next(store.glob("cells/*icu*copycat*/record.json")).read_bytes() == kept
    fill.unlink()
    done = bench("run", *args)
    assert done.returncode == 0, done.stdout + done.stderr + bench("status", *args[:4]).stdout


def test_a_read_only_store_is_one_clear_line(small_disk: Path, bench, tmp_path: Path) -> None:
    write(tmp_path / "tiny.toml", TINY + 'metrics = ["tvd_gap", "ks_gap"]\n')
    store = small_disk / "s"
    args = ("--suite", "tiny.toml", "--store", str(store))
    assert bench("run", *args, "--no-track", "--datasets", "sim-icu", "--generators", "copycat").returncode == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = bench("run", *args, "--no-track")
    assert done.returncode == 2
    assert "cannot be written: Read-only file system" in done.stderr
    status = bench("status", *args, "--json")  # looking is still possible
    assert "done" in {row["status"] for row in json.loads(status.stdout)}


# --- a user's own ---


def test_a_users_generator_on_a_users_table(bench, tmp_path: Path) -> None:
    write(
        tmp_path / "mine.py",
        "class Resample:\n"
        "    def fit(self, train):\n"
        "        self.train = train\n"
        "    def sample(self, n, *, seed):\n"
        "        rows = self.train.sample(n, replace=True, random_state=seed)\n"
        "        return rows.set_axis(range(n)).rename_axis('subject')\n",
    )
    frame = pd.DataFrame({"age": range(200), "place": ["a", "b"] * 100, "y": [1, 0, 0, 0] * 50})
    frame.to_csv(tmp_path / "mine.csv", index=False)
    write(tmp_path / "mine.toml", 'file = "mine.csv"\ntarget = "y"\nquasi = ["age"]\n')
    write(
        tmp_path / "s.toml",
        'name = "s"\ndatasets = ["mine.toml"]\ngenerators = ["copycat", "marginal", "mine:Resample"]\n',
    )
    done = bench("run", "--suite", "s.toml", "--no-track")
    assert done.returncode == 0, done.stdout + done.stderr
    found = records(tmp_path / "bench-store")["mine:Resample"]["scores"]
    assert "value" in found["boost_f1_score/xgb/100/half/gain"]  # positives by rejection
    frame.loc[0, "age"] = 999
    frame.to_csv(tmp_path / "mine.csv", index=False)
    assert "3 to run" in bench("run", "--suite", "s.toml", "--no-track").stdout  # other bytes, other cells


def test_doctor_examines_a_users_generator(bench, tmp_path: Path) -> None:
    done = bench("doctor", "fakes:GivesTooFew", "--json")
    rows = json.loads(done.stdout)
    assert done.returncode == 1
    assert {r["check"] for r in rows if r["outcome"] == "fail"} >= {"obeys_the_law"}
    report = bench("doctor", "--json")
    assert report.returncode == 0
    assert {"python", "cores", "torch", "xgboost"} <= {r["what"] for r in json.loads(report.stdout)}


def test_every_table_printing_verb_takes_json(bench) -> None:
    for what in ("generators", "metrics", "datasets", "suites"):
        assert json.loads(bench("list", what, "--json").stdout)
    assert json.loads(bench("data", "list", "--json").stdout)
    assert json.loads(bench("data", "check", "breast-cancer", "--json").stdout)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own use of SQLAlchemy
def test_tuning_inside_the_suite(bench, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    text = ('name = "t"\ndatasets = ["breast-cancer[rows=200]"]\ngenerators = ["copycat", "marginal", "smote"]\n'
            'metrics = ["c2st_auroc_gap", "tstr_auprc"]\n[tune]\ntrials = 3\n')  # fmt: skip
    write(tmp_path / "t.toml", text)
    done = bench("run", "--suite", "t.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    tuned = json.loads(next((tmp_path / "bench-store/studies").glob("*smote*/tuned.json")).read_text())
    assert len(tuned["trials"]) == 3
    assert tuned["trials"][0]["params"] == {"k": 5, "variant": "auto"}  # the defaults come first
    assert not list((tmp_path / "bench-store/studies").glob("*copycat*"))
    client = MlflowClient(f"sqlite:///{tmp_path}/bench-store/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 't'")
    runs = {r.info.run_name: r for r in client.search_runs([experiment.experiment_id])}
    parent = runs["breast-cancer[rows=200] · smote"]
    assert parent.data.tags["tuned.r0"].startswith(("trial ", "defaults: "))
    artifacts = Path(parent.info.artifact_uri.removeprefix("file://"))
    table = pd.read_csv(artifacts / "tuning/trials.csv")
    assert list(table["number"]) == [t["number"] for t in tuned["trials"]]
    assert {"state", "seconds", "balanced", "param.k", "param.variant", "c2st_auroc_gap"} <= set(table.columns)
    assert [p.suffix for p in (artifacts / "pictures").iterdir()] == [".png"]
    child = runs["breast-cancer[rows=200] · smote · replicate 0"]
    assert child.data.metrics["inner_default"] == tuned["default"][0]
    assert child.data.tags["best_trial"] == parent.data.tags["tuned.r0"]
    assert "breast-cancer[rows=200] · smote untuned" in runs
    again = bench("track", "t.toml")
    assert "0 runs written" in again.stdout


def test_one_study_from_the_command_line(bench, tmp_path: Path) -> None:
    text = ('name = "t"\ndatasets = ["breast-cancer[rows=200]"]\ngenerators = ["copycat", "marginal", "smote"]\n'
            'metrics = ["c2st_auroc_gap"]\n[tune]\ntrials = 3\nprivacy = {}\n')  # fmt: skip
    write(tmp_path / "t.toml", text)
    said = bench("tune", "breast-cancer", "smote", "--suite", "t.toml")
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("trial ") == 4  # three, and the best of them
    assert "breast-cancer[rows=200] · smote · replicate 0: 3 trials" in said.stdout
    logs = [p.stat().st_mode & 0o777 for p in (tmp_path / "bench-store/data/logs").iterdir()]
    assert logs == [0o600]
    found = json.loads(bench("tune", "breast-cancer", "smote", "--suite", "t.toml", "--json").stdout)
    assert len(found["trials"]) == 3
    before = (tmp_path / "bench-store/studies").stat().st_mtime_ns
    assert bench("run", "--suite", "t.toml", "--no-track").returncode == 0  # with the study that is there
    assert (tmp_path / "bench-store/studies").stat().st_mtime_ns == before
    written = bench("tuned", "t.toml", "mine", "--to", "out")
    assert "1 studies written to out/mine.json" in written.stdout
    write(tmp_path / "again.toml", 'tune = "from:out/mine.json"\n' + text[: text.index("[tune]")])
    assert bench("run", "--suite", "again.toml", "--no-track").returncode == 0
    refused = bench("run", "--suite", "t.toml", "--studies", "mysql://u:hunter2@h/d")
    assert (refused.returncode, "study storage mysql://h/d: expected" in refused.stderr) == (2, True)
    spaces = json.loads(bench("list", "spaces", "--json").stdout)
    assert {"generator": "smote", "parameter": "k", "kind": "int", "values": "1 to 20", "scale": "",
            "default": "5"} in spaces  # fmt: skip
    for wrong, says in [
        (("mammography", "smote", "--suite", "t.toml"), "unknown dataset of this suite 'mammography'"),
        (("breast-cancer", "gan", "--suite", "t.toml"), "unknown tuned generator of this suite 'gan'"),
        (("breast-cancer", "smote", "--suite", "t.toml", "--replicate", "2"), "replicate 2: suite t has 0 to 0"),
        (("breast-cancer", "copycat"), "generator 'copycat' has no tuning space"),
        (("breast-cancer", "smote", "--trials", "0"), "no budget"),
        (("breast-cancer", "smote", "--studies", "mysql://u:hunter2@h/d"), "study storage mysql://h/d: expected"),
    ]:
        failed = bench("tune", *wrong)
        assert failed.returncode == 2, failed.stdout
        assert says in failed.stderr
        assert "hunter2" not in failed.stderr + failed.stdout
        assert failed.stderr.count("\n") == 1
