"""Where cells run, from the command line: a budget of time, and settings that do not go together."""

import json
from pathlib import Path

import pytest

from bench.arguments import seconds
from bench.errors import BenchError
from conftest import write
from test_end_to_end import SLOW


def test_a_run_whose_time_is_up_leaves_what_would_end_too_late_and_goes_on_later(bench, tmp_path: Path) -> None:
    """Of a generator of one's own nothing is known but the limit of an hour."""
    write(tmp_path / "slow.toml", SLOW)
    done = bench("run", "--suite", "slow.toml", "--no-track", "--budget", "20m")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "2 left: they would not have ended within the budget; run again to go on" in done.stdout
    states = json.loads(bench("status", "--suite", "slow.toml", "--json").stdout)
    assert {(row["generator"], row["status"]) for row in states} == {
        ("copycat", "done"), ("marginal", "done"), ("fakes:Slow", "missing"),
    }  # fmt: skip
    done = bench("run", "--suite", "slow.toml", "--no-track")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 to run" in done.stdout


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--budget", "8"), "--budget 8: expected a length of time such as 8h, 90m or 30s"),
        (("--launcher", "rey"), "unknown launcher 'rey': did you mean 'ray'? known: local, ray"),
        (("--address", "host:6379"), "--address host:6379: goes with --launcher ray"),
        (
            ("--launcher", "ray", "--gpus", "0"),
            "--gpus 0: is for this machine; a Ray cluster gives out its GPUs itself",
        ),
        (("--launcher", "ray", "--address", "host"), "--address host: expected HOST:PORT"),
    ],
)
def test_settings_that_cannot_be(options: tuple[str, ...], line: str, bench, tmp_path: Path) -> None:
    write(tmp_path / "slow.toml", SLOW)
    done = bench("run", "--suite", "slow.toml", "--no-track", *options)
    assert done.returncode == 2
    assert done.stderr.strip() == f"bench: error: {line}"


@pytest.mark.parametrize(("text", "expected"), [("", float("inf")), ("30s", 30), ("1.5h", 5_400), ("2d", 172_800)])
def test_lengths_of_time(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["h", "-1h", "0s", "infh", "nanh", "8 hours"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(BenchError, match="expected a length of time"):
        seconds(text)
