"""Speed of the baselines: gan's table face against the ctgan library, batches of like sentences against any batches."""

import numpy as np
import pytest
import torch
from test_speed import seconds

from bench.datasets import open_dataset
from generators import make
from generators.bart_nets import Loss, Vocabulary, scratch, tokenizer_of
from generators.sentence import NONE, Sentence
from generators.training import build, train

EPOCHS, BATCH = 5, 500


def test_an_epoch_against_the_ctgan_library(benchmark) -> None:
    """The same rows, batch and passes over train, which the critics see; fitting the modes is part of both."""
    pytest.importorskip("ctgan", reason="needs the package ctgan: pip install 'synth-health-bench[ctgan]'")
    data = open_dataset("sim-fraud[rows=10000]", None).load()
    mine = make("gan", face="table", batch=BATCH, steps=1)
    mine.steps = EPOCHS * len(data.table) // (BATCH * mine.critic_steps)
    peer = seconds(lambda: make("ctgan", epochs=EPOCHS, batch=BATCH).fit(data.table, seed=0), times=1)
    benchmark.pedantic(lambda: mine.fit(data.table, target=data.roles.target, seed=0), rounds=1)
    ratio = benchmark.stats["min"] / peer
    benchmark.extra_info["ratio"] = ratio
    print(f"\na fit of {EPOCHS} epochs takes {ratio:.2f} of the ctgan library's")
    assert ratio < 0.5


def test_batches_of_like_sentences_against_any(benchmark) -> None:
    """Training steps of BART with and without rows of like length put together."""
    data = open_dataset("sim-visits[rows=2000]", None).load()
    view = Sentence.fit(data.table, target=data.roles.target, static=data.roles.static)
    vocabulary, words = Vocabulary.of(tokenizer_of(view), view), torch.from_numpy(view.transform(data.table))
    lengths = (words != NONE).sum(dim=1)
    loss = Loss(view, vocabulary, classed=True, words=float(lengths.float().mean()))

    def run(like: torch.Tensor | None) -> None:
        net = build(
            lambda: scratch(view, vocabulary, width=128, depth=2, heads=4, dropout=0.0, new_dropout=0.0), seed=0
        )
        train(net, loss, (words, lengths), lengths=like, seed=0, steps=48, batch=32, validation=0.0, every=48)

    plain = seconds(lambda: run(None), times=2)
    benchmark.pedantic(lambda: run(lengths), rounds=2)
    ratio = benchmark.stats["min"] / plain
    benchmark.extra_info["ratio"] = ratio
    filled = float(np.mean([(lengths / lengths.max()).mean()]))
    print(f"\nbatches of like sentences take {ratio:.2f} of any; sentences fill {filled:.2f} of the longest")
    assert ratio < 0.8
