"""Shared by all tests: the bench command, small tables, the folder of real data."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
collect_ignore = ["stand_ins"]  # for libraries that are not here
if "TEST_SEEDS" in os.environ:  # ci/portable.sh
    import other_seeds

    other_seeds.move(int(os.environ["TEST_SEEDS"]))


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the bench command in a folder of its own, as a user does."""

    def run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "bench", *args], cwd=tmp_path, env=environment(**env), capture_output=True,
            text=True, timeout=300, check=False,
        )  # fmt: skip

    return run


def environment(**more: str) -> dict[str, str]:
    """The environment of a bench command in a test: misbehaving generators can be found, no real data."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("BENCH_", "MLFLOW_"))}
    return kept | {"PYTHONPATH": f"{ROOT}{os.pathsep}{TESTS}", "COLUMNS": "200"} | more


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data."""
    folder = os.environ.get("BENCH_DATA")
    if not folder:
        pytest.skip("BENCH_DATA is not set: real data are not here")
    return Path(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of three hand-made releases (tests/bench/releases.py); nothing is changed there."""
    import releases

    folder = tmp_path_factory.mktemp("data")
    for write in (releases.mimic3, releases.mimic4, releases.eicu):
        write(folder)
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can be mounted by root only, and not in every container")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def chromium() -> Any:
    """Chromium without a window, its console kept, driven by selenium; skips, saying so, where it is not installed."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("Chromium and its driver are not installed (Debian: apt-get install chromium chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
        "--window-size=1400,1000",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def write(path: Path, text: str) -> Path:
    """Write a file and give its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "pinned: compares with stored text that its seeds determine")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What tests share and is costly to make is made once: such tests go to one worker (`--dist loadgroup`)."""
    for item in items:
        for shared in {"tiny", "unbroken"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group(shared))
        known = getattr(item, "callspec", None)
        if item.path.name == "test_metrics.py" and known:
            shared = known.params.get("shape") or ("strangers" if "strangers" in item.name else None)
            if shared:
                item.add_marker(pytest.mark.xdist_group(shared))
