"""The faults of the report on the first BART generator of records, by construction, and BART over words beside it.

The report's generator is not trained here: what its encoder reads and what generation begins with follow from the texts
alone. What its trained networks do is measured fix by fix by `tests/benchmarks/bart_report.py`. A tiny BART of random
weights stands in for facebook/bart-base, with a sub-word vocabulary and an end token of its own.
"""

from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import torch
from pehr import BEYOND, FIXES, begin, codes_of, encoded, extended, pretrain, prompt, texts_of
from transformers.models.bart.modeling_bart import shift_tokens_right

from bench.datasets import open_dataset
from generators import make
from generators.bart import BART
from generators.bart_nets import learned
from generators.sentence import STRUCTURE, Sentence

pytestmark = pytest.mark.xdist_group("report")  # one network for all
EPOCHS = 5  # the report's own test job: 500 subjects, 5 epochs
STATIC = ["age", "sex", "died"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A BART of random weights with its tokenizer."""
    return pretrain(tmp_path_factory.mktemp("bart"), steps=0)


@cache
def people() -> pd.DataFrame:
    return open_dataset("sim-visits[codes=40,rows=500]", None).load().table


def without_codes(text: str) -> str:
    """Return a subject's text with every code left out."""
    codes = set(codes_of(people()))
    return " ".join(word for word in text.split(" ") if word not in codes)


@pytest.mark.parametrize("fixes", [(), *((f,) for f in FIXES), FIXES], ids=lambda f: " ".join(f) or "none")
def test_the_reports_fixes_leave_the_labels_in_the_encoder(folder: Path, fixes: tuple[str, ...]) -> None:
    tokenizer = extended(folder, set(fixes))
    for text in texts_of(people()):
        read, labels = encoded(tokenizer, text, set(fixes))
        assert read == labels


@pytest.mark.parametrize("fixes", [("prompted",), BEYOND, (*FIXES, *BEYOND)], ids=" ".join)
def test_a_prompted_encoder_reads_the_demographics_alone(folder: Path, fixes: tuple[str, ...]) -> None:
    """Two subjects who differ in their codes alone are one to the encoder, and two to the decoder."""
    tokenizer = extended(folder, set(fixes))
    with_codes = 0
    for text in texts_of(people()):
        bare = without_codes(text)
        read, labels = encoded(tokenizer, text, set(fixes))
        other, other_labels = encoded(tokenizer, bare, set(fixes))
        assert read == other == prompt(tokenizer, text)
        assert (labels == other_labels) == (text == bare)
        with_codes += text != bare
    assert with_codes > 250


@pytest.mark.parametrize("fixes", [(), *((f,) for f in FIXES), FIXES], ids=lambda f: " ".join(f) or "none")
def test_the_report_begins_where_training_never_was(folder: Path, fixes: tuple[str, ...]) -> None:
    """The first token that generation gives the decoder differs from the first in training, for every subject."""
    tokenizer = extended(folder, set(fixes))
    for text in texts_of(people()):
        start = begin(tokenizer, text, set(fixes))
        assert start[0] != inputs(tokenizer, text, fixes)[0]
        assert start[: len(start) - 1] == prompt(tokenizer, text)


@pytest.mark.parametrize("fixes", [("placed",), BEYOND, (*FIXES, *BEYOND)], ids=" ".join)
def test_placed_begins_where_training_did(folder: Path, fixes: tuple[str, ...]) -> None:
    tokenizer = extended(folder, set(fixes))
    for text in texts_of(people()):
        start, trained = begin(tokenizer, text, set(fixes)), inputs(tokenizer, text, fixes)
        assert trained[: len(start)] == start
        assert trained[len(start)] == tokenizer.convert_tokens_to_ids("<v>")


def inputs(tokenizer, text: str, fixes: tuple[str, ...]) -> list[int]:
    """Return the decoder's inputs in training, which BART makes of the labels."""
    labels = torch.tensor([encoded(tokenizer, text, set(fixes))[1]])
    return shift_tokens_right(labels, 1, 2)[0].tolist()


@pytest.fixture(scope="module")
def ours(folder: Path) -> tuple[BART, list[dict[str, float]]]:
    """BART over words on the same network."""
    said = list[dict[str, float]]()
    made = make("bart", pretrained=str(folder), epochs=EPOCHS, batch=16, least_steps=1, warmup=25, lr=1e-3)
    made.fit(people(), target="died", static=STATIC, seed=0, log=lambda step, **values: said.append(values))
    return made, said


def test_ours_meets_the_reports_criteria_by_the_fifth_epoch(ours) -> None:
    made, said = ours
    assert said[-1]["p_visit"] > 0.1
    assert said[-1]["p_demo"] > 0.1
    assert said[-1]["validation"] < said[0]["validation"]
    table = made.sample(100, seed=0)
    assert table.drop(columns=STATIC).groupby(level="subject").any().any(axis=1).mean() > 0.5
    assert list(table.columns) == list(people().columns)


def test_a_pretrained_network_is_saved_whole(ours, tmp_path) -> None:
    made, _ = ours
    made.save(tmp_path)
    again = make("bart").load(tmp_path)
    pd.testing.assert_frame_equal(again.sample(20, seed=3), made.sample(20, seed=3))


def test_no_word_is_cut_and_new_embeddings_start_at_the_mean(folder: Path) -> None:
    view = Sentence.fit(people(), target="died", static=STATIC)
    vocabulary = learned(str(folder), view)
    assert len(set(vocabulary.ids.tolist())) == len(view.words)
    assert (vocabulary.ids >= vocabulary.old).all()
    made = make("bart", pretrained=str(folder))
    made.vocabulary_ = vocabulary
    net = made._new(view)
    table = net.get_input_embeddings().weight.detach()
    mean = table[: vocabulary.old].mean(dim=0)
    for word in STRUCTURE:
        assert (table[vocabulary.ids[view.marks[word]]] - mean).abs().max() < 1e-6


def test_a_folder_without_a_bart_is_one_line(tmp_path) -> None:
    made = make("bart", pretrained=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"holds no BART: expected config\.json, a tokenizer and weights in it"):
        made.fit(people(), target="died", static=STATIC, seed=0)
    (tmp_path / "config.json").write_text("{}")
    made = make("bart", pretrained=str(tmp_path))
    with pytest.raises(ValueError, match="holds no BART that can be loaded"):
        made.fit(people(), target="died", static=STATIC, seed=0)
