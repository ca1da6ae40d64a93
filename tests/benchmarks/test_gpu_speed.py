"""Speed on a GPU: what share of its matrix products the denoiser of EHR-D3PM reaches and what holds it, every diffusion
method beside this machine's CPU, two cells on one GPU.

`pytest tests/benchmarks/test_gpu_speed.py -n 0 -s --override-ini addopts=`; ci/gpu.sh runs it. Tables and profiles go
to the folder BENCH_OUT, bench-store/gpu where it is not set. What needs no GPU is tested without one.
"""

import gc
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tabulate import tabulate
from torch.profiler import ProfilerActivity, profile

from bench.datasets import open_dataset
from generators import make
from generators.diffusion.places import Places
from generators.training import build, can_compile, device, flops, train

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")
ROOT = Path(__file__).resolve().parents[2]
D, B = 1_800, 1_024
GOAL = 0.4  # of the ceiling
LAP, TIMED, PROFILED = 10, 2, 1  # steps of a lap of training; laps timed after the first; laps profiled after these
KINDS = {  # of a kernel, by its name: the first that is found
    "attention": r"flash|fmha|attention|softmax",
    "optimizer": r"multi_tensor|adam|foreach|lpnorm",
    "copies": r"memcpy|memset",
    "matrix products": r"gemm|gemv|cutlass|cublas|xmma|nvjet|wgmma|triton_tem|dot_kernel",
}
ELSE, IDLE = "elementwise and reductions", "idle"
# one dataset of its native shape for each diffusion method, and what makes it end on a few cores within minutes
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "ou": ("sim-fraud[rows=8000]", {}),
    "tardiff": ("sim-icu[rows=1500]", {"steps": 500}),
    "ehr-d3pm": ("sim-ehr[codes=300,rows=6000]", {"steps": 1_500}),
    "healthforge": ("sim-ehr[codes=300,rows=6000]", {"ae_steps": 1_500, "steps": 1_500, "texts": 300}),
}


def told(name: str, text: str) -> None:
    """Print a report and keep it."""
    folder = Path(os.environ.get("BENCH_OUT", "bench-store/gpu"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text + "\n")
    print(f"\n{text}\n(kept in {folder / name})")


def markdown(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return tabulate(rows, heads, tablefmt="github", floatfmt=".3g")


# --- where the time goes ---


def kind_of(kernel: str) -> str:
    """The kind of work of a kernel, by its name."""
    return next((kind for kind, name in KINDS.items() if re.search(name, kernel, re.IGNORECASE)), ELSE)


def spent(kernels: Mapping[str, float], whole: float) -> dict[str, float]:
    """The share of the whole time that each kind of kernel takes, the largest first; what is left is idle."""
    shares = dict.fromkeys([*KINDS, ELSE], 0.0)
    for kernel, took in kernels.items():
        shares[kind_of(kernel)] += took / whole
    shares[IDLE] = max(0.0, 1 - sum(shares.values()))
    return dict(sorted(shares.items(), key=lambda one: -one[1]))


def test_kernels_are_told_apart_and_what_is_left_is_idle() -> None:
    kernels = {
        "nvjet_tst_128x256_64x4_2x1_v_bz_coopA_NNT": 30.0,
        "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n": 10.0,
        "void pytorch_flash::flash_fwd_kernel<...>": 20.0,
        "triton_per_fused_native_layer_norm_0": 15.0,
        "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<...FusedAdam...>": 4.0,
        "Memcpy HtoD (Pinned -> Device)": 1.0,
    }
    found = spent(kernels, 100.0)
    assert list(found) == ["matrix products", "attention", IDLE, ELSE, "optimizer", "copies"]
    assert list(found.values()) == pytest.approx([0.4, 0.2, 0.2, 0.15, 0.04, 0.01])
    assert (
        markdown(["kind", "share"], list(found.items())).splitlines()[2] == "| matrix products            |    0.4  |"
    )


# --- the denoiser ---


@dataclass
class Lapped:
    """A training by laps: seconds a step, floating-point operations a step, the profile and its laps' seconds."""

    step_s: float
    work: int
    profiled: profile
    profiled_s: float


def lapped(params: Mapping[str, Any], d: int, b: int, *, faster: bool) -> Lapped:
    """Train EHR-D3PM's denoiser on d flags in batches of b, by the loop that trains all networks."""
    made = make("ehr-d3pm", **params)
    tokens = (np.random.default_rng(0).random((4 * b, d)) < 0.01).astype(np.int64)
    places = Places.fit(tokens, np.full(d, 2), noise=made.noise, schedule=made.schedule)
    loss, data = made._loss(places), places.split(tokens)
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    profiled, ends = profile(activities=kinds), list[float]()

    def lap(step: int, **values: float) -> None:  # the loss has just been read: the device has nothing left to do
        ends.append(time.perf_counter())
        if len(ends) == 1 + TIMED:
            profiled.start()
            ends[-1] = time.perf_counter()
        elif len(ends) == 1 + TIMED + PROFILED:
            profiled.stop()

    def run(batch: int, steps: int, log: Any) -> None:
        net = build(lambda: made._net(places), seed=0)
        train(net, loss, data, seed=0, steps=steps, batch=batch, ema=0.0, validation=0.0, every=LAP, faster=faster,
              log=log)  # fmt: skip

    few = b // 8  # operations grow as the batch does
    _, work = flops(lambda: train(build(lambda: made._net(places), seed=0), loss, data, seed=0, steps=1, batch=few,
                                  ema=0.0, validation=0.0))  # fmt: skip
    run(b, LAP * (1 + TIMED + PROFILED), lap)
    return Lapped((ends[TIMED] - ends[0]) / (LAP * TIMED), work * b // few, profiled, ends[-1] - ends[-2])


def test_laps_of_training_are_timed_and_counted() -> None:
    """Operations by hand: an MLP of one block over d flags, read as shown or hidden."""
    d, b, w = 30, 16, 8
    found = lapped({"width": w, "depth": 1}, d, b, faster=False)
    assert 0 < found.step_s < 1
    assert 0 < found.profiled_s < 10
    first = 2 * d * w + 64 * w  # the flags, and the sinusoids of the time, which take no gradient
    others = w * w + w * 2 * w + 2 * w * w + w * d  # the time's second layer, condition, block, head
    reads = w * d  # flags, off a layer that they do not move
    assert found.work == 2 * b * (2 * first + 3 * others + 2 * reads)
    assert found.profiled.key_averages()


def ceiling() -> float:
    """Floating-point operations a second of the best of some large square products in bfloat16."""
    best = 0.0
    for n in (4_096, 8_192, 16_384):
        a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        out = torch.empty_like(a)
        for times in (3, 20):  # the first are to warm up
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(times):
                torch.mm(a, b, out=out)
            torch.cuda.synchronize()
            took = (time.perf_counter() - start) / times
        best = max(best, 2 * n**3 / took)
    return best


@gpu
@pytest.mark.gpu
def test_the_denoiser_of_ehr_d3pm_against_matrix_products(benchmark) -> None:
    """d = 1,800 tokens, batches of 1,024: its training step beside the card's own products."""
    settings: dict[str, dict[str, Any]] = {
        "width 256": {"net": "transformer"},
        "width 512, two layers": {"net": "transformer", "width": 512, "depth": 2},
        "width 256, full attention": {"net": "transformer", "rank": 0},
    }
    peak = benchmark.pedantic(ceiling, rounds=1)
    card, rows, texts, best = torch.cuda.get_device_name(), list[list[object]](), list[str](), 0.0
    for name, params in settings.items():
        for faster in (False, True) if can_compile(device()) else (False,):
            label = f"{name}, compiled" if faster else name
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            try:
                found = lapped(params, D, B, faster=faster)
            except torch.cuda.OutOfMemoryError:
                rows.append([label, *["does not fit"] * 6])
                continue
            share = found.work / found.step_s / peak
            best = max(best, share)
            kernels = {
                e.key: e.self_device_time_total / 1e6
                for e in found.profiled.key_averages()
                if e.device_type == torch.autograd.DeviceType.CUDA
            }
            where = spent(kernels, found.profiled_s)
            products = (where["matrix products"] + where["attention"]) * found.profiled_s / (LAP * PROFILED)
            inside = found.work / products / peak if products else float("nan")
            bound = next(kind for kind in where if kind not in ("matrix products", "attention"))
            rows.append([
                label, 1e3 * found.step_s, found.work / 1e12, share, inside, f"{bound}, {where[bound]:.0%}",
                torch.cuda.max_memory_allocated() / 2**30,
            ])  # fmt: skip
            table = found.profiled.key_averages().table(sort_by="self_device_time_total", row_limit=15)
            texts.append(
                f"## {label}\n\n{markdown(['where the time goes', 'share'], list(where.items()))}\n\n```\n{table}\n```"
            )
            del found
    heads = [
        "denoiser",
        "step, ms",
        "TFLOP a step",
        "share of the ceiling",
        "share inside products",
        "else most",
        "GiB",
    ]
    verdict = f"{'reached' if best >= GOAL else 'not reached'}: {best:.0%} of the ceiling at best, goal {GOAL:.0%}"
    head = (
        f"EHR-D3PM at d = {D:,}, batch {B:,} on one {card}; ceiling {peak / 1e12:.0f} TFLOP/s in bfloat16. {verdict}."
    )
    told("denoiser.md", f"{head}\n\n{markdown(heads, rows)}")
    told("denoiser_profiles.md", "\n\n".join(texts))
    benchmark.extra_info |= {"ceiling_tflops": peak / 1e12, "best_share": best}
    assert 0 < best < 1.05, "operations are not counted right, or the ceiling is none"


# --- whole fits, each in a process of its own ---


def begun(generator: str, dataset: str, params: Mapping[str, Any], n: int, *, on_gpu: bool) -> subprocess.Popen[str]:
    """A process that fits and samples, and prints what it took as JSON."""
    asked = json.dumps({"generator": generator, "dataset": dataset, "params": params, "n": n})
    hidden = {} if on_gpu else {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, __file__, asked], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **hidden}, text=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate()
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1])


def main(asked: str) -> None:
    """Fit and sample as asked, in JSON; prints the device, seconds of both, GiB of its memory at most."""
    order = json.loads(asked)
    data = open_dataset(order["dataset"], None).load()
    at = device()
    torch.zeros(1, device=at)  # the first use of a device is not the generator's to pay
    start = time.perf_counter()
    made = make(order["generator"], **order["params"])
    made.fit(data.table, target=data.roles.target, static=data.roles.static, describe=data.roles.describe, seed=0)
    fitted = time.perf_counter()
    made.sample(order["n"], seed=1)
    found = {"device": at.type, "fit_s": fitted - start, "sample_s": time.perf_counter() - fitted}
    print(json.dumps(found | ({"gib": torch.cuda.max_memory_reserved() / 2**30} if at.type == "cuda" else {})))


def test_a_process_fits_and_samples_on_a_cpu() -> None:
    found = ended(begun("ou", "sim-fraud[rows=600]", {"steps": 20, "sample_steps": 5}, 100, on_gpu=False))
    assert found["device"] == "cpu"
    assert set(found) == {"device", "fit_s", "sample_s"}
    assert min(found["fit_s"], found["sample_s"]) > 0


@gpu
@pytest.mark.gpu
def test_methods_on_a_gpu_beside_this_cpu(benchmark) -> None:
    """Seconds to fit, and to sample 20,000 subjects."""

    def table() -> list[list[object]]:
        rows = list[list[object]]()
        for name, (dataset, params) in METHODS.items():
            fast, slow = (ended(begun(name, dataset, params, 20_000, on_gpu=on)) for on in (True, False))
            assert (fast["device"], slow["device"]) == ("cuda", "cpu")
            times = [v for key in ("fit_s", "sample_s") for v in (fast[key], slow[key], slow[key] / fast[key])]
            rows.append([name, dataset, *times, fast["gib"]])
        return rows

    rows = benchmark.pedantic(table, rounds=1)
    heads = ["method", "dataset"]
    heads += [f"{phase}, {of}" for phase in ("fit", "sample") for of in ("GPU s", "CPU s", "times as fast")]
    where = f"One {torch.cuda.get_device_name()} beside {os.cpu_count()} cores."
    told("methods.md", f"{where}\n\n{markdown([*heads, 'GiB'], rows)}")
    assert all(float(row[4]) > 0.2 for row in rows), "a GPU is far slower than the CPU"  # type: ignore[arg-type]


@gpu
@pytest.mark.gpu
def test_two_cells_on_one_gpu(benchmark) -> None:
    """Two fits with their samples at once against one after the other, process by process."""
    rows = list[list[object]]()

    def walls(name: str, dataset: str, params: Mapping[str, Any]) -> tuple[float, float]:
        start = time.perf_counter()
        for _ in range(2):
            ended(begun(name, dataset, params, 5_000, on_gpu=True))
        middle = time.perf_counter()
        for process in [begun(name, dataset, params, 5_000, on_gpu=True) for _ in range(2)]:
            ended(process)
        return middle - start, time.perf_counter() - middle

    def table() -> None:
        for name in ("ehr-d3pm", "tardiff"):
            apart, together = walls(name, *METHODS[name])
            rows.append([name, apart, together, together / apart])

    benchmark.pedantic(table, rounds=1)
    heads = ["two cells of", "one after the other, s", "at once, s", "share"]
    told("shared.md", f"Two cells on one {torch.cuda.get_device_name()}.\n\n{markdown(heads, rows)}")
    assert all(float(row[3]) < 1.2 for row in rows), "sharing costs more than it saves"  # type: ignore[arg-type]


if __name__ == "__main__":
    main(sys.argv[1])
