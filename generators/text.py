"""Records as clinical sentences: a subject's row in words, whole or as a person would ask for it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from textwrap import shorten
from typing import Any, Self

import numpy as np
import pandas as pd

MOST_CODES, MOST_NUMBERS, WIDEST = 12, 8, 60
_SAID = ("age", "sex", "category", "code", "outcome", "number")

_AGE = re.compile(r"((patient|subject|anchor) )?age(,? \(?(in )?years\)?| group| band| (at|on) admission)?")
_SEX = re.compile(r"((patient|subject) )?(sex|gender)( at birth)?")
_NOUNS = dict.fromkeys(("male", "m", "man"), "man") | dict.fromkeys(("female", "f", "woman"), "woman")
# a flag that is worded as a happening is a clause of its own: "; was given insulin", not "with was given insulin"
_CLAUSE = re.compile(r"((?:was|is|had|has|received|underwent) (?:given |treated with )?|died |readmitted )(.+)")
# what a classification adds and a clinician leaves out
_VAGUE = re.compile(
    r"\s*[,(]\s*((unilateral or )?unspecified|not elsewhere classified|without (mention|having)).*"
    r"|\s+(without mention|not elsewhere classified|in [a-z ]*classified elsewhere).*|(,.*)?\s+and related$",
    re.IGNORECASE,
)
_PART = re.compile(rf"(.{{20,{WIDEST - 1}}}\w)(?=[,;]|\s+\(|\s(of|with|without|due|in|and|or|for|at|as|by|on)\s)")
_UNIT = re.compile(r"(.+), ([^,]{1,20})")


@dataclass(frozen=True)
class Fact:
    """A column in words. role: age, sex, category, code, outcome or number.

    before: how a code's clause begins. after: a number's unit. fixed: one value per subject.
    """

    column: str
    role: str
    words: str
    before: str = ""
    after: str = ""
    fixed: bool = True
    levels: tuple[str, ...] = ()
    center: float = 0.0
    scale: float = 1.0

    def say(self, value: Any) -> str:
        """A value in words: "67-year-old", "man", "race: Asian", "outcome: not died", "heart rate 77/min"."""
        if self.role == "number":
            return f"{self.words} {_digits(float(value))}{self.after}"
        if self.role == "outcome":
            return f"outcome: {self.words if value else _not(self.words)}"
        if self.levels and (self.role != "age" or isinstance(value, str)) and value not in self.levels:
            raise ValueError(f"column '{self.column}' has no level '{value}': known: {', '.join(self.levels)}")
        if self.role == "age":
            return _age(value)[0]
        noun = _NOUNS.get(str(value).lower(), "") if self.role == "sex" else ""
        return noun or f"{self.words}: {re.sub('(?<=[a-z])(?=[A-Z])', ' ', str(value)).replace('_', ' ')}"


@dataclass(frozen=True)
class Sentences:
    """How the subjects of train's kind are put into words. A column that a table lacks, or a gap, is left unsaid.

    facts: in the order they are said, codes from rarest to commonest. noun: what a subject is. step: what one row of a
    longitudinal table is, else "".
    """

    facts: tuple[Fact, ...]
    noun: str
    step: str

    @classmethod
    def fit(
        cls, train: pd.DataFrame, *, target: str | None = None, static: Sequence[str] = (),
        describe: Mapping[str, str] | None = None,
    ) -> Self:  # fmt: skip
        """Learn the columns and their texts. target: the outcome; every other bool column is a code.

        static: columns that are constant within a subject. describe: column -> text, else the column's own name.
        """
        starts, longitudinal = _starts(train), train.index.nlevels == 2
        facts: list[Fact] = []
        for c in train.columns:
            fixed = not longitudinal or c in static or c == target
            fact = _fact(train[c], (describe or {}).get(c, ""), c == target, fixed, starts)
            if fact.role in ("age", "sex") and any(f.role == fact.role for f in facts):
                fact = replace(fact, role="category" if fact.levels else "number")
            facts.append(fact)
        uses = Counter(f.words for f in facts)
        facts = [f if uses[f.words] == 1 else replace(f, words=f"{f.words} ({f.column})") for f in facts]
        codes = [f.column for f in facts if f.role == "code"]
        held = dict(zip(codes, _ever(train[codes], starts).sum(axis=0).tolist(), strict=True))
        facts.sort(key=lambda f: (_SAID.index(f.role), held.get(f.column, 0)))
        clinical = any(f.role in ("age", "sex", "code") for f in facts)
        step = ("visit" if codes else "time point") if longitudinal else ""
        return cls(tuple(facts), "patient" if clinical else "record", step)

    def of(self, table: pd.DataFrame) -> list[str]:
        """One sentence per subject, in the order subjects come: demographics, codes, outcome, numbers.

        At most 12 codes, rarest first, and the 8 numbers furthest from train's mean. Over time a code counts where it
        ever occurred, a number is its mean, a category its commonest level.
        """
        t = _Subjects(self, table)
        return [
            self._write(t.age[i], t.sex[i], [c[i] for c in t.others], t.codes[i], t.outcome[i], t.numbers(i, t.far[i]),
                        t.steps[i])
            for i in range(t.n)
        ]  # fmt: skip

    def short(self, table: pd.DataFrame, *, seed: int, most: int = 3) -> list[str]:
        """One prompt per subject as a person would put it: a random part of the subject's facts.

        Kept: age (80 %; half of them as "elderly", "middle-aged" or "young"), sex (80 %), other categories (20 %), 1 to
        `most` of the codes (of the numbers that `of` says, where a table has no codes), outcome (30 %).
        """
        if most < 1:
            raise ValueError(f"most={most}: expected at least 1")
        t, rng, sentences = _Subjects(self, table), np.random.default_rng(seed), []
        for i in range(t.n):
            dice, k = rng.random(3 + len(t.others)), int(rng.integers(1, most + 1))
            text, low, high = t.age[i]
            age = (_band(low, high) or text) if dice[0] < 0.4 else text if dice[0] < 0.8 else ""
            others = [c[i] for c, d in zip(t.others, dice[3:], strict=True) if d < 0.2]
            codes, numbers = t.codes[i], []
            if codes is None:
                numbers = t.numbers(i, rng.permutation(t.far[i])[:k].tolist())
            else:
                codes = [int(j) for j in rng.permutation(codes)[:k]]
            outcome = t.outcome[i] if dice[2] < 0.3 else ""
            sentences.append(
                self._write((age, low, high), t.sex[i] if dice[1] < 0.8 else "", others, codes, outcome, numbers)
            )
        return sentences

    def condition(self, given: Mapping[str, object]) -> str:
        """The sentence of a partial description (column -> value), in the words of `short`.

        Codes that are False and missing values are left unsaid, as there.
        """
        known = {f.column: f for f in self.facts}
        for column in given:
            if column not in known:
                near = get_close_matches(str(column), known, n=1)
                hint = f" did you mean '{near[0]}'?" if near else ""
                raise ValueError(f"unknown column '{column}':{hint} known: {', '.join(known)}")
        values = {f: given[f.column] for f in self.facts if f.column in given and not pd.isna(given[f.column])}
        said: dict[str, list[str]] = {role: [] for role in _SAID}
        for f, value in values.items():
            said[f.role].append(f.say(value) if f.role != "code" else "")
        age = next((_age(v) for f, v in values.items() if f.role == "age"), UNKNOWN)
        codes = [j for j, f in enumerate(self.codes) if values.get(f)]
        sex, outcome = "".join(said["sex"]), "".join(said["outcome"])
        return self._write(age, sex, said["category"], codes or None, outcome, said["number"])

    @cached_property
    def codes(self) -> list[Fact]:
        """The facts that are codes, rarest first."""
        return [f for f in self.facts if f.role == "code"]

    def _write(
        self, age: tuple[str, float, float], sex: str, others: Sequence[str], codes: list[int] | None, outcome: str,
        numbers: Sequence[str], steps: int = 0,
    ) -> str:  # fmt: skip
        """The sentence of what is to be said; "" is left out, and codes=None says nothing of them."""
        noun = self.noun if not sex or ":" in sex else sex
        if age[2] <= 18:
            noun = {"man": "boy", "woman": "girl"}.get(noun, noun)
        about = [s for s in (f"{age[0]} {noun}".strip(), sex if ":" in sex else "", *others) if s]
        present = [self.codes[j] for j in (codes or [])[:MOST_CODES]]
        further = len(codes or []) - len(present)
        held = [f.words for f in present if not f.before]
        if further:
            held.append(f"{further} further condition{'s' * (further > 1)}")
        if codes == []:
            held = ["no recorded condition"]
        text = ", ".join(about) + (f"{',' * (len(about) > 1)} with {_and(held)}" if held else "")
        text += f", over {steps} {self.step}{'s' * (steps > 1)}" if steps else ""
        clauses = [
            b + _and([f.words for f in present if f.before == b]) for b in dict.fromkeys(f.before for f in present) if b
        ]
        return "; ".join(s for s in (text, *clauses, outcome, ", ".join(numbers)) if s) + "."


UNKNOWN = ("", 0.0, np.inf)  # an age


class _Subjects:
    """A table's subjects, fact by fact; lists have one entry per subject.

    age: text and the years it covers. sex, outcome, others (one list per category): texts. codes: places in
    Sentences.codes. far: places of the numbers that stand out.
    """

    def __init__(self, sentences: Sentences, table: pd.DataFrame) -> None:
        starts = _starts(table)
        here = [f for f in sentences.facts if f.column in table.columns]
        texts: dict[str, list[list[Any]]] = {role: [] for role in _SAID}
        for f in here:
            if f.role not in ("code", "number"):
                say = _age if f.role == "age" else f.say
                texts[f.role].append(_texts(table[f.column], f, say, UNKNOWN if f.role == "age" else "", starts))
        self.n = len(starts)
        self.age = [*texts["age"], [UNKNOWN] * self.n][0]
        self.sex, self.outcome = ([*texts[role], [""] * self.n][0] for role in ("sex", "outcome"))
        self.others = texts["category"]
        self.steps = np.diff(starts, append=len(table)).tolist() if sentences.step else [0] * self.n
        places = [j for j, f in enumerate(sentences.codes) if f.column in table.columns]
        held = _places(_ever(table[[sentences.codes[j].column for j in places]], starts))
        self.codes = [[places[j] for j in js] for js in held] if places else [None] * self.n
        self._facts = [f for f in here if f.role == "number"]
        self._x = _means(table[[f.column for f in self._facts]], starts)
        z = np.abs(self._x - [f.center for f in self._facts]) / [f.scale for f in self._facts]
        order = np.argsort(np.where(np.isnan(z), np.inf, -z), axis=1, kind="stable")[:, :MOST_NUMBERS]
        stands_out = np.zeros(z.shape, bool)
        np.put_along_axis(stands_out, order, True, axis=1)
        self.far = _places(stands_out & ~np.isnan(z))

    def numbers(self, i: int, places: list[int]) -> list[str]:
        """Some numbers of subject i in words."""
        return [self._facts[j].say(self._x[i, j]) for j in places]


def _fact(values: pd.Series, text: str, target: bool, fixed: bool, starts: np.ndarray) -> Fact:
    """What train says of one column. starts: the first row of each subject."""
    name = str(values.name)
    plain = [t.lower().replace("_", " ") for t in (name, text)]
    words = _phrase(text or name.replace("_", " "))
    role = next((r for r, form in (("age", _AGE), ("sex", _SEX)) if any(form.fullmatch(p) for p in plain)), "")
    if str(values.dtype) == "bool":
        clause = None if target else _CLAUSE.fullmatch(words)
        if clause:
            return Fact(name, "code", clause[2], before=clause[1], fixed=fixed)
        return Fact(name, "outcome" if target else "code", words, fixed=fixed)
    if isinstance(values.dtype, pd.CategoricalDtype):
        return Fact(name, role or "category", words, fixed=fixed or bool(role), levels=tuple(values.cat.categories))
    x = _means(values.to_frame(), starts)
    x = x[~np.isnan(x)]
    center, scale = (float(x.mean()), float(x.std()) or 1.0) if len(x) else (0.0, 1.0)
    unit = _UNIT.fullmatch(words)
    words, after = (unit[1], unit[2]) if unit else (words, "")
    after = after.removeprefix("1") if after.startswith("1/") else after if after in ("", "%") else f" {after}"
    kind, fixed = ("age", True) if role == "age" else ("number", fixed)
    return Fact(name, kind, words, after=after, fixed=fixed, center=center, scale=scale)


def _phrase(text: str) -> str:
    """A column's text inside a sentence: without a classification's afterthoughts, begun in lower case, not too long.

    >>> _phrase("Acute respiratory failure, unspecified whether with hypoxia or hypercapnia and related")
    'acute respiratory failure'
    >>> _phrase("Age-related osteoporosis without current pathological fracture of the hip")
    'age-related osteoporosis'
    >>> _phrase("HIV disease"), _phrase("Parkinson's disease"), _phrase("Obesity")
    ('HIV disease', "Parkinson's disease", 'obesity')
    """
    text = _VAGUE.sub("", " ".join(text.split())) or text
    if len(text) > WIDEST:  # cut before a joining word where there is one, else between two words
        part = _PART.match(text)
        text = part[1] if part else shorten(text, WIDEST, placeholder="") or text[:WIDEST]
    first = text.split(" ", 1)[0]
    common = len(first) > 1 and first[1:].islower() and "'" not in first
    return text[0].lower() + text[1:] if common else text


def _age(value: Any) -> tuple[str, float, float]:
    """An age, or a level of an age group, in words, and the years it covers, from and up to.

    >>> _age(67), _age("[70-80)"), _age("90+")
    (('67-year-old', 67, 68), ('70 to 80 year old', 70, 80), ('90+ year old', 90, inf))
    """
    if not isinstance(value, str):
        years = int(value)
        return f"{years}-year-old", years, years + 1
    found = [int(x) for x in re.findall(r"\d+", value)]
    if len(found) == 2:
        return f"{found[0]} to {found[1]} year old", found[0], found[1] + (not value.endswith(")"))
    if len(found) == 1:
        below = value.startswith(("<", "under"))
        text = value.replace("<", "under ").replace(">", "over ")
        return f"{text} year old", 0 if below else found[0], found[0] if below else np.inf
    return value.lower(), 0, np.inf


def _band(low: float, high: float) -> str:
    """The word for ages of which all lie in one band, else ""."""
    if low >= 65:
        return "elderly"
    return "middle-aged" if low >= 40 and high <= 65 else "young" if high <= 40 else ""


def _digits(x: float) -> str:
    """Whole numbers as they are, others to three significant digits.

    >>> _digits(2013.0), _digits(1234.5), _digits(-0.04567), _digits(77.0000001)
    ('2013', '1230', '-0.0457', '77')
    """
    return f"{x + 0.0:.0f}" if x == round(x) else f"{float(f'{x:.3g}'):.12g}"


def _not(text: str) -> str:
    no = re.sub(r"\b(is|was|has been)\b", r"\1 not", text, count=1)
    return no if no != text else f"not {text}"


def _and(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def _starts(table: pd.DataFrame) -> np.ndarray:
    """The first row of each subject."""
    place, _ = pd.factorize(table.index.get_level_values("subject"))
    return np.flatnonzero(np.diff(place, prepend=-1))


def _ever(codes: pd.DataFrame, starts: np.ndarray) -> np.ndarray:
    """Codes (rows, k) as (subjects, k): which ever occurred."""
    held = codes.to_numpy(dtype=bool)
    return held if len(starts) == len(held) else np.logical_or.reduceat(held, starts, axis=0)


def _means(numbers: pd.DataFrame, starts: np.ndarray) -> np.ndarray:
    """Numbers (rows, k) as (subjects, k): means over time, NaN where never measured."""
    x = np.empty(numbers.shape)
    for j, c in enumerate(numbers):
        x[:, j] = numbers[c].to_numpy(dtype=float, na_value=np.nan)
    if len(starts) == len(x):
        return x
    seen = np.add.reduceat(~np.isnan(x), starts, axis=0, dtype=float)
    return np.where(seen > 0, np.add.reduceat(np.nan_to_num(x), starts, axis=0) / np.maximum(seen, 1), np.nan)


def _texts(values: pd.Series, fact: Fact, say: Callable[[Any], Any], gap: Any, starts: np.ndarray) -> list[Any]:
    """A column in words, one per subject: its first value, or the commonest level of a category that varies."""
    if fact.fixed or len(starts) == len(values):
        code, levels = pd.factorize(values.iloc[starts])
    else:
        every, levels = values.cat.codes.to_numpy(), values.cat.categories
        counts = np.add.reduceat(every[:, None] == np.arange(len(levels)), starts, axis=0, dtype=int)
        code = np.where(counts.any(axis=1), counts.argmax(axis=1), -1)
    known = [say(v) for v in levels.tolist()]
    return [known[c] if c >= 0 else gap for c in code.tolist()]


def _places(mask: np.ndarray) -> list[list[int]]:
    """Per row, the columns that hold."""
    columns, ends = np.nonzero(mask)[1].tolist(), np.cumsum(mask.sum(axis=1)).tolist()
    return [columns[a:b] for a, b in zip([0, *ends], ends, strict=False)]
