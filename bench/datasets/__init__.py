"""Datasets: DATASETS has every registered one as a row (rows.py), and here is the way from a name to a lawful table.

`open_dataset(name, data_dir)` finds a row (or a user's TOML) and its files without reading them; `.load()` reads the
table, applies the cuts in the name and checks the law. A loader is `function(folder, **params) -> Data`; one of a
source with tables of events is handed `readings` besides, the file into which they were gathered once. A simulated
row names a module with `draw(n, seed=, **params)` and `roles(**params)` instead.
"""

from pathlib import Path

from bench.datasets.name import Name, base, parse
from bench.datasets.rows import DATASETS, SHAPES, Dataset
from bench.datasets.source import Source
from bench.errors import unknown

__all__ = ["DATASETS", "SHAPES", "Dataset", "Source", "open_dataset"]


def open_dataset(text: str, data_dir: Path | None) -> Source:
    """The source of a dataset name, or of a path to a user's TOML. Raises BenchError where the name is not known."""
    if text.endswith(".toml"):
        from bench.datasets.own import VERSION, read

        path = Path(text)
        own = read(path)
        row = Dataset(
            own.name or path.stem, own.shape_or_guess, "yours", "yours", text, "a dataset of yours",
            files={own.file: None}, drop_duplicates=own.drop_duplicates, version=VERSION,
        )  # fmt: skip
        return Source(row, Name(row.name), path.parent, path, own.order)
    if base(text) not in DATASETS:
        raise unknown("dataset", base(text), DATASETS)
    row = DATASETS[base(text)]
    return Source(row, parse(text, row.params), _folder(row, data_dir), order=row.order)


def _folder(row: Dataset, data_dir: Path | None) -> Path | None:
    if data_dir is None or not (row.files or row.tables):
        return None
    return next((data_dir / f for f in row.folders if (data_dir / f).is_dir()), None)
