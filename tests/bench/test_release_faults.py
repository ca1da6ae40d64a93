"""Releases with something wrong in them: one line that names the file and shows no value, or a rule that is written."""

import csv
import gzip
import io
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import releases
from releases import Table, Tables, find

from bench.datasets import open_dataset
from bench.datasets.data import DataError

WRITE = {"mimic3": releases.mimic3, "mimic4": releases.mimic4, "eicu": releases.eicu}
SOME = ("mimic3-codes", "mimic3-mortality", "mimic4-codes", "eicu-codes", "eicu-mortality")
# a dataset that reads a file, the file, the columns it reads
READS = [
    ("mimic3-codes", "PATIENTS", "SUBJECT_ID GENDER DOB"),
    ("mimic3-codes", "ADMISSIONS", "SUBJECT_ID HADM_ID ADMITTIME ETHNICITY HOSPITAL_EXPIRE_FLAG"),
    ("mimic3-codes", "DIAGNOSES_ICD", "SUBJECT_ID HADM_ID ICD9_CODE"),
    ("mimic3-mortality", "ICUSTAYS", "SUBJECT_ID HADM_ID ICUSTAY_ID INTIME OUTTIME FIRST_CAREUNIT"),
    ("mimic3-mortality", "CHARTEVENTS", "SUBJECT_ID ITEMID CHARTTIME VALUENUM ERROR"),
    ("mimic4-codes", "patients", "subject_id gender anchor_age anchor_year anchor_year_group dod"),
    ("mimic4-codes", "admissions", "subject_id hadm_id admittime marital_status race hospital_expire_flag"),
    ("mimic4-codes", "diagnoses_icd", "hadm_id icd_code icd_version"),
    ("eicu-codes", "patient", "patientunitstayid patienthealthsystemstayid uniquepid gender age ethnicity unittype "
     "unitvisitnumber hospitaldischargeyear hospitaldischargestatus unitdischargeoffset"),
    ("eicu-codes", "diagnosis", "patientunitstayid icd9code"),
    ("eicu-mortality", "vitalPeriodic", "patientunitstayid observationoffset sao2 heartrate respiration"),
]  # fmt: skip
FILES = [(name, table) for name, table, _ in READS]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """The tables of SOME, of releases that nothing is wrong with."""
    folder = tmp_path_factory.mktemp("sound")
    for write in WRITE.values():
        write(folder)
    return {name: open_dataset(name, folder).load().table for name in SOME}


def refusal(name: str, data: Path, table: str) -> str:
    """What is said of a dataset that cannot be read: a line that names the table and has no cell of any file in it."""
    source = open_dataset(name, data)
    assert source.folder is not None
    with pytest.raises(DataError) as error:
        source.load()
    said = str(error.value)
    assert said.startswith(f"dataset {name}: ")
    assert "\n" not in said
    assert re.search(rf"\b{table}\b", said.removeprefix(f"dataset {name}: ")), said
    shown = [cell for cell in cells(source.folder) if re.search(rf"(?<!\w){re.escape(cell)}(?!\w)", said)]
    assert shown == []
    return said


def cells(folder: Path) -> set[str]:
    """The cells of a release's files that are long enough to be told from a count; names of columns are none."""
    found: set[str] = set()
    for path in folder.rglob("*.csv*"):
        body = path.read_bytes()
        try:
            text = (gzip.decompress(body) if path.suffix == ".gz" else body).decode("utf-8", "replace")
        except (OSError, EOFError):
            continue
        found |= {cell.strip().strip('"') for line in text.splitlines()[1:] for cell in re.split(r"[,;\t]", line)}
    return {cell for cell in found if len(cell) > 3} - {"> 89"}  # which messages say ages may be


def release(name: str) -> Callable[..., Path]:
    return WRITE[name.split("-")[0]]


# --- cells, rows and tables ---


def put(table: str, column: str, value: str, **which: str) -> Callable[[Tables], None]:
    """A change of one cell: of the first row, or of the first that has these cells."""

    def change(tables: Tables) -> None:
        find(tables[table], **which)[column] = value

    return change


def twice(table: str) -> Callable[[Tables], None]:
    """A change that repeats a table's first row."""

    def change(tables: Tables) -> None:
        tables[table].append(dict(tables[table][0]))

    return change


ZONE = "2158-06-15 09:31:07+00:00"
M3, M3S, M4, M4V = "mimic3-codes", "mimic3-mortality", "mimic4-codes", "mimic4-visits"
E, ES = "eicu-codes", "eicu-mortality"
# a dataset, the table that is to be named, what is to be said, and a change: table, column, value and cells of the row
ALTERED = [
    # twice what is there once
    (M3, "PATIENTS", "1 rows repeat a subject_id", twice("PATIENTS")),
    (M3, "ADMISSIONS", "1 rows repeat a hadm_id", twice("ADMISSIONS")),
    (M3S, "ICUSTAYS", "1 rows repeat a icustay_id", twice("ICUSTAYS")),
    (M4, "patients", "1 rows repeat a subject_id", twice("patients")),
    (M4V, "admissions", "1 rows repeat a hadm_id", twice("admissions")),
    (E, "patient", "1 rows repeat a patientunitstayid", twice("patient")),
    # of somebody unknown
    (M3, "ADMISSIONS", "1 rows have a subject_id that PATIENTS lacks", put("ADMISSIONS", "SUBJECT_ID", "98765")),
    (M3, "DIAGNOSES_ICD", "1 rows have a hadm_id that ADMISSIONS lacks", put("DIAGNOSES_ICD", "HADM_ID", "987654")),
    (M3S, "ICUSTAYS", "1 rows have a hadm_id", put("ICUSTAYS", "HADM_ID", "987654", ICUSTAY_ID="230001")),
    (M3S, "ICUSTAYS", "1 rows have a subject_id", put("ICUSTAYS", "SUBJECT_ID", "98765", ICUSTAY_ID="230001")),
    (M4, "admissions", "1 rows have a subject_id that patients lacks", put("admissions", "subject_id", "98765432")),
    (M4, "diagnoses_icd", "1 rows have a hadm_id that admissions", put("diagnoses_icd", "hadm_id", "98765432")),
    (E, "diagnosis", "1 rows have a patientunitstayid that", put("diagnosis", "patientunitstayid", "987654")),
    (E, "patient", "1 of 10 rows have no uniquepid", put("patient", "uniquepid", "")),
    # of somebody else
    (M3, "DIAGNOSES_ICD", "1 rows have a ", put("DIAGNOSES_ICD", "SUBJECT_ID", "10002")),
    (M3S, "ICUSTAYS", "1 rows have a ", put("ICUSTAYS", "SUBJECT_ID", "10001", HADM_ID="120006")),
    (M4, "diagnoses_icd", "1 rows have a ", put("diagnoses_icd", "subject_id", "10000004")),
    # numbers that are none
    *((M3, "PATIENTS", "column subject_id: 1 of 7 values are not whole numbers", put("PATIENTS", "SUBJECT_ID", bad))
      for bad in ("10001.5", "zq73", "", "inf", "1e300")),
    (M3, "ADMISSIONS", "column hadm_id: 1 of 9 values are not whole", put("ADMISSIONS", "HADM_ID", "12-0002")),
    (M4, "patients", "column anchor_age: 1 of 4 values are not whole", put("patients", "anchor_age", "fifty")),
    (M4, "patients", "1 have a negative anchor_age", put("patients", "anchor_age", "-52")),
    (M4, "diagnoses_icd", "1 of 8 values are not whole numbers", put("diagnoses_icd", "icd_version", "X")),
    *((E, "patient", "1 ages are neither whole years", put("patient", "age", bad)) for bad in ("fifty", "-52", "5.5")),
    (ES, "patient", "1 of 10 values are not whole numbers", put("patient", "unitdischargeoffset", "long")),
    (M3S, "CHARTEVENTS", "1 readings have no ", put("CHARTEVENTS", "SUBJECT_ID", "zq73", ITEMID="646")),
    (ES, "vitalPeriodic", "3 readings have no ", put("vitalPeriodic", "patientunitstayid", "zq73")),
    (ES, "vitalPeriodic", "3 readings have no ", put("vitalPeriodic", "observationoffset", "4.5")),
    # flags
    *((M3, "ADMISSIONS", "1 of 9 values are not 0 or 1", put("ADMISSIONS", "HOSPITAL_EXPIRE_FLAG", bad))
      for bad in ("2", "True", "", "-1", "0.5")),
    (M4, "admissions", "1 of 4 values are not 0 or 1", put("admissions", "hospital_expire_flag", "died")),
    # times
    (M3, "PATIENTS", "column dob: 1 of 7 values are not of the form", put("PATIENTS", "DOB", "2100-06-15")),
    (M3, "ADMISSIONS", "column admittime: 1 of 9 values are not of", put("ADMISSIONS", "ADMITTIME", ZONE)),
    (M3S, "ICUSTAYS", "column intime: 1 of 8 values are not of", put("ICUSTAYS", "INTIME", ZONE)),
    (M3S, "ICUSTAYS", "column outtime: 1 of 8 values are not of", put("ICUSTAYS", "OUTTIME", "15/06/2158 09:31")),
    *((M3S, "CHARTEVENTS", "1 readings have no ", put("CHARTEVENTS", "CHARTTIME", bad))
      for bad in (ZONE, "", "2158-02-30 09:31:07", "2158-06-15")),
    (M4, "patients", "column dod: 1 of 4 values are not of", put("patients", "dod", "2161-01-01T00:00:00")),
    (M4V, "admissions", "column admittime: 1 of 4 values are not of", put("admissions", "admittime", ZONE)),
    # born too late
    (M3, "ADMISSIONS", "1 of 9 are born later", put("PATIENTS", "DOB", "2158-06-16 00:00:00", SUBJECT_ID="10001")),
    (M3S, "ICUSTAYS", "1 of 7 are born", put("ICUSTAYS", "INTIME", "2080-07-06 23:59:59", SUBJECT_ID="10005")),
    (M4, "admissions", "1 of 4 patients are born", put("patients", "anchor_age", "0", subject_id="10000001")),
    # another coding: E119 is diabetes and E039 hypothyroidism, no external causes
    *((M3, "DIAGNOSES_ICD", "1 of 12 codes are not ICD-9", put("DIAGNOSES_ICD", "ICD9_CODE", bad))
      for bad in ("I2510", "zq 73", "E119", "E039")),
    (M4, "diagnoses_icd", "1 of 8 rows have an icd_version that", put("diagnoses_icd", "icd_version", "11")),
    *((M4, "diagnoses_icd", "1 of 6 codes are not ICD-9", put("diagnoses_icd", "icd_version", "9", icd_code=ten))
      for ten in ("I10", "E1165")),
    (M4, "diagnoses_icd", "1 of 3 codes are not ICD-10", put("diagnoses_icd", "icd_code", "4019")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "table", "says", "change"), ALTERED)
def test_what_cannot_be_is_one_line(
    name: str, table: str, says: str, change: Callable[[Tables], None], tmp_path: Path
) -> None:
    release(name)(tmp_path, change=change)
    assert says in refusal(name, tmp_path, table)


@pytest.mark.parametrize(("name", "table"), FILES)
def test_a_file_with_its_first_line_alone_is_one_line(name: str, table: str, tmp_path: Path) -> None:
    release(name)(tmp_path, change=lambda tables: tables[table].clear())
    refusal(name, tmp_path, table)


@pytest.mark.parametrize(("name", "table", "columns"), READS, ids=[r[1] for r in READS])
def test_a_missing_column_is_one_line_that_names_it(name: str, table: str, columns: str, tmp_path: Path) -> None:
    for column in columns.split():
        folder = release(name)(tmp_path / column)
        rewrite(folder, table, lambda text, column=column: text.replace(column, "else", 1))
        assert f"lacks column {column.lower()}: " in refusal(name, tmp_path / column, table)


def rewrite(folder: Path, table: str, change: Callable[[str], str]) -> None:
    """Change the text of a table's packed file."""
    rewrite_bytes(folder, table, lambda body: change(body.decode()).encode())


def rewrite_bytes(folder: Path, table: str, change: Callable[[bytes], bytes]) -> None:
    (path,) = folder.rglob(f"{table}.csv.gz")
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes())), 1))


# --- files ---


@pytest.mark.parametrize(("name", "table"), FILES)
@pytest.mark.parametrize("keep", [0.5, -8, -1, 0], ids=["half", "no checksum", "a byte short", "nothing"])
def test_a_truncated_packed_file_is_one_line(name: str, table: str, keep: float, tmp_path: Path) -> None:
    (path,) = release(name)(tmp_path).rglob(f"{table}.csv.gz")
    body = path.read_bytes()
    path.write_bytes(body[: int(len(body) * keep) if 0 <= keep < 1 else int(keep)])
    refusal(name, tmp_path, table)


@pytest.mark.parametrize(("name", "table"), FILES)
@pytest.mark.parametrize("how", ["in the middle", "in the last cell", "after a comma", "empty", "the header"])
def test_a_truncated_plain_file_is_one_line(name: str, table: str, how: str, tmp_path: Path) -> None:
    (path,) = release(name)(tmp_path, packed=False).rglob(f"{table}.csv")
    body = path.read_text()
    last = body.rstrip("\n").rindex("\n") + 1
    comma = body.index(",", last)
    ends = {"in the middle": comma + 3, "in the last cell": len(body) - 2, "after a comma": comma + 1, "empty": 0,
            "the header": 12}  # fmt: skip
    path.write_text(body[: ends[how]])
    refusal(name, tmp_path, table)


@pytest.mark.parametrize(("name", "table"), FILES)
@pytest.mark.parametrize(
    "body", ["a,b\n1,2\n", "\0\1\2", "<html><body>Sign in</body></html>\n"], ids=["numbers", "no text", "a page"]
)
def test_another_file_is_one_line(name: str, table: str, body: str, tmp_path: Path) -> None:
    rewrite(release(name)(tmp_path), table, lambda _: body)
    refusal(name, tmp_path, table)


@pytest.mark.parametrize(("name", "table"), FILES)
@pytest.mark.parametrize("separator", [";", "\t"])
def test_another_separator_is_one_line(name: str, table: str, separator: str, tmp_path: Path) -> None:
    def change(text: str) -> str:
        out = io.StringIO()
        csv.writer(out, delimiter=separator, lineterminator="\n").writerows(csv.reader(io.StringIO(text)))
        return out.getvalue()

    rewrite(release(name)(tmp_path), table, change)
    assert "or not separated by commas" in refusal(name, tmp_path, table)


@pytest.mark.parametrize(("name", "table"), FILES)
@pytest.mark.parametrize("where", ["is not packed", "is packed"])
def test_an_ending_that_is_not_true_is_one_line(name: str, table: str, where: str, tmp_path: Path) -> None:
    packed = where == "is packed"
    (path,) = release(name)(tmp_path, packed=packed).rglob(f"{table}.csv*")
    path.rename(path.with_name(f"{table}.csv{'' if packed else '.gz'}"))
    refusal(name, tmp_path, table)


@pytest.mark.parametrize(("name", "table"), FILES)
@pytest.mark.parametrize("which", ["every row", "a later row"])
def test_a_row_with_too_many_cells_does_not_move_columns(
    name: str, table: str, which: str, tmp_path: Path, sound: dict[str, pd.DataFrame]
) -> None:
    """It is one line, or the table is the same."""

    def change(text: str) -> str:
        head, *lines = text.splitlines()
        long = lines if which == "every row" else lines[-1:]
        return "\n".join([head, *(f"{line},zq73" if line in long else line for line in lines), ""])

    rewrite(release(name)(tmp_path), table, change)
    same_or_refused(name, table, tmp_path, sound)


def same_or_refused(name: str, table: str, data: Path, sound: dict[str, pd.DataFrame]) -> None:
    try:
        found = open_dataset(name, data).load().table
    except DataError:
        refusal(name, data, table)
    else:
        pd.testing.assert_frame_equal(found, sound[name])


def test_a_comma_that_is_not_quoted_is_one_line(tmp_path: Path) -> None:
    rewrite(releases.mimic3(tmp_path), "ADMISSIONS", lambda text: text.replace('"SEPSIS, ""SEVERE"""', "SEPSIS, zq", 1))
    refusal("mimic3-codes", tmp_path, "ADMISSIONS")
    rewrite(
        releases.eicu(tmp_path), "patient",
        lambda text: text.replace('"Rhythm disturbance (atrial, supraventricular)"', "Rhythm, zq", 1),
    )  # fmt: skip
    refusal("eicu-codes", tmp_path, "patient")


# --- what is no fault ---


def wide(text: str) -> str:
    """With one more column, and the others the other way round."""
    table = list(csv.reader(io.StringIO(text)))
    out = io.StringIO()
    csv.writer(out).writerows([["new" if i == 0 else "7", *row[::-1]] for i, row in enumerate(table)])
    return out.getvalue()


HARMLESS: dict[str, Callable[[bytes], bytes]] = {
    "line ends of Windows": lambda body: body.replace(b"\n", b"\r\n"),
    "a byte order mark": lambda body: b"\xef\xbb\xbf" + body,
    "a blank line at the end": lambda body: body + b"\n",
    "names in lower case": lambda body: body.split(b"\n", 1)[0].lower() + b"\n" + body.split(b"\n", 1)[1],
    "everything in quotes": lambda body: quoted(body.decode()).encode(),
    "columns in another order, and one more": lambda body: wide(body.decode()).encode(),
    "bytes that are not UTF-8, in a text not read": lambda body: body.replace(b"SEPSIS", b"SEPSIS \xe9\xff").replace(
        b"cardiovascular", b"cardiovascul\xe4r"
    ),
}


def quoted(text: str) -> str:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(csv.reader(io.StringIO(text)))
    return out.getvalue()


@pytest.mark.parametrize(
    ("how", "packed"), [*((how, True) for how in HARMLESS), *((how, False) for how in list(HARMLESS)[:3])]
)
def test_the_same_written_otherwise_is_the_same_table(
    how: str, packed: bool, tmp_path: Path, sound: dict[str, pd.DataFrame]
) -> None:
    for write in WRITE.values():
        for path in write(tmp_path, packed=packed).rglob("*.csv*"):
            body = path.read_bytes()
            new = HARMLESS[how](gzip.decompress(body) if packed else body)
            path.write_bytes(gzip.compress(new, 1) if packed else new)
    for name, table in sound.items():
        pd.testing.assert_frame_equal(open_dataset(name, tmp_path).load().table, table)


def test_a_file_packed_in_parts_is_read_to_its_end(tmp_path: Path, sound: dict[str, pd.DataFrame]) -> None:
    """As parallel packers write it."""
    for write in WRITE.values():
        for path in write(tmp_path).rglob("*.csv.gz"):
            body = gzip.decompress(path.read_bytes())
            path.write_bytes(b"".join(gzip.compress(body[i : i + 99]) for i in range(0, len(body), 99)))
    for name, table in sound.items():
        pd.testing.assert_frame_equal(open_dataset(name, tmp_path).load().table, table)


@pytest.mark.parametrize(
    ("name", "table", "old", "column"),
    [("mimic3-codes", "ADMISSIONS", b"ASIAN", "race"), ("mimic3-mortality", "ICUSTAYS", b"CSRU", "unit"),
     ("mimic4-codes", "admissions", b"ASIAN", "race"), ("eicu-codes", "patient", b"Hispanic", "race")],
)  # fmt: skip
def test_bytes_that_are_not_utf8_are_replaced(name: str, table: str, old: bytes, column: str, tmp_path: Path) -> None:
    rewrite_bytes(release(name)(tmp_path), table, lambda body: body.replace(old, b"caf\xe9 \xff"))
    assert "caf\ufffd \ufffd" in open_dataset(name, tmp_path).load().table[column].cat.categories


@pytest.mark.parametrize(
    "at", ["2158-06-15 09:29:59", "2158-06-16 09:30:00", "2058-06-15 10:00:00", "2258-06-15 10:00:00"]
)
def test_a_reading_of_another_day_is_left_out(at: str, tmp_path: Path, sound: dict[str, pd.DataFrame]) -> None:
    releases.mimic3(
        tmp_path, change=lambda t: t["CHARTEVENTS"].append({**find(t["CHARTEVENTS"], ITEMID="646"), "CHARTTIME": at})
    )
    found = open_dataset("mimic3-mortality", tmp_path).load()
    pd.testing.assert_frame_equal(found.table, sound["mimic3-mortality"])
    assert found.facts["readings"] == 23


@pytest.mark.parametrize("offset", ["-1", "-90000000", "1440", "90000000"])
def test_an_offset_of_another_day_is_left_out(offset: str, tmp_path: Path, sound: dict[str, pd.DataFrame]) -> None:
    releases.eicu(
        tmp_path,
        change=lambda t: t["vitalPeriodic"].append({**t["vitalPeriodic"][1], "observationoffset": offset}),
    )
    pd.testing.assert_frame_equal(open_dataset("eicu-mortality", tmp_path).load().table, sound["eicu-mortality"])


def test_a_value_that_is_no_number_is_no_reading(tmp_path: Path, sound: dict[str, pd.DataFrame]) -> None:
    values = ["zq73", "", "nan", "inf", "1e999", ">200", "<1"]

    def chart(tables: Tables) -> None:
        known = find(tables["CHARTEVENTS"], ITEMID="51")
        tables["CHARTEVENTS"] += [{**known, "VALUENUM": value} for value in values]

    def periodic(tables: Tables) -> None:
        known = tables["vitalPeriodic"][1]
        tables["vitalPeriodic"] += [known | dict.fromkeys(("sao2", "heartrate", "respiration"), v) for v in values]

    releases.mimic3(tmp_path, change=chart)
    releases.eicu(tmp_path, change=periodic)
    for name in ("mimic3-mortality", "eicu-mortality"):
        pd.testing.assert_frame_equal(open_dataset(name, tmp_path).load().table, sound[name])


def test_readings_of_patients_without_a_stay_are_left_out(tmp_path: Path, sound: dict[str, pd.DataFrame]) -> None:
    def strangers(table: Table, column: str, number: str) -> None:
        table.append({**table[1], column: number})

    releases.mimic3(tmp_path, change=lambda t: strangers(t["CHARTEVENTS"], "SUBJECT_ID", "98765"))
    releases.eicu(tmp_path, change=lambda t: strangers(t["vitalPeriodic"], "patientunitstayid", "987654"))
    for name in ("mimic3-mortality", "eicu-mortality"):
        pd.testing.assert_frame_equal(open_dataset(name, tmp_path).load().table, sound[name])


def test_a_stay_whose_begin_is_not_known_is_left_out(tmp_path: Path) -> None:
    releases.mimic3(tmp_path, change=put("ICUSTAYS", "INTIME", "", SUBJECT_ID="10005"))
    found = open_dataset("mimic3-mortality", tmp_path).load()
    assert found.facts["stays"] == 2


def test_one_code_in_a_hundred_of_another_form_is_counted(tmp_path: Path) -> None:
    def change(tables: Tables) -> None:
        tables["DIAGNOSES_ICD"] += [{**tables["DIAGNOSES_ICD"][0], "SEQ_NUM": str(i)} for i in range(200)]
        tables["DIAGNOSES_ICD"][3]["ICD9_CODE"] = "I2510"

    releases.mimic3(tmp_path, change=change)
    found = open_dataset("mimic3-codes", tmp_path).load()
    assert found.facts["diagnoses not of ICD-9's form"] == 1
    assert "428" in found.table  # 10006 has it too
    assert not found.table.loc[0, "428"]


def test_nobody_eligible_is_one_line(tmp_path: Path) -> None:
    def change(tables: Tables) -> None:
        for stay in tables["ICUSTAYS"]:
            stay["OUTTIME"] = stay["INTIME"]

    releases.mimic3(tmp_path, change=change)
    with pytest.raises(DataError, match="dataset mimic3-mortality: no stay of an adult of a day or longer") as error:
        open_dataset("mimic3-mortality", tmp_path).load()
    assert "\n" not in str(error.value)


def test_the_command_says_it_in_one_line(
    tmp_path: Path, bench: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    releases.mimic3(tmp_path, change=put("PATIENTS", "SUBJECT_ID", "zq73"))
    done = bench("data", "check", "mimic3-codes", "--data", str(tmp_path))
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1
    assert "PATIENTS.csv.gz: column subject_id: 1 of 7 values are not whole numbers" in done.stderr
    assert "zq73" not in done.stdout + done.stderr
