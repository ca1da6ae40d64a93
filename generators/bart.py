"""This is BART the sequence model (Lewis et al. 2020, arXiv:1910.13461), not the regression trees of the same name.

A subject is a sentence (sentence.py): demographics, then visits. As published for health records (the system that
PromptEHR, Wang and Sun 2022, arXiv:2211.01761, began) the encoder was shown what the decoder had to say. Here it reads
some of the demographics, the class always, and masks for the others; the decoder says all that was not told, so that
any demographics can be asked for and none need be. By default the network is small and new; `pretrained` names a folder
of a BART, or one on the hub, whose tokenizer learns the words of the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import BartConfig

from generators.bart_guards import Guards
from generators.bart_nets import Loss, Vocabulary, Writer, learned, pretrained, scratch, tokenizer_of, write
from generators.base import Generator, Log, Unsupported, classes, quiet
from generators.columns import labels
from generators.sentence import NONE, Sentence
from generators.training import build, device, dice_on, train, weights_of, with_weights

LEAST_EPOCH = 100  # steps between two evaluations
CLIP = 5.0  # a batch of long sentences has a long gradient, and must not weigh less for it
MOST_WORDS = 1_024
CALIBRATED, SCALINGS = 4_000, 4  # sentences that are read, and how often


class BART(Generator):
    """BART over the words of a table.

    pretrained: "" for a small network from scratch, else a folder of a BART or a name on the hub. epochs (kept within
    least_steps and most_steps), batch, lr (of facebook/bart-base 1e-4 and less), weight_decay, warmup (steps over which
    the rate rises; a pretrained network is first taught the new embeddings alone for as many), dropout, new_dropout (of
    new tokens' embeddings), ema, patience (evaluations without gain, one an epoch): training. width, depth (layers each
    of encoder and decoder), heads: of a network from scratch. bins: of numbers. cover: share of subjects who fit whole.
    guards: stop a fit that goes wrong. calibrate: match how common each word is to train's. temperature, top_k (0:
    all), top_p: how words are drawn.
    """

    AT_SAMPLE = ("temperature", "top_k", "top_p")

    def __init__(
        self, pretrained: str = "", epochs: int = 20, least_steps: int = 1_500, most_steps: int = 8_000,
        batch: int = 32, lr: float = 2e-3, weight_decay: float = 0.01, warmup: int = 100, dropout: float = 0.2,
        new_dropout: float = 0.0, ema: float = 0.995, patience: int = 5, width: int = 128, depth: int = 2,
        heads: int = 4, bins: int = 32, cover: float = 0.995, guards: bool = True, calibrate: bool = True,
        temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0,
    ) -> None:  # fmt: skip
        self.pretrained = pretrained
        self.epochs = epochs
        self.least_steps = least_steps
        self.most_steps = most_steps
        self.batch = batch
        self.lr = lr
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.dropout = dropout
        self.new_dropout = new_dropout
        self.ema = ema
        self.patience = patience
        self.width = width
        self.depth = depth
        self.heads = heads
        self.bins = bins
        self.cover = cover
        self.guards = guards
        self.calibrate = calibrate
        self.temperature = temperature
        self.top_k = top_k
        self.top_p = top_p

    @classmethod
    def suggest(cls, trial: Any) -> dict[str, Any]:
        """Epochs, rate, warm-up, batch and how words are drawn, as in the report's revised grid; regularisation."""
        return {
            "epochs": trial.suggest_categorical("epochs", [10, 20, 40]),
            "lr": trial.suggest_float("lr", 5e-5, 3e-3, log=True),
            "warmup": trial.suggest_categorical("warmup", [0, 100, 500]),
            "batch": trial.suggest_categorical("batch", [16, 32, 64]),
            "dropout": trial.suggest_float("dropout", 0.0, 0.4),
            "temperature": trial.suggest_float("temperature", 0.8, 1.3),
            "top_k": trial.suggest_categorical("top_k", [0, 30, 50]),
        }

    def fit(
        self, train: pd.DataFrame, *, target: str | None = None, static: Sequence[str] = (),
        describe: Mapping[str, str] | None = None, seed: int, log: Log = quiet,
    ) -> Self:  # fmt: skip
        """Learn to write subjects. Raises Unsupported where a subject takes over 1,024 words, Violated by a guard."""
        view = Sentence.fit(train, target=target, static=static, bins=self.bins, cover=self.cover, most=MOST_WORDS)
        self.target_ = target
        self.rate_ = float(labels(train, target).mean())
        sentences = view.transform(train)
        self.vocabulary_ = (
            learned(self.pretrained, view) if self.pretrained else Vocabulary.of(tokenizer_of(view), view)
        )
        net = build(lambda: self._new(view), seed=seed)
        self.config_ = net.config.to_dict()  # type: ignore[operator, union-attr]
        self.view_ = view
        net = self._train(net, sentences, seed, log)
        if self.calibrate:
            self._calibrate(net, sentences, seed)
        self.weights_ = weights_of(net.to("cpu"))
        return self

    def sample(self, n: int, *, given: Mapping[str, object] | None = None, seed: int) -> pd.DataFrame:
        """n subjects, classes in train's proportion; given demographics, of that kind; other conditions by rejection.

        Raises Unsupported for a level that train does not have.
        """
        self._needs_fit("weights_")
        given, columns = dict(given or {}), {b.column.name: i for i, b in enumerate(self.view_.static)}
        if not set(given) <= set(columns):
            return self.reject(n, given, seed=seed)
        rng = np.random.default_rng(seed)
        told = np.full((n, len(columns)), NONE, np.int64)
        if self.target_:
            told[:, 0] = classes(
                n, self.rate_, self.target_, {k: v for k, v in given.items() if k == self.target_}, rng
            )
        for name, value in given.items():
            if name != self.target_:
                told[:, columns[name]] = self._word(columns[name], value)
        net = self._net().to(device())
        seeds = rng.integers(2**62, size=2).tolist()
        sentences = write(
            net, self.view_, self.vocabulary_, told, seed=seeds[0], temperature=self.temperature, top_k=self.top_k,
            top_p=self.top_p,
        )  # fmt: skip
        table = self.view_.inverse(sentences, seed=seeds[1])
        for name, value in given.items():
            if self.view_.static[columns[name]].column.kind == "number":  # inside its bin, so far
                table[name] = pd.Series(value, index=table.index).astype(table[name].dtype)
        return table

    def _word(self, place: int, value: object) -> int:
        """The word of a value of a column of the demographics. Raises Unsupported where train has none like it."""
        b = self.view_.static[place]
        column = b.column
        held = True
        if column.kind == "category":
            held = value in column.levels
        elif column.kind == "number":
            held = column.low <= float(value) <= column.high  # type: ignore[arg-type]
        if not held:
            raise Unsupported(f"train has no subject with {column.name} = {value}")
        values = pd.Series([value])
        if column.kind == "category":
            values = pd.Series(pd.Categorical(values, list(column.levels), ordered=column.ordered))
        return int(self.view_.starts[place] + b.encode(values)[0])

    def _new(self, view: Sentence) -> Writer:
        """A network that has not seen train."""
        drops = {"dropout": self.dropout, "new_dropout": self.new_dropout}
        if self.pretrained:
            return pretrained(self.pretrained, view, self.vocabulary_, **drops)
        return scratch(view, self.vocabulary_, width=self.width, depth=self.depth, heads=self.heads, **drops)

    @torch.no_grad()
    def _calibrate(self, net: nn.Module, sentences: np.ndarray, seed: int) -> None:
        """Move the bias of every word so that train's sentences, read without dropout, expect it as often as it comes.

        Dropout shifts it by several per cent (an end that comes too soon, too few visits). Iterative scaling.
        """
        loss = Loss(self.view_, self.vocabulary_, classed=self.target_ is not None, words=1.0)
        some = sentences[np.random.default_rng(seed).permutation(len(sentences))[:CALIBRATED]]
        net.to(device()).eval()
        for _ in range(SCALINGS):
            seen, expected = loss.counts(net, some, dice_on(device(), seed))
            ids = torch.from_numpy(self.vocabulary_.ids).to(seen.device)
            net.final_logits_bias[0, ids] += ((seen + 1) / (expected + 1)).log()[ids]  # type: ignore[operator, index]

    def _net(self) -> Writer:
        net = Writer(BartConfig.from_dict(self.config_))
        with_weights(net, self.weights_)
        return net

    def _train(self, net: nn.Module, sentences: np.ndarray, seed: int, log: Log) -> nn.Module:
        words = torch.from_numpy(sentences)
        lengths = (words != NONE).sum(dim=1)
        epoch = max(len(sentences) // self.batch, LEAST_EPOCH)
        steps = min(max(self.epochs * len(sentences) // self.batch, self.least_steps), self.most_steps)
        loss = Loss(self.view_, self.vocabulary_, classed=self.target_ is not None, words=float(lengths.float().mean()))
        if self.pretrained and self.warmup:
            body = [p for name, p in net.named_parameters() if not name.startswith(("model.shared", "visit"))]
            for p in body:
                p.requires_grad_(False)
            train(net, loss, (words, lengths), seed=seed + 1, steps=self.warmup, batch=self.batch, lr=self.lr, ema=0.0,
                  validation=0.0, every=self.warmup)  # fmt: skip
            for p in body:
                p.requires_grad_(True)

        def watch(average: nn.Module, rows: torch.Tensor) -> Guards:
            return Guards(average, loss, sentences[rows.numpy()], epoch=epoch, seed=seed, stop=self.guards, log=log)

        return train(
            net, loss, (words,), lengths=lengths, seed=seed, steps=steps, batch=self.batch, lr=self.lr,
            warmup=self.warmup, weight_decay=self.weight_decay, ema=self.ema, every=epoch, patience=self.patience,
            clip=CLIP, watch=watch,
        )  # fmt: skip
