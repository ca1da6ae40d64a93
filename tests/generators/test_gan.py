"""The GAN: heads against their chances, modes against known mixtures, the penalty by hand, what each face learns."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from bench.datasets import open_dataset
from bench.doctor import TABLES
from generators import make
from generators.adversarial import InnerC2ST, steepness
from generators.base import Unsupported
from generators.encode import Matrix
from generators.levels import Levels, Picks
from generators.modes import Coded, Heads, mixture

SEGMENTS = [("tanh", 0, 1, "x"), ("mode", 1, 3, "x"), ("flag", 3, 4, "f"), ("level", 4, 7, "c")]
LOGITS = torch.tensor([0.3, 0.0, np.log(3.0), np.log(0.25), np.log(0.5), np.log(0.3), np.log(0.2)])
CHANCES = [np.tanh(0.3), 0.25, 0.75, 0.2, 0.5, 0.3, 0.2]


def mixed(n: int = 400) -> pd.DataFrame:
    """A number of two modes that the class moves, a number with gaps, a category, a flag that is rare."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 4 == 0
    gaps = np.where(rng.random(n) < 0.2, np.nan, rng.normal(50, 10, n))
    return pd.DataFrame(
        {
            "x": rng.normal(np.where(rng.random(n) < 0.5, -5, 5), 0.5) + 20 * y,
            "gaps": gaps,
            "c": pd.Categorical.from_codes(rng.choice(3, n, p=[0.6, 0.3, 0.1]), ["u", "v", "w"]),
            "flag": rng.random(n) < 0.05,
            "y": y,
        }
    ).rename_axis("subject")


# --- rows of modes and levels ---


def test_heads_draw_by_their_chances() -> None:
    heads, dice = Heads(SEGMENTS), torch.Generator().manual_seed(0)
    drawn = heads.drawn(LOGITS.expand(40_000, -1), dice)
    assert drawn.mean(dim=0).numpy() == pytest.approx(CHANCES, abs=0.01)
    assert set(np.unique(drawn[:, 1:])) == {0.0, 1.0}
    for low, high in ((1, 3), (4, 7)):
        assert (drawn[:, low:high].sum(dim=1) == 1).all()


def test_what_logits_lack_is_what_brings_the_chances_wanted() -> None:
    heads = Heads(SEGMENTS)
    logits = torch.randn(3_000, 7, generator=torch.Generator().manual_seed(0)) * 2 + LOGITS
    wanted = torch.tensor([9.0, 9.0, 9.0, 0.03, 0.1, 0.7, 0.2])
    added = heads.lacking(logits, wanted)
    assert (added[:3] == 0).all()  # numbers and their modes
    found = heads.soft(logits + added, torch.Generator(), temperature=0.0).mean(dim=0)
    assert found[3:].numpy() == pytest.approx(wanted[3:].numpy(), abs=1e-3)


def test_soft_heads_are_chances_or_nearly_drawn_and_have_a_gradient() -> None:
    heads, dice = Heads(SEGMENTS), torch.Generator().manual_seed(0)
    assert heads.soft(LOGITS[None], dice, temperature=0.0)[0].numpy() == pytest.approx(CHANCES, abs=1e-6)
    logits = LOGITS.expand(4_000, -1).clone().requires_grad_()
    soft = heads.soft(logits, dice, temperature=0.05)
    assert soft[:, 1:3].sum(dim=1).detach().numpy() == pytest.approx(np.ones(4_000), abs=1e-5)
    assert (soft[:, 1:] - soft[:, 1:].round()).abs().mean() < 0.05
    assert soft.mean(dim=0).detach().numpy() == pytest.approx(CHANCES, abs=0.03)
    soft[:, 3:].sum().backward()
    assert logits.grad is not None
    assert (logits.grad[:, 3] > 0).any()


def test_a_number_has_as_many_modes_as_its_values_need() -> None:
    rng = np.random.default_rng(0)
    center, spread, weight = mixture(rng.normal(3, 2, 2_000), modes=10, seed=0)
    assert center == pytest.approx([3], abs=4 * 2 / np.sqrt(2_000))  # 4 standard errors
    assert spread == pytest.approx([2], abs=4 * 2 / np.sqrt(4_000))
    assert weight == pytest.approx([1], abs=1e-6)
    center, spread, weight = mixture(np.r_[rng.normal(-4, 1, 1_500), rng.normal(6, 1, 500)], modes=10, seed=0)
    order = np.argsort(center)
    assert center[order] == pytest.approx([-4, 6], abs=0.1)
    assert spread[order] == pytest.approx([1, 1], abs=0.1)
    assert weight[order] == pytest.approx([0.75, 0.25], abs=0.02)
    assert mixture(np.full(50, 7.0), modes=10, seed=0)[0].tolist() == [7.0]
    assert mixture(np.zeros(0), modes=10, seed=0)[0].tolist() == [0.0]


def test_rows_invert_what_they_encode() -> None:
    table = mixed()
    view = Matrix.fit(table)
    x = view.transform(table)
    coded = Coded.fit(view, x, np.random.default_rng(0), modes=10)
    rows = coded.encode(x, np.random.default_rng(1))
    kinds = [s[0] for s in coded.segments()]
    assert kinds == ["tanh", "mode", "tanh", "mode", "flag", "level", "flag", "flag"]
    assert rows.shape[1] == coded.segments()[-1][2]
    assert np.abs(rows[:, 0]).max() < 1
    back = coded.decode(rows)
    far = np.abs(back - x).max(axis=1) > 1e-4  # beyond four standard deviations a value is cut
    assert far.mean() < 0.01
    pd.testing.assert_frame_equal(view.inverse(back)[~far], view.inverse(x)[~far])


# --- what the generator of tables is told ---


def test_levels_are_told_as_often_as_each_class_has_them() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(3_000) % 3 == 0
    flag = rng.random(3_000) < np.where(y, 0.8, 0.1)
    level = rng.choice(2, 3_000, p=[0.9, 0.1])
    x = np.column_stack([flag, np.eye(2)[level]]).astype(np.float32)
    levels = Levels.fit(x, y.astype(int), [("flag", 0, 1, "f"), ("level", 1, 3, "c")])
    told = levels.usual(torch.ones(30_000, dtype=torch.int64), torch.Generator().manual_seed(0)).numpy()
    assert (np.abs(told).sum(axis=1) == 1).all()
    assert (told[:, 0] != 0).mean() == pytest.approx(0.5, abs=0.02)
    assert told[told[:, 0] != 0, 0].mean() == pytest.approx(2 * flag[y].mean() - 1, abs=0.03)
    assert told[told[:, 1:].any(axis=1), 2].mean() == pytest.approx(level[y].mean(), abs=0.02)


def test_training_by_sampling_shows_rows_that_have_what_is_told() -> None:
    table = mixed()
    view = Matrix.fit(table, without=["y"])
    matrix = view.transform(table)
    coded = Coded.fit(view, matrix, np.random.default_rng(0), modes=10)
    x, y = coded.encode(matrix, np.random.default_rng(1)), table["y"].to_numpy().astype(int)
    levels = Levels.fit(x, y, coded.segments())
    rows, told, options = Picks(x, y, levels).draw(2_000, torch.Generator().manual_seed(0))
    has = levels.has(rows.numpy())
    assert has[np.arange(2_000), options.numpy()].all()
    assert (told[:, 1:] == levels.told(options)).all()
    flag = next(i for i, s in enumerate(coded.segments()) if s[3] == "flag")
    rare = has[:, levels.column == flag][:, 0].mean()
    assert rare > 0.08  # a flag of 5 %, told by the logarithm of how often it is


def test_what_is_missed_is_the_cross_entropy_of_what_was_told() -> None:
    heads = Heads(SEGMENTS)
    x = np.array([[0, 1, 0, 1, 1, 0, 0], [0, 1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, 0, 1]], np.float32)
    levels = Levels.fit(x, np.array([0, 1, 1]), SEGMENTS)
    for option in range(len(levels.option_at)):
        place, value = levels.places[levels.option_at[option]], levels.option_value[option]
        wanted = -np.log(CHANCES[place] if value > 0 else 1 - CHANCES[place])
        assert float(levels.missed(heads, LOGITS[None], torch.tensor([option]))) == pytest.approx(wanted, abs=1e-5)


# --- training ---


class Linear(nn.Module):
    """Twice the first number of a row, and a hundred times the batch's mean of the second where that is near real's."""

    def forward(self, x: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        mean = x[:, 1].mean()
        return 2 * x[:, 0] + 100 * torch.relu(mean - 0.9) * told[:, 0]


def test_the_penalty_is_of_the_slope_and_sees_the_batchs_mean_everywhere() -> None:
    real, fake, dice = torch.ones(16, 2), torch.zeros(16, 2), torch.Generator().manual_seed(0)
    assert steepness(Linear(), real, fake, torch.zeros(16, 1), dice).item() == pytest.approx(1.0)
    seen = [steepness(Linear(), real, fake, torch.ones(16, 1), dice).item() > 100 for _ in range(200)]
    assert np.mean(seen) == pytest.approx(0.1, abs=0.07)  # the tenth of the way where the slope is steep


def test_the_inner_judge_is_at_chance_on_the_same_process_and_tells_another() -> None:
    rng = np.random.default_rng(0)
    judge = InnerC2ST(rng.normal(size=(600, 4)).astype(np.float32), np.zeros(600, int), seed=0)
    assert judge.auroc(rng.normal(size=(600, 4))) == pytest.approx(0.5, abs=0.07)
    assert judge.auroc(rng.normal(size=(600, 4)) + 2) > 0.95


def test_flags_and_levels_are_as_common_as_in_train_however_little_is_learned() -> None:
    table = mixed(2_000)
    made = make("gan", face="codes", steps=3, batch=16, width=8, noise=4).fit(table, target="y", seed=0)
    new = made.sample(20_000, seed=1)
    for value in (True, False):
        mine, theirs = new[new["y"] == value], table[table["y"] == value]
        assert mine["flag"].mean() == pytest.approx(theirs["flag"].mean(), abs=0.01)
        assert mine["gaps"].isna().mean() == pytest.approx(theirs["gaps"].isna().mean(), abs=0.02)
        shares = [t["c"].value_counts(normalize=True).sort_index().to_numpy() for t in (mine, theirs)]
        assert shares[0] == pytest.approx(shares[1], abs=0.02)
    made = make("gan", face="codes", steps=3, batch=16, width=8, noise=4, calibrate=False).fit(
        table, target="y", seed=0
    )
    assert made.sample(2_000, seed=1)["flag"].mean() > 0.2


@pytest.mark.parametrize("face", ["table", "codes"])
def test_rows_follow_their_class_their_modes_and_their_levels(face: str) -> None:
    table = mixed()
    made = make("gan", face=face, steps=400, lr=2e-3, batch=64, width=64, noise=16).fit(table, target="y", seed=0)
    for value in (True, False):
        new, old = made.sample(400, given={"y": value}, seed=1), table[table["y"] == value]
        assert new["y"].eq(value).all()
        assert new["x"].mean() == pytest.approx(old["x"].mean(), abs=3)
        assert new["c"].eq("u").mean() == pytest.approx(old["c"].eq("u").mean(), abs=0.2)
    assert made.sample(2_000, seed=1)["gaps"].isna().mean() == pytest.approx(0.2, abs=0.1)


def test_the_face_is_chosen_by_the_shape() -> None:
    faces = {}
    for shape, name in TABLES.items():
        data = open_dataset(name, None).load()
        made = make("gan", steps=2, batch=16, width=8, noise=4)
        faces[shape] = made.fit(data.table, target=data.roles.target, static=data.roles.static, seed=0).face_
    assert faces == {"codes": "codes", "table": "table", "series": "series", "visits": "series"}


def test_signals_keep_constant_what_is_constant_and_the_embedding_learns_to_give_back() -> None:
    data = open_dataset(TABLES["series"], None).load()
    made = make("gan", steps=60, batch=32, width=16, noise=8, embed=6)
    new = made.fit(data.table, target=data.roles.target, static=data.roles.static, seed=0).sample(50, seed=1)
    for column in data.roles.static:
        assert (new[column].groupby("subject").nunique(dropna=False) == 1).all()
    assert "next.weight_ih_l0" in made.embedding_


@pytest.mark.parametrize("embed", [0, 4])
def test_a_series_of_one_step_is_a_series(embed: int) -> None:
    table = mixed()[["x", "y"]]
    table.index = pd.MultiIndex.from_product([range(len(table)), [0]], names=["subject", "time"])
    made = make("gan", steps=4, batch=16, width=8, noise=4, embed=embed).fit(table, target="y", static=["y"], seed=0)
    assert len(made.sample(9, seed=0)) == 9


def test_a_face_that_is_unknown_or_does_not_suit_is_refused() -> None:
    with pytest.raises(ValueError, match="face = 'rows': known are auto, codes, table, series"):
        make("gan", face="rows")
    with pytest.raises(Unsupported, match="face 'series' draws grids over time; this table is flat"):
        make("gan", face="series").fit(mixed(), target="y", seed=0)
