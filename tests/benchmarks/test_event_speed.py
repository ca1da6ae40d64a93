"""Gathering vitals from CHARTEVENTS: one pass by Polars against pandas in chunks, and the memory a large file takes.

BENCH_EVENT_ROWS sets the rows of the generated file; with 20000000 it is 1.9 GB, 0.4 GB packed.
"""

import gzip
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.datasets import mimic3
from bench.datasets.events import read_channel
from conftest import environment

ROWS = int(os.environ.get("BENCH_EVENT_ROWS", "400000"))
CHUNK = 200_000
PATIENTS = 46_000
MOST_MB = 2_000
HEADS = (
    "ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,ITEMID,CHARTTIME,STORETIME,CGID,VALUE,VALUENUM,VALUEUOM,WARNING,ERROR,"
    "RESULTSTATUS,STOPPED"
)


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    """ICUSTAYS, and CHARTEVENTS packed: one row in eight of a vital sign, over five days a patient."""
    folder = tmp_path_factory.mktemp("release")
    subject = np.arange(PATIENTS)
    stays = pd.DataFrame({"SUBJECT_ID": subject, "HADM_ID": subject, "ICUSTAY_ID": subject, "FIRST_CAREUNIT": "MICU"})
    stays["INTIME"], stays["OUTTIME"] = "2150-01-01 00:00:00", "2150-01-06 00:00:00"
    stays.to_csv(folder / "ICUSTAYS.csv", index=False)
    rng = np.random.default_rng(0)
    items = [int(item) for channel in mimic3.CHANNELS for item in channel.sources]
    minutes = pd.Series(pd.date_range("2150-01-01", periods=5 * 24 * 60, freq="min").strftime("%Y-%m-%d %H:%M:%S"))
    with gzip.open(folder / "CHARTEVENTS.csv.gz", "wt", compresslevel=1) as file:
        file.write(HEADS + "\n")
        for start in range(0, ROWS, CHUNK):
            n = min(CHUNK, ROWS - start)
            who = rng.integers(PATIENTS, size=n)
            item = np.where(rng.random(n) < 0.125, rng.choice(items, n), 500_000 + rng.integers(5_000, size=n))
            at = minutes.iloc[rng.integers(len(minutes), size=n)].to_numpy()
            value = rng.integers(36, 100, size=n)
            rows = pd.DataFrame(
                {"a": start + np.arange(n), "b": who, "c": who, "d": who, "e": item, "f": at, "g": at, "h": 15_000,
                 "i": value, "j": value, "k": "BPM", "l": 0, "m": 0, "n": "", "o": "NotStopd"}
            )  # fmt: skip
            rows.to_csv(file, index=False, header=False)
    return folder


def plain(folder: Path) -> pd.DataFrame:
    """The same readings by pandas, a chunk of a million rows at a time."""
    stays = pd.read_csv(folder / "ICUSTAYS.csv", parse_dates=["INTIME"])[["SUBJECT_ID", "INTIME"]]
    of = {int(item): (c, *unit) for c, channel in enumerate(mimic3.CHANNELS) for item, unit in channel.sources.items()}
    columns = ["SUBJECT_ID", "ITEMID", "CHARTTIME", "VALUENUM", "ERROR"]
    parts = []
    for rows in pd.read_csv(folder / "CHARTEVENTS.csv.gz", usecols=columns, chunksize=1_000_000):
        kept = rows[rows["ITEMID"].isin(of) & rows["VALUENUM"].notna() & rows["ERROR"].fillna(0).eq(0)]
        kept = kept.merge(stays, on="SUBJECT_ID")
        second = (pd.to_datetime(kept["CHARTTIME"]) - kept["INTIME"]).dt.total_seconds()
        factor, shift = (kept["ITEMID"].map({i: unit[k] for i, unit in of.items()}) for k in (1, 2))
        channel = kept["ITEMID"].map({item: unit[0] for item, unit in of.items()})
        value = kept["VALUENUM"] * factor + shift
        who, source = kept["SUBJECT_ID"], kept["ITEMID"]
        part = pd.DataFrame({"subject": who, "channel": channel, "source": source, "second": second, "value": value})
        parts.append(part[second.between(0, 86_400, inclusive="left")])
    return pd.concat(parts)


def test_readings_against_pandas_in_chunks(benchmark, release: Path, tmp_path: Path) -> None:
    """Measured on 20,000,000 rows: see the module's first lines for how; here a smaller file."""
    start = time.perf_counter()
    expected = plain(release)
    reference_s = time.perf_counter() - start
    benchmark.pedantic(mimic3.readings, args=(release, tmp_path / "readings.parquet"), rounds=1)
    benchmark.extra_info["rows_per_s"] = ROWS / benchmark.stats["min"]
    benchmark.extra_info["times_faster"] = reference_s / benchmark.stats["min"]
    for channel in range(len(mimic3.CHANNELS)):
        subject, second, value = read_channel(tmp_path / "readings.parquet", channel)
        same = expected[expected["channel"] == channel].drop_duplicates().sort_values(["subject", "second", "value"])
        np.testing.assert_array_equal(subject, same["subject"])
        np.testing.assert_array_equal(second, same["second"])
        np.testing.assert_allclose(value, same["value"])
    if ROWS >= 5_000_000:  # below, starting costs more than reading
        assert benchmark.stats["min"] < reference_s


def test_memory_does_not_grow_with_the_file(release: Path, tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from bench.datasets import mimic3\n"
        f"mimic3.readings(Path({str(release)!r}), Path({str(tmp_path / 'r.parquet')!r}))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    print(f"{ROWS:,} rows: peak {done.stdout.strip()} MB")
    assert int(done.stdout) < MOST_MB
