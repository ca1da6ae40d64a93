"""Learned state on disk: JSON for the structure, safetensors for arrays, parquet for tables; never pickle."""

import json
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

PLAIN = (bool, int, float, str, list, tuple, dict, type(None))


def write(folder: Path, value: Any) -> None:
    """Write a nest of dicts, lists, plain values, arrays, tables and dataclasses of this package into a folder."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {}
    tables: dict[str, pd.DataFrame] = {}
    structure = _pack(value, arrays, tables)
    (folder / "state.json").write_text(json.dumps(structure))
    if arrays:
        save_file(arrays, folder / "arrays.safetensors")
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet")


def read(folder: Path) -> Any:
    """What `write` wrote."""
    from safetensors.numpy import load_file

    structure = json.loads((folder / "state.json").read_text())
    path = folder / "arrays.safetensors"
    return _unpack(structure, load_file(path) if path.exists() else {}, folder)


def count(value: Any) -> int:
    """How many numbers an object's learned state ("..._") holds, in arrays and tables."""
    if isinstance(value, np.ndarray | pd.DataFrame):
        return int(value.size)
    if isinstance(value, dict):
        return sum(count(v) for v in value.values())
    learned = {k: v for k, v in getattr(value, "__dict__", {}).items() if k.endswith("_") and not k.startswith("_")}
    return count(learned) if learned else 0


def _pack(value: Any, arrays: dict[str, np.ndarray], tables: dict[str, pd.DataFrame]) -> Any:
    if isinstance(value, np.ndarray):
        name = f"array{len(arrays)}"
        arrays[name] = np.ascontiguousarray(value)
        return {"array": name}
    if isinstance(value, pd.DataFrame):
        name = f"table{len(tables)}"
        tables[name] = value
        return {"table": name}
    if is_dataclass(value) and not isinstance(value, type):
        inner = {f.name: _pack(getattr(value, f.name), arrays, tables) for f in fields(value)}
        return {"dataclass": f"{type(value).__module__}:{type(value).__name__}", "fields": inner}
    if isinstance(value, dict):
        return {"dict": {str(k): _pack(v, arrays, tables) for k, v in value.items()}}
    if isinstance(value, tuple):
        return {"tuple": [_pack(v, arrays, tables) for v in value]}
    if isinstance(value, list):
        return [_pack(v, arrays, tables) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"learned state of type {type(value).__name__} cannot be saved")


def _unpack(value: Any, arrays: dict[str, np.ndarray], folder: Path) -> Any:
    if isinstance(value, list):
        return [_unpack(v, arrays, folder) for v in value]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if "table" in value:
        return pd.read_parquet(folder / f"{value['table']}.parquet")
    if "tuple" in value:
        return tuple(_unpack(v, arrays, folder) for v in value["tuple"])
    if "dict" in value:
        return {k: _unpack(v, arrays, folder) for k, v in value["dict"].items()}
    module, _, name = value["dataclass"].partition(":")
    if not module.startswith("generators."):
        raise ValueError(f"saved state names {module}, which is not a module of generators")
    inner = {k: _unpack(v, arrays, folder) for k, v in value["fields"].items()}
    return getattr(import_module(module), name)(**inner)
