"""What a fit of BART is watched for, epoch by epoch, and where it is stopped.

The diagnostics of the report on the first BART generator of records (pehr, 2025), each with bounds: a model whose loss
falls while its sentences are no sentences is told by these and by nothing else. Sentences are drawn without the
grammar, which would hide it.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from scipy.spatial.distance import jensenshannon
from torch import nn

from generators.bart_nets import Loss, Writer, write
from generators.base import Log, StopFit
from generators.sentence import CLOSE, DEMO, END, NONE, STRUCTURE, VISIT, Sentence
from generators.training import dice_on

WATCHED, DRAWN = 200, 100  # train's sentences that are read, sentences that are drawn
GRACE, GRACE_STEPS = 5, 1_000  # evaluations and steps before a guard may stop a fit: the report's fifth epoch
RIGHT = 0.95  # of a drawn sentence's words, or half of all sentences, must stand where they may
LEAST_CHANCE = 0.1  # of a structural word at its place; half of how common it is there, where that is less
NAMES = {DEMO: "p_demo", VISIT: "p_visit", CLOSE: "p_close", END: "p_end"}
BOUNDS = {  # lowest and highest
    "norm_ratio": (0.1, 10.0),
    "overfit": (0.0, 2.0),
    "unigram_js": (-1.0, 0.3),
    "per_visit_ks": (0.0, 0.5),
    "copies": (-1.0, 0.5),
}


class Violated(RuntimeError):
    """A guard of a fit does not hold: its name, what was found, and its bounds."""


class Guards:
    """A `log` of training that measures, hands everything on to `log`, and stops a fit that has gone wrong.

    net: the network that the fit returns, whose weights are averaged while it trains. sentences: those that it is
    trained on, without those held back for validation.

    p_...: mean chance of a structural word at its place. norm_ratio: mean length of new tokens' embeddings over that of
    a pretrained model's old ones (of structural words over others, from scratch). overfit: validation loss of net over
    its loss on `sentences`. well_formed, unigram_js (Jensen-Shannon divergence, bits, beyond that of as few of train's
    own), per_visit_ks: of sentences drawn without the grammar. copies: how many more of them are found in train than
    train's own are found twice.

    Raises Violated where a bound does not hold after five epochs and 1,000 steps; where it is that of `overfit`,
    StopFit, for what was learned before is kept, and the log says so.
    """

    def __init__(
        self, net: nn.Module, loss: Loss, sentences: np.ndarray, *, epoch: int, seed: int, stop: bool, log: Log
    ) -> None:
        self.net, self.loss, self.log = net, loss, log
        view = self.view = loss.view
        self.vocabulary = loss.vocabulary
        self.epoch, self.seed, self.stop = epoch, seed, stop
        self.sentences = sentences
        rng = np.random.default_rng(seed)
        self.watched = sentences[rng.permutation(len(sentences))[:WATCHED]]
        self.told = np.full((DRAWN, len(view.static)), NONE, np.int64)
        self.told[:] = sentences[rng.integers(len(sentences), size=DRAWN), : len(view.static)]
        self.told[:, int(loss.classed) :] = NONE
        self.known = Counter(_record(row, view) for row in sentences)
        self.unigrams = _unigrams(sentences, view)
        self.noise = _js(_unigrams(self.watched[:DRAWN], view), self.unigrams)
        self.sizes = _sizes(sentences, view)
        self.twice = sum(k for k in self.known.values() if k > 1) / len(sentences)

    def __call__(self, step: int, **values: float) -> None:
        """Measure, log, judge."""
        found = self.measured(values.get("validation", np.nan), seed=self.seed + step)
        self.log(step, **values, **found)
        if not self.stop or step < max(GRACE * self.epoch, GRACE_STEPS):
            return
        for name, value in found.items():
            low, high = self.bounds(name)
            if low <= value <= high or not np.isfinite(value):
                continue
            if name == "overfit":
                self.log(step, stopped_by_overfit=value)
                raise StopFit
            raise Violated(f"guard {name}: {value:.3g} at step {step}, expected {low:.3g} to {high:.3g}")

    def bounds(self, name: str) -> tuple[float, float]:
        """Lowest and highest value of a diagnostic."""
        if name in BOUNDS:
            return BOUNDS[name]
        if name == "well_formed":
            return min(0.5, RIGHT**self.loss.mean), 1.0
        word = next(w for w, called in NAMES.items() if called == name)
        at = self.view.marks
        follows = {DEMO: [DEMO], VISIT: [VISIT, END], END: [VISIT, END]}.get(word)
        if follows is None:  # what may stand in the place of a closing word: any word of a visit
            rivals = (self.sentences > at[END]).sum() + (self.sentences == at[CLOSE]).sum()
        else:
            rivals = sum((self.sentences == at[w]).sum() for w in follows)
        return min(LEAST_CHANCE, 0.5 * float((self.sentences == at[word]).sum() / max(rivals, 1))), 1.0

    def measured(self, validation: float, *, seed: int) -> dict[str, float]:
        """Every diagnostic of the network as it is."""
        training = self.net.training
        self.net.eval()
        try:
            return self._read(validation) | self._ratio() | self._drawn(seed)
        finally:
            self.net.train(training)

    @torch.no_grad()
    def _read(self, validation: float) -> dict[str, float]:
        at = next(self.net.parameters()).device
        words = torch.from_numpy(self.watched).to(at)
        words = words[:, : int((words != NONE).sum(dim=1).max())]
        loss, told = self.loss, words[:, : self.told.shape[1]].clone()
        told[:, int(loss.classed) :] = NONE
        dice = dice_on(at, self.seed)
        seen = float(loss(self.net, (words, (words != NONE).sum(dim=1)), dice))
        logits = self.net.logits(*loss.read(words, told))  # type: ignore[operator]
        labels = loss.labels(words, told)
        log = logits.log_softmax(dim=2).gather(2, labels.clamp(min=0)[:, :, None])[:, :, 0]  # (b, l)
        ids = self.vocabulary.ids
        found = {NAMES[w]: float(log[labels == int(ids[self.view.marks[w]])].exp().mean()) for w in STRUCTURE}
        return found | {"overfit": validation / max(seen, 1e-9)}

    @torch.no_grad()
    def _ratio(self) -> dict[str, float]:
        table = self.net.get_input_embeddings().weight  # type: ignore[operator]
        norm = table.norm(dim=1).cpu().numpy()
        new = np.zeros(len(norm), bool)
        new[self.vocabulary.ids] = True
        structural = np.zeros(len(norm), bool)
        structural[self.vocabulary.ids[list(self.view.marks.values())]] = True
        first = self.vocabulary.old
        ours, others = (new, np.arange(len(norm)) < first) if first else (structural, new & ~structural)
        return {"norm_ratio": float(norm[ours].mean() / norm[others].mean()) if others.any() else 1.0}

    def _drawn(self, seed: int) -> dict[str, float]:
        assert isinstance(self.net, Writer)
        drawn = write(self.net, self.view, self.vocabulary, self.told, seed=seed, free=True)
        there = [_record(row, self.view) in self.known for row in drawn]
        return {
            "well_formed": float(self.view.well_formed(drawn).mean()),
            "unigram_js": _js(_unigrams(drawn, self.view), self.unigrams) - self.noise,
            "per_visit_ks": _ks(_sizes(drawn, self.view), self.sizes),
            "copies": float(np.mean(there)) - self.twice,
        }


def _record(row: np.ndarray, view: Sentence) -> bytes:
    """What is said of a subject after its demographics."""
    return row[len(view.static) :][row[len(view.static) :] != NONE].tobytes()


def _unigrams(sentences: np.ndarray, view: Sentence) -> np.ndarray:
    """How common each word of a visit is among all (words of visits,)."""
    first = view.marks[END] + 1
    inside = sentences[sentences >= first] - first
    count = np.bincount(inside, minlength=len(view.words) - first).astype(float)
    return count / max(count.sum(), 1)


def _sizes(sentences: np.ndarray, view: Sentence) -> np.ndarray:
    """Words of each visit."""
    opened = sentences == view.marks[VISIT]
    number = opened.cumsum(axis=1) + (opened.sum(axis=1).cumsum() - opened.sum(axis=1))[:, None]  # from 1, over all
    inside = (sentences > view.marks[END]) & (opened.cumsum(axis=1) > 0)
    return np.bincount(number[inside] - 1, minlength=int(opened.sum()))


def _ks(one: np.ndarray, other: np.ndarray) -> float:
    """Largest distance of two distribution functions; 1 where one has no value."""
    if not len(one) or not len(other):
        return 1.0
    at = np.union1d(one, other)
    shares = [np.searchsorted(np.sort(v), at, side="right") / len(v) for v in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def _js(one: np.ndarray, other: np.ndarray) -> float:
    """Jensen-Shannon divergence of two distributions, in bits; 1 where one has nothing, 0 where neither has."""
    if not one.any() or not other.any():
        return float(one.any() != other.any())
    return float(jensenshannon(one, other, base=2) ** 2)
