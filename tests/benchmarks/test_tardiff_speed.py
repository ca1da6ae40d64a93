"""Speed of TarDiff: guided against unguided sampling, J of a batch against a loop, a U-Net told against untold."""

import numpy as np
import pytest
import torch
from test_speed import seconds

from bench.datasets import open_dataset
from generators import make
from generators.diffusion import influence as inf
from generators.diffusion.timesnet import TimesNet
from generators.diffusion.unet import UNet


@pytest.mark.parametrize("dataset", ["sim-icu[rows=600]"])
def test_guided_against_unguided_sampling(benchmark, dataset: str) -> None:
    data = open_dataset(dataset, None).load()
    made = make("tardiff", steps=20, calibrate=False)  # the CPU preset's network; what it has learned costs the same
    made.fit(data.table, target=data.roles.target, static=data.roles.static, seed=0)
    y = np.arange(256) % 2
    plain = seconds(lambda: made.draw(y, seed=0), times=3)
    made.guidance_scale = 0.1
    benchmark.pedantic(lambda: made.draw(y, seed=0), rounds=3)
    ratio = benchmark.stats["min"] / plain
    benchmark.extra_info["ratio"] = ratio
    print(f"\nguided sampling takes {ratio:.2f} of unguided")
    assert ratio < 3


def test_j_of_a_batch_against_one_at_a_time(benchmark) -> None:
    net = TimesNet(20, 24, [1, 2, 3]).eval()
    dice = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 20, 24, generator=dice), torch.randint(2, (64,), generator=dice)
    g = inf.mean_gradient(net, x, y)

    def loop() -> torch.Tensor:
        out = []
        for i in range(len(x)):
            one = x[i : i + 1].clone().requires_grad_()
            slopes = torch.autograd.grad(inf.losses(net, one, y[i : i + 1])[0], list(net.parameters()),
                                         create_graph=True)  # fmt: skip
            total = sum((s * t).sum() for s, t in zip(slopes, g.values(), strict=True))
            out.append(torch.autograd.grad(total, one)[0])
        return torch.cat(out)

    mine = benchmark(lambda: inf.influence(net, g, x, y))
    torch.testing.assert_close(mine, loop(), atol=1e-6, rtol=1e-4)
    faster = seconds(loop, times=3) / benchmark.stats["min"]
    benchmark.extra_info["faster"] = faster
    print(f"\nJ of 64 subjects at once is {faster:.1f} times as fast")
    assert faster > 8


@pytest.mark.parametrize("length", [24, 48])
def test_a_training_step_against_the_same_network_untold(benchmark, length: int) -> None:
    x, t, y = torch.randn(64, 20, length), torch.rand(64), torch.arange(64) % 2

    def step(net: UNet) -> None:
        net.zero_grad()
        net(x, t, y).square().mean().backward()

    told, untold = (UNet(20, length, classes=c, width=32, blocks=1) for c in (2, 0))
    alone = seconds(lambda: step(untold), times=10)
    benchmark(lambda: step(told))
    ratio = benchmark.stats["min"] / alone
    benchmark.extra_info["ratio"] = ratio
    print(f"\nlength {length}: told time and class, a step takes {ratio:.2f}")
    assert ratio < 1.3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")
def test_a_gpu_samples(benchmark) -> None:
    """Samples a second of the published network, guided and unguided."""
    data = open_dataset("sim-icu[rows=600]", None).load()
    made = make("tardiff", steps=20, width=64, blocks=2, batch=256, calibrate=False)
    made.fit(data.table, target=data.roles.target, static=data.roles.static, seed=0)
    y = np.arange(4_096) % 2
    found = {"unguided_per_s": len(y) / seconds(lambda: made.draw(y, seed=0), times=3)}
    made.guidance_scale = 0.1
    benchmark.pedantic(lambda: made.draw(y, seed=0), rounds=3)
    found["guided_per_s"] = len(y) / benchmark.stats["min"]
    benchmark.extra_info |= found
    print("\n" + ", ".join(f"{k} {v:,.0f}" for k, v in found.items()))
    assert found["guided_per_s"] > found["unguided_per_s"] / 3
