"""Drawn releases and the open demo releases, through the same code; what the store keeps of them."""

import errno
import gzip
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pytest
import releases
from loaded import CREDENTIALED, load
from releases import find, rows

from bench.datasets import DATASETS, digest, open_dataset
from bench.datasets.data import Absent
from bench.datasets.law import per_subject
from bench.errors import BenchError
from bench.registries import check_dataset
from bench.store import Store
from conftest import environment

# --- larger drawn releases ---


@pytest.mark.parametrize("name", CREDENTIALED)
def test_drawn_releases_are_read_too(name: str, drawn: Path) -> None:
    loaded = load(name, drawn)
    assert len(loaded.table.index.unique("subject")) == 40
    assert 8 <= per_subject(loaded.table, loaded.roles.target).sum() <= 32
    assert "subset" not in loaded.facts


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    for write in (releases.mimic3, releases.mimic4, releases.eicu):
        write(folder, 40)
    return folder


@pytest.mark.parametrize("name", CREDENTIALED)
def test_somebody_has_each_level_of_a_category(name: str, data: Path) -> None:
    """No adult is in NICU, and no table of adults has the level."""
    table = load(name, data).table
    for column in table.select_dtypes("category"):
        assert set(table[column].cat.categories) == set(table[column].dropna()), column


@pytest.mark.parametrize("name", CREDENTIALED)
def test_no_number_of_the_source_enters_a_table(name: str, drawn: Path) -> None:
    table = load(name, drawn).table
    assert table.index.unique("subject").tolist() == list(range(40))
    assert not [c for c in table if re.search(r"_id$|stay$|pid$", c) and c != "long_stay"]


# --- demo releases ---

MIMIC3_DEMO = {"patients": 100, "admissions": 129, "diagnoses": 1_761, "codes": 581}
MIMIC4_DEMO = {"patients": 100, "admissions": 275, "diagnoses": 4_506, "codes (ICD-9)": 740, "codes (ICD-10)": 734}
DEMOS = {
    "mimic3-codes": MIMIC3_DEMO,
    "mimic3-visits": MIMIC3_DEMO,
    "mimic4-codes": MIMIC4_DEMO,
    "mimic4-visits": MIMIC4_DEMO,
    "eicu-codes": {"patients": 1_841, "stays": 2_520, "expired": 212, "diagnoses": 24_978},
}
FILES = {
    "mimic3": ("mimic-iii-demo-1.4", ["PATIENTS", "ADMISSIONS", "DIAGNOSES_ICD", "ICUSTAYS"], "mimic-iii-1.4"),
    "mimic4": ("mimic-iv-demo-2.2/hosp", ["patients", "admissions", "diagnoses_icd"], "mimic-iv-3.1"),
    "eicu": ("eicu-demo-2.0.1", ["patient", "diagnosis"], "eicu-crd-2.0"),
}


@pytest.mark.parametrize("name", DEMOS)
def test_demos_have_the_counts_known(name: str, data_dir: Path) -> None:
    loaded = load(name, demo(name, data_dir))
    assert {k: loaded.facts[k] for k in DEMOS[name]} == DEMOS[name]
    assert str(loaded.facts["subset"]).startswith("the demo release, ")
    died = per_subject(loaded.table, "died")
    ends = {"mimic3-visits": 129, "mimic4-visits": 275}
    assert len(loaded.table) == ends.get(name, len(died))
    # 40 of 129 admissions end in death, each another patient's
    positives = {"mimic3-codes": 40, "mimic3-visits": 40, "mimic4-codes": 31, "mimic4-visits": 15, "eicu-codes": 181}
    assert died.sum() == positives[name]


def demo(name: str, data_dir: Path) -> Path:
    """The folder of data, where it has the demo that a dataset reads, and no whole release besides."""
    source = open_dataset(name, data_dir)
    if source.folder is None or "demo" not in source.folder.name:
        pytest.skip(f"{name}: the demo release is not here, or a whole one is")
    return data_dir


def test_the_deaths_of_the_demo_by_its_file(data_dir: Path) -> None:
    folder = demo("mimic3-codes", data_dir) / FILES["mimic3"][0]
    admissions = pd.read_csv(folder / "ADMISSIONS.csv.gz")
    assert admissions["hospital_expire_flag"].sum() == 40
    assert len(pd.read_csv(folder / "ICUSTAYS.csv.gz")) == 136


def test_a_demo_patient_by_hand(data_dir: Path) -> None:
    """The first rows of the demo's files: 10006, born 2094-03-05, admitted 2164-10-23."""
    loaded = load("mimic3-visits", demo("mimic3-visits", data_dir))
    folder = data_dir / FILES["mimic3"][0]
    codes = pd.read_csv(folder / "DIAGNOSES_ICD.csv.gz", dtype=str)
    cut = {c[:4] if c[0] == "E" else c[:3] for c in codes["icd9_code"][codes["hadm_id"] == "142345"]}
    row = loaded.table.loc[(0, 0)]
    assert (row["age"], row["gender"], row["race"], row["died"]) == (70, "F", "BLACK/AFRICAN AMERICAN", False)
    assert {c for c in loaded.roles.codes if row[c]} == cut


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize(
    ("upper", "packed", "below"), [(True, True, ""), (False, False, "hosp"), (True, False, "hosp")]
)
def test_a_release_is_the_same_however_its_files_are_named(
    kind: str, upper: bool, packed: bool, below: str, data_dir: Path, tmp_path: Path
) -> None:
    where, tables, folder = FILES[kind]
    here = demo(f"{kind}-codes", data_dir) / where
    to = tmp_path / folder / below
    to.mkdir(parents=True)
    for table in tables:
        plain = gzip.decompress((here / f"{table}.csv.gz").read_bytes())
        name = table.upper() if upper else table.lower()
        (to / f"{name}.csv{'.gz' if packed else ''}").write_bytes(gzip.compress(plain, 1) if packed else plain)
    found, expected = (load(f"{kind}-codes", d) for d in (tmp_path, data_dir))
    pd.testing.assert_frame_equal(found.table, expected.table)
    assert found.facts == expected.facts


def test_an_ending_in_capitals_is_an_ending_too(data: Path, tmp_path: Path) -> None:
    folder = releases.mimic3(tmp_path)
    for path in list(folder.iterdir()):
        path.rename(path.with_name(path.name.upper()))
    for name in ("mimic3-codes", "mimic3-mortality"):
        pd.testing.assert_frame_equal(load(name, tmp_path).table, load(name, data).table)


def test_an_unpacked_file_comes_before_a_packed_one(data: Path, tmp_path: Path) -> None:
    folder = releases.mimic3(tmp_path, packed=False)
    (folder / "PATIENTS.csv.gz").write_bytes(b"half of an unfinished")
    pd.testing.assert_frame_equal(load("mimic3-codes", tmp_path).table, load("mimic3-codes", data).table)


@pytest.mark.parametrize("name", CREDENTIALED)
def test_a_missing_table_is_one_line_that_names_it(name: str, data: Path, tmp_path: Path) -> None:
    for gone in DATASETS[name].tables:
        copy = shutil.copytree(data, tmp_path / gone)
        (path,) = copy.rglob(f"{gone}.csv.gz")
        path.unlink()
        source = open_dataset(name, copy)
        with pytest.raises(Absent) as error:
            source.load()
        assert f"lacks {gone}.csv (or .csv.gz): put " in str(error.value)
        assert "\n" not in str(error.value)
        assert str(source.absence()) in str(error.value)


@pytest.mark.parametrize("name", CREDENTIALED)
def test_without_a_release_it_is_said_what_to_put_where(name: str, tmp_path: Path) -> None:
    source = open_dataset(name, tmp_path)
    assert all(f"{table}.csv.gz" in str(source.absence()) for table in DATASETS[name].tables)
    assert f"into DATA/{DATASETS[name].folders[0]}, from https://physionet.org/" in str(source.absence())


def test_data_check_calls_the_demo_a_subset(
    data_dir: Path, bench: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = bench("data", "check", "mimic3-codes", "--data", str(demo("mimic3-codes", data_dir)))
    assert done.returncode == 0, done.stderr
    assert re.search(r"patients +100 +46,520 +a subset: the demo release, 100 of 46,520 patients", done.stdout)


# --- the store ---


def test_datasets_of_one_release_share_the_readings(data: Path, tmp_path: Path) -> None:
    """CHARTEVENTS is read once: gathered for the first, it may be gone for the second but for its hash."""
    store = Store.open(tmp_path)
    for names in (["mimic3-mortality", "mimic3-stay"], ["eicu-mortality", "eicu-stay"]):
        marks = []
        for name in names:
            kept, read = store.table(open_dataset(name, data)), load(name, data)
            pd.testing.assert_frame_equal(kept.table, read.table)
            assert (kept.roles, kept.facts) == (read.roles, read.facts)
            marks.append({p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in gathered(store)})
        assert marks[0] == marks[1]
    assert len(gathered(store)) == 2


def gathered(store: Store) -> list[Path]:
    return sorted((store.private / "tables").glob("readings-*"))


def test_a_second_dataset_does_not_ask_for_the_readings_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.datasets import mimic3

    store = Store.open(tmp_path)
    store.table(open_dataset("mimic3-mortality", data))
    monkeypatch.setattr(mimic3, "readings", lambda *_: pytest.fail("gathered twice"))
    assert "long_stay" in store.table(open_dataset("mimic3-stay", data)).table


def test_other_readings_are_gathered_where_a_file_is_another(data: Path, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    releases.mimic3(tmp_path / "data")
    store.table(open_dataset("mimic3-mortality", tmp_path / "data"))
    releases.mimic3(
        tmp_path / "data", change=lambda t: find(t["CHARTEVENTS"], ITEMID="646", VALUENUM="97").update(VALUENUM="91")
    )
    assert store.table(open_dataset("mimic3-mortality", tmp_path / "data")).table.loc[(0, 0), "SpO2"] == 91
    assert len(gathered(store)) == 2


def test_what_holds_rows_is_private(data: Path, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    store.table(open_dataset("mimic3-mortality", data))
    assert stat.S_IMODE(store.private.stat().st_mode) == 0o700
    assert [stat.S_IMODE(p.stat().st_mode) for p in gathered(store)] == [0o700]
    outside = [p for p in (tmp_path / "store").rglob("*") if p.is_file() and store.private not in p.parents]
    assert [p.name for p in outside] == ["store.json"]


def test_a_dataset_that_cannot_be_read_leaves_no_half_of_its_readings(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    folder = releases.mimic3(tmp_path / "data")
    path = folder / "CHARTEVENTS.csv.gz"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(BenchError, match="CHARTEVENTS"):
        store.table(open_dataset("mimic3-mortality", tmp_path / "data"))
    assert list((store.private / "tables").iterdir()) == []


def test_checking_a_dataset_leaves_readings_in_the_store_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "elsewhere"))
    rows, _ = check_dataset("mimic3-mortality", data, tmp_path / "store")
    assert ("stays", "3", "", "ok") in rows
    (kept,) = (tmp_path / "store" / "data" / "tables").iterdir()
    assert kept.name.startswith("readings-")
    assert not (tmp_path / "elsewhere").exists()
    check_dataset("mimic3-codes", data, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_full_disk_is_not_called_a_truncated_file(drawn: Path, tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path; from bench.datasets import mimic3\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))\n"
        "try: mimic3.readings(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except OSError as error: print(error.strerror)"
    )
    arguments = [sys.executable, "-c", code, drawn / "mimic-iii-1.4", tmp_path / "readings.parquet"]
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True, check=False)
    assert done.stdout.strip() == os.strerror(errno.EFBIG), done.stderr


# --- hashes of large files ---


@pytest.fixture
def memo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of hashes, with every file large and nothing known yet."""
    monkeypatch.setattr(digest, "LARGE", 0)
    monkeypatch.setattr(digest, "_hashed", {})
    monkeypatch.setattr(digest, "_memo", [tmp_path / "sha256.json"])
    return tmp_path / "sha256.json"


def test_a_hash_is_remembered_by_the_next_process(memo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "big.csv"
    file.write_bytes(b"a,b\n1,2\n")
    first = digest.sha256(file)
    assert first == subprocess.run(["sha256sum", file], capture_output=True, text=True, check=True).stdout.split()[0]
    monkeypatch.setattr(digest, "_hashed", {})
    monkeypatch.setattr(digest, "_of_file", lambda _: pytest.fail("hashed again"))
    assert digest.sha256(file) == first
    code = (
        "import sys; from pathlib import Path; from bench.datasets import digest; digest.LARGE = 0; "
        "digest._of_file = lambda _: 'hashed again'; digest.remember_in(Path(sys.argv[1])); "
        "print(digest.sha256(Path(sys.argv[2])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, memo, file], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == first


def test_a_changed_file_has_another_hash(memo: Path, tmp_path: Path) -> None:
    file = tmp_path / "big.csv"
    file.write_bytes(b"a,b\n1,2\n")
    first = digest.sha256(file)
    file.write_bytes(b"a,b\n1,3\n")
    os.utime(file, ns=(1, 1))  # not later than before
    assert digest.sha256(file) != first
    assert len(json.loads(memo.read_text())) == 2


def test_a_folder_has_a_hash_of_its_files_and_their_names(memo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "training_setA"
    folder.mkdir()
    (folder / "p000001.psv").write_bytes(b"HR\n80\n")
    first = digest.sha256(folder)
    assert digest.sha256(folder) == first
    (folder / "p000001.psv").rename(folder / "p000002.psv")
    second = digest.sha256(folder)
    (folder / "p000002.psv").write_bytes(b"HR\n81\n")
    assert len({first, second, digest.sha256(folder)}) == 3


@pytest.mark.parametrize("torn", [b"", b'{"a', b"\xff\xfe", b"[1, 2]", b"null"])
def test_a_torn_file_of_hashes_does_not_matter(
    torn: bytes, memo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "big.csv"
    file.write_bytes(b"a,b\n1,2\n")
    first = digest.sha256(file)
    memo.write_bytes(torn)
    monkeypatch.setattr(digest, "_hashed", {})
    assert digest.sha256(file) == first
    assert json.loads(memo.read_text())


def test_hashes_are_kept_in_the_private_folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "LARGE", 0)
    monkeypatch.setattr(digest, "_hashed", {})
    store = Store.open(tmp_path)
    _ = open_dataset("mimic3-codes", data).identity
    known: Mapping[str, str] = json.loads((store.private / "sha256.json").read_text())
    assert len(known) == 3
    assert stat.S_IMODE(store.private.stat().st_mode) == 0o700


def test_rows_of_a_text_are_rows() -> None:
    assert rows("a | b\n 1 | \n") == [{"a": "1", "b": ""}]
