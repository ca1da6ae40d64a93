"""TarDiff: signals, the U-Net, the downstream model, influence in closed form, and what guidance does to a sample."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from bench.datasets import open_dataset
from bench.doctor import TABLES
from generators import judges, make
from generators.base import Unsupported
from generators.columns import labels
from generators.diffusion import influence as inf
from generators.diffusion.guides import SETS, halves, sizes
from generators.diffusion.linear import Corrected, moments
from generators.diffusion.marginals import bend, learn, mapped, quantile_map
from generators.diffusion.process import beta, gamma
from generators.diffusion.signals import Signals, by_class
from generators.diffusion.tardiff import TarDiff, betas
from generators.diffusion.timesnet import ConvNet, TimesNet, classifier, fit_classifier, main_frequencies
from generators.diffusion.unet import UNet
from generators.training import build

SMALL = {"steps": 60, "sample_steps": 6, "width": 8, "batch": 32}


@cache
def stays() -> tuple[pd.DataFrame, str, tuple[str, ...]]:
    data = open_dataset("sim-icu[rows=600]", None).load()
    return data.table, data.roles.target, data.roles.static


@cache
def fitted(**params) -> TarDiff:
    table, target, static = stays()
    return make("tardiff", **{**SMALL, **params}).fit(table, target=target, static=static, seed=0)


def arm(base: TarDiff, **params) -> TarDiff:
    """The same fit, sampled in another way."""
    other = make("tardiff", **{**base._params(), **params})
    for name, value in base._learned().items():
        setattr(other, name, value)
    return other


# --- signals ---


@pytest.mark.parametrize("absences", [False, True])
@pytest.mark.parametrize("shape", TABLES)
def test_signals_come_back(shape: str, absences: bool) -> None:
    data = open_dataset(TABLES[shape], None).load()
    table, target = data.table, data.roles.target
    view = Signals.fit(table, static=data.roles.static, without=[target], absences=absences)
    x = view.transform(table)
    assert np.isfinite(x).all()
    back = view.inverse(x, held={target: pd.Series(labels(table, target) == 1)})
    assert list(back.dtypes) == list(table.dtypes)
    for column in table:
        mine, theirs = table[column].array, back[column].array
        if str(table[column].dtype).startswith("float"):
            size = np.nanstd(mine) or 1.0
            assert np.allclose(mine / size, theirs / size, atol=2e-2, equal_nan=True), column
        else:
            assert (pd.Series(mine).astype(str) == pd.Series(theirs).astype(str)).mean() > 0.99, column


def test_whom_a_number_was_never_measured_of_is_told_by_a_channel() -> None:
    table, target, static = stays()
    table = table.assign(Temp=table["Temp"].mask(table.index.get_level_values("subject") % 3 == 0))
    without = table["Temp"].isna().groupby("subject").transform("all")
    view, plain = (Signals.fit(table, static=static, without=[target], absences=a) for a in (True, False))
    x = view.transform(table)
    (mask,) = view.never
    assert view.still().ravel().tolist() == [False] * 14 + [True] * (x.shape[1] - 14)
    assert (plain.never, view.kinds[:-1], view.kinds[-1]) == ((), plain.kinds, "bool")
    assert np.array_equal(x[:, -1, 0] > 0, without[::24])
    assert x[:, :-1] == pytest.approx(plain.transform(table))
    x[:, mask] = x[:, mask].min()  # as if all were measured: the channel decides
    gone = view.inverse(x, held={target: pd.Series(labels(table, target) == 1)})["Temp"].isna()
    assert np.array_equal(gone, without)


def test_every_channel_has_a_normaliser_of_its_own() -> None:
    table, target, static = stays()
    view = Signals.fit(table, static=static, without=[target])
    x = view.transform(table)
    assert x.shape[1:] == (20, 24)  # 7 vitals and their masks, 5 static features and age
    assert np.abs(x.mean(axis=(0, 2))).max() < 1e-4
    number = x[:, [kind == "number" for kind in view.kinds]].std(axis=(0, 2))
    assert number == pytest.approx(np.ones(len(number)), abs=1e-3)
    louder = table.assign(HR=table["HR"] * 7 + 3)
    assert Signals.fit(louder, static=static, without=[target]).transform(louder) == pytest.approx(x, abs=1e-3)


def test_a_quantile_map_gives_the_wanted_distribution() -> None:
    rng = np.random.default_rng(0)
    drawn, wanted = rng.normal(0.3, 0.7, 4_000), rng.exponential(size=4_000)
    knots = quantile_map(drawn, wanted)
    at = np.linspace(0.02, 0.98, 49)
    assert np.quantile(mapped(drawn, knots), at) == pytest.approx(np.quantile(wanted, at), abs=0.02)
    assert mapped(np.array([drawn.max() + 1]), knots) == [wanted.max()]
    flags = mapped(rng.normal(0.3, 0.7, 4_000), quantile_map(drawn, rng.random(4_000) < 0.2))
    assert (flags > 0.5).mean() == pytest.approx(0.2, abs=0.03)


def test_a_quantile_map_keeps_a_heavy_tail() -> None:
    rng = np.random.default_rng(0)
    drawn, wanted = rng.normal(size=100_000), np.exp(1.5 * rng.normal(size=100_000))  # as urine output is
    bent = mapped(drawn, quantile_map(drawn, wanted))
    assert bent.std() == pytest.approx(wanted.std(), rel=0.03)
    assert np.quantile(bent, 0.9995) == pytest.approx(np.quantile(wanted, 0.9995), rel=0.05)


def test_marginals_are_bent_step_by_step_and_over_what_is_seen() -> None:
    table, target, static = stays()
    view = Signals.fit(table, static=static, without=[target])
    real = view.transform(table)
    drawn = 0.7 * np.random.default_rng(0).normal(size=(800, *real.shape[1:])) + 0.2
    for some in (real, real[:100]):  # too few to know a share step by step
        bent = bend(view, drawn, learn(view, drawn, some, flags=True))
        for f in (0, 10):  # heart rate, rarely missing; temperature, mostly
            shown, seen = ~view.gaps(bent, f), ~view.gaps(some, f)
            assert shown.mean() == pytest.approx(seen.mean(), abs=0.02)
            at = [0.1, 0.5, 0.9]
            assert np.quantile(bent[:, f][shown], at) == pytest.approx(np.quantile(some[:, f][seen], at), abs=0.1)
            apart = np.abs(shown.mean(axis=0) - seen.mean(axis=0)).max()
            assert apart < 0.02 or len(some) < 200


def test_a_subject_without_a_value_borrows_one_of_its_class() -> None:
    table, target, static = stays()
    nobody = table["Temp"].where(table.index.get_level_values("subject") >= 300)
    table = table.assign(Temp=nobody)
    view, y = Signals.fit(table, static=static, without=[target]), labels(table, target)
    x = view.transform(table)
    lent = view.lend(x, y, np.random.default_rng(0))
    f = [c.name for c in view.view.layout.varying].index("Temp") * 2
    assert np.ptp(x[:300, f]) == 0
    for label in (0, 1):
        own = {row.tobytes() for row in x[300:][y[300:] == label][:, f]}
        assert all(row.tobytes() in own for row in lent[:300][y[:300] == label][:, f])
    others = [c for c in range(x.shape[1]) if c != f]
    assert (lent[:, others] == x[:, others]).all()


# --- the U-Net ---


@pytest.mark.parametrize(("c", "length"), [(1, 1), (3, 2), (1, 3), (7, 24), (2, 37), (1, 200)])
def test_any_length_and_channel_count(c: int, length: int) -> None:
    net = build(lambda: UNet(c, length, classes=2, width=8, heads=2, fold=1 + length // 64), seed=0)
    for p in net.parameters():  # layers that start at zero would hide everything
        nn.init.normal_(p, std=0.1)
    x = torch.randn(4, c, length, generator=torch.Generator().manual_seed(0))
    out = net(x, torch.full((4,), 0.5), torch.tensor([0, 1, 0, 1]))
    assert out.shape == x.shape
    assert not torch.allclose(out, net(x, torch.full((4,), 0.5), torch.tensor([1, 0, 1, 0])))
    assert not torch.allclose(out, net(x, torch.full((4,), 0.9), torch.tensor([0, 1, 0, 1])))


def test_the_published_schedule_and_size() -> None:
    assert np.prod(1 - betas(200)) == pytest.approx(6e-4, abs=5e-5)
    assert betas(200)[[0, -1]] == pytest.approx([5e-4, 0.1])
    assert np.exp(-2 * make("tardiff")._times()) == pytest.approx(np.cumprod(1 - betas(200)))
    published = UNet(7, 24, classes=2, width=64, blocks=2)
    assert sum(p.numel() for p in published.parameters()) > 5_000_000


class Known(nn.Module):
    """The exact answer for signals whose values are independent N(mean, sd²)."""

    def __init__(self, mean: float, sd: float, predict: str, steps: int) -> None:
        super().__init__()
        self.mean, self.sd, self.predict = mean, sd, predict
        self.times = make("tardiff", grid=steps)._times()

    def forward(self, x: torch.Tensor, share: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        t = self.times[round(float(share[0]) * len(self.times)) - 1]
        g, b = float(gamma(t)), float(beta(t))
        x0 = self.mean + g * self.sd**2 / (g**2 * self.sd**2 + b**2) * (x - g * self.mean)
        eps = (x - g * x0) / b
        return eps if self.predict == "eps" else g * eps - b * x0


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize("predict", ["eps", "v"])
def test_the_chain_draws_a_known_distribution(sampler: str, predict: str) -> None:
    made = make("tardiff", variance="none", sampler=sampler, predict=predict, sample_steps=200)
    x = chain(made, Known(0.7, 0.5, predict, 200), "number", 0.0)
    assert x.mean() == pytest.approx(0.7, abs=0.03)
    assert x.std() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("sampler", "steps"), [("ddpm", 4), ("ddpm", 200), ("ddim", 200)])
def test_flags_come_out_as_flags_and_as_often_as_the_network_says(sampler: str, steps: int) -> None:
    """The network knows of a flag how common it is and nothing else: Bayes' rule does the rest."""

    class Common(nn.Module):
        def forward(self, x: torch.Tensor, share: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return torch.full_like(x, np.log(0.25 / 0.75))  # in train every second one is set

    x = chain(make("tardiff", variance="none", sampler=sampler, sample_steps=steps), Common(), "bool", 0.5)
    assert np.abs(np.abs(x) - 1).max() < 0.05
    assert (x > 0).mean(axis=0) == pytest.approx(0.25, abs=0.03)
    assert ((x[:, 0, 0] > 0) & (x[:, 0, 1] > 0)).mean() == pytest.approx(0.25**2, abs=0.02)


def test_a_flag_that_is_constant_is_drawn_once_for_its_whole_length() -> None:
    """Both places are the same flag, one in twenty: their noisy values say so, and the network knows the rate."""

    class Rare(nn.Module):
        def forward(self, x: torch.Tensor, share: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return torch.full_like(x, np.log(0.05 / 0.95))  # in train every second one is set

    made = make("tardiff", variance="none", sample_steps=8)
    found = {still: chain(made, Rare(), "bool", 0.5, still) > 0 for still in (False, True)}
    assert (found[True][:, 0, 0] == found[True][:, 0, 1]).all()
    assert found[True].mean() == pytest.approx(0.05, abs=0.01)
    assert (found[False][:, 0, 0] & found[False][:, 0, 1]).mean() < 0.01  # of two flags both are rarely set


def test_of_a_category_one_level_is_drawn() -> None:
    """Two levels, the first of nine in ten, which the network knows; drawn each alone, a tenth would be neither."""

    class Nine(nn.Module):
        def forward(self, x: torch.Tensor, share: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return torch.tensor([np.log(9), -np.log(9)]).float().expand(x.shape)  # in train they are as common

    x = chain(make("tardiff", variance="none", sample_steps=8), Nine(), "category", 0.5, levels=[(0, 2)]) > 0
    assert (x[:, 0, 0] != x[:, 0, 1]).all()
    assert x[:, 0, 0].mean() == pytest.approx(0.9, abs=0.02)


def chain(made: TarDiff, net: nn.Module, kind: str, center: float, still: bool = False, levels=()) -> np.ndarray:
    """4,000 signals (n, 1, 2) drawn by a network, of features of a kind."""
    spread = 1.0 if kind == "number" else 0.5
    made.signals_ = Signals(None, (kind, kind), np.full((1, 2), center, "f"), np.full((1, 2), spread, "f"))
    made.odds_, made.still_ = np.zeros((2, 1, 2), "f"), np.full((1, 1), still)
    made.levels_ = levels
    dice = torch.Generator().manual_seed(0)
    noise = torch.randn(4_000, 1, 2, generator=dice)
    bounds = (torch.full((1, 2), -9.0), torch.full((1, 2), 9.0))
    return made._reverse(net, noise, torch.zeros(4_000).long(), bounds, [], dice).numpy()


class Silent(nn.Module):
    """A network that adds nothing."""

    def forward(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x[:, : x.shape[1] // 2])


def test_the_linear_guess_is_the_mean_of_a_gaussian_given_its_noisy_value() -> None:
    """And its posterior noise has the covariance."""
    rng = np.random.default_rng(0)
    mix, y = rng.normal(size=(6, 6)), np.arange(40_000) % 2
    x = (1 + y[:, None]) * rng.normal(size=(40_000, 6)) @ mix + y[:, None]  # the second class is twice as wide
    x = x.reshape(-1, 2, 3).astype(np.float32)
    found = moments(x, y, seed=0)
    model = Corrected(Silent(), found, np.ones(1), np.ones(1), np.ones((1, 1), bool))
    g, b = 0.6, 0.8
    noisy = torch.from_numpy(g * x[:40] + b * rng.normal(size=(40, 2, 3)).astype(np.float32))
    share = torch.full((40, 1, 1), g), torch.full((40, 1, 1), b)
    centre = np.stack([x[y == k].reshape(-1, 6).mean(axis=0) for k in (0, 1)])
    guess = model.guess(noisy, *share, torch.from_numpy(y[:40])).numpy().reshape(-1, 6)
    noise = torch.from_numpy(rng.normal(size=x.shape).astype(np.float32))
    drawn = model.posterior_noise(noise, g, b, torch.from_numpy(y)).numpy().reshape(-1, 6)
    for k in (0, 1):
        inner = np.cov(x.reshape(-1, 6)[y == k].T)
        away = noisy.numpy().reshape(-1, 6)[y[:40] == k] - g * centre[k]
        exact = centre[k] + away @ np.linalg.solve(g**2 * inner + b**2 * np.eye(6), g * inner)
        assert guess[y[:40] == k] == pytest.approx(exact, abs=0.05)
        remains = inner - g**2 * inner @ np.linalg.solve(g**2 * inner + b**2 * np.eye(6), inner)
        assert np.cov(drawn[y == k].T) == pytest.approx(remains, abs=0.06)


def test_what_a_class_has_of_its_own_is_drawn_to_the_mean_of_all_where_it_is_small() -> None:
    x = np.r_[np.zeros(60), np.full(20, 4.0)].astype(np.float32)[:, None]
    assert by_class(x, np.r_[np.zeros(60, int), np.ones(20, int)]).ravel() == pytest.approx([0.25, 2.5])
    assert by_class(x, np.zeros(80, int)).ravel() == pytest.approx([1, 1])  # nobody is of the other class


def test_a_chain_of_linear_guesses_draws_trains_covariance() -> None:
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(4_000, 1, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]])).astype(np.float32)
    made = make("tardiff")
    times = made._times()
    found = moments(x, np.zeros(4_000, int), seed=0)
    drawn = chain(made, Corrected(Silent(), found, gamma(times), beta(times), np.ones((1, 1), bool)), "number", 0.0)
    assert np.cov(drawn.reshape(-1, 2).T) == pytest.approx(np.cov(x.reshape(-1, 2).T), abs=0.06)


@pytest.mark.parametrize("shape", [(1, 4, 5), (30, 40, 60)])
def test_moments_of_few_subjects_and_many_features(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = moments(x, np.zeros(len(x), int), seed=0)
    assert found["variances"].shape == (2, min(shape[0], shape[1] * shape[2]) - 1)
    assert (found["rest"] > 0).all()
    assert all(np.isfinite(v).all() for v in found.values())


# --- the downstream model ---


def test_timesnet_finds_periods_and_learns_what_turns_on_them() -> None:
    rng = np.random.default_rng(0)
    t, y = np.arange(48), rng.integers(2, size=400)
    phase = rng.uniform(0, 2 * np.pi, (400, 1))
    x = np.sin(2 * np.pi * t / np.where(y, 12, 8)[:, None] + phase) + 0.3 * rng.normal(size=(400, 48))
    x = x[:, None].astype(np.float32)
    assert main_frequencies(x, 2) == [4, 6]
    net = build(lambda: classifier("timesnet", 1, 48, [4, 6]), seed=0)
    net = fit_classifier(net, x[:300], y[:300], seed=0)
    with torch.no_grad():
        assert roc_auc_score(y[300:], net(torch.from_numpy(x[300:]))) > 0.95


@pytest.mark.parametrize("net", [TimesNet(3, 10, [1, 3]), ConvNet(3)], ids=["timesnet", "conv"])
def test_a_subject_is_its_own_and_double_backward_is_exact(net: nn.Module) -> None:
    net = net.double().eval()
    x = torch.randn(5, 3, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    alone = torch.cat([net(x[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(net(x), alone)
    assert torch.autograd.gradgradcheck(net, x[:1].detach().requires_grad_())


def test_a_judge_reads_tables_and_weights() -> None:
    table, target, static = stays()
    subjects = table.index.get_level_values("subject")
    inside = subjects < np.quantile(subjects, 0.7)
    judge, y = judges("series")["timesnet"], labels(table[~inside], target)
    plain = judge().fit(table[inside], target=target, static=static, seed=0).predict(table[~inside])
    again = judge().fit(table[inside], target=target, static=static, seed=0).predict(table[~inside])
    assert (plain == again).all()
    assert roc_auc_score(y, plain) > 0.65
    fewer = table[inside].assign(HR=np.nan)  # what is drawn may lack a channel that holdout has
    assert np.isfinite(judge().fit(fewer, like=table, target=target, static=static, seed=0).predict(table)).all()
    inner = labels(table[inside], target)
    weight = np.where(inner == 1, 5.0, 0.5)
    assert (
        judge().fit(table[inside], target=target, static=static, weight=weight, seed=0).predict(table[~inside]).mean()
        > 1.5 * plain.mean()
    )


# --- influence ---


class Logistic(nn.Module):
    """Logistic regression on the values of a signal."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.line = nn.Linear(d, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.line(x.flatten(1))[:, 0]


def setting(net: nn.Module, b: int = 16, c: int = 2, length: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    dice = torch.Generator().manual_seed(1)
    return torch.randn(b, c, length, generator=dice).double(), torch.randint(2, (b,), generator=dice)


def test_g_and_j_in_closed_form() -> None:
    """Logistic model: grad l = (p - y)(x, 1); <G, grad l> = (p - y)(g x + h); J = p (1 - p) (g x + h) w + (p - y) g."""
    net = Logistic(10).double()
    x, y = setting(net)
    flat, p = x.flatten(1), torch.sigmoid(net(x)).detach()
    g = inf.mean_gradient(net, x, y, batch=5)
    torch.testing.assert_close(g["line.weight"][0], ((p - y)[:, None] * flat).mean(0))
    torch.testing.assert_close(g["line.bias"][0], (p - y).mean())
    along = flat @ g["line.weight"][0] + g["line.bias"][0]
    w = net.line.weight[0].detach()
    j = (p * (1 - p) * along)[:, None] * w + (p - y)[:, None] * g["line.weight"][0]
    torch.testing.assert_close(inf.influence(net, g, x, y).flatten(1), j)
    torch.testing.assert_close(inf.alignment(net, g, x, y).detach(), ((p - y) * along).sum())
    assert inf.gradient_norms(net, x, y).tolist() == pytest.approx(
        ((p - y).abs() * (flat.square().sum(1) + 1).sqrt()).tolist()
    )
    torch.testing.assert_close(inf.label_gradient(net, x, y).flatten(1), -(p - y)[:, None] * w)


@pytest.mark.parametrize("name", ["timesnet", "conv", "logistic"])
def test_j_is_the_slope_of_what_a_training_step_gains(name: str) -> None:
    """The mean loss over D after one small step on x + h v, against it after a step on x - h v: 2 h lr <J, v>."""
    makers = {"timesnet": lambda: TimesNet(2, 5, [1, 2], width=4), "conv": lambda: ConvNet(2, width=4),
              "logistic": lambda: Logistic(10)}  # fmt: skip
    net = build(makers[name], seed=0)  # not what the tests before it have left of the global seed
    net = net.double().eval()
    x, y = setting(net)
    guide, label = x[:10], y[:10]
    one, its = x[12:13], y[12:13]
    g = inf.mean_gradient(net, guide, label)
    j = inf.influence(net, g, one, its)
    v = torch.randn(one.shape, generator=torch.Generator().manual_seed(2)).double()
    v = v / v.norm() + j / j.norm()  # not across J, where there is nothing but rounding to be seen
    h = rate = 1e-4

    def after(sample: torch.Tensor) -> torch.Tensor:
        slopes = torch.autograd.grad(inf.losses(net, sample, its).sum(), list(net.parameters()))
        moved = {n: p.detach() - rate * s for (n, p), s in zip(net.named_parameters(), slopes, strict=True)}
        out = torch.func.functional_call(net, moved, (guide,))
        return nn.functional.binary_cross_entropy_with_logits(out, label.double())

    gained = float((after(one - h * v) - after(one + h * v)).detach())
    assert gained == pytest.approx(2 * h * rate * float((j * v).sum()), rel=0.02)


@pytest.mark.parametrize("net", [TimesNet(4, 12, [1, 3]), ConvNet(4)], ids=["timesnet", "conv"])
def test_the_batch_is_each_subject_alone(net: nn.Module) -> None:
    net = net.eval()
    dice = torch.Generator().manual_seed(3)
    x, y = torch.randn(12, 4, 12, generator=dice), torch.randint(2, (12,), generator=dice)
    g = inf.mean_gradient(net, x, y)
    alone = []
    for i in range(12):
        one = x[i : i + 1].clone().requires_grad_()
        slopes = torch.autograd.grad(inf.losses(net, one, y[i : i + 1])[0], list(net.parameters()), create_graph=True)
        alone.append(torch.autograd.grad(sum((s * t).sum() for s, t in zip(slopes, g.values(), strict=True)), one)[0])
    together = inf.influence(net, g, x, y)
    assert float((together - torch.cat(alone)).abs().max() / together.abs().max()) < 1e-5


# --- guidance ---


def test_no_guidance_is_no_guidance_bit_for_bit() -> None:
    plain = fitted()
    bare = arm(plain)
    bare.guides_ = {}
    for params in (
        {},
        {"guide": "random"},
        {"guide_net": "conv", "guide_set": "minority"},
        {"guide_at": "xt", "guidance_unit": "raw"},
    ):
        assert arm(plain, guidance_scale=0.0, **params).sample(40, seed=1).equals(bare.sample(40, seed=1))
    assert not arm(plain, guidance_scale=0.3).sample(40, seed=1).equals(bare.sample(40, seed=1))


@pytest.mark.parametrize("guide_at", ["x0", "xt"])
@pytest.mark.parametrize("guide_net", ["timesnet", "conv"])
def test_guidance_raises_alignment_and_its_flip_lowers_it(guide_at: str, guide_net: str) -> None:
    base = arm(fitted(), guide_net=guide_net)
    y = torch.arange(64) // 2 % 2
    guides = base._guides(guide_net, "all")

    def aligned(**params) -> float:
        x = torch.from_numpy(arm(base, guide_at=guide_at, **params).draw(y.numpy(), seed=5)).float()
        each = [inf.alignment(g.net, g.g, x[i::2], y[i::2]) for i, g in enumerate(guides)]  # as they take turns
        return float(sum(each).detach()) / 64

    none, up, down = aligned(), aligned(guidance_scale=0.3), aligned(guidance_scale=-0.3)
    assert down < none < up
    random = aligned(guidance_scale=0.3, guide="random")
    assert abs(random - none) < up - none


def test_the_papers_step_is_w_times_j() -> None:
    made = arm(fitted(), guidance_unit="raw", guidance_scale=100.0, guide_at="xt")
    guides = made._guides("timesnet", "all")
    guide = guides[0]
    x = torch.randn(6, *made.low_.shape, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1, 1, 0, 1, 0])
    j = inf.influence(guide.net, guide.g, x, y)[::2]  # the two guides take turns
    torch.testing.assert_close(made._move(guides, x, x, y, 1.0, 0.9, 0.1)[::2], 100 * j, atol=1e-4, rtol=1e-4)
    made.guide_at = "x0"  # the posterior's mean moves with x0 by gamma(s) beta(t - s)² / beta(t)²
    share = float(gamma(0.9) * beta(0.1) ** 2 / beta(1.0) ** 2)
    torch.testing.assert_close(made._move(guides, x, x, y, 1.0, 0.9, 0.1)[::2], 100 * share * j, atol=1e-4, rtol=1e-4)
    made.guidance_unit, made.typical_ = "typical", {"timesnet": {"all": {"influence": float(sizes(j)[0])}}}
    moved = made._move(guides, x, x, y, 1.0, 0.9, 0.2)[0]
    torch.testing.assert_close(moved, 100 * 0.2 * j[0] / float(sizes(j)[0]), atol=1e-4, rtol=1e-4)
    made.guidance_unit, made.guidance_scale = "relative", 0.5
    size = made._move(guides, x, x, y, 1.0, 0.9, 0.2).square().mean(dim=(1, 2)).sqrt()
    assert size.tolist() == pytest.approx([0.1] * 6, rel=1e-4)


def test_guides_are_cross_fitted_on_halves_of_both_classes() -> None:
    y = (np.random.default_rng(0).random(501) < 0.1).astype(int)
    part = halves(y, np.random.default_rng(1))
    assert set(part) == {0, 1}
    for label in (0, 1):
        sizes = np.bincount(part[y == label])
        assert abs(sizes[0] - sizes[1]) <= 1
    table, target, static = stays()
    few = table[(labels(table, target) == 0).repeat(24)]
    few = pd.concat([few, table[(labels(table, target) == 1).repeat(24)].iloc[: 24 * 9]])
    made = make("tardiff", **SMALL, guidance_scale=0.3).fit(few, target=target, static=static, seed=0)
    assert made.guides_ == {}
    with pytest.raises(Unsupported, match="guidance needs a target with 16 subjects of each class in train"):
        made.sample(10, seed=0)
    assert len(arm(made, guidance_scale=0.0).sample(10, seed=0).index.unique("subject")) == 10


def test_the_g_of_a_guidance_set_is_the_mean_gradient_of_its_subjects() -> None:
    table, target, _ = stays()
    made = fitted()
    y = labels(table, target)
    x = made.signals_.lend(made.signals_.transform(table), y, np.random.default_rng(0))
    unseen = halves(y, np.random.default_rng(0)) == 1  # by the first guide
    sets = {"minority": unseen & (y == 1), "majority": unseen & (y == 0)}
    for net in ("timesnet", "conv"):
        found = {which: made._guides(net, which)[0] for which in SETS}
        g = {
            w: inf.mean_gradient(found[w].net, torch.from_numpy(x[r]), torch.from_numpy(y[r])) for w, r in sets.items()
        }
        for which, rate in (("balanced", 0.5), ("all", made.rate_)):  # classes as common as in all of train
            g[which] = {name: (1 - rate) * v + rate * g["minority"][name] for name, v in g["majority"].items()}
        for which in SETS:
            for name, value in g[which].items():
                torch.testing.assert_close(found[which].g[name], value, atol=1e-5, rtol=1e-3)


def test_a_share_of_the_guidance_set_gives_another_g_and_the_same_models() -> None:
    whole, part = fitted(), fitted(guide_share=0.25)
    for net in ("timesnet", "conv"):
        for a, b in zip(whole.guides_[net], part.guides_[net], strict=True):
            assert all(np.array_equal(a["net"][k], b["net"][k]) for k in a["net"])
            assert not all(np.array_equal(v, b["slopes"]["1"][k]) for k, v in a["slopes"]["1"].items())


# --- whole ---


def test_marginals_are_trains() -> None:
    table, target, _ = stays()
    drawn = fitted().sample(3_000, seed=2)
    assert drawn[target].mean() == pytest.approx(table[target].mean(), abs=0.002)
    for vital in ("HR", "SBP", "Temp"):
        assert drawn[vital].isna().mean() == pytest.approx(table[vital].isna().mean(), abs=0.03)
        assert drawn[vital].mean() == pytest.approx(table[vital].mean(), abs=0.1 * table[vital].std())


def test_known_values_only_and_an_arm_loads_a_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"guide = 'influenza': known are influence, random, label"):
        make("tardiff", guide="influenza")
    fitted().save(tmp_path)
    guided = make("tardiff", **SMALL, guidance_scale=0.2).load(tmp_path)
    assert guided.sample(20, seed=3).equals(arm(fitted(), guidance_scale=0.2).sample(20, seed=3))
    wanted = guided.sample(12, given={"died": True}, seed=0)
    assert wanted["died"].all()
