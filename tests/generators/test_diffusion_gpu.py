"""Diffusion on a GPU: fits and samples there obey the law and learn what they learn on a CPU."""

import numpy as np
import pytest
import torch

from bench.datasets import open_dataset
from bench.datasets.law import check_like
from generators import make

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here"),
]

SETTINGS = {
    "ehr-d3pm mlp": ("ehr-d3pm", {"steps": 400}),
    "ehr-d3pm marginal": ("ehr-d3pm", {"steps": 400, "noise": "marginal", "guidance": "langevin"}),
    "ehr-d3pm transformer": ("ehr-d3pm", {"steps": 200, "net": "transformer", "width": 64}),
    "ehr-d3pm full attention": ("ehr-d3pm", {"steps": 200, "net": "transformer", "width": 64, "rank": 0}),
    "healthforge": ("healthforge", {"ae_steps": 400, "steps": 400, "texts": 100}),
}


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
