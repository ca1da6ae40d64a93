"""Sentences of hand-made and of real tables, their embeddings, and their rewording by a tiny random language model."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bench.datasets import open_dataset
from conftest import ROOT, environment
from generators import language, state, text
from generators.language import AXES, Rewriter, embed, labels
from generators.text import Sentences

WORDS = {
    "age": "age in years", "race": "race", "I50": "Heart failure, unspecified", "C50": "Malignant neoplasm",
    "C61": "Malignant neoplasm", "F10": "HIV disease", "drug": "was given insulin", "dose": "was given metformin",
    "died": "died within a year", "bp": "systolic blood pressure, mmHg", "hr": "heart rate, 1/min",
}  # fmt: skip


def flat() -> pd.DataFrame:
    """Five subjects; rarest code first: C61, F10 (none), drug, dose, C50, I50."""
    table = pd.DataFrame(
        {
            "age": [67.0, 8.0, np.nan, 40.0, 90.0],
            "sex": pd.Categorical(["Male", "Female", "Female", None, "Other"]),
            "race": pd.Categorical([None, "AfricanAmerican", "Caucasian", None, "Caucasian"]),
            "I50": [True, False, True, False, True],
            "C50": [True, False, False, False, True],
            "C61": [False, False, False, False, True],
            "F10": [False, False, False, False, False],
            "drug": [True, True, False, False, False],
            "dose": [True, False, True, False, False],
            "bp": [121.25, np.nan, 0.01234, 140.0, 98765.4],
            "hr": pd.array([77, None, 80, None, 1234], dtype="Int64"),
            "died": [True, False, False, False, True],
        }
    )
    return table.rename_axis("subject")


def fitted(name: str) -> tuple[Sentences, pd.DataFrame, dict[str, str], str]:
    data = open_dataset(name, None).load()
    roles = data.roles
    made = Sentences.fit(data.table, target=roles.target, static=roles.static, describe=roles.describe)
    return made, data.table, dict(roles.describe), roles.target


# --- sentences ---


def test_a_flat_table_in_words() -> None:
    said = Sentences.fit(flat(), target="died", describe=WORDS).of(flat())
    assert said == [
        "67-year-old man with malignant neoplasm (C50) and heart failure; was given insulin and metformin; "
        "outcome: died within a year; systolic blood pressure 121 mmHg, heart rate 77/min.",
        "8-year-old girl, race: African American; was given insulin; outcome: not died within a year.",
        "woman, race: Caucasian, with heart failure; was given metformin; outcome: not died within a year; "
        "systolic blood pressure 0.0123 mmHg, heart rate 80/min.",
        "40-year-old patient with no recorded condition; outcome: not died within a year; "
        "systolic blood pressure 140 mmHg.",
        "90-year-old patient, sex: Other, race: Caucasian, with malignant neoplasm (C61), malignant neoplasm (C50) "
        "and heart failure; outcome: died within a year; systolic blood pressure 98800 mmHg, heart rate 1234/min.",
    ]


def test_columns_without_texts_and_gaps_and_lacking_columns() -> None:
    table = flat()[["race", "I50", "hr"]]
    assert Sentences.fit(table).of(table)[:3] == [
        "patient with I50; hr 77.", "patient, race: African American, with no recorded condition.",
        "patient, race: Caucasian, with I50; hr 80.",
    ]  # fmt: skip
    whole = Sentences.fit(flat(), target="died", describe=WORDS)
    assert whole.of(flat()[["sex", "hr"]])[1:4] == ["woman.", "woman; heart rate 80/min.", "patient."]
    assert whole.of(flat().iloc[:0]) == []


def test_age_groups_are_read() -> None:
    levels = ["[0-10)", "[60-70)", "[70-80)", "90+", "old"]
    ages = pd.Categorical(levels, levels, ordered=True)
    table = pd.DataFrame({"age_group": ages, "gender": pd.Categorical(list("MFMFM"))}).rename_axis("subject")
    made = Sentences.fit(table)
    assert made.of(table) == [
        "0 to 10 year old boy.", "60 to 70 year old woman.", "70 to 80 year old man.", "90+ year old woman.",
        "old man.",
    ]  # fmt: skip
    prompts = {p for seed in range(60) for p in made.short(table, seed=seed)}
    assert {"elderly man.", "elderly woman.", "young boy."} <= prompts
    assert "elderly woman." not in {made.short(table, seed=s)[1] for s in range(60)}


def test_the_rarest_twelve_codes_are_said_and_the_rest_counted() -> None:
    table = pd.DataFrame({f"c{k:02}": np.arange(20) <= k for k in range(17)}).rename_axis("subject")
    made = Sentences.fit(table)
    assert made.of(table)[0] == f"patient with {', '.join(f'c{k:02}' for k in range(12))} and 5 further conditions."
    assert made.of(table)[4].endswith("c14, c15 and 1 further condition.")
    assert made.of(table)[17] == "patient with no recorded condition."


def test_tables_of_numbers_say_what_stands_out() -> None:
    x = np.zeros((50, 30))
    x[0, [3, 17]] = [5.5, -7.25]
    x[1:, :] = np.random.default_rng(0).normal(size=(49, 30))
    table = pd.DataFrame(x, columns=[f"F{j:02}" for j in range(30)]).assign(fraud=False).rename_axis("subject")
    table.iloc[2, 4:30] = np.nan
    made = Sentences.fit(table, target="fraud", describe={"fraud": "fraudulent"})
    said = made.of(table)
    assert said[0].startswith("record; outcome: not fraudulent; ")
    assert "F03 5.5" in said[0]
    assert "F17 -7.25" in said[0]
    assert all(len(re.findall(r"F\d\d ", s)) == (4 if i == 2 else 8) for i, s in enumerate(said))
    assert all(1 <= len(re.findall(r"F\d\d ", s)) <= 3 for s in made.short(table, seed=0))
    flat_line = pd.DataFrame(np.ones((4, 12)), columns=list("abcdefghijkl")).rename_axis("subject")
    assert Sentences.fit(flat_line).of(flat_line)[0] == "record; a 1, b 1, c 1, d 1, e 1, f 1, g 1, h 1."


def visits() -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples([(7, 0), (7, 1), (7, 2), (9, 0)], names=["subject", "time"])
    return pd.DataFrame(
        {
            "age": [50, 50, 50, 33], "sex": pd.Categorical(["male"] * 3 + ["female"]),
            "I50": [False, True, False, False], "ward": pd.Categorical(["a", "b", "b", None]),
            "bp": [100.0, np.nan, 101.0, np.nan], "died": [True, True, True, False],
        }, index=index,
    )  # fmt: skip


def test_a_longitudinal_table_is_said_over_time() -> None:
    made = Sentences.fit(visits(), target="died", static=["age", "sex", "died"], describe=WORDS)
    assert made.of(visits()) == [
        "50-year-old man, ward: b, with heart failure, over 3 visits; outcome: died within a year; "
        "systolic blood pressure 100 mmHg.",
        "33-year-old woman with no recorded condition, over 1 visit; outcome: not died within a year.",
    ]
    series = visits().drop(columns="I50")
    made = Sentences.fit(series, target="died", static=["age", "sex", "died"])
    assert made.of(series)[0] == "50-year-old man, ward: b, over 3 time points; outcome: died; bp 100."


@pytest.mark.parametrize("name", ["sim-ehr[codes=60,rows=500]", "sim-visits", "sim-icu", "sim-fraud[rows=2000]"])
def test_what_was_learned_survives_the_disk(name: str, tmp_path: Path) -> None:
    made, table, _, target = fitted(name)
    state.write(tmp_path, {"sentences": made})
    back = state.read(tmp_path)["sentences"]
    assert back == made
    said = made.of(table)
    assert said == back.of(table) == made.of(table)
    assert len(said) == table.index.get_level_values("subject").nunique()
    assert made.short(table, seed=3) == back.short(table, seed=3) != made.short(table, seed=4)
    assert made.condition({target: True}) == back.condition({target: True})


@pytest.mark.pinned
def test_the_words_of_a_classification_are_a_clinicians() -> None:
    made, table, _, _ = fitted("sim-ehr[codes=60,rows=500]")
    assert made.of(table)[3] == (
        "46-year-old man with chronic atrial fibrillation and essential (primary) hypertension; "
        "outcome: not died within a year."
    )
    words = [f.words for f in made.facts]
    assert len(set(words)) == len(words)
    assert max(map(len, words)) <= text.WIDEST + len(" (C50)")
    assert not [w for w in words if w.endswith((" and related", " and", " of", " with", ",")) or "  " in w]


def test_prompts_hold_true_facts_only() -> None:
    made, table, _, _ = fitted("sim-ehr[codes=60,rows=500]")
    words = {f.words: f.column for f in made.facts if f.role == "code"}
    phrase = re.compile("|".join(sorted(map(re.escape, words), key=len, reverse=True)))
    bands = {"elderly": (65, 200), "middle-aged": (40, 64), "young": (0, 39)}
    said = made.short(table, seed=0)
    for line, (_, row) in zip(said, table.iterrows(), strict=True):
        head, _, outcome = line.removesuffix(".").partition("; outcome: ")
        who, _, listed = head.partition(" with ")
        assert outcome in ("", "died within a year" if row["died"] else "not died within a year")
        noun = who.split()[-1]
        assert noun in ("patient", "man" if row["sex"] == "male" else "woman")
        age = who.removesuffix(noun).strip()
        low, high = bands.get(age, (int(age.split("-")[0]),) * 2 if age not in ("", *bands) else (0, 200))
        assert low <= row["age"] <= high
        found = phrase.findall(listed)
        assert text._and(found or ["no recorded condition"]) == listed
        assert all(row[words[f]] for f in found)
        assert len(found) == len(set(found)) <= 3
        assert bool(found) == row[list(words.values())].any()
    assert np.mean(["outcome" in s for s in said]) == pytest.approx(0.3, abs=0.06)
    assert np.mean(["man" in s.split(" with ")[0] for s in said]) == pytest.approx(0.8, abs=0.06)
    assert np.mean([s.startswith(tuple(bands)) for s in said]) == pytest.approx(0.4, abs=0.06)
    assert max(len(phrase.findall(s)) for s in made.short(table, seed=0, most=1)) == 1
    with pytest.raises(ValueError, match="most=0: expected at least 1"):
        made.short(table, seed=0, most=0)


def test_a_partial_description_in_the_same_words() -> None:
    made = Sentences.fit(flat(), target="died", describe=WORDS)
    assert made.condition({"died": True}) == "patient; outcome: died within a year."
    assert made.condition({}) == "patient."
    given = {"hr": 80, "I50": True, "C61": False, "sex": "Male", "age": 70, "race": None, "dose": True, "drug": False}
    assert made.condition(given) == ("70-year-old man with heart failure; was given metformin; heart rate 80/min.")
    with pytest.raises(ValueError, match=r"unknown column 'dide': did you mean 'died'\? known: age, sex, race"):
        made.condition({"dide": True})
    with pytest.raises(ValueError, match="column 'sex' has no level 'male': known: Female, Male, Other"):
        made.condition({"sex": "male"})


# --- embeddings ---

SENTENCES = [
    "67-year-old man with heart failure.",
    "67-year-old man with cardiac failure.",
    "10-year-old boy with broken arm.",
]


def test_embeddings_have_length_one_and_know_what_is_alike() -> None:
    x = embed(SENTENCES)
    assert x.shape == (3, 384)
    assert x.dtype == np.float32
    assert np.linalg.norm(x, axis=1) == pytest.approx(1, abs=1e-5)
    near, far, other = x[0] @ x[1], x[0] @ x[2], x[1] @ x[2]
    assert near > 0.8 > max(far, other) + 0.2
    assert embed([]).shape == (0, 384)


def test_an_embedding_depends_on_its_text_alone() -> None:
    made, table, _, _ = fitted("sim-ehr[codes=60,rows=500]")
    texts = [*made.of(table)[:12], *SENTENCES, SENTENCES[0], "x" * 20 + " word" * 300]
    seen: list[tuple[int, int]] = []
    whole = embed(texts, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(16, 16)]  # of 17 texts, one twice
    order = np.random.default_rng(0).permutation(len(texts))
    assert embed([texts[i] for i in order], batch=3) == pytest.approx(whole[order], abs=1e-5)
    assert embed(texts[:1]) == pytest.approx(whole[:1], abs=1e-5)
    assert (whole[12] == whole[15]).all()


def test_embedding_is_offline_and_silent(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was asked")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    language._encoder.cache_clear()
    before = torch.random.get_rng_state()
    embed(SENTENCES)
    assert capfd.readouterr() == ("", "")
    assert (torch.random.get_rng_state() == before).all()


def test_a_folder_without_an_encoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"holds no model: expected config\.json"):
        embed(SENTENCES, folder=str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no model that can be loaded"):
        embed(SENTENCES, folder=str(tmp_path))
    monkeypatch.setattr(language, "ENCODER", "no_such_package")
    with pytest.raises(ValueError, match="expected the package no-such-package or a folder of one"):
        embed(SENTENCES)


def test_importing_loads_no_model_library() -> None:
    heavy = ("torch", "transformers", "sklearn")
    code = f"import generators.text, generators.language, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
                          env=environment())  # fmt: skip
    assert done.stdout.strip() == "[]"


# --- a language model ---


def tiny(folder: Path, words: list[str]) -> str:
    """A random GPT-2 of two layers over a few words, on disk."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", *words])}
    words_only = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words_only.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words_only, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    config = GPT2Config(
        vocab_size=len(vocabulary), n_positions=512, n_embd=32, n_layer=2, n_head=2, bos_token_id=None,
        eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    words = "1 2 3 4 5 a man woman patient with heart failure diabetes died year old outcome the of and not".split()
    return tiny(tmp_path_factory.mktemp("tiny"), words)


def test_rewriting_depends_on_the_seed_alone(model: str, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    writer = Rewriter(model, batch=2)
    before = torch.random.get_rng_state()
    one, two, three = (writer.rewrite(SENTENCES, seed=s) for s in (1, 1, 2))
    assert (torch.random.get_rng_state() == before).all()
    assert one == two != three
    assert len(one) == 3
    assert all(isinstance(s, str) and s and "\n" not in s and len(s.split()) <= language.NEW_TOKENS for s in one)
    assert writer.rewrite([], seed=0) == []
    assert capfd.readouterr() == ("", "")


def test_the_judge_scores_every_axis_from_one_to_five(model: str, tmp_path: Path) -> None:
    reader = Rewriter(model)
    pairs = [(SENTENCES[0], SENTENCES[1]), (SENTENCES[1], "the man died"), (SENTENCES[2], "")]
    scores = reader.judge(pairs)
    assert scores.shape == (3, len(AXES))
    assert ((scores >= 1) & (scores <= 5)).all()
    assert len(np.unique(scores)) > 1
    assert Rewriter(model, batch=1).judge(pairs) == pytest.approx(scores, abs=1e-4)  # padding is not read
    assert reader.judge([]).shape == (0, len(AXES))
    with pytest.raises(ValueError, match="cannot judge: its tokenizer has no token for each digit 1 to 5"):
        Rewriter(tiny(tmp_path, ["1", "man"])).judge(pairs)
    with pytest.raises(ValueError, match=r"holds no model: expected config\.json"):
        Rewriter(str(tmp_path / ".."))


def test_labels_fall_back_to_the_template(model: str) -> None:
    assert labels(SENTENCES, seed=0) == (SENTENCES, {"rewritten": 0, "fell_back": 0})
    assert labels(SENTENCES, rewriter=model, least=5.1, seed=0) == (SENTENCES, {"rewritten": 0, "fell_back": 3})
    new, counts = labels(SENTENCES, rewriter=model, judge=model, least=0, seed=0)
    assert counts == {"rewritten": 3, "fell_back": 0}
    assert new == Rewriter(model).rewrite(SENTENCES, seed=0)
