"""Diffusion on a GPU: fits and samples there obey the law and learn what they learn on a CPU; its own forms of products
give what the CPU's give."""

import numpy as np
import pytest
import torch

from bench.datasets import open_dataset
from bench.datasets.law import check_like
from generators import make
from generators.diffusion.nets import AttentionBlock, CodeTransformer, read_alone, spread_alone

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")

SETTINGS = {
    "ehr-d3pm mlp": ("ehr-d3pm", {"steps": 400}),
    "ehr-d3pm marginal": ("ehr-d3pm", {"steps": 400, "noise": "marginal", "guidance": "langevin"}),
    "ehr-d3pm transformer": ("ehr-d3pm", {"steps": 200, "net": "transformer", "width": 64}),
    "ehr-d3pm full attention": ("ehr-d3pm", {"steps": 200, "net": "transformer", "width": 64, "rank": 0}),
    "healthforge": ("healthforge", {"ae_steps": 400, "steps": 400, "texts": 100}),
}


@gpu
@pytest.mark.gpu
@pytest.mark.parametrize("setting", SETTINGS)
def test_fits_and_samples_on_a_gpu(setting: str) -> None:
    name, params = SETTINGS[setting]
    data = open_dataset("sim-ehr[codes=40,rows=2000]", None).load()
    made = make(name, **params).fit(data.table, target="died", describe=data.roles.describe, seed=0)
    drawn = made.sample(1_000, seed=1)
    check_like(drawn, data.table, 1_000, what="samples")
    codes = list(data.roles.codes)
    assert np.abs(drawn[codes].mean() - data.table[codes].mean()).max() < 0.08
    assert made.sample(30, given={"died": True}, seed=2)["died"].all()
    if name == "healthforge":
        assert len(made.sample(5, prompts=["elderly woman with heart failure"], seed=3)) == 5


# --- products that take another form on a GPU ---


def slopes(value: torch.Tensor, *by: torch.Tensor) -> list[torch.Tensor]:
    return [value.detach(), *torch.autograd.grad(value.square().sum(), by)]


def test_groups_of_one_place_are_spread_and_read_as_by_the_products() -> None:
    dice = torch.Generator().manual_seed(0)
    step, latent, out = (
        torch.randn(shape, generator=dice, requires_grad=True) for shape in ((9, 1, 4), (5, 9, 4), (9, 1, 4))
    )
    has = (torch.rand(5, 9, 1, generator=dice) < 0.5).float()
    whole = torch.einsum("bgo,gow->bgw", has, step), torch.einsum("bgw,gow->bgo", latent, out)
    torch.testing.assert_close(slopes(spread_alone(has, step), step), slopes(whole[0], step))
    torch.testing.assert_close(slopes(read_alone(latent, out), latent, out), slopes(whole[1], latent, out))


def test_keys_and_values_of_projected_tokens_are_projected_keys_and_values() -> None:
    torch.manual_seed(0)
    block = AttentionBlock(16, 20, 2, 6, 0.0)
    x = torch.randn(3, 20, 16)
    assert block.project is not None
    q, k, v = block.qkv(x).chunk(3, dim=-1)
    plain = torch.cat([q, block.project[0] @ k, block.project[1] @ v], dim=1)
    quick = torch.cat(block.projected(x, block.project), dim=1)
    by = (block.project, block.qkv.weight, block.qkv.bias)
    torch.testing.assert_close(slopes(quick, *by), slopes(plain, *by), rtol=1e-4, atol=1e-4)


@gpu
@pytest.mark.gpu
@pytest.mark.parametrize("together", [1, 3])
def test_a_transformer_says_on_a_gpu_what_it_says_on_a_cpu(together: int) -> None:
    torch.manual_seed(0)
    net = CodeTransformer(
        40, 3, 5, hides=True, width=32, depth=2, dropout=0.0, heads=4, rank=8, together=together
    ).eval()  # fmt: skip
    torch.nn.init.normal_(net.head.out2)
    x2, x, t = torch.randint(3, (6, 40)).float(), torch.randint(6, (6, 3)), torch.rand(6)
    here = net(x2, x, t)
    there = net.cuda()(x2.cuda(), x.cuda(), t.cuda())
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(b.cpu(), a, rtol=1e-3, atol=1e-3)
