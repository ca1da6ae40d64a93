"""Speed of the diffusion generators: a step against the network alone, against the textbook form, and its growth."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from test_speed import seconds
from torch import nn

from generators import make
from generators.diffusion import multinomial as mn
from generators.diffusion.multinomial import Kernel
from generators.diffusion.nets import CodeTransformer
from generators.diffusion.places import Places, Process

D, B = 500, 256


def setting(noise: str) -> tuple[nn.Module, Process, tuple[torch.Tensor, ...], Kernel, torch.Tensor]:
    rng = np.random.default_rng(0)
    tokens = (rng.random((B, D)) < 0.03).astype(np.int64)
    places = Places.fit(tokens, np.full(D, 2), noise=noise, schedule="cosine")
    process, data = places.on(torch.device("cpu")), places.split(tokens)
    t = torch.linspace(0.05, 0.95, B)
    return make("ehr-d3pm", noise=noise)._net(places), process, data, Kernel.between(t - 1e-3, t, "cosine"), t


@pytest.mark.parametrize("noise", ["absorbing", "marginal"])
def test_a_training_step_against_its_network(benchmark, noise: str) -> None:
    """Noising, posterior, loss, optimizer and average beside the network's own forward and backward."""
    net, process, (x2, x), kernel, t = setting(noise)
    made = make("ehr-d3pm", noise=noise, steps=40)
    dice = torch.Generator().manual_seed(0)
    xt2, xt = process.noised(x2, x, kernel, dice)

    def alone() -> None:
        for _ in range(40):
            net.zero_grad()
            out2, _, flags = net(xt2, xt, t)
            (out2.square().mean() + flags.square().mean()).backward()

    whole = benchmark(lambda: made._train(net, process.places, (x2, x), 0, lambda step, **v: None))
    assert whole
    ratio = benchmark.stats["min"] / seconds(alone)
    benchmark.extra_info["ratio"] = ratio
    print(f"\n{noise}: a training step takes {ratio:.2f} of its network's forward and backward")
    assert ratio < 1.4


def test_a_sampling_step_against_its_network(benchmark) -> None:
    net, process, (x2, x), kernel, t = setting("absorbing")
    dice = torch.Generator().manual_seed(0)
    xt2, xt = process.noised(x2, x, kernel, dice)

    @torch.no_grad()
    def step() -> None:
        out2, out = net.net(xt2, xt, t)
        process.step(*process.beliefs(out2, out, xt2, xt, kernel, skip=True), xt2, xt, kernel, dice)

    with torch.no_grad():
        alone = seconds(lambda: net.net(xt2, xt, t), times=20)
    benchmark(step)
    ratio = benchmark.stats["min"] / alone
    benchmark.extra_info["ratio"] = ratio
    print(f"\na sampling step takes {ratio:.2f} of its network's forward")
    assert ratio < 1.4


def textbook(u: torch.Tensor, x0: torch.Tensor, xt: torch.Tensor, at: Kernel, pi: torch.Tensor) -> torch.Tensor:
    """KL(q(xs | xt, x0) || sum over x0' of q(xs | xt, x0') p(x0' | xt)) with its (b, d, k, k) written out."""
    k = pi.shape[1]
    eye = torch.eye(k)
    here = torch.nn.functional.one_hot(xt, k).float()
    back = at.a_step[..., None] * here + at.b_step[..., None] * pi.gather(1, xt.T).T[..., None]  # q(xt | xs) (b, d, k)
    forth = at.a_s[..., None, None] * eye + at.b_s[..., None, None] * pi[:, None, :]  # (b, d, x0, xs)
    post = back[:, :, None, :] * forth
    post = post / post.sum(-1, keepdim=True).clamp(min=1e-12)  # q(xs | xt, x0')
    like = at.a_t[..., None] * here + at.b_t[..., None] * pi.gather(1, xt.T).T[..., None]
    belief = torch.softmax(u, -1) * like
    belief = belief / belief.sum(-1, keepdim=True).clamp(min=1e-12)
    guess = (belief[..., None] * post).sum(2)
    true = post.gather(2, x0[..., None, None].expand(-1, -1, 1, k))[:, :, 0]
    return (true * (true.clamp(min=1e-12).log() - guess.clamp(min=1e-12).log())).sum(-1)


def test_loss_against_the_textbook_form(benchmark) -> None:
    """Noising, posterior and loss at k = 32, 100 places: time, and the largest memory torch holds at once."""
    k, d = 32, 100
    dice = torch.Generator().manual_seed(0)
    pi = torch.softmax(torch.randn(d, k, generator=dice), -1)
    x0 = torch.randint(k, (B, d), generator=dice)
    u0 = torch.randn(B, d, k, generator=dice)
    t = torch.linspace(0.05, 0.95, B)
    at = Kernel.between(t - 1e-3, t, "cosine")

    def run(loss: Callable[..., torch.Tensor]) -> torch.Tensor:
        u = u0.clone().requires_grad_()
        value = loss(u, x0, mn.noised(x0, at, pi, torch.Generator().manual_seed(1)), at, pi)
        value.mean().backward()
        return value.detach()

    torch.testing.assert_close(run(mn.kl), run(textbook), atol=1e-3, rtol=1e-2)
    mine = benchmark(lambda: run(mn.kl))
    assert mine.shape == (B, d)
    faster = seconds(lambda: run(textbook)) / benchmark.stats["min"]
    smaller = held(lambda: run(textbook)) / held(lambda: run(mn.kl))
    benchmark.extra_info |= {"faster": faster, "smaller": smaller}
    print(f"\n{faster:.1f} times as fast, {smaller:.1f} times as small as the textbook form")
    assert faster > 3
    assert smaller > 4


def held(run: Callable[[], object]) -> float:
    """The most bytes of tensors alive at once."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as prof:
        run()
    now = most = 0
    for event in sorted(prof.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return float(most)


def test_linear_attention_is_linear_in_places(benchmark) -> None:
    """A step of the transformer with Linformer attention, d = 250 to 2,000 at one code a token."""
    found = {}
    for d in (250, 500, 1_000, 2_000):
        net = CodeTransformer(d, 0, 1, hides=True, width=32, depth=1, dropout=0.0, heads=2, rank=32, together=1)
        x2, x, t = torch.zeros(16, d), torch.zeros(16, 0, dtype=torch.int64), torch.rand(16)

        def step(net: nn.Module = net, x2: torch.Tensor = x2, x: torch.Tensor = x, t: torch.Tensor = t) -> None:
            net.zero_grad()
            net(x2, x, t)[0].square().mean().backward()

        found[d] = seconds(step, times=5) if d < 2_000 else 0.0
        if d == 2_000:
            benchmark(step)
            found[d] = benchmark.stats["min"]
    power = np.polyfit(np.log(list(found)), np.log(list(found.values())), 1)[0]
    benchmark.extra_info["power"] = power
    print(f"\ncost grows as d^{power:.2f}: " + ", ".join(f"{d}: {1e3 * s:.0f} ms" for d, s in found.items()))
    assert power < 1.25


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")
@pytest.mark.parametrize("net", ["mlp", "transformer"])
def test_a_gpu_at_1800_codes(benchmark, net: str) -> None:
    """Training steps a second at d = 1,800, batch 1,024: share of the card's own matrix products, peak memory."""
    d, b, steps = 1_800, 1_024, 50
    rng = np.random.default_rng(0)
    tokens = (rng.random((4 * b, d)) < 0.01).astype(np.int64)
    made = make("ehr-d3pm", net=net, steps=steps, batch=b, width=512 if net == "mlp" else 128)
    places = Places.fit(tokens, np.full(d, 2), noise="absorbing", schedule="cosine")
    model = made._net(places)
    a = torch.randn(8_192, 8_192, device="cuda", dtype=torch.bfloat16)

    def product() -> None:
        torch.mm(a, a)
        torch.cuda.synchronize()

    ceiling = 2 * 8_192**3 / seconds(product, times=10)
    torch.cuda.reset_peak_memory_stats()
    benchmark(lambda: made._train(model, places, places.split(tokens), 0, lambda step, **v: None))
    per_row = sum(p.numel() for p in model.parameters()) if net == "mlp" else 12 * 128**2 * d * made.depth
    share = 6 * per_row * b * steps / benchmark.stats["min"] / ceiling
    memory = torch.cuda.max_memory_allocated() / 2**30
    found = {"rows_per_s": b * steps / benchmark.stats["min"], "share_of_ceiling": share, "peak_gib": memory}
    benchmark.extra_info |= found
    print(f"\n{net}: " + ", ".join(f"{k} {v:.3g}" for k, v in found.items()))
    assert memory < 60
