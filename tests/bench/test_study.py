"""A study on its own: resuming, lost trials, repeats, workers; its trials cost nothing here."""

import contextlib
import fcntl
import multiprocessing as mp
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import pytest

from bench.apart import forking
from bench.errors import BenchError
from bench.storage import shown
from bench.store import flock
from bench.study import Study
from bench.suite import Tune

DEFAULTS = {"x": 0.5, "y": 3, "z": "a", "unused": 1}


def suggest(trial: Any) -> dict[str, Any]:
    return {
        "x": trial.suggest_float("x", 1e-3, 1.0, log=True),
        "y": trial.suggest_int("y", 1, 9),
        "z": trial.suggest_categorical("z", ["a", "b"]),
    }


def worth(params: dict[str, Any], aims: int) -> list[float]:
    return [-((params["x"] - 0.2) ** 2) - 0.01 * abs(params["y"] - 5) + 0.1 * (params["z"] == "b"), params["x"]][:aims]


def opened(folder: Path, **change: Any) -> Study:
    plain = {"url": "", "seed": 7, "aims": 1, "sampler": "tpe", "pruner": "none", "suggest": suggest}
    return Study("s", folder, defaults=DEFAULTS, alone=contextlib.nullcontext, **{**plain, **change})


def end(study: Study, trial: Any, aims: int = 1) -> None:
    params = trial.user_attrs["params"]
    ended = {"status": "done", "values": worth(params, aims), "excess": {"risk": params["x"] - 0.8}, "seconds": 1.0}
    study.tell(trial, ended)


def work(study: Study, trials: int, aims: int = 1, most: int = 99) -> None:
    for _ in range(most):
        trial = study.next(trials, None)
        if trial is None:
            return
        end(study, trial, aims)


def history(study: Study) -> list[tuple[int, dict[str, Any], list[float]]]:
    return [(t.number, t.params, t.values) for t in study.ended()]


def in_a_child(task: Callable[[], None]) -> None:
    """Run a task in a process that then dies without a word."""

    def run() -> None:
        task()
        os._exit(9)

    with forking():
        process = mp.get_context("fork").Process(target=run)
        process.start()
    process.join()
    assert process.exitcode == 9


@pytest.mark.parametrize("sampler", get_args(Tune.model_fields["sampler"].annotation))
def test_a_resumed_study_is_the_study_it_would_have_been(sampler: str, tmp_path: Path) -> None:
    aims = 2 if sampler == "nsga2" else 1
    whole = opened(tmp_path / "whole", sampler=sampler, aims=aims)
    work(whole, 14, aims)
    cut = tmp_path / "cut"
    for most in (1, 3, 5):  # each process ends some trials and is killed in the next

        def task(most: int = most) -> None:
            study = opened(cut, sampler=sampler, aims=aims)
            work(study, 14, aims, most=most)
            assert study.next(14, None) is not None

        in_a_child(task)
    last = opened(cut, sampler=sampler, aims=aims)
    work(last, 14, aims)
    assert len(history(whole)) == 14
    assert history(last) == history(whole)


def test_the_first_trial_is_the_defaults(tmp_path: Path) -> None:
    study = opened(tmp_path)
    trial = study.next(5, None)
    assert trial.number == 0
    assert trial.user_attrs["params"] == {"x": 0.5, "y": 3, "z": "a"}


def test_another_seed_is_another_study(tmp_path: Path) -> None:
    one, other = opened(tmp_path / "1"), opened(tmp_path / "2", seed=8)
    work(one, 6)
    work(other, 6)
    assert history(one)[0] == history(other)[0]
    assert history(one)[1:] != history(other)[1:]


def test_a_small_space_is_searched_once_and_no_trial_is_repeated(tmp_path: Path) -> None:
    study = opened(tmp_path, suggest=lambda t: {"y": t.suggest_int("y", 1, 4)}, sampler="random")
    seen = []
    while (trial := study.next(50, None)) is not None:
        seen.append(trial.user_attrs["params"]["y"])
        study.tell(trial, {"status": "done", "values": [1.0], "excess": {}, "seconds": 1.0})
    assert sorted(seen) == [1, 2, 3, 4]
    assert seen[0] == 3  # the defaults
    assert len(study.ended()) == 4


def test_seconds_are_a_budget(tmp_path: Path) -> None:
    study = opened(tmp_path)
    done = 0
    while (trial := study.next(None, 3.5)) is not None:
        end(study, trial)  # takes a second, it says
        done += 1
    assert done == 4


def test_bounds_reach_the_sampler(tmp_path: Path) -> None:
    study = opened(tmp_path)
    work(study, 8)
    for trial in study.optuna.trials:
        assert trial.constraints == {"risk": trial.params["x"] - 0.8}


def test_a_trial_that_ended_but_was_not_told_is_not_run_again(tmp_path: Path) -> None:
    def task() -> None:
        study = opened(tmp_path)
        trial = study.next(3, None)
        trial.set_user_attr("ended", {"status": "done", "values": [0.7], "seconds": 1.0})

    in_a_child(task)
    study = opened(tmp_path)
    assert study.next(3, None).number == 1
    assert study.ended()[0].values == [0.7]


def test_a_trial_of_a_live_worker_is_left_alone(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    first, second = one.next(2, None), other.next(2, None)
    assert [first.number, second.number] == [0, 1]
    end(one, first)
    end(other, second)
    assert one.next(2, None) is None


def test_a_worker_of_another_machine_is_given_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away = opened(tmp_path)
    away.worker = ["another", 1, 0.0]
    lost = away.next(3, None)
    here = opened(tmp_path)
    assert here.next(3, None).number == 1
    monkeypatch.setattr("bench.study.SILENT_S", -1.0)
    again = here.next(3, None)
    assert again.number == lost.number == 0
    assert again.user_attrs["params"] == lost.user_attrs["params"]


def test_two_workers_who_begin_at_once_run_the_defaults_once(tmp_path: Path) -> None:
    one = opened(tmp_path)
    one.optuna.enqueue_trial(DEFAULTS)
    one.optuna.enqueue_trial(DEFAULTS)
    work(one, 4)
    found = [params for _, params, _ in history(one)]
    assert len(found) == 4
    assert found.count({"x": 0.5, "y": 3, "z": "a"}) == 1


def test_workers_on_an_sqlite_file_ask_in_turn(tmp_path: Path) -> None:
    """Two processes that asked Optuna 5 at once were given the same waiting trial 26 times of 40."""
    worker = opened(tmp_path, url=f"sqlite:///{tmp_path}/studies.db")
    worker.optuna.enqueue_trial(DEFAULTS)
    with ThreadPoolExecutor(1) as pool:
        with flock(tmp_path / "studies.db.lock", fcntl.LOCK_EX):
            asked = pool.submit(worker._ask)
            with pytest.raises(TimeoutError):
                asked.result(timeout=0.5)
        assert asked.result(timeout=30).number == 0


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://u:hunter2@h/d", "expected sqlite:///FILE or postgresql"),
        ("postgresql://u:hunter2@127.0.0.1:1/d?password=hunter2", "cannot be reached for 0 s (connection refused)"),
    ],
)
def test_a_storage_that_cannot_be_used_is_one_line_without_the_password(
    url: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.storage.PATIENCE_S", 0.0)
    with pytest.raises(BenchError) as error:
        opened(tmp_path, url=url)
    assert says in str(error.value)
    assert "hunter2" not in str(error.value)
    assert shown(url) in str(error.value)
