"""The mathematics of the discrete and the latent diffusion: processes, posteriors, losses, samplers, guidance."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import brentq

from bench.datasets import open_dataset
from generators import make
from generators.base import Unsupported
from generators.diffusion import multinomial as mn
from generators.diffusion.autoencoder import Autoencoder, Likelihood, counted, so_many, weight_of_ones
from generators.diffusion.guidance import divergence, langevin
from generators.diffusion.multinomial import NOISES, SCHEDULES, Kernel
from generators.diffusion.nets import CodeTransformer, VectorDenoiser
from generators.diffusion.places import Places, ancestral, times
from generators.diffusion.process import logsnr_cosine, signal
from generators.diffusion.sampling import ddpm_ancestral
from generators.encode import Feature, Matrix

CPU = torch.device("cpu")
JOINT = np.array([[0.55, 0.05], [0.1, 0.3]])  # p(x1, x2) of two dependent codes


def kernel(s: float, t: float, b: int = 1, schedule: str = "cosine") -> Kernel:
    return Kernel.between(torch.full((b,), s), torch.full((b,), t), schedule)


def tables(k: int, d: int, b: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    dice = torch.Generator().manual_seed(seed)
    pi = torch.softmax(torch.randn(d, k, generator=dice), -1)
    u = 2 * torch.randn(b, d, k, generator=dice)
    x0, xt = (torch.randint(k, (b, d), generator=dice) for _ in range(2))
    return pi, u, x0, xt


def chain(a: float, pi: torch.Tensor) -> torch.Tensor:
    """q(x_t = j | x_s = i) (k, k) where the share a of x_s is left."""
    return a * torch.eye(len(pi), dtype=torch.float64) + (1 - a) * pi.double().expand(len(pi), -1)


def brute(pi: torch.Tensor, u: torch.Tensor, x0: int, xt: int, s: float, t: float) -> tuple[torch.Tensor, float]:
    """p(xs | xt) and the KL of a step by Bayes' rule, every sum written out, in double precision."""
    a_s, a_t = np.cos(s * np.pi / 2) ** 2, np.cos(t * np.pi / 2) ** 2
    step = a_t / a_s
    posteriors = [chain(step, pi)[:, xt] * chain(a_s, pi)[i] for i in range(len(pi))]
    posteriors = [p / p.sum() for p in posteriors]
    belief = torch.softmax(u.double(), -1) * chain(a_t, pi)[:, xt]
    belief = belief / belief.sum()
    guess = sum(b * p for b, p in zip(belief, posteriors, strict=True))
    true = posteriors[x0]
    return guess, float((true * (true.clamp(min=1e-30).log() - guess.log())).sum())


# --- multinomial diffusion ---


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_kernel_composes(schedule: str) -> None:
    whole, first, second = kernel(0, 0.7, 1, schedule), kernel(0, 0.3, 1, schedule), kernel(0.3, 0.7, 1, schedule)
    assert float(first.a_t * second.a_step) == pytest.approx(float(whole.a_t), rel=1e-6)
    assert float(whole.a_t + whole.b_t) == pytest.approx(1, abs=1e-6)
    assert float(kernel(0, 1, 1, schedule).a_t) == 0
    assert float(kernel(0, 1e-3, 1, schedule).b_t) > 0  # float32 alone would lose it for the cosine


def test_forward_marginals_are_those_of_the_chain() -> None:
    pi, _, _, _ = tables(4, 1, 1)
    grid = torch.linspace(0, 0.6, 31)
    walked = torch.eye(4, dtype=torch.float64)
    for s, t in pairwise(grid.tolist()):
        walked = walked @ chain(float(kernel(s, t).a_step), pi[0])
    closed = chain(float(kernel(0, 0.6).a_t), pi[0])
    torch.testing.assert_close(walked, closed, atol=1e-6, rtol=0)
    n, dice = 200_000, torch.Generator().manual_seed(0)
    at = kernel(0, 0.6, n)
    drawn = mn.noised(torch.full((n, 1), 2), at, pi, dice)
    share = torch.bincount(drawn[:, 0], minlength=4).double() / n
    torch.testing.assert_close(share, closed[2], atol=5e-3, rtol=0)
    ones = mn.noised2(torch.ones(n, 1), at, pi[:, 1], dice).mean()
    assert float(ones) == pytest.approx(float(at.a_t[0] + at.b_t[0] * pi[0, 1]), abs=5e-3)


@pytest.mark.parametrize(("s", "t"), [(0.499, 0.5), (0.2, 0.9), (0.0, 0.001), (0.0, 1.0)])
def test_posterior_and_loss_are_bayes(s: float, t: float) -> None:
    pi, u, x0, xt = tables(5, 3, 6)
    at = kernel(s, t, 6)
    found, kl = mn.posterior(u, xt, at, pi), mn.kl(u, x0, xt, at, pi)
    torch.testing.assert_close(found.sum(-1), torch.ones(6, 3))
    for i in range(6):
        for j in range(3):
            guess, value = brute(pi[j], u[i, j], int(x0[i, j]), int(xt[i, j]), s, t)
            torch.testing.assert_close(found[i, j].double(), guess, atol=1e-5, rtol=1e-4)
            assert float(kl[i, j]) == pytest.approx(value, rel=1e-3, abs=1e-4)


def test_two_levels_are_the_general_form() -> None:
    _, u, x0, xt = tables(2, 7, 5)
    pi2 = torch.linspace(1e-3, 0.9, 7)
    pi, at = torch.stack([1 - pi2, pi2], -1), kernel(0.3, 0.35, 5)
    u2 = u[..., 1] - u[..., 0]
    torch.testing.assert_close(
        torch.sigmoid(mn.posterior2(u2, xt.float(), at, pi2)), mn.posterior(u, xt, at, pi)[..., 1], atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(
        mn.kl2(u2, x0.float(), xt.float(), at, pi2), mn.kl(u, x0, xt, at, pi), atol=1e-5, rtol=1e-3
    )


def test_the_known_value_of_a_rare_code() -> None:
    """x0 = 0, xt = 1, pi = .01, step .9, alpha_bar_s .5: xs = 0 has .181 (.956 with pi itself in the left factor)."""
    at = Kernel(*(torch.tensor([[v]]) for v in (0.5, 0.5, 0.45, 0.55, 0.9, 0.1)))
    found = torch.sigmoid(mn.posterior2(torch.tensor([[-60.0]]), torch.tensor([[1.0]]), at, torch.tensor([0.01])))
    assert 1 - float(found) == pytest.approx(0.181, abs=5e-4)


@pytest.mark.parametrize("noise", NOISES)
def test_a_perfect_denoiser_of_a_certain_x0_has_no_loss(noise: str) -> None:
    tokens = np.array([[0, 1, 2, 0, 4]] * 40)
    places = Places.fit(tokens, np.array([2, 2, 3, 4, 5]), noise=noise, schedule="cosine")
    process = places.on(CPU)
    x2, x = places.split(tokens)
    dice = torch.Generator().manual_seed(0)
    t = torch.linspace(0.05, 1, 40)
    at = Kernel.between(t - 0.04, t, "cosine")
    xt2, xt = process.noised(x2, x, at, dice)
    sure2 = 40 * (2 * x2 - 1)
    sure = torch.full((*x.shape, 5), -40.0).scatter(-1, x[..., None], 40.0)
    state = (x2, x, xt2, xt, at)
    assert float(process.loss(sure2, sure, *state).abs().max()) < 1e-4
    assert float(process.cross_entropy(sure2, sure, *state).abs().max()) < 1e-4
    wrong = process.loss(-sure2, -sure, *state)
    assert float(wrong.min()) >= 0
    assert float(wrong.max()) > 1


def true_beliefs(x2: torch.Tensor, at: Kernel, pi2: torch.Tensor) -> torch.Tensor:
    """log p(x0_j = 1 | the other code at time t) - log p(x0_j = 0 | it), from JOINT."""
    p = torch.from_numpy(JOINT)
    like = torch.stack(  # q(xt_j | x0_j = i) (b, 2 codes, i)
        [(at.a_t * (x2 == i) + at.b_t * torch.where(x2 > 0, pi2, 1 - pi2)) for i in (0, 1)], -1
    ).double()
    first = like[:, 1] @ p.T  # (b, levels of code 1)
    second = like[:, 0] @ p
    both = torch.stack([first, second], 1)
    return (both[..., 1].log() - both[..., 0].log()).float()


def law_of_chain(visited: np.ndarray, pi2: torch.Tensor) -> np.ndarray:
    """The exact law of (x1, x2) at time 0 when the chain visits these times and the denoiser is the true one."""
    states = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    p = torch.stack([1 - pi2, pi2], 1).double()
    law = torch.tensor([p[0, int(a)] * p[1, int(b)] for a, b in states])
    for t, s in pairwise(visited.tolist()):
        at = Kernel.between(torch.full((4,), s), torch.full((4,), t), "cosine")
        one = torch.sigmoid(mn.posterior2(true_beliefs(states, at, pi2), states, at, pi2)).double()
        move = torch.stack([torch.where(to > 0, one, 1 - one).prod(1) for to in states], 1)
        law = law @ move
    return law.reshape(2, 2).numpy()


@pytest.mark.parametrize("noise", ["uniform", "marginal"])
def test_total_variation_falls_like_one_over_t(noise: str) -> None:
    pi2 = torch.tensor([0.5, 0.5]) if noise == "uniform" else torch.from_numpy(np.array([0.4, 0.35], np.float32))
    tv = {n: 0.5 * np.abs(law_of_chain(times(n, n), pi2) - JOINT).sum() for n in (10, 100, 1_000)}
    assert tv[1_000] < 1e-3
    assert tv[10] / tv[100] == pytest.approx(10, rel=0.3)
    assert tv[100] / tv[1_000] == pytest.approx(10, rel=0.3)


@pytest.mark.parametrize("noise", NOISES)
def test_jumps_equal_steps_in_law_for_one_code(noise: str) -> None:
    """With the true belief, prior odds, any grid of times ends in the law of x0; by 100,000 draws of the sampler."""
    places = Places(np.array([0]), np.zeros(0, int), np.array([0.2], np.float32), np.zeros((0, 1), np.float32), noise,
                    "cosine")  # fmt: skip
    process = places.on(CPU)
    for steps in (1, 3, 50):
        dice = torch.Generator().manual_seed(steps)
        belief = lambda x2, x, t: (process.prior2.expand_as(x2), torch.zeros(len(x2), 0, 1))  # noqa: E731
        x2, _ = ancestral(belief, process, 100_000, times(steps, 50), dice=dice)
        assert float(x2.mean()) == pytest.approx(0.2, abs=5e-3)


def test_absorbing_noise_draws_a_joint_law() -> None:
    places = Places(np.array([0, 1]), np.zeros(0, int), np.array([0.4, 0.35], np.float32),
                    np.zeros((0, 1), np.float32), "absorbing", "cosine")  # fmt: skip
    p = torch.from_numpy(JOINT)

    def belief(x2: torch.Tensor, x: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        like = torch.stack([((x2 == i) | (x2 == 2)).double() for i in (0, 1)], -1)
        both = torch.stack([like[:, 1] @ p.T, like[:, 0] @ p], 1)
        return (both[..., 1].log() - both[..., 0].log()).float(), torch.zeros(len(x2), 0, 1)

    def held(x2: torch.Tensor, x: torch.Tensor, at: Kernel | None) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.cat([torch.ones(len(x2), 1), x2[:, 1:]], 1), x

    n, dice = 50_000, torch.Generator().manual_seed(0)
    x2, _ = ancestral(belief, places.on(CPU), n, times(100, 1_000), dice=dice)
    drawn = np.array([[float(((x2[:, 0] == i) & (x2[:, 1] == j)).float().mean()) for j in (0, 1)] for i in (0, 1)])
    assert 0.5 * np.abs(drawn - JOINT).sum() < 0.01
    x2, _ = ancestral(belief, places.on(CPU), n, times(100, 1_000), dice=dice, known=held)
    assert float(x2[:, 1].mean()) == pytest.approx(JOINT[1, 1] / JOINT[1].sum(), abs=0.01)


def test_times_run_from_the_end_to_zero() -> None:
    assert times(4, 1_000).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert len(times(5_000, 1_000)) == 1_001


# --- guidance ---


def test_divergence_is_kl_from_the_guided_to_the_start() -> None:
    dice = torch.Generator().manual_seed(0)
    a2, b2 = (torch.randn(3, 4, generator=dice) for _ in range(2))
    a, b = (torch.randn(3, 2, 5, generator=dice) for _ in range(2))
    bernoulli, categorical = torch.distributions.Bernoulli, torch.distributions.Categorical
    kl = torch.distributions.kl_divergence
    expected = kl(bernoulli(logits=a2), bernoulli(logits=b2)).sum(1)
    expected = expected + kl(categorical(logits=a), categorical(logits=b)).sum(1)
    torch.testing.assert_close(divergence(a2, a, b2, b), expected, atol=1e-4, rtol=1e-4)


TIMES = (0.95, 0.5, 0.1, 0.02)


def bayes(u: torch.Tensor, pi: torch.Tensor, xt: torch.Tensor, t: float) -> torch.Tensor:
    """p(x0 = j | xt) (b, k) of one place from log-beliefs u (b, k), in double precision: exp(u_j) q(xt | x0 = j)."""
    weight = torch.softmax(u.double(), -1) * chain(float(np.cos(t * np.pi / 2) ** 2), pi).T[xt]
    return weight / weight.sum(-1, keepdim=True)


def by_definition(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """KL(p || q) (b,) of distributions (b, k)."""
    return (p * (p.log() - q.log())).sum(-1)


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("t", TIMES)
def test_the_divergence_of_guidance_is_that_of_posteriors(t: float, skip: bool) -> None:
    """KL(p(x0 | y, xt) || p(x0 | z, xt)) of random logits under uniform noise equals the sum over levels by Bayes."""
    dice, b = torch.Generator().manual_seed(0), 200
    tokens = np.stack([np.arange(b) % k for k in (2, 5, 2, 3)], axis=1)
    places = Places.fit(tokens, np.array([2, 5, 2, 3]), noise="uniform", schedule="cosine")
    process, at = places.on(CPU), kernel(0, t, b)
    x2, x = process.noised(*places.split(tokens), at, dice)
    outs = [(torch.randn(b, 2, generator=dice), torch.randn(b, 2, 5, generator=dice)) for _ in range(2)]
    expected = torch.zeros(b, dtype=torch.float64)
    for i in range(2):
        pairs, sets = [], []
        for out2, out in outs:
            pair, three = torch.stack([torch.zeros(b), out2[:, i]], 1), out[:, i, : (5, 3)[i]]
            if skip:
                share2, share = torch.from_numpy(places.share2)[i], torch.from_numpy(places.share)[i, : (5, 3)[i]]
                pair, three = pair + torch.stack([1 - share2, share2]).log(), three + share.log()
                pairs.append(bayes(pair, torch.full((2,), 0.5), x2[:, i].long(), t))
                sets.append(bayes(three, torch.full((len(share),), 1 / len(share)), x[:, i], t))
            else:  # the published form: the output is log p(x0 | xt) itself
                pairs.append(torch.softmax(pair.double(), -1))
                sets.append(torch.softmax(three.double(), -1))
        expected += by_definition(*pairs) + by_definition(*sets)
    posteriors = [process.x0_posterior(*process.beliefs(*out, x2, x, at, skip=skip), x2, x, at) for out in outs]
    found = divergence(*posteriors[0], *posteriors[1]).double()
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-5)


def test_a_place_in_sight_has_no_divergence() -> None:
    """Absorbing noise shows a level or nothing: beliefs about a level in sight do not count."""
    dice, tokens = torch.Generator().manual_seed(0), np.array([[0, 1, 2], [1, 1, 0], [1, 0, 1]])
    places = Places.fit(tokens, np.array([2, 2, 3]), noise="absorbing", schedule="cosine")
    process, at = places.on(CPU), kernel(0, 0.5, 3)
    x2, x = places.split(tokens)
    outs = [(torch.randn(3, 2, generator=dice), torch.randn(3, 1, 3, generator=dice)) for _ in range(2)]

    def gap(x2: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        posteriors = [process.x0_posterior(*process.beliefs(*out, x2, x, at, skip=True), x2, x, at) for out in outs]
        return divergence(*posteriors[0], *posteriors[1])

    assert (gap(x2, x) == 0).all()
    hidden2, hidden = torch.full_like(x2, 2.0), torch.full_like(x, 3)
    parts = gap(hidden2, x) + gap(x2, hidden)
    torch.testing.assert_close(gap(hidden2, hidden), parts)
    assert (parts > 0).all()


@pytest.mark.parametrize("t", TIMES)
def test_langevin_descends_the_divergence_of_posteriors(t: float, fraud_like: pd.DataFrame) -> None:
    """EHR-D3PM's guided beliefs equal those of the same steps whose KL is written out by Bayes' rule.

    The network has random weights: nothing is learned.
    """
    eta, lam, scale, steps, b = 0.2, 1.0, 2.0, 8, 64
    made = make("ehr-d3pm", steps=1, width=16, depth=1, noise="uniform", guidance="langevin", eta=eta, lam=lam, tau=0.0,
                guidance_scale=scale, inner=steps).fit(fraud_like, target="c", seed=0)  # fmt: skip
    net = made._net(made.places_).eval()
    dice = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for w in net.parameters():
            w.copy_(0.5 * torch.randn(w.shape, generator=dice))
    x2 = (torch.rand(b, 3, generator=dice) < 0.5).float()
    x = torch.zeros(b, 0, dtype=torch.int64)
    _, denoise = made._towards(net, made.places_.on(CPU), {0: 1}, b, dice)
    found, _ = denoise(x2, x, torch.tensor([t]))

    prior, half = torch.from_numpy(made.places_.share2).double().logit(), torch.full((2,), 0.5)

    def posterior(y: torch.Tensor) -> list[torch.Tensor]:
        u = net.net.head(y)[0].double() + prior
        return [bayes(torch.stack([torch.zeros(b), u[:, i]], 1), half, x2[:, i].long(), t) for i in range(3)]

    z = net.net.latent(x2, x, torch.tensor([t])).detach()
    y, start = z.clone(), [p.detach() for p in posterior(z)]
    for _ in range(steps):
        y.requires_grad_()
        kl = sum(by_definition(p, q) for p, q in zip(posterior(y), start, strict=True))
        energy = lam * kl - scale * torch.nn.functional.logsigmoid(net.flags(y)[:, 0])
        y = (y - eta * torch.autograd.grad(energy.sum(), y)[0]).detach()
    torch.testing.assert_close(found.double(), net.net.head(y)[0].double() + prior, atol=1e-3, rtol=1e-3)
    assert (y - z).abs().mean() > 0.02


@pytest.mark.parametrize("tau", [0.0, 0.5, 2.0])
def test_langevin_draws_from_a_known_energy_and_without_noise_only_descends(tau: float) -> None:
    """Energy k (y - m)^2 / 2: the chain's variance is tau / (k (1 - eta k / 2)), which is tau / k for small eta."""
    n, k, m, eta = 40_000, 4.0, 3.0, 0.05
    y = langevin(
        torch.full((n, 1), -1.0), lambda y: (y[:, :0], torch.zeros(n, 0, 1)), lambda y: -0.5 * ((y - m) ** 2).sum(1),
        scale=k, eta=eta, lam=1.0, tau=tau, steps=100, dice=torch.Generator().manual_seed(0),
    )  # fmt: skip
    variance = tau / (k * (1 - eta * k / 2))
    assert float(y.mean()) == pytest.approx(m, abs=1e-5 + 5 * (variance / n) ** 0.5)
    assert float(y.var()) == pytest.approx(variance, abs=1e-9, rel=5 * (2 / n) ** 0.5)


def test_the_default_guidance_draws_and_does_not_only_descend(fraud_like: pd.DataFrame) -> None:
    """Guided twice from one state, beliefs differ by default and are the same without noise."""
    made = make("ehr-d3pm", steps=1, width=16, depth=1, noise="uniform", guidance="langevin")
    made.fit(fraud_like, target="c", seed=0)
    net, dice = made._net(made.places_).eval(), torch.Generator().manual_seed(1)
    torch.nn.init.normal_(net.net.head.out.weight, std=0.2, generator=dice)
    state = (torch.ones(8, 3), torch.zeros(8, 0, dtype=torch.int64), torch.tensor([0.5]))

    def twice() -> list[torch.Tensor]:
        _, denoise = made._towards(net, made.places_.on(CPU), {0: 1}, 8, dice)
        return [denoise(*state)[0] for _ in range(2)]

    one, two = twice()
    assert (one - two).abs().mean() > 0.1
    made.tau = 0.0
    torch.testing.assert_close(*twice())


def guided(scale: float, lam: float, tau: float = 0.0, steps: int = 1_500, n: int = 1) -> torch.Tensor:
    """A latent that is its own logit, guided towards the code it stands for, from z = -1."""
    nothing = torch.zeros(n, 0, 1)
    return langevin(
        torch.full((n, 1), -1.0), lambda y: (y, nothing), lambda y: torch.nn.functional.logsigmoid(y).sum(1),
        scale=scale, eta=0.05, lam=lam, tau=tau, steps=steps, dice=torch.Generator().manual_seed(0),
    )  # fmt: skip


def test_langevin_finds_the_known_answer() -> None:
    """Where lam KL(Bern(y) || Bern(z)) - scale log sigmoid(y) is flat, lam sigmoid(y) (y - z) = scale."""
    for scale, lam in [(0.5, 1.0), (1.0, 1.0), (1.0, 3.0)]:
        root = brentq(lambda y, s=scale, g=lam: g * (y + 1) / (1 + np.exp(-y)) - s, -1, 10)
        assert float(guided(scale, lam)) == pytest.approx(root, abs=1e-3)


def test_guidance_grows_with_its_scale_and_shrinks_with_the_divergence() -> None:
    by_scale = [float(guided(s, 1.0)) for s in (0.0, 0.3, 1.0, 3.0, 10.0)]
    assert by_scale[0] == pytest.approx(-1.0)
    assert (np.diff(by_scale) > 0).all()
    assert (np.diff([float(guided(1.0, lam)) for lam in (0.3, 1.0, 3.0, 10.0)]) < 0).all()
    assert float(guided(1.0, 1.0, tau=0.1, steps=500, n=2_000).std()) > 0.1


@pytest.fixture(scope="module")
def fraud_like():
    """Two codes, c rare and e with it, and a third on its own; what is true of them is known."""
    rng = np.random.default_rng(0)
    c = rng.random(6_000) < 0.1
    e = rng.random(6_000) < np.where(c, 0.8, 0.1)
    other = rng.random(6_000) < 0.3
    return pd.DataFrame({"c": c, "e": e, "other": other}).rename_axis("subject")


QUICK = {"steps": 400, "width": 32, "depth": 2, "sample_steps": 40, "lr": 3e-3}


def test_clamping_gives_the_conditional_law(fraud_like: pd.DataFrame) -> None:
    made = make("ehr-d3pm", **QUICK, guidance="clamp").fit(fraud_like, target="c", seed=0)
    drawn = made.guide(4_000, {"c": True}, seed=1)
    assert drawn["c"].all()
    assert drawn["e"].mean() == pytest.approx(0.8, abs=0.06)
    assert drawn["other"].mean() == pytest.approx(0.3, abs=0.05)
    assert made.guide(4_000, {"c": False}, seed=1)["e"].mean() == pytest.approx(0.1, abs=0.04)


@pytest.mark.parametrize(
    ("guidance", "noise"), [("langevin", "uniform"), ("langevin", "marginal"), ("cfg", "absorbing")]
)
def test_guided_samples_meet_the_condition_more_often_as_the_scale_grows(
    fraud_like: pd.DataFrame, guidance: str, noise: str
) -> None:
    made = make("ehr-d3pm", **QUICK, guidance=guidance, noise=noise).fit(fraud_like, target="c", seed=0)
    rates, with_e = [], []
    for scale in (0.0, 0.3, 3.0) if guidance == "langevin" else (-1.0, -0.5, 0.0):
        made.guidance_scale = scale
        drawn = made.guide(2_000, {"c": True}, seed=1)
        rates.append(drawn["c"].mean())
        with_e.append(drawn["e"].mean())
    assert rates[0] == pytest.approx(0.1, abs=0.04)  # no guidance; for cfg the unconditional network alone
    assert (np.diff(rates) > 0.05).all()
    assert with_e[-1] > with_e[0] + 0.1
    assert made.sample(50, given={"c": True}, seed=2)["c"].all()


def test_classifier_free_guidance_of_scale_zero_is_the_conditional_network(fraud_like: pd.DataFrame) -> None:
    made = make("ehr-d3pm", **QUICK, guidance="cfg", guidance_scale=0.0).fit(fraud_like, target="c", seed=0)
    process, dice = made.places_.on(CPU), torch.Generator().manual_seed(5)
    net = made._net(made.places_)
    net.load_state_dict({k: torch.from_numpy(v) for k, v in made.weights_.items()})
    net.eval()

    def conditional(x2: torch.Tensor, x: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shown = torch.zeros_like(x2)
        shown[:, 0] = 1.0
        at = Kernel.between(torch.zeros_like(t), t, "cosine")
        return process.beliefs(*net.net(x2, x, t, shown), x2, x, at, skip=True)

    x2, x = ancestral(conditional, process, 300, times(made.sample_steps, made.total), dice=dice)
    drawn = made.guide(300, {"c": True}, seed=5)
    assert np.array_equal(drawn.to_numpy(), made.places_.join(x2, x) == 1)


def test_the_classifier_does_not_move_the_denoiser(fraud_like: pd.DataFrame) -> None:
    made = make("ehr-d3pm", **QUICK)
    tokens = fraud_like.to_numpy().astype(np.int64)
    places = Places.fit(tokens, np.array([2, 2, 2]), noise="absorbing", schedule="cosine")
    net = made._net(places)
    x2, x = places.split(tokens[:50])
    *_, flags = net(x2, x, torch.full((50,), 0.5))
    flags.sum().backward()
    assert net.classifier.weight.grad is not None
    assert all(p.grad is None for p in net.net.parameters())


def test_conditions_that_cannot_be(fraud_like: pd.DataFrame) -> None:
    table = fraud_like.assign(sex=pd.Categorical(["f", "m"] * 3_000))
    made = make("ehr-d3pm", **(QUICK | {"steps": 20})).fit(table, target="c", seed=0)
    assert (made.sample(40, given={"sex": "m"}, seed=0)["sex"] == "m").all()
    with pytest.raises(Unsupported, match="sex = x: known levels are f, m"):
        made.sample(5, given={"sex": "x"}, seed=0)
    with pytest.raises(ValueError, match="noise 'pink': expected one of uniform, marginal, absorbing"):
        make("ehr-d3pm", noise="pink").fit(fraud_like, target="c", seed=0)


# --- denoisers ---


@pytest.mark.parametrize(("rank", "together"), [(0, 1), (4, 1), (4, 8), (0, 3)])
def test_the_transformer_sees_every_place(rank: int, together: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = CodeTransformer(10, 2, 5, hides=True, width=16, depth=2, dropout=0.0, heads=2, rank=rank,
                              together=together)  # fmt: skip
        for p in net.head.parameters():
            torch.nn.init.normal_(p)
        x2, x, t = torch.randint(3, (4, 10)).float(), torch.randint(6, (4, 2)), torch.rand(4)
    out2, out = net(x2, x, t)
    assert out2.shape == (4, 10)
    assert out.shape == (4, 2, 5)
    for place in range(10):
        other = x2.clone()
        other[:, place] = (other[:, place] + 1) % 3
        assert not torch.allclose(net(other, x, t)[0], out2)
    assert not torch.allclose(net(x2, (x + 1) % 6, t)[0], out2)
    assert not torch.allclose(net(x2, x, t / 2)[0], out2)


def test_an_untrained_denoiser_says_what_train_does() -> None:
    """The skip: with the head at zero, samples are independent columns with train's shares."""
    data = open_dataset("sim-ehr[codes=20,rows=2000]", None).load()
    for net in ("mlp", "transformer"):
        made = make("ehr-d3pm", steps=1, lr=0.0, net=net, width=16, depth=1, heads=2, sample_steps=10).fit(
            data.table, target="died", seed=0
        )
        drawn = made.sample(2_000, seed=0)
        codes = list(data.roles.codes)
        gap = np.abs(drawn[codes].mean() - data.table[codes].mean())
        assert gap.max() < 0.04


def test_the_vector_denoiser_takes_no_place_for_granted() -> None:
    net = VectorDenoiser(6, 0, 1, hides=False, width=8, depth=1, dropout=0.0)
    out2, out = net(torch.zeros(3, 6), torch.zeros(3, 0, dtype=torch.int64), torch.rand(3))
    assert out2.shape == (3, 6)
    assert out.shape == (3, 0, 1)
    assert float(out2.detach().abs().max()) == 0


# --- HealthForge ---


def test_the_schedule_and_its_sampler_on_a_known_law() -> None:
    """With the exact denoiser of a Gaussian, the sampler's end has its mean and spread."""
    lams = logsnr_cosine(np.arange(200, -1, -1) / 200)[:-1]
    assert (np.diff(lams) > 0).all()
    mean, spread = 1.5, 0.6

    def exact(z: torch.Tensor, lam: float) -> torch.Tensor:
        alpha, sigma = (float(v) for v in signal(lam))
        gain = alpha * spread**2 / (alpha**2 * spread**2 + sigma**2)
        return mean + gain * (z - alpha * mean)

    dice = torch.Generator().manual_seed(0)
    x = ddpm_ancestral(exact, torch.randn(50_000, 1, generator=dice), lams, v=0.1, dice=dice)
    assert float(x.mean()) == pytest.approx(mean, abs=0.02)
    assert float(x.std()) == pytest.approx(spread, abs=0.03)


def test_likelihood_by_hand_and_decoding_in_train_units() -> None:
    data = open_dataset("sim-ehr[codes=12,rows=400]", None).load()
    view = Matrix.fit(data.table, scale="quantile")
    x = torch.from_numpy(view.transform(data.table))
    law = Likelihood(view.features, CPU)
    out = torch.zeros_like(x)
    groups = [f.stop - f.start for f in view.features if f.kind == "onehot"]
    binary = sum(f.kind == "binary" for f in view.features)
    expected = binary * np.log(2) + sum(np.log(g) for g in groups)
    number = [f.start for f in view.features if f.kind == "number"]
    gauss = (x[:, number] ** 2 / 2 + 0.5 * np.log(2 * np.pi)).sum(1)
    torch.testing.assert_close(law.nats(out, x, torch.zeros(x.shape[1])), expected + gauss, atol=1e-4, rtol=1e-5)

    sure = torch.where(x > 0.5, 30.0, -30.0)
    sure[:, number] = x[:, number]
    back = view.inverse(law.decoded(sure, torch.full((x.shape[1],), -9.0), None).numpy())
    pd.testing.assert_frame_equal(back, data.table.reset_index(drop=True).rename_axis("subject"))
    drawn = law.decoded(torch.zeros(20_000, x.shape[1]), torch.zeros(x.shape[1]), torch.Generator().manual_seed(0))
    assert float(drawn[:, law.binary].mean()) == pytest.approx(0.5, abs=0.01)
    for start, stop in law.groups:
        assert float(drawn[:, start:stop].sum(1).min()) == 1
    assert float(drawn[:, number].std()) == pytest.approx(1, abs=0.03)
    assert weight_of_ones(np.eye(4), [Feature(0, 1, "binary", "a"), Feature(1, 4, "onehot", "b")]) == 3


def test_the_autoencoder_learns_the_round_trip() -> None:
    data = open_dataset("sim-ehr[codes=12,rows=1500]", None).load()
    made = make("healthforge", ae_steps=600, steps=20, hidden=64, latent=32, tokens=4, jitter=0.05, ae_dropout=0.0,
                texts=0, lr=3e-3, width=32, sample_steps=20, count=False)  # fmt: skip
    made.fit(data.table, target="died", seed=0)
    x = made.view_.transform(data.table)
    net = Autoencoder(x.shape[1], hidden=64, latent=32, jitter=0.05, dropout=0.0)
    net.load_state_dict({k: torch.from_numpy(v) for k, v in made.ae_.items()})
    net.eval()
    with torch.no_grad():
        back = Likelihood(made.view_.features, CPU).decoded(net(torch.from_numpy(x)), net.log_spread, None).numpy()
    flags = [f.start for f in made.view_.features if f.kind == "binary"]
    assert (back[:, flags] == x[:, flags]).mean() > 0.99
    age = made.view_.inverse(back)["age"]
    assert np.abs(age - data.table["age"]).mean() < 5
    assert made.sample(500, seed=0)["age"].mean() == pytest.approx(data.table["age"].mean(), abs=8)


def test_so_many_flags_are_drawn_each_with_its_chance() -> None:
    dice = torch.Generator().manual_seed(0)
    p = torch.tensor([0.9, 0.6, 0.3, 0.15, 0.05])  # together 2
    drawn = so_many(torch.logit(p).expand(40_000, -1), torch.full((40_000,), 2), dice)
    assert (drawn.sum(1) == 2).all()
    assert (drawn.mean(0) - p).abs().max() < 4 * 0.5 / 200
    for spread, level in ((0.1, -8), (3, -5), (20, -10)):
        logits = spread * torch.randn(2_000, 60, generator=dice) + level
        count = torch.randint(0, 61, (2_000,), generator=dice)
        assert (so_many(logits, count, dice).sum(1) == count).all()


def test_the_number_of_flags_is_a_feature() -> None:
    """Where everyone has three codes of thirty, so have those drawn; flag by flag their number scatters."""
    rng = np.random.default_rng(0)
    codes = np.zeros((1_500, 30), dtype=bool)
    codes[np.arange(1_500)[:, None], rng.random((1_500, 30)).argsort(1)[:, :3]] = True
    table = pd.DataFrame(codes, columns=[f"c{j}" for j in range(30)], index=pd.RangeIndex(1_500, name="subject"))
    x, features = counted(Matrix.fit(table).transform(table), Matrix.fit(table).features)
    assert (features[-1].kind, features[-1].start, features[-1].stop) == ("count", 30, 34)
    assert (x[:, 33] == 1).all()
    small = {"ae_steps": 300, "steps": 100, "sample_steps": 10, "hidden": 32, "width": 16, "texts": 0}
    spreads = [
        make("healthforge", **small, count=count).fit(table, seed=0).sample(1_000, seed=1).sum(axis=1).std()
        for count in (True, False)
    ]
    assert spreads[0] < 0.5
    assert spreads[1] > 1
    assert counted(np.zeros((4, 1)), [Feature(0, 1, "number", "a")])[1] == [Feature(0, 1, "number", "a")]


def test_classes_and_prompts_of_healthforge() -> None:
    data = open_dataset("sim-ehr[codes=12,rows=600]", None).load()
    settings = {"ae_steps": 50, "steps": 50, "sample_steps": 5, "hidden": 16, "width": 16}
    made = make("healthforge", **settings, texts=60)
    made.fit(data.table, target="died", describe=data.roles.describe, seed=0)
    assert made.sample(300, seed=0)["died"].mean() == pytest.approx(data.table["died"].mean(), abs=0.01)
    assert made.guide(50, {"died": True}, seed=0)["died"].all()
    one = made.sample(20, prompts=["elderly woman with diabetes"], seed=0)
    assert len(one) == 20
    assert not one.equals(made.sample(20, prompts=["young man with asthma"], seed=0))
    many = made.sample(2, prompts=["elderly woman", "young man"], seed=0)
    assert len(many) == 2
    with pytest.raises(ValueError, match="got 2 prompts for 3 subjects: expected 1 or 3"):
        made.sample(3, prompts=["a", "b"], seed=0)
    deaf = make("healthforge", **settings, texts=0).fit(data.table, target="died", seed=0)
    with pytest.raises(Unsupported, match="texts=0"):
        deaf.sample(3, prompts=["a"], seed=0)
    with pytest.raises(ValueError, match="latent 16 cannot be cut into 5 tokens"):
        make("healthforge", tokens=5).fit(data.table, target="died", seed=0)
