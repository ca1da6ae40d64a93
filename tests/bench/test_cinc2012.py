"""PhysioNet 2012, all three sets, on tiny files in its layout."""

import io
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from loaded import refused

from bench.datasets import cinc2012, law
from conftest import write

NAN = float("nan")
STAY = "Time,Parameter,Value\n00:00,RecordID,{id}\n00:00,Age,54\n00:00,Gender,0\n00:00,Height,-1\n00:00,ICUType,4\n"
ONE = (
    "00:00,Weight,80.5\n00:07,HR,73\n00:37,HR,77\n00:37,NISysABP,117\n00:37,Temp,17.8\n01:00,HR,500\n01:10,Weight,70\n"
    "01:10,SysABP,90\n01:20,NISysABP,120\n01:30,GCS,15\n01:40,GCS,13\n02:00,Urine,100\n02:59,Urine,50\n47:59,HR,60\n"
    "48:00,HR,70\n"
)


def stays_archive(path: Path, stays: Mapping[str, bytes]) -> Path:
    """A set's tar.gz: one txt a stay in a folder, as PhysioNet packs them."""
    with tarfile.open(path, "w:gz", compresslevel=1) as files:
        for name, body in stays.items():
            member = tarfile.TarInfo(name if "/" in name else f"{path.name[:5]}/{name}.txt")
            member.size = len(body)
            files.addfile(member, io.BytesIO(body))
    return path


def outcomes_file(path: Path, died: Mapping[int, int]) -> Path:
    rows = "".join(f"{who},6,1,5,-1,{dead}\n" for who, dead in died.items())
    return write(path, "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n" + rows)


def challenge2012(folder: Path, which: str = "a", first: int = 7700001, n: int = 3) -> dict[str, bytes]:
    """A set of n stays, the first of them full; the second one dies. Gives the stays' files."""
    stays = {str(first + i): STAY.format(id=first + i).encode() for i in range(n)}
    stays[str(first)] += ONE.encode()
    stays_archive(folder / f"set-{which}.tar.gz", stays)
    outcomes_file(folder / f"Outcomes-{which}.txt", {first + i: int(i == 1) for i in reversed(range(n))})
    return stays


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cinc2012, "STAYS", 3)


def test_a_stay_of_2012_by_hand(three: None, tmp_path: Path) -> None:
    challenge2012(tmp_path, "c")
    data = cinc2012.load(tmp_path, sets="c")
    law.check(data.table, data.roles, what="cinc2012")
    assert data.facts == {"stays": 3, "rows": 3 * 5 + 15, "deaths": 1}
    stay = data.table.loc[7700001]
    assert len(stay) == 48
    static = stay.iloc[0][["Age", "Gender", "ICUType", "Height", "Weight", "died"]].tolist()
    assert static[:3] == [54, "female", "surgical"]
    assert np.isnan(static[3])
    assert static[4:] == [80.5, False]
    expected = pd.DataFrame(NAN, index=pd.RangeIndex(48, name="time"), columns=list(cinc2012.CHANNELS))
    expected.loc[0, ["HR", "SBP"]] = [75, 117]  # the mean; a cuff where no line is; 17.8 degrees are impossible
    expected.loc[1, ["SBP", "GCS"]] = [90, 13]  # the line before the cuff; the last; a pulse of 500 is impossible
    expected.loc[2, "Urine"] = 150
    expected.loc[47, "HR"] = 65  # 48:00 closes the last hour
    pd.testing.assert_frame_equal(stay[list(cinc2012.CHANNELS)], expected)
    assert data.table.loc[7700002, "died"].all()


def test_all_three_sets_of_2012_go_one_way(tmp_path: Path) -> None:
    for which, first in (("a", 132_539), ("b", 142_675), ("c", 152_871)):
        challenge2012(tmp_path, which, first, n=4_000)
    all_three, last = cinc2012.load(tmp_path, sets="cab"), cinc2012.load(tmp_path, sets="c").table
    law.check(all_three.table, all_three.roles, what="cinc2012")
    assert all_three.facts["stays"] == 12_000
    assert all_three.facts["deaths"] == 3
    assert all_three.table.loc[152_871:].equals(last)


def test_stays_of_set_a_under_the_name_of_set_c_are_the_same(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, shift, n = data_dir / "cinc2012", 100_000, 400
    if not folder.is_dir():
        pytest.skip("cinc2012 is not here")
    a = cinc2012.load(folder, sets="a").table
    stays = {}
    with tarfile.open(folder / "set-a.tar.gz") as files:
        for member in files:
            if member.isfile() and len(stays) < n:
                stays[str(int(Path(member.name).stem) + shift)] = files.extractfile(member).read()
    stays_archive(tmp_path / "set-c.tar.gz", stays)
    outcomes = pd.read_csv(folder / "Outcomes-a.txt").assign(RecordID=lambda o: o["RecordID"] + shift)
    outcomes[outcomes["RecordID"].astype(str).isin(list(stays))].to_csv(tmp_path / "Outcomes-c.txt", index=False)
    monkeypatch.setattr(cinc2012, "STAYS", n)
    c = cinc2012.load(tmp_path, sets="c").table
    same = law.take(a, law.subjects(c) - shift)
    assert (c.index.get_level_values("subject") - shift == same.index.get_level_values("subject")).all()
    assert c.reset_index(drop=True).equals(same.reset_index(drop=True))
    assert 0 < law.per_subject(c, "died").sum() < n / 2


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("48:01,HR,70\n", "set-a.tar.gz: 1 rows have a time that is not HH:MM up to 48:00"),
        ("7:15,HR,70\n07:60,HR,70\n", "2 rows have a time that is not HH:MM"),
        ("07:15,HR\n", "1 rows lack a time, a parameter or a value"),
        ("07:15,,77.125\n", "1 rows lack a time, a parameter or a value"),
        ("07:15,HR,77.125,1\n", "a row has more than a time, a parameter and a value"),
        ("07:15,HR,zebra\n", "a value is not a number"),
        ("07:15,HR°,70\n", "bytes that are not ASCII"),
    ],
)
def test_a_damaged_row_of_2012_is_one_clear_line(three: None, tmp_path: Path, rows: str, says: str) -> None:
    stays = challenge2012(tmp_path)
    stays["7700002"] += rows.encode()
    stays_archive(tmp_path / "set-a.tar.gz", stays)
    refused(lambda: cinc2012.load(tmp_path, sets="a"), says)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"set-a/again/7700001.txt": b"Time,Parameter,Value\n00:00,Age,54\n"}, "a record stands twice"),
        ({"7700002": b"00:00,RecordID,7700002\n00:00,Age,54\n"}, "does not begin with Time,Parameter,Value"),
        ({"7700002": b"Time,Parameter,Value\n"}, "set-a.tar.gz: stays: found 2, expected 3"),
        ({"7700004": b"Time,Parameter,Value\n00:00,Age,54\n"}, "set-a.tar.gz: stays: found 4, expected 3"),
        ({"zebra": b"Time,Parameter,Value\n00:00,Age,54\n"}, "not named by a record number"),
    ],
)
def test_another_archive_of_2012_is_one_clear_line(
    three: None, tmp_path: Path, change: dict[str, bytes], says: str
) -> None:
    stays_archive(tmp_path / "set-a.tar.gz", challenge2012(tmp_path) | change)
    refused(lambda: cinc2012.load(tmp_path, sets="a"), says)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("7700003,6,1,5,-1,0\n", "", "Outcomes-a.txt: stays: found 2, expected 3"),
        ("7700003,", "7700002,", "Outcomes-a.txt: 1 rows repeat a record"),
        ("7700003,", "7700009,", "not every stay of set-a.tar.gz has an outcome of 0 or 1"),
        ("7700003,6,1,5,-1,0", "7700003,6,1,5,-1,-1", "not every stay of set-a.tar.gz has an outcome of 0 or 1"),
        (",", ";", "Outcomes-a.txt: lacks column RecordID"),
        ("7700003,6", "7700003,\xe9", "Outcomes-a.txt: not a readable csv file"),
    ],
)
def test_damaged_outcomes_of_2012_are_one_clear_line(
    three: None, tmp_path: Path, old: str, new: str, says: str
) -> None:
    challenge2012(tmp_path)
    path = tmp_path / "Outcomes-a.txt"
    path.write_bytes(path.read_text().replace(old, new).encode("latin-1"))
    refused(lambda: cinc2012.load(tmp_path, sets="a"), says)


def test_sets_of_2012_that_are_none(three: None, tmp_path: Path) -> None:
    challenge2012(tmp_path)
    for which in ("", "d", "abd"):
        refused(lambda which=which: cinc2012.load(tmp_path, sets=which), "expected one or more of a, b, c")
    shutil.copy(tmp_path / "set-a.tar.gz", tmp_path / "set-b.tar.gz")
    shutil.copy(tmp_path / "Outcomes-a.txt", tmp_path / "Outcomes-b.txt")
    refused(lambda: cinc2012.load(tmp_path), "3 records stand in more than one set")
    stays_archive(tmp_path / "set-a.tar.gz", {})
    refused(lambda: cinc2012.load(tmp_path), "set-a.tar.gz: holds no stay's .txt file")
