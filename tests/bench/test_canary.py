"""Values planted in tables of a user's own and in a release, searched for in all that runs leave and say.

A suite of honest generators and one of careless ones, which put rows into whatever they say, go through every verb.
What lies outside the private folders, and what is said, tells of nothing that tests/canaries.py has planted.

`bench cell`, which runs a cell in the open for a debugger, and the rows that `bench export` writes are meant to show
rows and are left out.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import releases

from canaries import (
    ADMITTED,
    BAD,
    IN_HOLDOUT,
    IN_STAYS,
    IN_TRAIN,
    NEVER_KEPT,
    OWN,
    PEOPLE,
    PLANTED,
    STAYS,
    TRAIN,
    ZONES,
    Canary,
    leaks,
    people,
    plant,
    seen,
    stays,
    word,
)
from careless import CLASSES
from conftest import environment, write

with warnings.catch_warnings():  # the mark is pytest-xdist's; the run below is made once, by one worker
    warnings.simplefilter("ignore", pytest.PytestUnknownMarkWarning)
    pytestmark = pytest.mark.xdist_group("canary")

TOLD = {name: word(f"what {name} tells", TRAIN["job"].replace("Zq", f"Zq{name}")) for name in CLASSES}
CANARIES = (*PLANTED, *TOLD.values())

# --- suites ---

RELEASE = ("mimic3-codes", "mimic3-mortality")
HONEST = """
native = true
metrics = ["ks_gap", "tvd_gap", "cmd_distance", "missing_rate_gap", "prevalence_logodds_error", "privacy",
           "published", "condition_rate_score"]
generators = ["copycat", "marginal", "smote", "gaussian",
              {{ name = "ou", params = {{ steps = 20, width = 16, sample_steps = 4 }} }}]
datasets = [{{ name = "{inputs}/people.toml", split = "time" }}, {{ name = "{inputs}/stays.toml", split = "time" }},
            "mimic3-codes", "mimic3-mortality"]
"""
OF_CARELESS = """
datasets = [{{ name = "{inputs}/people.toml", split = "time" }}]
generators = ["copycat", "marginal", {careless}]
metrics = ["ks_gap", "tvd_gap", "condition_rate_score", "copy_risk"]
[tune]
trials = 2
objective = "ks_gap"
untuned = false
"""
FULL = """
datasets = [{{ name = "{inputs}/people.toml", split = "time" }}]
generators = ["careless:FillsDisk"]
metrics = ["ks_gap"]
"""
OF_BAD = """
datasets = [{bad}, "mimic3-codes", "mimic3-mortality"]
generators = ["copycat"]
metrics = ["ks_gap"]
"""
DRAWN = ("Curves", "LacksPositives", "Refuses", "NewColumn", "Names")


# --- files that cannot be read ---


@dataclass(frozen=True)
class Broken:
    """A packed table of a release with something in it that does not belong there, and what is said of it."""

    table: str
    change: Callable[[bytes], bytes]
    says: str

    @property
    def dataset(self) -> str:
        """One that reads the table."""
        return RELEASE[self.table in ("ICUSTAYS", "CHARTEVENTS")]


def _cell(column: str, value: str = "Zqcell") -> Callable[[bytes], bytes]:
    """A change of a column's first cell."""

    def change(packed: bytes) -> bytes:
        rows = list(csv.reader(io.StringIO(gzip.decompress(packed).decode())))
        rows[1][rows[0].index(column)] = value
        out = io.StringIO()
        csv.writer(out).writerows(rows)
        return gzip.compress(out.getvalue().encode(), 1)

    return change


def _end(line: bytes) -> Callable[[bytes], bytes]:
    """A change that adds a line."""
    return lambda packed: gzip.compress(gzip.decompress(packed) + line, 1)


BROKEN = {
    "number-of-text": Broken("PATIENTS", _cell("SUBJECT_ID"), "1 of 64 values are not whole numbers"),
    "birth-of-text": Broken("PATIENTS", _cell("DOB"), "1 of 64 values are not of the form"),
    "time-of-a-zone": Broken("ADMISSIONS", _cell("ADMITTIME", f"{ADMITTED}+05:00"), "values are not of the form"),
    "flag-of-text": Broken("ADMISSIONS", _cell("HOSPITAL_EXPIRE_FLAG"), "values are not 0 or 1"),
    "patient-unknown": Broken("ADMISSIONS", _cell("SUBJECT_ID", "7319046299999"), "1 rows have a subject_id that"),
    "diagnosis-of-text": Broken("DIAGNOSES_ICD", _cell("HADM_ID"), "values are not whole numbers"),
    "diagnosis-of-quotes": Broken("DIAGNOSES_ICD", _end(b'1,"Zqcell'), "not a readable csv"),
    "admission-unknown": Broken("ICUSTAYS", _cell("HADM_ID", "55820917999999"), "1 rows have a "),
    "reading-without-time": Broken("CHARTEVENTS", _cell("CHARTTIME"), "1 readings have no "),
    "reading-of-nobody": Broken("CHARTEVENTS", _cell("SUBJECT_ID"), "1 readings have no "),
    "reading-of-quotes": Broken("CHARTEVENTS", _end(b'1,"Zqcell'), "not a readable csv"),
    "readings-cut": Broken("CHARTEVENTS", lambda packed: packed[: len(packed) // 2], "not a readable csv"),
}
BROKEN_TOGETHER = ("diagnosis-of-text", "readings-cut")  # each of another dataset


# --- the verbs, all in one process ---

DRIVER = """
import json, os, resource, signal, sys, traceback

from bench.__main__ import main

signal.alarm(600)
most = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (most, most))  # as where systemd collects core dumps
answers = os.fdopen(os.dup(1), "w")
for call in sys.stdin:
    args, *files = json.loads(call)
    for number, path in enumerate(files, 1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    sys.argv = ["bench", *args]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:  # as Python itself would
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    print(code, file=answers, flush=True)
"""


@dataclass(frozen=True)
class Said:
    """What a verb said, and its exit code."""

    code: int
    out: str
    err: str


@dataclass
class Place:
    """A user's folders. inputs: the data. home: where one works, and the store. temp, user: TMPDIR and HOME."""

    root: Path
    said: dict[str, Said] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.inputs, self.home, self.temp, self.user = (self.root / name for name in ("inputs", "home", "t", "user"))
        self.store = self.home / "bench-store"
        for folder in (self.inputs, self.home, self.temp, self.user, self.root / "said"):
            folder.mkdir(parents=True)

    @property
    def private(self) -> tuple[Path, ...]:
        """The folders that may hold rows."""
        return tuple(p / "data" for p in self.home.iterdir() if (p / "store.json").exists())

    @contextmanager
    def verbs(self) -> Iterator[Callable[[str, str], None]]:
        """A function that runs a verb in the home folder and keeps what it says by a name; all in one process."""
        fonts = os.environ.get("MPLCONFIGDIR") or Path.home() / ".cache" / "matplotlib"  # whose list takes seconds
        found = environment(TMPDIR=str(self.temp), HOME=str(self.user), MPLCONFIGDIR=str(fonts),
                            BENCH_DATA=str(self.inputs / "data"))  # fmt: skip
        with subprocess.Popen([sys.executable, "-c", DRIVER], cwd=self.home, env=found, text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # fmt: skip
            assert process.stdin
            assert process.stdout
            asked, answers = process.stdin, process.stdout

            def run(name: str, verb: str) -> None:
                out, err = (self.root / "said" / f"{name}.{end}" for end in ("out", "err"))
                print(json.dumps([verb.split(), str(out), str(err)]), file=asked, flush=True)
                self.said[name] = Said(int(answers.readline()), out.read_text(), err.read_text())

            yield run


def written(place: Place) -> None:
    """Write the tables, the release, what is broken of both, and the suites."""
    for name, table, toml in (("people", people(), PEOPLE), ("stays", stays(), STAYS)):
        table.to_csv(place.inputs / f"{name}.csv", index=False)
        write(place.inputs / f"{name}.toml", OWN.format(name=name) + toml)
    for name, bad in {**BAD, "zones": ZONES}.items():
        (place.inputs / f"{name}.csv").write_bytes(bad.content)
        write(place.inputs / f"{name}.toml", OWN.format(name=name) + bad.toml)
    sound = releases.mimic3(place.inputs / "data", 64, change=plant)
    for name, them in {"together": BROKEN_TOGETHER, **{name: (name,) for name in BROKEN}}.items():
        folder = shutil.copytree(sound, place.inputs / "broken" / name / sound.name)
        for broken in map(BROKEN.get, them):
            path = folder / f"{broken.table}.csv.gz"
            path.write_bytes(broken.change(path.read_bytes()))
    careless = ", ".join(f'"careless:{name}"' for name in CLASSES if name != "FillsDisk")
    bad = ", ".join(f'"{place.inputs}/{name}.toml"' for name in BAD)
    for name, text in (("honest", HONEST), ("careless", OF_CARELESS), ("full", FULL), ("bad", OF_BAD)):
        text = f'name = "{name}"' + text.format(inputs=place.inputs, careless=careless, bad=bad)
        write(place.home / f"{name}.toml", text)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The folders after every verb has been used."""
    place = Place(tmp_path_factory.mktemp("c"))
    written(place)
    mine, broken, table = place.inputs, place.inputs / "broken", place.inputs / "people.csv"
    score = f"--holdout {table} --synth {table} --target ill --subject who --drop note,seen"
    with place.verbs() as run:
        run("run honest", "run --suite honest.toml --no-track")
        run("run careless", "run --suite careless.toml")
        run("run full", "run --suite full.toml --store full --no-track")
        run("run bad", f"run --suite bad.toml --store bad --no-track --data {broken}/together")
        run("check data flat", f"data check {mine}/people.toml")
        run("check data long", f"data check {mine}/stays.toml --json")
        run("check data zones", f"data check {mine}/zones.toml")
        run("check data codes", "data check mimic3-codes --json")
        run("check data mortality", "data check mimic3-mortality")
        run("list data", "data list")
        run("plan", "plan --suite careless.toml")
        run("status", "status --suite careless.toml")
        run("status json", "status --suite careless.toml --json")
        run("draw", "draw honest.toml --no-track --generators copycat,gaussian")
        run("draw careless", "draw careless.toml --no-track --generators " + ",".join(f"careless:{c}" for c in DRAWN))
        run("report", "report honest.toml --no-track")
        run("report careless", "report careless.toml --no-track")
        run("board", "board honest.toml --out shared")
        run("board json", "board careless.toml --json")
        run("board of scores", "board bench-store/boards/careless/scores.json")
        run("track", "track honest.toml")
        run("tune", f"tune {mine}/people.toml careless:Tunes --trials 2 --objective ks_gap --store tuned --json")
        run("tuned", "tuned careless.toml mine --to shared")
        run("export", "export people.gaussian.r0 --out rows/rows.csv")
        run("export copies", "export people.copycat.r0 --out rows/copies.csv")
        run("export late", "export people.careless-Later.r0 --out rows/late.csv --n 7")
        run("score", f"score --train {table} {score} --metrics ks_gap,tvd_gap,tstr_auroc,copy_risk --json")
        run("score no header", f"score --train {mine}/no-header.csv {score}")
        run("doctor", "doctor --json")
        for name in BAD:
            run(f"bad {name}", f"data check {mine}/{name}.toml")
        for name, of in BROKEN.items():
            run(f"bad {name}", f"data check {of.dataset} --data {broken}/{name}")
        scores = json.loads((place.store / "boards/careless/scores.json").read_text())
        scores["cells"] += [{**cell, "replicate": 1} for cell in scores["cells"]]
        twice = write(place.home / "twice.json", json.dumps(scores)).name
        run("check", f"check careless.toml --scores {twice} --against {twice} --markdown shared/check.md "
            "--junit shared/check.xml")  # fmt: skip
    (place.home / "rows" / "rows.csv").unlink()  # what was asked for: rows
    return place


@pytest.fixture(scope="module")
def told(place: Place) -> list[tuple[str, str]]:
    """Where each canary is found outside the private folders: files, what verbs said, folders of others."""
    found = leaks(place.home, CANARIES, apart=place.private)
    found += [("TMPDIR: " + path, name) for path, name in leaks(place.temp, CANARIES)]
    found += [("HOME: " + path, name) for path, name in leaks(place.user, CANARIES)]
    for verb, said in place.said.items():
        found += [(f"stdout of {verb}", name) for name in sorted(seen(said.out.encode(), CANARIES))]
        found += [(f"stderr of {verb}", name) for name in sorted(seen(said.err.encode(), CANARIES))]
    return found


@pytest.fixture(scope="module")
def kept(place: Place) -> list[tuple[str, str]]:
    """Where each canary is found in the private folder of the store."""
    return leaks(place.store / "data", CANARIES)


# --- the run had them ---


def test_the_inputs_hold_the_canaries(place: Place) -> None:
    found = {name for _, name in leaks(place.inputs, CANARIES, apart=[place.inputs / "broken"])}
    assert found == {c.name for c in PLANTED}


def test_what_may_hold_rows_holds_the_canaries(kept: list[tuple[str, str]]) -> None:
    def held(folder: str) -> set[str]:
        return {name for path, name in kept if path.startswith(folder)}

    assert held("tables/people-") == {c.name for c in (*IN_TRAIN, *IN_HOLDOUT)}
    assert held("tables/stays-") == {c.name for c in IN_STAYS}
    assert held("tables/mimic3-codes-") == {"an ethnicity"}
    assert held("tables/mimic3-mortality-") == {"an ethnicity", "a heart rate"}
    assert held("tables/readings-") == {"a heart rate"}
    assert held("samples/people.copycat.") == {c.name for c in IN_TRAIN}
    assert held("samples/stays.copycat.") == {c.name for c in IN_STAYS}


@pytest.mark.parametrize("name", CLASSES)
def test_each_careless_generator_told_its_private_log(name: str, place: Place) -> None:
    stores = (place.store, place.home / "full")
    (log,) = (log for store in stores for log in store.glob(f"data/logs/*.careless-{name}.r0.*"))
    assert {TOLD[name].name, *(c.name for c in IN_TRAIN)} <= seen(log.read_bytes(), CANARIES)
    assert log.stat().st_mode & 0o077 == 0


def test_everything_there_is_to_search_was_written(place: Place) -> None:
    public = [p.relative_to(place.store) for p in place.store.rglob("*")
              if p.is_file() and "data" not in p.relative_to(place.store).parts]  # fmt: skip
    for pattern in (
        "mlflow.db", "mlflow-artifacts/*/*/artifacts/report.html", "mlflow-artifacts/*/*/artifacts/record.json",
        "mlflow-artifacts/*/*/artifacts/tuning/trials.csv", "mlflow-artifacts/*/*/artifacts/pictures/*.png",
        "boards/*/board.md", "boards/*/board.csv", "boards/*/board.json", "boards/*/scores.json", "boards/*/cost.md",
        "boards/*/report.html", "boards/*/pictures/*.png", "boards/*/views/*.json", "cells/*/record.json",
        "cells/*/scores.json", "cells/*/cost.json", "studies/*/study.journal", "studies/*/tuned.json",
        "boards/honest/pictures/mimic3-codes.*.png", "boards/honest/pictures/mimic3-mortality.*.png",
    ):  # fmt: skip
        assert any(p.match(pattern) for p in public), pattern
    assert {"honest", "careless"} == {p.name for p in (place.store / "boards").iterdir()}
    shared = {p.name for p in (place.home / "shared").iterdir()}
    assert shared >= {"board.md", "board.png", "scores.json", "mine.json", "check.md", "check.xml"}
    assert [p.name for p in (place.home / "rows").iterdir()] == ["rows.csv.card.md"]
    journal = next((place.store / "studies").glob("*Tunes.*/study.journal")).read_text()
    assert "ValueError" in journal


def test_verbs_end_as_they_should(place: Place) -> None:
    fails = {"run careless": 1, "run full": 2, "run bad": 1, "export copies": 2, "export late": 2}
    fails |= {"score no header": 2, "check data codes": 1}  # a release of other counts than the known one
    verbs = {verb: said for verb, said in place.said.items() if not verb.startswith("bad ")}
    fails |= {
        "check data codes": 1,
        "check data zones": verbs["check data zones"].code,
    }  # dates in two time zones: read, or one clear line
    assert {verb: said.code for verb, said in verbs.items()} == {verb: fails.get(verb, 0) for verb in verbs}
    for verb, said in verbs.items():
        assert "Traceback" not in said.out + said.err, verb
        assert said.err.count("\n") == (said.code == 2), verb


# --- nothing of them is told ---


@pytest.mark.parametrize("canary", CANARIES, ids=lambda c: c.name)
def test_nothing_outside_tells(canary: Canary, told: list[tuple[str, str]]) -> None:
    assert [where for where, name in told if name == canary.name] == []


def test_identifiers_dates_and_dropped_columns_are_not_even_kept(kept: list[tuple[str, str]]) -> None:
    assert [found for found in kept if found[1] in {c.name for c in NEVER_KEPT}] == []


def test_what_may_hold_rows_is_ones_own(place: Place) -> None:
    assert len(place.private) == 4
    for folder in place.private:
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_process_with_rows_dumps_no_core(place: Place) -> None:
    said = [line for folder in place.private for log in folder.glob("logs/*.log")
            for line in log.read_text(errors="replace").splitlines() if line.startswith("core dumps")]  # fmt: skip
    assert len(said) > len(CLASSES)
    assert set(said) == {"core dumps up to 0"}


@pytest.mark.parametrize("name", [*BAD, *BROKEN])
def test_a_bad_file_is_one_line_without_its_cells(name: str, place: Place) -> None:
    said = place.said[f"bad {name}"]
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert (BAD | BROKEN)[name].says in said.err
    assert seen(said.err.encode(), CANARIES) == set()


@pytest.mark.parametrize("name", [*BAD, *RELEASE])
def test_a_cell_of_a_bad_file_fails_as_it_loads(name: str, place: Place) -> None:
    (record,) = (json.loads(p.read_text()) for p in (place.home / "bad" / "cells").glob(f"{name}.*/record.json"))
    assert (record["status"], record["fault"]["phase"]) == ("failed", "load")
