"""Influence of a drawn subject on a downstream model's loss (TarDiff, arXiv:2504.17613, sec. 3): G and J.

With phi the weights of a classifier and l its loss, G = 1/|D| Σ_D grad_phi l over a guidance set D. A step of gradient
descent on a drawn subject (x, y) lowers the mean loss over D, to first order, by the learning rate times
<G, grad_phi l(x, y)>; J = grad_x of that product, so x + w J with w > 0 makes a subject more useful. (Algorithm 1; the
minus of the paper's Eq. 22 would make it less so.)
"""

import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call

Weights = dict[str, Tensor]

with warnings.catch_warnings():  # torch's, of its own code, when forward mode is used for the first time
    warnings.simplefilter("ignore", DeprecationWarning)
    with forward_ad.dual_level():
        forward_ad.make_dual(torch.zeros(1), torch.zeros(1))


def losses(net: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy (b,) of each subject."""
    return nn.functional.binary_cross_entropy_with_logits(net(x), y.to(x.dtype), reduction="none")


def mean_gradient(net: nn.Module, x: Tensor, y: Tensor, batch: int = 256) -> Weights:
    """G: the mean over subjects x (n, c, l), y (n,) of the gradient of the loss by each weight."""
    found = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for part, label in zip(x.split(batch), y.split(batch), strict=True):
        slopes = torch.autograd.grad(losses(net, part, label).sum(), list(net.parameters()), allow_unused=True)
        for total, slope in zip(found.values(), slopes, strict=True):
            if slope is not None:
                total += slope / len(x)
    return found


def gradient_norms(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The norm (n,) of each subject's own gradient by the weights."""
    norms = []
    for i in range(len(x)):
        slopes = torch.autograd.grad(losses(net, x[i : i + 1], y[i : i + 1]).sum(), list(net.parameters()))
        norms.append(torch.sqrt(sum((s.square().sum() for s in slopes), torch.zeros(()))))
    return torch.stack(norms)


def alignment(net: nn.Module, g: Weights, x: Tensor, y: Tensor) -> Tensor:
    """<G, grad_phi l> of the whole batch x (b, c, l), y (b,), summed; can be differentiated by x."""
    slopes = torch.autograd.grad(losses(net, x, y).sum(), list(net.parameters()), create_graph=True)
    return torch.stack([(s * at).sum() for s, at in zip(slopes, g.values(), strict=True)]).sum()


def influence(net: nn.Module, g: Weights, x: Tensor, y: Tensor) -> Tensor:
    """J (b, c, l): the gradient by x of <G, grad_phi l(x, y)>, of a whole batch at once.

    It is how the gradient by x changes as the weights move along G: one forward and one backward pass that carry their
    derivative along G (forward over reverse; torch's LayerNorm is wrong the other way round). A subject's loss knows
    only its own x (nets here have no batch normalisation), so the sum over the batch mixes none.
    """
    x = x.detach().requires_grad_()
    with forward_ad.dual_level(), torch.enable_grad():
        moving = {name: forward_ad.make_dual(p.detach(), g[name]) for name, p in net.named_parameters()}
        slope = torch.autograd.grad(losses(partial(functional_call, net, moving), x, y).sum(), x)[0]
        return forward_ad.unpack_dual(slope).tangent


def label_gradient(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The gradient (b, c, l) by x of log p(y | x): plain classifier guidance, the control that knows no G."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        return -torch.autograd.grad(losses(net, x, y).sum(), x)[0]
