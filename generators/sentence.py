"""A subject as a sentence of words, the fourth view of a table: what is constant, then visit by visit what is there.

    died=True age=[60,65) sex=male <demo> <v> I10 E11 </v> <v> E11 </v> <end>

A word is a code, a level of a category, or a bin of a number. Words of a visit stand in one order, so that a set is
written in one way only and a word that repeats is out of order; a code that is off and a gap are not written. A flat
table is one visit: its flags, after everything else. Which word may follow which is a matter of two numbers a word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd

from generators.base import Unsupported
from generators.columns import Layout, first_rows
from generators.encode import Bins

DEMO, VISIT, CLOSE, END = STRUCTURE = ("<demo>", "<v>", "</v>", "<end>")
NONE, STRANGE = -1, -2  # past a sentence's end; what is no word of ours


@dataclass(frozen=True)
class Sentence:
    """Sentences as rows of word numbers (n, l) int64, NONE past the end.

    static: columns of the demographics, the target first. slots: columns of a visit that are no codes. codes: the
    commonest first. gaps: which slots may be left out. longest: words of the longest sentence.
    """

    layout: Layout
    static: tuple[Bins, ...]
    slots: tuple[Bins, ...]
    codes: tuple[str, ...]
    gaps: tuple[bool, ...]
    longest: int

    @classmethod
    def fit(
        cls, table: pd.DataFrame, *, target: str | None = None, static: Sequence[str] = (), bins: int = 32,
        cover: float = 1.0, most: int = 1_024,
    ) -> Self:  # fmt: skip
        """Fit on train. bins: of a number with more values. cover: share of subjects who fit whole. most: words of a
        sentence; visits beyond are left out. Unsupported where that cannot be done."""
        static = [*static, *([target] if target and target not in static else [])]
        layout, first = Layout.fit(table, static, cover=cover), first_rows(table)
        flags = [c.name for c in (layout.varying if layout.steps else layout.static) if c.kind == "bool"]
        counts = table[[f for f in flags if f != target]].sum().sort_values(ascending=False, kind="stable")
        codes = tuple(map(str, counts.index))
        front = sorted((c.name for c in layout.static if c.name not in codes), key=lambda name: name != target)
        slots = tuple(Bins.fit(table[c.name], bins) for c in layout.varying if c.name not in codes)
        view = cls(
            layout, tuple(Bins.fit(first[name], bins) for name in front), slots, codes,
            tuple(b.column.missing for b in slots), most,
        )  # fmt: skip
        sentences = view.transform(table)
        longest = int((sentences != NONE).sum(axis=1).max())
        cut = layout.same_length and bool((sentences == view.marks[VISIT]).sum(axis=1).min() < layout.steps)
        if longest > most or cut:
            raise Unsupported(f"a subject's sentence takes over {most} words")
        return cls(layout, view.static, slots, codes, view.gaps, longest)

    # --- words ---

    @cached_property
    def words(self) -> list[str]:
        """The text of every word, each once, without blanks and with no token in it: demographics, structure, slots,
        codes."""
        out, taken = list[str](), set(STRUCTURE)

        def add(text: str) -> None:
            text = re.sub(r"<(/?\w+)>", r"‹\1›", "_".join(text.split()) or "_")
            while text in taken:
                text += "'"
            taken.add(text)
            out.append(text)

        for b in self.static:
            for text in _texts(b):
                add(text)
        out += STRUCTURE
        for b, gap in zip(self.slots, self.gaps, strict=True):
            for text in _texts(b)[: b.k - gap]:
                add(text)
        for code in self.codes:
            add(code)
        return out

    @cached_property
    def starts(self) -> np.ndarray:
        """The first word of each column of the demographics, then of each slot, then of the codes."""
        front = np.cumsum([0] + [b.k for b in self.static])
        back = (
            front[-1] + len(STRUCTURE) + np.cumsum([0] + [b.k - g for b, g in zip(self.slots, self.gaps, strict=True)])
        )
        return np.concatenate([front[:-1], back]).astype(np.int64)

    @cached_property
    def marks(self) -> dict[str, int]:
        """Numbers of the structural words."""
        at = sum(b.k for b in self.static)
        return {word: at + i for i, word in enumerate(STRUCTURE)}

    @cached_property
    def rank(self) -> np.ndarray:
        """Where a word stands in the order of a sentence with one visit (words,)."""
        s, j, c = len(self.static), len(self.slots), len(self.codes)
        front = np.repeat(np.arange(s), [b.k for b in self.static])
        marks = [s, s + 1, s + 2 + j + c, s + 3 + j + c]
        inside = np.repeat(s + 2 + np.arange(j), [b.k - g for b, g in zip(self.slots, self.gaps, strict=True)])
        return np.concatenate([front, marks, inside, s + 2 + j + np.arange(c)]).astype(np.int64)

    @cached_property
    def barrier(self) -> np.ndarray:
        """The next rank that no sentence leaves out, of each word (words,)."""
        s, j, c = len(self.static), len(self.slots), len(self.codes)
        must = np.ones(s + 4 + j + c, bool)
        must[s + 2 : s + 2 + j] = ~np.array(self.gaps, bool)
        must[s + 2 + j : s + 2 + j + c] = False
        after = np.flatnonzero(must)
        place = np.searchsorted(after, self.rank, side="right")
        return after[np.minimum(place, len(after) - 1)]

    @cached_property
    def owed(self) -> np.ndarray:
        """How many words of its visit must still come after each word, the closing one among them (words,)."""
        s = len(self.static)
        must = s + 2 + np.flatnonzero(~np.array(self.gaps, bool))
        left = len(must) - np.searchsorted(must, self.rank, side="right") + 1
        left[self.rank <= s] = 0
        left[[self.marks[CLOSE], self.marks[END]]] = 0
        return left

    @property
    def visit(self) -> int:
        """Words of the shortest visit."""
        return 2 + sum(not gap for gap in self.gaps)

    @property
    def visits(self) -> tuple[int, int]:
        """The fewest and the most visits of a subject."""
        most = max(self.layout.steps, 1)
        return (most if self.layout.same_length else 1), most

    # --- there and back ---

    def transform(self, table: pd.DataFrame) -> np.ndarray:
        """The sentences of a table's subjects, in the order they come."""
        first, steps, s = first_rows(table), self.layout.steps, len(self.static)
        n, demo, width = len(first), self.marks, int(self.rank.max()) + 1
        if steps:
            place, step = self.layout.cells(table)
        else:
            place, step = np.arange(n), np.zeros(n, np.int64)
        kept = self._kept(table, place, step)
        table, place, step = table[kept], place[kept], step[kept]
        who, when, word = [], [], []

        def say(subject: np.ndarray, visit: np.ndarray | int, words: np.ndarray | int) -> None:
            who.append(subject)
            when.append(np.broadcast_to(visit, subject.shape))
            word.append(np.broadcast_to(words, subject.shape))

        every = np.arange(n)
        for start, b in zip(self.starts, self.static, strict=False):
            say(every, 0, start + b.encode(first[b.column.name]))
        say(every, 0, demo[DEMO])
        say(place, step + 1, demo[VISIT])
        for start, b, gap in zip(self.starts[s:], self.slots, self.gaps, strict=False):
            level = b.encode(table[b.column.name])
            there = level < b.k - gap
            say(place[there], step[there] + 1, start + level[there])
        row, code = np.nonzero(table[list(self.codes)].to_numpy(dtype=bool))
        say(place[row], step[row] + 1, self.starts[-1] + code)
        say(place, step + 1, demo[CLOSE])
        say(every, max(steps, 1) + 1, demo[END])
        subject, visit, words = np.concatenate(who), np.concatenate(when), np.concatenate(word)
        order = np.argsort((subject * (max(steps, 1) + 2) + visit) * width + self.rank[words], kind="stable")
        count = np.bincount(subject, minlength=n)
        out = np.full((n, int(count.max(initial=0))), NONE, np.int64)
        out[np.arange(out.shape[1]) < count[:, None]] = words[order]
        return out

    def inverse(self, sentences: np.ndarray, *, seed: int) -> pd.DataFrame:
        """The table of well-formed sentences; a number falls uniformly inside its bin."""
        rng, n, s = np.random.default_rng(seed), len(sentences), len(self.static)
        static = {
            b.column.name: b.decode(sentences[:, i] - start, rng)
            for i, (start, b) in enumerate(zip(self.starts, self.static, strict=False))
        }
        opened = sentences == self.marks[VISIT]
        lengths = opened.sum(axis=1)
        row = (np.cumsum(lengths) - lengths)[:, None] + opened.cumsum(axis=1) - 1  # of the visit a word stands in
        flat, row = sentences.ravel(), row.ravel()
        rows, varying = int(lengths.sum()), dict[str, pd.Series]()
        for start, b, gap in zip(self.starts[s:], self.slots, self.gaps, strict=False):
            level = np.full(rows, b.k - 1 if gap else 0)
            here = (flat >= start) & (flat < start + b.k - gap)
            level[row[here]] = flat[here] - start
            varying[b.column.name] = b.decode(level, rng)
        held = np.zeros((rows, len(self.codes)), bool)
        here = flat >= self.starts[-1]
        held[row[here], flat[here] - self.starts[-1]] = True
        for i, code in enumerate(self.codes):
            varying[code] = pd.Series(held[:, i])
        if self.layout.steps == 0:
            return self.layout.assemble(static | varying, {}, None, n)
        return self.layout.assemble(static, varying, lengths, n)

    def well_formed(self, sentences: np.ndarray) -> np.ndarray:
        """Which sentences (n, l) a subject could be (n,): every word where it may stand, and an end."""
        last, now = sentences[:, :-1], sentences[:, 1:]
        known, over = last >= 0, now == NONE
        rank = np.where(now >= 0, self.rank[now], -1)
        follows = (rank > self.rank[last]) & (rank <= self.barrier[last])
        again = (last == self.marks[CLOSE]) & (now == self.marks[VISIT])
        closed = (last == self.marks[END]) & over
        fine = np.where(known, (follows | again | closed) & (now != STRANGE), (last == NONE) & over).all(axis=1)
        low, high = self.visits
        visits = (sentences == self.marks[VISIT]).sum(axis=1)
        begun = sentences[:, 0] >= 0
        begun &= self.rank[sentences[:, 0]] == 0
        return fine & begun & (sentences == self.marks[END]).any(axis=1) & (visits >= low) & (visits <= high)

    def text(self, sentence: np.ndarray) -> str:
        """A sentence in words."""
        return " ".join(self.words[w] if w >= 0 else "?" for w in sentence if w != NONE)

    def _kept(self, table: pd.DataFrame, place: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Which rows are written: those on the grid, as long as the sentence does not grow too long."""
        if self.layout.steps == 0:
            return np.ones(len(table), bool)
        words = 2 + table[list(self.codes)].to_numpy(dtype=bool).sum(axis=1)
        words += sum((table[b.column.name].notna().to_numpy() for b in self.slots), np.zeros(len(table), np.int64))
        total = words.cumsum()
        first = np.flatnonzero(step == 0)
        total -= (total - words)[first][place]
        return (step < self.layout.steps) & ((len(self.static) + 2 + total <= self.longest) | (step == 0))


def _texts(b: Bins) -> list[str]:
    """What the tokens of a column are called: "column=level", numbers by value or bin, the gap as "?"."""
    name, gap = b.column.name, ["?"] * b.column.missing
    if b.column.kind == "bool":
        said = ["False", "True"]
    elif b.column.kind == "category":
        said = [*b.column.levels, *gap]
    elif b.exact:
        said = [*(f"{x:g}" for x in b.edges), *gap]
    else:
        said = [*(f"[{low:.4g},{high:.4g})" for low, high in zip(b.edges, b.edges[1:], strict=False)), *gap]
    return [f"{name}={text}" for text in [*said, *["?"] * (b.k - len(said))]]
