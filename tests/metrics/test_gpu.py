"""Neighbours and kernels on the GPU give what they give on the CPU."""

import numpy as np
import pytest

from metrics import pairwise

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not pairwise.gpu(), reason="no NVIDIA GPU here")]


@pytest.mark.parametrize("same", [True, False])
def test_neighbours(same: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    b = rng.normal(size=(3_000, 40)).astype(np.float32)
    a = b if same else rng.normal(size=(2_000, 40)).astype(np.float32)
    on_gpu = pairwise.neighbours(a, b, 5, same=same)
    monkeypatch.setattr(pairwise, "gpu", lambda: False)
    on_cpu = pairwise.neighbours(a, b, 5, same=same)
    assert on_gpu[0] == pytest.approx(on_cpu[0], abs=1e-6)
    assert (on_gpu[1] == on_cpu[1]).mean() > 0.999


def test_kernel_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2_000, 20)), rng.normal(size=(2_500, 20))
    group = np.arange(2_000) % 7
    on_gpu = [pairwise.kernel_sums(a, x, 0.02, group, 7) for x in (a, b)]
    monkeypatch.setattr(pairwise, "gpu", lambda: False)
    for gpu, cpu in zip(on_gpu, [pairwise.kernel_sums(a, x, 0.02, group, 7) for x in (a, b)], strict=True):
        assert gpu == pytest.approx(cpu, rel=1e-5)
