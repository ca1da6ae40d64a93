"""The verbs that run a suite and say how it stands; registered in bench/cli.py. Heavy modules are imported inside."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.arguments import (
    HERE,
    DataOpt,
    JsonOpt,
    ReplicatesOpt,
    StoreOpt,
    StudiesOpt,
    SuiteOpt,
    UriOpt,
    data_folder,
    listed,
    looked_at,
    opened,
    seconds,
    suite_named,
)


def run(
    suite: SuiteOpt,
    store: StoreOpt = HERE,
    data: DataOpt = None,
    workers: Annotated[int, typer.Option(min=0, help="Cells at a time; 0: cores / the suite's threads.")] = 0,
    gpus: Annotated[
        str, typer.Option(help="GPUs of this machine: all, none or 0,1,..; each cell that uses one is pinned to it.")
    ] = "all",
    launcher: Annotated[str, typer.Option(help="local: processes of this machine; ray: tasks on a cluster.")] = "local",
    address: Annotated[
        str, typer.Option(help="With --launcher ray: HOST:PORT of a cluster this machine is a node of.")
    ] = "",
    budget: Annotated[str, typer.Option(help="Start no cell that would end later than this: 8h, 90m, 30s.")] = "",
    retry: Annotated[str, typer.Option(help="Run again: failed, timeout, skipped (comma-separated).")] = "",
    datasets: Annotated[
        str, typer.Option(help="Only these datasets of the suite (comma-separated, without cuts).")
    ] = "",
    generators: Annotated[str, typer.Option(help="Only these generators of the suite (comma-separated).")] = "",
    replicates: ReplicatesOpt = 0,
    studies: StudiesOpt = "",
    tracking_uri: UriOpt = None,
    track: Annotated[bool, typer.Option("--track/--no-track", help="Mirror to MLflow.")] = True,
) -> None:
    """Run what is missing of a suite, then render its board.

    Exit code 0 where no cell failed, 3 where the budget of time was up before all had run, 1 where one failed.
    """
    from bench.place import Place
    from bench.sweep import sweep

    code = sweep(
        suite_named(suite, replicates), opened(store), data_folder(data), retry=listed(retry),
        datasets=listed(datasets), labels=listed(generators), uri=tracking_uri, track=track, studies=studies,
        place=Place(launcher, workers, gpus, address, seconds(budget)),
    )  # fmt: skip
    raise typer.Exit(code)


def plan(suite: SuiteOpt, store: StoreOpt = HERE, data: DataOpt = None, as_json: JsonOpt = False) -> None:
    """What a run would do and cost: cells by dataset and generator, what is stored, what is absent. Runs nothing."""
    from bench import show
    from bench.plan import HEADS, plan

    found = plan(suite_named(suite), looked_at(store), data_folder(data))
    if as_json:
        show.table(HEADS, found.table(), as_json=True)
        return
    for heads, rows in (found.told(), found.by_generator()):
        show.table(heads, rows)
        show.out.print()
    for line in found.total():
        show.out.print(show.one_line(line))


def status(suite: SuiteOpt, store: StoreOpt = HERE, data: DataOpt = None, as_json: JsonOpt = False) -> None:
    """How each cell of a suite ended, with the reason and the log of those that did not end well."""
    from bench import show
    from bench.collect import records

    kept = looked_at(store)
    heads = ["dataset", "generator", "replicate", "status", "reason", "log"]
    rows = []
    for cell, _, record in records(suite_named(suite), kept, data_folder(data), scores=False):
        state, why = (record.status, record.reason) if record else ("missing", "not run yet")
        log = kept.log(cell.key)
        place = str(log) if why and log.exists() else ""
        rows.append((cell.dataset, cell.label, cell.replicate, state, why, place, *([cell.key] if as_json else [])))
    show.table(heads + ["key"] * as_json, rows, as_json=as_json)


def cell(
    key: Annotated[str, typer.Argument(help="A cell's key, as `bench status --json` or a log names it.")],
    suite: SuiteOpt,
    store: StoreOpt = HERE,
    data: DataOpt = None,
    studies: StudiesOpt = "",
) -> None:
    """Run one cell in this process, everything printed: to look at a failure with a debugger."""
    from bench import show
    from bench.run import run_cell

    kept = opened(store)
    found = kept.read_cell(key)
    kept.add(found)
    with kept.lock(key):
        record = run_cell(
            found, kept, data_dir=data_folder(data), metric_names=suite_named(suite).metric_names,
            phase=lambda name: None, studies=studies,
        )  # fmt: skip
    show.out.print(f"{record.status} {record.reason}")
    raise typer.Exit(0 if record.status in ("done", "skipped") else 1)
