"""Ornstein-Uhlenbeck diffusion: its process, grids and samplers against closed forms; whom its networks learn from."""

from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kstest, kstwobign, norm

from generators import make, state
from generators.base import Unsupported
from generators.diffusion.clusters import clusters
from generators.diffusion.ou_nets import NETS, PublishedEps, guided
from generators.diffusion.process import OU_GRIDS, beta, gamma, ou_grid, ou_reverse, ou_times
from generators.diffusion.sampling import OU_SAMPLERS

# --- the process ---


def test_the_time_grid_is_ddpms_linear_betas() -> None:
    """alpha_bar of DDPM's linear betas equals e^(-2 t): N = 800 ends at T = 4.047, e^-T = .0175."""
    times = ou_times(800)
    assert np.exp(-2 * times) == pytest.approx(np.cumprod(1 - np.linspace(1e-4, 2e-2, 800)))
    assert np.diff(times).min() > 0
    assert times[-1] == pytest.approx(4.047, abs=5e-4)
    assert gamma(times[-1]) == pytest.approx(0.0175, abs=5e-5)


@pytest.mark.parametrize("n", [25, 800])
def test_grids_differ_in_their_steps_and_end_alike(n: int) -> None:
    b1, uniform, logsnr = (ou_grid(name, n) for name in OU_GRIDS)
    assert (b1 == ou_times(n)).all()
    assert uniform[-1] == logsnr[-1] == b1[-1]
    assert logsnr[0] == pytest.approx(b1[0])
    assert np.diff(uniform, prepend=0) == pytest.approx(b1[-1] / n)
    steps = np.diff(np.log(gamma(logsnr) ** 2 / beta(logsnr) ** 2))
    assert steps == pytest.approx(steps[0])
    with pytest.raises(ValueError, match="unknown time grid 'cosine'; known: b1, uniform, logsnr"):
        ou_grid("cosine", n)


def test_marginals_and_one_step_kernels_compose() -> None:
    """X_{s+t} from X_s is gamma(t) X_s + beta(t) Z: two steps equal one, and the variance of a unit Gaussian stays."""
    s, t = 0.3, 1.1
    assert gamma(s) * gamma(t) == pytest.approx(gamma(s + t))
    assert gamma(t) ** 2 * beta(s) ** 2 + beta(t) ** 2 == pytest.approx(beta(s + t) ** 2)
    assert gamma(t) ** 2 + beta(t) ** 2 == pytest.approx(1)


@pytest.mark.parametrize("name", OU_GRIDS)
def test_one_step_kernels_along_a_grid_give_its_marginals(name: str) -> None:
    mean, variance = 1.0, 0.0
    times = ou_grid(name, 200)
    for t, dt in zip(times, np.diff(times, prepend=0), strict=True):
        mean, variance = mean * gamma(dt), variance * gamma(dt) ** 2 + beta(dt) ** 2
        assert mean == pytest.approx(gamma(t))
        assert variance == pytest.approx(beta(t) ** 2)


def test_marginals_are_those_of_the_simulated_equation() -> None:
    """Euler-Maruyama on dX = -X dt + sqrt(2) dW from X_0 = 2: its mean and variance are gamma x0 and beta²."""
    rng, x, dt = np.random.default_rng(0), np.full(40_000, 2.0), 0.005
    for step in range(1, 201):
        x = x - x * dt + np.sqrt(2 * dt) * rng.normal(size=len(x))
        if step in (40, 200):  # errors: 4 standard errors of the draw, and the scheme's own, of order dt
            t = step * dt
            assert x.mean() == pytest.approx(2 * gamma(t), abs=0.02 + 2 * dt)
            assert x.var() == pytest.approx(beta(t) ** 2, abs=0.03 + dt)


@pytest.mark.parametrize(("t_from", "t_to"), [(4.0, 3.0), (1.0, 0.9), (0.02, 0.01), (0.5, 0.0)])
def test_the_reverse_kernel_is_bayes_rule(t_from: float, t_to: float) -> None:
    """p(x_t | x_{t+dt}, x0) from the joint Gaussian, its x0 written through eps."""
    x0, x = 0.7, -1.3
    eps = (x - gamma(t_from) * x0) / beta(t_from)
    dt = t_from - t_to
    # prior N(gamma x0, beta^2) at t, likelihood x = gamma(dt) x_t + beta(dt) z
    if t_to > 0:
        precision = 1 / beta(t_to) ** 2 + gamma(dt) ** 2 / beta(dt) ** 2
        mean = (gamma(t_to) * x0 / beta(t_to) ** 2 + gamma(dt) * x / beta(dt) ** 2) / precision
        sd = precision**-0.5
    else:
        mean, sd = x0, 0.0
    scale, weight, sigma = ou_reverse(t_from, t_to)
    assert scale * (x - weight * eps) == pytest.approx(mean, abs=1e-9)
    assert sigma == pytest.approx(sd, abs=1e-9)


# --- samplers, given the true noise ---


def exact_eps(means: np.ndarray, sd: float):
    """The noise a perfect denoiser predicts for an even mixture of round Gaussians around means (m, d)."""

    def eps(x: torch.Tensor, t: float) -> torch.Tensor:
        g, var = float(gamma(t)), float(gamma(t)) ** 2 * sd**2 + float(beta(t)) ** 2
        gap = x[:, None] - torch.from_numpy(means * g)  # (b, m, d)
        chance = torch.softmax(-(gap**2).sum(dim=2) / (2 * var), dim=1)
        return float(beta(t)) / var * (chance[:, :, None] * gap).sum(dim=1)

    return eps


def strided(grid: str, visited: int, n: int = 800) -> np.ndarray:
    return ou_grid(grid, n)[np.linspace(n - 1, 0, visited).round().astype(int)[::-1]]


def run(sampler: str, means: np.ndarray, sd: float, times: np.ndarray, n: int = 8_000) -> np.ndarray:
    dice = torch.Generator().manual_seed(0)
    x = torch.randn((n, means.shape[1]), generator=dice, dtype=torch.float64)
    return OU_SAMPLERS[sampler](exact_eps(means, sd), x, times, bounds=None, dice=dice).numpy()


# Largest Kolmogorov-Smirnov distance of any sampler with 400 steps, from 240,000 draws each: ancestral's on every grid.
STEP_ERROR = {"b1": 0.006, "uniform": 0.022, "logsnr": 0.005}


@pytest.mark.parametrize("grid", OU_GRIDS)
@pytest.mark.parametrize("sampler", OU_SAMPLERS)
def test_samplers_recover_a_mixture_from_the_true_noise(sampler: str, grid: str) -> None:
    """In one dimension: 8,000 draws differ from the mixture by the error of the steps and by chance (p > .0001)."""
    out = run(sampler, np.array([[-1.2], [1.2]]), 0.3, strided(grid, 400))[:, 0]
    found = kstest(out, lambda v: (norm.cdf(v, -1.2, 0.3) + norm.cdf(v, 1.2, 0.3)) / 2)
    assert found.statistic < STEP_ERROR[grid] + kstwobign.isf(1e-4) / np.sqrt(len(out)), found


@pytest.mark.parametrize(("sampler", "visited"), [("ancestral", 800), ("ddim", 400), ("heun", 50)])
def test_samplers_recover_a_mixture_in_the_plane(sampler: str, visited: int) -> None:
    """Of a variance of .04 the ancestral sampler keeps .032 where it visits 100 of 800 times: here it visits all."""
    means = np.array([[-1.5, 0.0], [1.0, 1.0], [1.0, -1.0]])
    out = run(sampler, means, 0.2, strided("b1", visited), n=5_000)
    nearest = ((out[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    for mode, mean in enumerate(means):
        here = out[nearest == mode]
        assert len(here) / len(out) == pytest.approx(1 / 3, abs=0.03)
        assert here.mean(axis=0) == pytest.approx(mean, abs=0.02)
        assert np.cov(here.T) == pytest.approx(0.04 * np.eye(2), abs=0.006)


@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("heun", 2)])
def test_deterministic_samplers_converge_to_the_flow(sampler: str, order: int) -> None:
    """From the same x_T a Gaussian's probability-flow path ends at mu + s (x_T - gamma mu) / sd(x_T): the error falls
    like steps^-order, the slope fitted over 20 to 160 steps."""
    mu, sd, x_end = 0.8, 0.5, np.array([[-1.5], [-0.2], [0.4], [1.7]])
    end = ou_times(800)[-1]
    exact = mu + sd * (x_end - gamma(end) * mu) / np.sqrt(gamma(end) ** 2 * sd**2 + beta(end) ** 2)
    steps, errors = [20, 40, 80, 160], []
    for n in steps:
        times = end * (np.arange(1, n + 1) / n) ** 2  # the step to 0, always Euler's, is of order 1 / n² as well
        eps = exact_eps(np.array([[mu]]), sd)
        out = OU_SAMPLERS[sampler](eps, torch.from_numpy(x_end), times, bounds=None, dice=torch.Generator())
        errors.append(np.abs(out.numpy() - exact).max())
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(-order, abs=0.15), errors


def test_no_noise_is_added_at_the_last_step() -> None:
    scale, weight, sigma = ou_reverse(1e-4, 0.0)
    assert sigma == 0
    x0, noise = 0.4, 2.0
    x = gamma(1e-4) * x0 + beta(1e-4) * noise
    assert scale * (x - weight * noise) == pytest.approx(x0)


@pytest.mark.parametrize("sampler", OU_SAMPLERS)
def test_predictions_beyond_the_data_are_clipped(sampler: str) -> None:
    def wild(x: torch.Tensor, t: float) -> torch.Tensor:
        return -100 * torch.ones_like(x)

    dice = torch.Generator().manual_seed(0)
    bounds = (torch.tensor([-1.0]), torch.tensor([1.0]))
    out = OU_SAMPLERS[sampler](wild, torch.zeros((50, 1)), ou_times(50), bounds=bounds, dice=dice)
    assert out.abs().max() <= 1 + 1e-5


# --- networks and guidance ---


def test_the_published_network_has_its_weights() -> None:
    """56,733 for creditcard's 28 features and an amount; told no group."""
    net = PublishedEps(29, ou_times(800), groups=1, amount=28)
    assert sum(p.numel() for p in net.parameters()) == 56_733
    assert set(net.state_dict()) == {f"{n}.{w}" for n in ("enter", "middle", "leave") for w in ("weight", "bias")}
    x, k = torch.randn((5, 29)), torch.arange(5)
    assert net(x, k, torch.zeros(5, dtype=torch.int64)).shape == (5, 29)


def test_guidance_extrapolates_from_the_untold_to_the_told() -> None:
    told, untold = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0])
    assert guided(told, untold, 0) is told
    assert guided(told, untold, 1.5).tolist() == [2.5, -1.0]


# --- whom it learns from ---


def table(n: int = 1_500, seed: int = 0) -> pd.DataFrame:
    """A common class in two modes, and a rare one around 3 and, a third of it, around 6."""
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.1
    rare = np.where(rng.random(n) < 1 / 3, 6.0, 3.0)
    a = np.where(y, rare, rng.choice([-1.0, 1.0], n)) + 0.2 * rng.normal(size=n)
    return pd.DataFrame({"a": a, "b": a + 0.1 * rng.normal(size=n), "y": y}).rename_axis("subject")


QUICK = {"steps": 600, "width": 48, "scale": "standard"}
WAYS = {
    "conditional": {}, "minority": {"learn": "minority"}, "clustered": {"clusters": 2},
    "clustered minority": {"clusters": 2, "learn": "minority"}, "guided": {"cfg": 0.3},
    "published": {"net": "published", "amount": "a", "sampler": "ancestral", "sample_steps": 100},
    "ancestral": {"sampler": "ancestral", "sample_steps": 50}, "ddim": {"sampler": "ddim", "sample_steps": 50},
    "logsnr": {"times": "logsnr"},
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_ou_learns_a_table_and_its_rare_class(way: str) -> None:
    train = table()
    made = make("ou", **QUICK | WAYS[way]).fit(train, target="y", seed=0)
    drawn = made.sample(1_000, seed=1)
    assert drawn["y"].mean() == pytest.approx(train["y"].mean(), abs=0.002)
    assert np.corrcoef(drawn["a"], drawn["b"])[0, 1] > 0.9  # .95 to 1 over five seeds
    # How sharp the two modes are is one network's luck: over five seeds .53 to .99 of the common class lie beyond .5.
    common = drawn.loc[~drawn["y"], "a"]
    assert (common > 0).mean() == pytest.approx(0.5, abs=0.2)
    assert (common < 1.75).mean() > 0.9
    rare = made.sample(600, given={"y": True}, seed=2)
    assert rare["y"].all()
    assert (rare["a"] > 1.75).mean() > 0.9
    assert rare["a"].mean() == pytest.approx(train.loc[train["y"], "a"].mean(), abs=1.0)
    if "clusters" in WAYS[way]:  # told the cluster, it does not blur what lies between
        near = {m: float(((rare["a"] - m).abs() < 1).mean()) for m in (3, 6)}
        truth = {m: float(((train.loc[train["y"], "a"] - m).abs() < 1).mean()) for m in (3, 6)}
        assert sum(near.values()) > 0.9
        assert near[6] == pytest.approx(truth[6], abs=0.1)


@pytest.mark.parametrize("learn", ["all", "minority"])
def test_clusters_come_in_their_proportions(learn: str) -> None:
    train = table()
    made = make("ou", clusters=2, learn=learn, **QUICK | {"steps": 10}).fit(train, target="y", seed=0)
    rare = train.loc[train["y"], "a"]
    assert sorted(made.sizes_[1:]) == sorted([(rare > 4.5).sum(), (rare < 4.5).sum()])
    assert len(made.learned_) == (3 if learn == "minority" else 1)
    group = made._groups(np.arange(3_000) < 1_000, np.random.default_rng(0))
    counts = np.bincount(group)
    assert counts[0] == 2_000
    assert counts[1:] == pytest.approx(1_000 * made.sizes_[1:] / len(rare), abs=1)


def test_guidance_of_zero_is_the_plain_conditional() -> None:
    made = make("ou", cfg=1.0, drop=0.3, **QUICK | {"steps": 100}).fit(table(), target="y", seed=0)
    drawn = {}
    for made.cfg in (0.0, 1e-9, 2.0):
        drawn[made.cfg] = made.sample(200, given={"y": True}, seed=1)["a"].to_numpy()
    assert drawn[1e-9] == pytest.approx(drawn[0.0], abs=1e-3)
    assert np.abs(drawn[2.0] - drawn[0.0]).max() > 0.1


@pytest.mark.parametrize("rare", [1, 2, 7])
@pytest.mark.parametrize("learn", ["all", "minority"])
def test_a_class_smaller_than_its_clusters_is_no_fault(learn: str, rare: int) -> None:
    train = table(200).assign(y=np.arange(200) < rare)
    made = make("ou", clusters=5, learn=learn, **QUICK | {"steps": 10}).fit(train, target="y", seed=0)
    assert 1 <= len(made.sizes_) - 1 <= min(rare, 5)
    assert made.sample(30, given={"y": True}, seed=0)["y"].all()
    assert made.sample(200, seed=0)["y"].sum() == rare


def test_a_class_that_train_lacks_is_refused() -> None:
    made = make("ou", **QUICK | {"steps": 10}).fit(table(100).assign(y=False), target="y", seed=0)
    assert not made.sample(50, seed=0)["y"].any()
    with pytest.raises(Unsupported, match="train has no subject with y = True"):
        made.sample(5, given={"y": True}, seed=0)


def test_choices_are_checked() -> None:
    assert state.count(make("ou", steps=5, net="published").fit(table(100), target="y", seed=0)) > 10_000
    with pytest.raises(ValueError, match="net = 'unet' is not known; known: residual, published"):
        make("ou", net="unet").fit(table(100), target="y", seed=0)
    with pytest.raises(ValueError, match="amount = 'c' is no number column; known: a, b"):
        make("ou", net=NETS[1], amount="c").fit(table(100), target="y", seed=0)


# --- clusters ---


def test_clusters_find_what_is_apart() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [30, 50, 7])
    x = 8 * np.eye(3)[truth] @ rng.normal(size=(3, 12)) + rng.normal(size=(87, 12))
    found = clusters(x, 3, seed=0)
    assert len(set(zip(truth, found, strict=True))) == 3
    assert (clusters(x, 3, seed=0) == found).all()
    assert set(clusters(x[:4], 9, seed=0)) <= set(range(4))
    assert clusters(np.ones((6, 2)), 3, seed=0).tolist() == [0] * 6
    with pytest.raises(ValueError, match="unknown embedding 'tsne'; known: pca, umap"):
        clusters(x, 3, embed="tsne", seed=0)


@pytest.mark.skipif(find_spec("umap") is not None, reason="umap-learn is here: what is said without it cannot be seen")
def test_umap_says_what_to_install() -> None:
    with pytest.raises(Unsupported, match=r'pip install "synth-health-bench\[umap\]"'):
        clusters(np.eye(9), 2, embed="umap", seed=0)


@pytest.mark.skipif(find_spec("umap") is None, reason='no umap-learn here: pip install -e ".[umap]"')
@pytest.mark.filterwarnings("ignore")  # umap's own: it warns that a seed turns its threads off
def test_umap_finds_what_is_apart() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1], 60)
    x = 20.0 * truth[:, None] + rng.normal(size=(120, 8))
    assert len(set(zip(truth, clusters(x, 2, embed="umap", seed=0), strict=True))) == 2
