"""What a cell has made in one store, as bytes that another store takes over: how cells travel between machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.cell import Cell
from bench.store import Store
from bench.whole import check_stage, take_over, write_bytes

Parcel = Mapping[str, bytes]  # path in the store -> content; the record is last, so that what has one is whole
MARK = "stage.json"  # of a folder that is written whole


def packed(store: Store, cell: Cell) -> dict[str, bytes]:
    """All there is of a cell: its fit, samples, study, log, scores, cost and record."""
    return {str(path.relative_to(store.root)): path.read_bytes() for path in _files(store, cell)}


def table(store: Store, folder: Path) -> dict[str, bytes]:
    """A parsed dataset."""
    return {str(path.relative_to(store.root)): path.read_bytes() for path in sorted(folder.iterdir())}


def new(parcel: Parcel, before: Parcel) -> dict[str, bytes]:
    """What of a parcel is not as it was before; a folder that is written whole is left out or sent whole."""
    same = {str(Path(name).parent) for name in before if Path(name).name == MARK and parcel.get(name) == before[name]}
    return {name: content for name, content in parcel.items() if str(Path(name).parent) not in same}


def unpack(store: Store, parcel: Parcel) -> None:
    """Write what was packed elsewhere, each file and each folder of a stage whole; a stage that is there stays.

    Raises OSError where the disk is full, and Damaged where a stage is not what was written.
    """
    stages = [str(Path(name).parent) for name in parcel if Path(name).name == MARK]
    for folder in stages:
        if not check_stage(store.root / folder):
            files = {Path(n).name: content for n, content in parcel.items() if str(Path(n).parent) == folder}
            take_over(store.root / folder, files)
    for name, content in parcel.items():
        if str(Path(name).parent) not in stages:
            path = store.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, content)


def _files(store: Store, cell: Cell) -> Iterator[Path]:
    fit = store.fit(cell.fit_key)
    for folder in (fit, store.samples(cell.key)):
        if (folder / MARK).exists():
            yield from sorted(folder.iterdir())
    files = [fit.with_name(f"{fit.name}.json"), store.log(cell.key)]
    if cell.searched:
        study = store.study(cell.study.key)
        files += [study / "study.journal", study / "objective.json", study / "tuned.json"]
        files += sorted(study.glob("late-*.json"))
    files += [store.cell(cell.key) / f"{name}.json" for name in ("scores", "cost", "record")]
    yield from (path for path in files if path.exists())
