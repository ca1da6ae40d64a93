"""Training on a GPU: what a step needs is there before, nothing waits, and it trains without a compiler too."""

import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch._inductor.config
from torch import Tensor, nn

from bench.datasets import open_dataset
from bench.datasets.law import check_like
from generators import make
from generators.bart_nets import Loss, before
from generators.training import Rows, build, can_compile, flops, train, weights_of

HERE = "cuda" if torch.cuda.is_available() else "cpu"
gpu = pytest.mark.skipif(HERE == "cpu", reason="no NVIDIA GPU here")
BOTH = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, gpu])]
CPU = torch.device("cpu")


def noisy(net: nn.Module, rows: tuple[Tensor, ...], dice: torch.Generator) -> Tensor:
    """A loss that draws noise, so that it tells whether batches and noise come in the same order."""
    x, y = rows
    return (net(x + 0.1 * torch.randn(x.shape, generator=dice, device=x.device)) - y).square().mean()


def table(n: int = 300) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(0))
    return x, x @ torch.arange(12.0).view(6, 2)


def fitted(where: str, **settings: Any) -> tuple[list[tuple[float, float]], dict[str, np.ndarray]]:
    """What a small training logged, and its weights."""
    seen = list[tuple[float, float]]()
    net = build(lambda: nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.1), nn.SiLU(), nn.Linear(16, 2)), seed=1)
    net = train(
        net, noisy, table(), seed=2, steps=60, every=20, batch=32, where=where, **settings,
        log=lambda step, **v: seen.append((v["loss"], v["validation"])),
    )  # fmt: skip
    return seen, weights_of(net)


# --- data that stay on the device, and data that are sent ---


@pytest.mark.parametrize("where", BOTH)
@pytest.mark.parametrize("lengths", [None, torch.arange(300) % 6 + 1])
def test_data_sent_batch_by_batch_give_the_same_losses(where: str, lengths: Tensor | None) -> None:
    def padded(net: nn.Module, rows: tuple[Tensor, ...], dice: torch.Generator) -> Tensor:
        return noisy(net, (nn.functional.pad(rows[0], (0, 6 - rows[0].shape[1])), rows[1]), dice)

    def run(resident: bool) -> tuple[list[float], dict[str, np.ndarray]]:
        seen = list[float]()
        net = build(lambda: nn.Linear(6, 2), seed=1)
        net = train(
            net, padded, table(), lengths=lengths, seed=2, steps=40, every=5, lr=0.1, batch=32, resident=resident,
            where=where, log=lambda step, **v: seen.extend(v.values()),
        )  # fmt: skip
        return seen, weights_of(net)

    (stays, kept), (sent, other) = run(True), run(False)
    assert sent == pytest.approx(stays, rel=0 if where == "cpu" else 1e-3, abs=0)
    assert len(stays) == 16
    for name in kept:
        assert other[name] == pytest.approx(kept[name], rel=0 if where == "cpu" else 1e-3, abs=0)


@pytest.mark.parametrize("where", BOTH)
def test_a_batch_is_on_its_way_before_the_one_before_is_asked_for(where: str) -> None:
    taken = list[int]()

    def places() -> Iterator[Tensor]:
        for i in range(3):
            taken.append(i)
            yield torch.tensor([i, 2 * i])

    x, y = table()
    rows = Rows((x, y), torch.device(where), lengths=torch.arange(300) + 1, resident=False)
    for i, (first, second) in enumerate(rows.batches(places())):  # type: ignore[arg-type]
        assert taken == list(range(min(i + 2, 3)))
        assert first.device.type == where
        assert (first.cpu() == x[[i, 2 * i], : 2 * i + 1]).all()  # cut to the longest of the two
        assert (second.cpu() == y[[i, 2 * i]]).all()


@gpu
@pytest.mark.gpu
def test_data_that_fit_stay_on_the_gpu_and_others_do_not() -> None:
    free = torch.cuda.mem_get_info()[0]
    small = torch.zeros(10)
    assert Rows((small,), torch.device("cuda")).data[0].is_cuda
    large = torch.empty((free // 2,), dtype=torch.uint8, device="meta")
    assert not Rows((large,), torch.device("cuda")).resident


# --- the network compiled, and not ---


def test_a_compiler_that_fails_costs_a_line_in_the_log_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    torch._dynamo.reset()
    with torch._inductor.config.patch({"cpp.cxx": (None, "/no/such/compiler")}), caplog.at_level(logging.WARNING):
        broken = fitted("cpu", faster=True)
    assert [r.message.split(":")[0] for r in caplog.records] == ["not compiled, the network runs as it is"]
    plain = fitted("cpu")
    assert broken[0] == plain[0]
    assert all((broken[1][name] == plain[1][name]).all() for name in plain[1])


def test_an_error_of_the_network_is_not_taken_for_one_of_the_compiler() -> None:
    torch._dynamo.reset()
    with pytest.raises(RuntimeError, match=r"mat1 and mat2|shape|size"):
        train(build(lambda: nn.Linear(7, 2), seed=1), noisy, table(), seed=0, steps=2, where="cpu", faster=True)


def test_nothing_is_compiled_by_itself_on_a_cpu() -> None:
    assert not can_compile(CPU)


def test_operations_are_those_counted_by_hand() -> None:
    """Two layers, b rows: forward 2 b (i h + h o), backward as many for the weights and 2 b h o for what is between."""
    b, i, h, o = 8, 5, 7, 3
    net, x = nn.Sequential(nn.Linear(i, h), nn.ReLU(), nn.Linear(h, o)), torch.randn(b, i)

    def run() -> str:
        net(x).square().mean().backward()
        return "done"

    assert flops(run) == ("done", 2 * b * (2 * (i * h + h * o) + h * o))
    conv = nn.Conv1d(2, 3, 5, padding=2)
    assert flops(lambda: conv(torch.zeros(4, 2, 10)).shape[0]) == (4, 2 * 4 * 10 * 3 * 2 * 5)


def test_a_mask_of_what_came_before_is_what_the_library_makes_of_none() -> None:
    data = open_dataset("sim-visits[rows=60]", None).load()
    made = make("bart", most_steps=1, width=16, depth=2, bins=8, calibrate=False, guards=False)
    made.fit(data.table, target=data.roles.target, static=data.roles.static, seed=0)
    net, words = made._net().eval(), torch.from_numpy(made.view_.transform(data.table)[:8])
    read = Loss(made.view_, made.vocabulary_, classed=True, words=1.0)
    prompt, said = read.read(words, words[:, : len(made.view_.static)])
    with torch.no_grad():
        told = net(
            inputs_embeds=net.embedded(prompt), decoder_inputs_embeds=net.placed(said), use_cache=False,
            decoder_attention_mask=before(said),
        ).logits  # fmt: skip
        torch.testing.assert_close(told, net.logits(prompt, said))


# --- every network on a GPU ---

CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "ou": ("ou", {"steps": 300}, "breast-cancer"),
    "ou published": ("ou", {"steps": 200, "net": "published", "learn": "minority", "sampler": "heun"}, "sim-fraud"),
    "tardiff": ("tardiff", {"steps": 60, "width": 16, "guidance_scale": 0.03}, "sim-icu[rows=400]"),
    "tardiff eps": ("tardiff", {"steps": 60, "width": 16, "predict": "eps", "sampler": "ddim"}, "sim-icu[rows=400]"),
    "ehr-d3pm": ("ehr-d3pm", {"steps": 200}, "sim-visits[rows=300]"),
    "ehr-d3pm transformer": (
        "ehr-d3pm",
        {"steps": 60, "net": "transformer", "width": 64},
        "sim-ehr[codes=40,rows=600]",
    ),
    "healthforge": ("healthforge", {"ae_steps": 200, "steps": 200, "texts": 50}, "sim-ehr[codes=40,rows=600]"),
    "gan codes": ("gan", {"steps": 120}, "sim-ehr[codes=40,rows=600]"),
    "gan table": ("gan", {"steps": 60}, "sim-fraud[rows=2000]"),
    "gan series": ("gan", {"steps": 60, "embed": 8}, "sim-icu[rows=400]"),
    "bart": ("bart", {"most_steps": 120, "width": 64, "depth": 1}, "sim-visits[rows=300]"),
}


@gpu
@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES)
def test_fits_and_samples_on_a_gpu(case: str) -> None:
    """The law holds, and a seed gives the same rows twice. (Two fits of a seed may differ in the order of sums.)"""
    name, params, dataset = CASES[case]
    data = open_dataset(dataset, None).load()
    torch.cuda.reset_peak_memory_stats()
    made = make(name, **params).fit(data.table, target=data.roles.target, static=data.roles.static, seed=0)
    assert torch.cuda.max_memory_allocated() > 0
    drawn = made.sample(500, seed=1)
    check_like(drawn, data.table, 500, what="samples")
    assert drawn.equals(made.sample(500, seed=1))
    assert not drawn.equals(made.sample(500, seed=2))
    only = made.sample(20, given={data.roles.target: True}, seed=3)
    assert only[data.roles.target].all()


def waits(run: Callable[[], object]) -> int:
    """How often the host waited for the GPU."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(w.message) for w in seen)


LOOPS: dict[str, tuple[str, dict[str, Any], str, tuple[str, ...], str]] = {
    "ou": ("ou", {}, "breast-cancer", ("steps",), "sample_steps"),
    "tardiff": ("tardiff", {"width": 16, "calibrate": False}, "sim-icu[rows=400]", ("steps",), "sample_steps"),
    "ehr-d3pm": ("ehr-d3pm", {}, "sim-ehr[codes=40,rows=600]", ("steps",), "sample_steps"),
    "healthforge": (
        "healthforge", {"texts": 50}, "sim-ehr[codes=40,rows=600]", ("steps", "ae_steps"), "sample_steps"
    ),
    "gan": ("gan", {"calibrate": False}, "sim-ehr[codes=40,rows=400]", ("steps",), ""),
}  # fmt: skip


@gpu
@pytest.mark.gpu
@pytest.mark.parametrize("case", LOOPS)
def test_no_step_waits_for_the_gpu(case: str) -> None:
    """Twice as many steps of training, or of sampling, wait no more often."""
    name, params, dataset, trained, sampled = LOOPS[case]
    data = open_dataset(dataset, None).load()

    def fit(steps: int) -> Any:
        made = make(name, **params, **dict.fromkeys(trained, steps))
        return made.fit(data.table, target=data.roles.target, static=data.roles.static, seed=0)

    made = fit(24)
    few, many = waits(lambda: fit(24)), waits(lambda: fit(48))
    assert many - few < 24, f"{few} waits in 24 steps, {many} in 48"
    if sampled:
        counts = []
        for steps in (10, 40):
            setattr(made, sampled, steps)
            counts.append(waits(lambda: made.sample(200, seed=1)))
        assert counts[1] - counts[0] < 30, f"{counts[0]} waits in 10 steps of sampling, {counts[1]} in 40"


@gpu
@pytest.mark.gpu
def test_no_step_of_bart_waits_for_the_gpu() -> None:
    """Its loss alone: what watches a fit of BART writes sentences, and every word is waited for."""
    data = open_dataset("sim-visits[rows=300]", None).load()
    made = make("bart", most_steps=1, width=32, depth=1, bins=8, calibrate=False, guards=False)
    made.fit(data.table, target=data.roles.target, static=data.roles.static, seed=0)
    net, loss = made._net().cuda().train(), Loss(made.view_, made.vocabulary_, classed=True, words=1.0)
    words, dice = torch.from_numpy(made.view_.transform(data.table)[:32]).cuda(), torch.Generator("cuda")

    def steps(n: int) -> None:
        for _ in range(n):
            loss(net, (words,), dice).backward()

    steps(1)
    assert waits(lambda: steps(3)) == 0


@gpu
@pytest.mark.gpu
def test_the_seeds_of_the_gpu_are_left_alone() -> None:
    before = torch.cuda.get_rng_state()
    fitted("cuda")
    assert (torch.cuda.get_rng_state() == before).all()


@gpu
@pytest.mark.gpu
def test_a_compiled_network_learns_what_a_plain_one_does() -> None:
    if not can_compile(torch.device("cuda")):
        pytest.skip("no Triton or no C compiler here")
    plain, quick = fitted("cuda"), fitted("cuda", faster=True)
    assert quick[0][-1][1] == pytest.approx(plain[0][-1][1], rel=0.05)
