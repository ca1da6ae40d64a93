"""BART: sentences there and back, the grammar against brute force, prompts that hold no label, guards that bite."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer

from bench.datasets import open_dataset
from bench.doctor import TABLES
from generators import make
from generators.bart_guards import Guards, Violated
from generators.bart_nets import UNTOLD, Grammar, Loss, Vocabulary, prompts, scratch, tokenizer_of, write
from generators.base import StopFit, Unsupported, quiet
from generators.encode import Tokens
from generators.sentence import CLOSE, END, NONE, STRANGE, VISIT, Sentence
from generators.training import weights_of

SMALL = {"width": 16, "depth": 1, "heads": 2, "batch": 16}


def view_of(shape: str, **settings: object) -> tuple[pd.DataFrame, Sentence]:
    data = open_dataset(TABLES[shape], None).load()
    view = Sentence.fit(data.table, target=data.roles.target, static=data.roles.static, **settings)
    return data.table, view


def odd() -> pd.DataFrame:
    """Names and levels that look like structure, like one another, or hold blanks; gaps of every kind."""
    rows = [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (2, 2)]
    return pd.DataFrame(
        {
            "sex": pd.Categorical(["a b", "a b", "a_b", None, None, None], ["a b", "a_b"]),
            "<v>": [True, False, False, True, True, False],
            "I10": [False, False, False, True, True, True],
            "y": [True, True, False, False, False, False],
            "rate": [1.5, np.nan, 2.0, 2.5, np.nan, np.nan],
            "count": pd.array([1, 2, 3, 4, 5, 6], "Int64"),
        },
        index=pd.MultiIndex.from_tuples(rows, names=["subject", "time"]),
    )


# --- sentences ---


@pytest.mark.parametrize("shape", TABLES)
def test_sentences_come_back_as_the_table(shape: str) -> None:
    table, view = view_of(shape, bins=10_000)
    sentences = view.transform(table)
    assert view.well_formed(sentences).all()
    assert view.longest == (sentences != NONE).sum(axis=1).max()
    back = view.inverse(sentences, seed=0)
    pd.testing.assert_frame_equal(
        back.reset_index(drop=True), table.reset_index(drop=True), check_exact=False, rtol=1e-6
    )


def test_odd_names_stay_apart() -> None:
    view = Sentence.fit(odd(), target="y", static=["sex"])
    assert len(set(view.words)) == len(view.words)
    assert not any(" " in word for word in view.words)
    sentences = view.transform(odd())
    assert view.text(sentences[0]) == "y=True sex=a_b <demo> <v> rate=1.5 count=1 ‹v› </v> <v> count=2 </v> <end>"
    pd.testing.assert_frame_equal(view.inverse(sentences, seed=0), odd())
    ids = Vocabulary.of(tokenizer_of(view), view)
    assert len(set(ids.ids.tolist())) == len(view.words)


def test_numbers_fall_inside_their_bins() -> None:
    table, view = view_of("table", bins=8)
    sentences = view.transform(table)
    back = view.inverse(sentences, seed=0)
    assert (view.transform(back) == sentences).all()
    tokens = Tokens.fit(table, bins=8)
    assert (tokens.transform(back) == tokens.transform(table)).all()


def test_long_subjects_are_cut_at_a_visit_and_still_end() -> None:
    table, whole = view_of("visits")
    view = Sentence.fit(table, target="died", static=["age", "sex", "died"], most=16)
    sentences = view.transform(table)
    assert (sentences != NONE).sum(axis=1).max() <= 16 < whole.longest
    assert view.well_formed(sentences).all()
    table, _ = view_of("series")
    with pytest.raises(Unsupported, match="takes over 40 words"):
        Sentence.fit(table, target="died", static=["age", "sex", "unit", "died"], most=40)


def test_what_is_out_of_place_is_not_well_formed() -> None:
    view = Sentence.fit(odd(), target="y", static=["sex"])
    good = view.transform(odd())[0]
    good = good[good != NONE]
    at = {word: i for i, word in enumerate(view.words)}
    places = {i: view.words[w] for i, w in enumerate(good)}
    assert places[4] == "rate=1.5"

    def says(changed: np.ndarray) -> bool:
        return bool(view.well_formed(changed[None])[0])

    assert says(good)
    assert says(np.delete(good, 4))  # a gap
    assert not says(np.delete(good, 5))  # count is never missing
    assert not says(np.delete(good, 0))
    assert not says(good[:-1])  # no end
    assert not says(np.append(good, at["I10"]))
    assert not says(np.insert(good, 7, at["‹v›"]))  # a code twice
    assert not says(np.insert(good, 8, at["I10"]))  # between visits
    assert not says(np.insert(good, 7, STRANGE))


# --- the grammar ---


@pytest.mark.parametrize("shape", TABLES)
def test_the_grammar_lets_every_sentence_of_train_through(shape: str) -> None:
    table, view = view_of(shape)
    sentences = view.transform(table)[:50]
    grammar = Grammar(
        view, torch.arange(len(view.words)), torch.full((len(sentences), len(view.static)), NONE), begun=0
    )
    for t in range(sentences.shape[1]):
        some = sentences[:, t] != NONE
        scores = torch.zeros(int(some.sum()), len(view.words))
        grammar.fixed = torch.full((int(some.sum()), len(view.static)), NONE)
        allowed = grammar(torch.from_numpy(sentences[some, :t]), scores)
        assert (allowed.gather(1, torch.from_numpy(sentences[some, t])[:, None]) == 0).all()


@pytest.mark.parametrize("shape", TABLES)
def test_an_untrained_network_writes_well_formed_subjects(shape: str) -> None:
    """Nothing but the grammar keeps these in order: weights are random, and some demographics are told."""
    table, view = view_of(shape, bins=6)
    vocabulary = Vocabulary.of(tokenizer_of(view), view)
    net = scratch(view, vocabulary, width=8, depth=1, heads=1, dropout=0.0, new_dropout=0.0).eval()
    told = view.transform(table)[:80, : len(view.static)].copy()
    told[np.random.default_rng(0).random(told.shape) < 0.5] = NONE
    sentences = write(net, view, vocabulary, told, seed=0)
    assert view.well_formed(sentences).all()
    assert (sentences[:, : told.shape[1]][told != NONE] == told[told != NONE]).all()
    told[:, 1:] = NONE
    free = write(net, view, vocabulary, told, seed=0, free=True)
    assert view.well_formed(free).mean() < 0.5
    assert (free[:, 0][told[:, 0] != NONE] == told[:, 0][told[:, 0] != NONE]).all()


def test_what_is_written_with_a_cache_is_what_the_network_says() -> None:
    """generate reads a token at a time; visits and positions must be those of the whole sentence."""
    table, view = view_of("visits")
    vocabulary = Vocabulary.of(tokenizer_of(view), view)
    torch.manual_seed(0)
    net = scratch(view, vocabulary, width=16, depth=2, heads=2, dropout=0.1, new_dropout=0.1).eval()
    torch.nn.init.normal_(net.visit.weight)
    told = view.transform(table)[:20, : len(view.static)]
    greedy = write(net, view, vocabulary, told, seed=0, top_k=1)
    loss = Loss(view, vocabulary, classed=True, words=1.0)
    words = torch.from_numpy(greedy)
    with torch.no_grad():
        logits = net.logits(*loss.read(words, torch.from_numpy(told)))
    grammar = Grammar(view, torch.from_numpy(vocabulary.words(net.config.vocab_size)), torch.from_numpy(told), begun=0)
    for t in range(told.shape[1], greedy.shape[1]):
        best = grammar(torch.from_numpy(vocabulary.ids[greedy[:, :t]]), logits[:, t + 1]).argmax(dim=1).numpy()
        here = greedy[:, t] != NONE
        assert (best[here] == vocabulary.ids[greedy[here, t]]).all()


def test_top_k_and_temperature_narrow_what_is_drawn() -> None:
    table, view = view_of("codes")
    vocabulary = Vocabulary.of(tokenizer_of(view), view)
    torch.manual_seed(0)
    net = scratch(view, vocabulary, width=16, depth=1, heads=2, dropout=0.0, new_dropout=0.0).eval()
    told = np.repeat(view.transform(table)[:1, : len(view.static)], 60, axis=0)
    kinds = [
        len(np.unique(write(net, view, vocabulary, told, seed=0, **settings), axis=0))
        for settings in ({}, {"temperature": 0.02}, {"top_k": 1}, {"top_p": 1e-6})
    ]
    assert kinds[0] > 3 * kinds[1]
    assert kinds[2:] == [1, 1]


# --- learning ---


def test_prompts_hold_no_label() -> None:
    table, view = view_of("visits")
    vocabulary = Vocabulary.of(tokenizer_of(view), view)
    loss = Loss(view, vocabulary, classed=True, words=10.0)
    words = torch.from_numpy(view.transform(table))
    told = loss.told(words, torch.Generator().manual_seed(0))
    prompt, said = loss.read(words, told)
    labels = loss.labels(words, told)
    s = len(view.static)
    assert prompt.shape[1] == s + 3
    for row in range(len(words)):
        shown = set(prompt[row].tolist()) - set(vocabulary.special.values())
        scored = set(labels[row, 1 : s + 1].tolist()) - {-100}
        assert not shown & scored
    assert (told[:, 0] != NONE).all()
    untold = UNTOLD + (1 - UNTOLD) / 3  # two others, each told with a chance that is uniform: E[(1 - u)²] = 1/3
    error = math.sqrt(untold * (1 - untold) / len(words))
    assert float((told[:, 1:] == NONE).all(dim=1).double().mean()) == pytest.approx(untold, abs=4 * error)
    # as the library trains it: the decoder reads </s>, then the labels one place later
    whole = torch.where(words == NONE, vocabulary.special["<pad>"], torch.from_numpy(vocabulary.ids)[words])
    assert (said[:, 0] == vocabulary.special["</s>"]).all()
    assert (said[:, 1] == vocabulary.special["<s>"]).all()
    assert (said[:, 2:] == whole[:, :-1]).all()
    blank = prompts(view, vocabulary, np.full((1, s), NONE))[0]
    assert (blank[1 : s + 1] == vocabulary.special["<mask>"]).all()


def test_the_loss_is_that_of_each_sentence_alone() -> None:
    """Padding and company change nothing: a batch's loss is the mean of its rows' own."""
    table, view = view_of("visits")
    vocabulary = Vocabulary.of(tokenizer_of(view), view)
    torch.manual_seed(0)
    net = scratch(view, vocabulary, width=16, depth=1, heads=2, dropout=0.0, new_dropout=0.0).eval()
    loss = Loss(view, vocabulary, classed=True, words=10.0)
    words = torch.from_numpy(view.transform(table))[:6]
    lengths = (words != NONE).sum(dim=1)
    loss.told = lambda w, dice: w[:, :3]  # type: ignore[method-assign]  all demographics
    with torch.no_grad():
        whole = loss(net, (words, lengths), torch.Generator())
        alone = [loss(net, (words[i : i + 1], lengths[i : i + 1]), torch.Generator()) for i in range(6)]
    assert float(whole) == pytest.approx(float(torch.stack(alone).mean()), rel=1e-5)


def test_words_are_expected_as_often_as_they_come_after_calibration() -> None:
    table, view = view_of("visits")
    made = make("bart", **SMALL, epochs=1, least_steps=60, most_steps=60, dropout=0.5, calibrate=False)
    made.fit(table, target="died", static=["age", "sex", "died"], seed=0)
    sentences, loss = view.transform(table), Loss(view, made.vocabulary_, classed=True, words=1.0)

    def off() -> float:
        seen, expected = loss.counts(made._net(), sentences, torch.Generator().manual_seed(0))
        ids = torch.from_numpy(made.vocabulary_.ids[view.marks["<demo>"] :])
        common = ids[seen[ids] > 50]
        ratio = (expected[common] / seen[common]).log()
        return float(ratio.max() - ratio.min())

    before, net = off(), made._net()
    made._calibrate(net, sentences, seed=0)
    made.weights_ = weights_of(net)
    assert off() < min(0.02, 0.1 * before)


def follows() -> pd.DataFrame:
    """Two visits; B at the second exactly where A was at the first, C where the class is, D by sex."""
    rng = np.random.default_rng(0)
    n = 600
    a, y, sex = rng.random(n) < 0.5, rng.random(n) < 0.3, rng.random(n) < 0.5
    off = np.zeros(n, bool)
    rows = {"A": (a, off), "B": (off, a), "C": (y, y), "D": (sex, off), "y": (y, y)}
    table = pd.DataFrame({name: np.stack(pair, axis=1).ravel() for name, pair in rows.items()})
    table["sex"] = pd.Categorical.from_codes(np.repeat(sex, 2).astype(int), ["f", "m"])
    table.index = pd.MultiIndex.from_product([range(n), [0, 1]], names=["subject", "time"])
    return table


@pytest.fixture(scope="module")
def taught() -> object:
    settings = {**SMALL, "width": 32, "epochs": 12, "lr": 5e-3, "warmup": 20, "dropout": 0.0, "new_dropout": 0.0}
    return make("bart", **settings).fit(follows(), target="y", static=["y", "sex"], seed=0)


def test_it_learns_what_follows_from_what(taught) -> None:
    """How far it gets is one network's luck; these bounds are six standard errors above independent columns."""
    table = taught.sample(400, seed=1)
    first, second = (table[table.index.get_level_values("time") == t].droplevel("time") for t in (0, 1))
    assert (first["A"] == second["B"]).mean() > 0.65  # independent: .5
    assert (first["C"] == first["y"]).mean() > 0.73  # independent: .58
    assert first["y"].sum() == round(400 * taught.rate_)
    assert first["B"].mean() < 0.05  # independent: .25


def test_demographics_are_met_without_rejection(taught) -> None:
    table = taught.sample(200, given={"y": True, "sex": "m"}, seed=1)
    first = table[table.index.get_level_values("time") == 0]
    assert (first["sex"] == "m").all()
    assert first["y"].all()
    assert first["C"].mean() > 0.5  # independent: .3
    other = taught.sample(200, given={"y": True, "sex": "f"}, seed=1)
    assert first["D"].mean() > other[other.index.get_level_values("time") == 0]["D"].mean() + 0.3  # independent: 0
    assert taught.sample(50, given={"A": True}, seed=1).groupby("subject")["A"].any().all()
    with pytest.raises(Unsupported, match="no subject with sex = x"):
        taught.sample(5, given={"sex": "x"}, seed=1)


def test_a_number_that_is_asked_for_is_had_exactly() -> None:
    table = open_dataset(TABLES["visits"], None).load().table
    made = make("bart", **SMALL, most_steps=10).fit(table, target="died", static=["age", "sex", "died"], seed=0)
    drawn = made.sample(7, given={"age": 61}, seed=0)
    assert (drawn["age"] == 61).all()
    assert drawn["age"].dtype == table["age"].dtype
    with pytest.raises(Unsupported, match="no subject with age = 300"):
        made.sample(7, given={"age": 300}, seed=0)


# --- guards ---


def watched(table: pd.DataFrame, log=quiet, **settings: object) -> Guards:
    view = Sentence.fit(table, target="y", static=["y", "sex"])
    vocabulary = Vocabulary.of(tokenizer_of(view), view)
    torch.manual_seed(0)
    net = scratch(view, vocabulary, width=16, depth=1, heads=2, dropout=0.0, new_dropout=0.0)
    loss = Loss(view, vocabulary, classed=True, words=12.0)
    return Guards(net, loss, view.transform(table), epoch=10, seed=0, stop=True, log=log)


def test_an_untaught_network_is_stopped_by_name_but_not_before_its_time() -> None:
    said = []
    guards = watched(follows(), log=lambda step, **values: said.append((step, values)))
    guards(999, loss=1.0, validation=1.0)
    with pytest.raises(Violated, match=r"guard p_demo: .* at step 1000, expected 0\.1 to 1"):
        guards(1000, loss=1.0, validation=1.0)
    assert [step for step, _ in said] == [999, 1000]
    names = {"p_demo", "p_visit", "p_close", "p_end", "overfit", "norm_ratio", "well_formed", "unigram_js",
             "per_visit_ks", "copies"}  # fmt: skip
    assert names < set(said[0][1])
    guards.stop = False
    guards(5000, loss=1.0, validation=1.0)
    assert guards.net.training


def test_guards_watch_the_network_that_is_returned_on_sentences_it_is_trained_on(monkeypatch) -> None:
    """One evaluation, at the last step: what it measured is measured again of the network that `fit` gives back."""
    made_of, said = list[tuple[Guards, int]](), dict[str, float]()

    def watching(net, loss, sentences, **settings) -> Guards:
        made_of.append((Guards(net, loss, sentences, **settings), len(sentences)))
        return made_of[-1][0]

    monkeypatch.setattr("generators.bart.Guards", watching)
    made = make("bart", **SMALL, epochs=1, least_steps=100, most_steps=100, calibrate=False)
    made.fit(follows(), target="y", static=["y", "sex"], seed=0, log=lambda step, **values: said.update(values))
    (guards, number), net = made_of[0], made._net()
    assert number == 540  # of 600 subjects a tenth is held back
    returned = net.state_dict()
    assert all(torch.equal(value, returned[name]) for name, value in guards.net.state_dict().items())
    guards.net = net
    again = guards.measured(said["validation"], seed=100)
    assert {name: said[name] for name in again} == pytest.approx(again, rel=1e-4, abs=1e-6)


BAD = {"well_formed": 0.2, "unigram_js": 0.6, "copies": 0.7, "p_visit": 0.01, "norm_ratio": 30.0, "per_visit_ks": 0.9}


@pytest.mark.parametrize(("name", "value"), BAD.items())
def test_every_guard_bites(name: str, value: float, monkeypatch) -> None:
    guards = watched(follows())
    fine = {"p_demo": 1.0, "p_visit": 0.9, "p_close": 0.9, "p_end": 0.9, "overfit": 1.0, "norm_ratio": 1.0,
            "well_formed": 0.99, "unigram_js": 0.01, "per_visit_ks": 0.05, "copies": 0.0}  # fmt: skip
    monkeypatch.setattr(guards, "measured", lambda *args, **settings: fine)
    guards(2000, validation=1.0)
    monkeypatch.setattr(guards, "measured", lambda *args, **settings: fine | {name: value})
    with pytest.raises(Violated, match=f"guard {name}"):
        guards(2000, validation=1.0)
    monkeypatch.setattr(guards, "measured", lambda *args, **settings: fine | {"overfit": 2.5})
    with pytest.raises(StopFit):
        guards(2000, validation=1.0)


def test_diagnostics_of_train_itself_are_those_of_a_perfect_writer(monkeypatch) -> None:
    guards = watched(follows())
    monkeypatch.setattr("generators.bart_guards.write", lambda *args, **settings: guards.sentences)
    found = guards._drawn(0)
    assert found["well_formed"] == 1
    assert found["unigram_js"] == pytest.approx(-guards.noise, abs=1e-9)
    assert 0 < guards.noise < 0.02
    assert found["per_visit_ks"] == 0
    assert found["copies"] == pytest.approx(1 - guards.twice)
    strange = np.full_like(guards.sentences, STRANGE)
    monkeypatch.setattr("generators.bart_guards.write", lambda *args, **settings: strange)
    nothing = {"well_formed": 0, "unigram_js": 1 - guards.noise, "per_visit_ks": 1, "copies": -guards.twice}
    assert guards._drawn(0) == pytest.approx(nothing)


def test_structural_chances_are_the_networks_own() -> None:
    guards = watched(follows())
    with torch.no_grad():
        guards.net.final_logits_bias[:] = -math.inf
        marks = guards.view.marks
        for word, chance in ((VISIT, 0.5), (CLOSE, 0.3), (END, 0.2)):
            guards.net.final_logits_bias[0, guards.vocabulary.ids[marks[word]]] = math.log(chance)
        guards.net.get_input_embeddings().weight.zero_()
    found = guards._read(1.0)
    assert [found[name] for name in ("p_demo", "p_visit", "p_close", "p_end")] == pytest.approx([0, 0.5, 0.3, 0.2])


def test_a_tokenizer_that_cuts_words_is_refused() -> None:
    _, view = view_of("codes")
    tokenizer = tokenizer_of(view)
    cut = Tokenizer.from_str(tokenizer.to_str().replace("WhitespaceSplit", "BertPreTokenizer"))
    with pytest.raises(ValueError, match="tokens of the word"):
        Vocabulary.of(cut, view)
