"""The command line: parses and calls, no logic. Heavy modules are imported inside the verb that needs them."""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.arguments import (
    HERE,
    DataOpt,
    JsonOpt,
    ReplicatesOpt,
    StoreOpt,
    StudiesOpt,
    SuiteArg,
    UriOpt,
    data_folder,
    key_values,
    listed,
    looked_at,
    mirrored,
    opened,
    suite_named,
    use_cores,
)
from bench.data_verbs import data_app
from bench.errors import BenchError, unknown
from bench.run_verbs import cell, plan, run, status

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Compare generators of synthetic health records and rare-event rows.",
)
app.add_typer(data_app, name="data")
for verb in (run, plan, status):
    app.command()(verb)
app.command(hidden=True)(cell)


@app.command()
def board(
    suite: Annotated[
        str, typer.Argument(help="A suite's name, the path of its TOML, or a file of scores (scores.json).")
    ],
    to: Annotated[
        Path | None, typer.Option("--out", help="Also write the boards and their picture into this folder.")
    ] = None,
    store: StoreOpt = HERE,
    data: DataOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Render a suite's board from the store, or any board from its scores, and print it."""
    from bench import show
    from bench.collect import render_file, write_boards

    name = "board.json" if as_json else "board.md"
    if suite.endswith(".json"):
        text = render_file(Path(suite), to)[name]
    else:
        paths = write_boards(suite_named(suite), opened(store), data_folder(data))
        text = render_file(paths["scores.json"], to)[name] if to else paths[name].read_text(encoding="utf-8")
    if as_json or not sys.stdout.isatty():
        print(text, end="")
    else:
        from rich.markdown import Markdown

        show.out.print(Markdown(text))


@app.command()
def score(
    train: Annotated[Path, typer.Option(help="The table a generator was fitted on (.csv or .parquet).")],
    holdout: Annotated[Path, typer.Option(help="Real rows the generator never saw.")],
    synth: Annotated[Path, typer.Option(help="The synthetic table.")],
    target: Annotated[str, typer.Option(help="The column to predict: true/false or 0/1.")],
    minority: Annotated[Path | None, typer.Option(help="Synthetic positives, for the boost scores.")] = None,
    subject: Annotated[str | None, typer.Option(help="A column that names the subject.")] = None,
    time: Annotated[str | None, typer.Option(help="A column of whole steps: makes the tables longitudinal.")] = None,
    static: Annotated[str, typer.Option(help="Columns constant per subject (comma-separated).")] = "",
    codes: Annotated[str, typer.Option(help="Clinical code columns (comma-separated), or 'all' true/false ones.")] = "",
    sensitive: Annotated[str, typer.Option(help="Columns to protect (comma-separated).")] = "",
    quasi: Annotated[str, typer.Option(help="Columns an attacker knows (comma-separated).")] = "",
    drop: Annotated[str, typer.Option(help="Columns to leave out (comma-separated).")] = "",
    keep: Annotated[
        str, typer.Option(help="Measurements that differ in every row, not to be refused as identifiers.")
    ] = "",
    metrics: Annotated[str, typer.Option(help="Metrics or families (comma-separated); all if none.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    as_json: JsonOpt = False,
) -> None:
    """Score a synthetic table made by anything."""
    use_cores()
    from bench import show
    from bench.score import score_files

    scores = score_files(
        {"train": train, "holdout": holdout, "synth": synth, **({"minority": minority} if minority else {})},
        target=target, subject=subject, time=time, static=listed(static), codes=listed(codes),
        sensitive=listed(sensitive), quasi=listed(quasi), drop=listed(drop), keep=listed(keep),
        metric_names=listed(metrics) or None, seed=seed,
    )  # fmt: skip
    if as_json:
        print(json.dumps(scores, indent=1))
        return
    rows = [(k, *(f"{v[x]:.4f}" if v.get(x) is not None else None for x in ("value", "se")), v.get("undefined"))
            for k, v in scores.items()]  # fmt: skip
    show.table(["metric", "value", "se", "undefined because"], rows)


@app.command()
def track(suite: SuiteArg, store: StoreOpt = HERE, data: DataOpt = None, tracking_uri: UriOpt = None) -> None:
    """Bring MLflow in line with the store; may be repeated."""
    from bench import show
    from bench.sweep import rendered
    from bench.track import sync

    found, kept, folder = suite_named(suite), opened(store), data_folder(data)
    written = sync(found, kept, folder, rendered(found, kept, folder), uri=tracking_uri)
    show.out.print(f"{written} runs written to MLflow, experiment '{found.name}'")


@app.command()
def draw(
    suite: Annotated[
        str, typer.Argument(help="A suite's name or the path of a TOML; `trajectories`: a toy diffusion.")
    ],
    store: StoreOpt = HERE,
    data: DataOpt = None,
    datasets: Annotated[
        str, typer.Option(help="Only these datasets of the suite (comma-separated, without cuts).")
    ] = "",
    generators: Annotated[str, typer.Option(help="Only these generators of the suite (comma-separated).")] = "",
    embed: Annotated[str, typer.Option(help="pca, or umap where umap-learn is installed.")] = "pca",
    replicate: Annotated[int, typer.Option(help="The replicate to draw.")] = 0,
    tracking_uri: UriOpt = None,
    track: Annotated[bool, typer.Option("--track/--no-track", help="Mirror to MLflow.")] = True,
    as_json: JsonOpt = False,
) -> None:
    """Draw the minorities of stored samples beside train's and holdout's, into the suite's boards folder.

    Points are subjects on simulated and openly licensed data only; elsewhere densities are drawn. `bench draw
    trajectories` draws two moons on their way into noise and back.
    """
    from bench import show
    from bench.draw import TOY, draw_trajectories
    from bench.draw import draw as pictures_of

    kept = opened(store)
    if suite == TOY:
        show.out.print(str(draw_trajectories(kept)))
        return
    found, folder = suite_named(suite), data_folder(data)
    rows = pictures_of(
        found, kept, folder, datasets=listed(datasets), labels=listed(generators), embed=embed, replicate=replicate
    )
    show.table(["dataset", "generator", "replicate", "picture", "why not"], rows, as_json=as_json)
    if track and any(row[3] for row in rows):
        mirrored(found, kept, folder, tracking_uri)


@app.command()
def tune(
    dataset: Annotated[str, typer.Argument(help="A dataset's name with its cuts, or the path of a TOML.")],
    generator: Annotated[str, typer.Argument(help="A registered name, package.module:Class, or a label of --suite.")],
    suite: Annotated[
        str, typer.Option("--suite", help="Run the study as this suite would, and for it; else the options below.")
    ] = "",
    trials: Annotated[int, typer.Option(min=0, help="Budget in trials; 0: none.")] = 20,
    time_s: Annotated[float, typer.Option(min=0, help="Budget in seconds that trials take; 0: none.")] = 0,
    trial_s: Annotated[float, typer.Option(min=0, help="Seconds that one trial may take; 0: any.")] = 0,
    objective: Annotated[
        str, typer.Option(help="balanced, fidelity, utility, privacy or a ranked metric; two, comma-separated.")
    ] = "balanced",
    sampler: Annotated[str, typer.Option(help="tpe, random, qmc, gp, cmaes or nsga2.")] = "tpe",
    pruner: Annotated[str, typer.Option(help="none, median or hyperband.")] = "none",
    params: Annotated[
        list[str] | None, typer.Option("--param", "-p", help="A hyperparameter that stays, key=value.")
    ] = None,
    replicate: Annotated[int, typer.Option(min=0, help="The replicate whose train is tuned on.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of a trial; part of the study's identity.")] = 1,
    studies: StudiesOpt = "",
    store: StoreOpt = HERE,
    data: DataOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Run one tuning study; run it again, or several times at once, and they work on the same one."""
    use_cores(suite_named(suite).threads if suite else threads)
    from bench.search import search, settings

    asked = settings(
        dataset, generator, suite=suite, trials=trials or None, time_s=time_s or None, trial_s=trial_s or None,
        objective=listed(objective), sampler=sampler, pruner=pruner, params=key_values(params or []),
        replicate=replicate, threads=threads,
    )  # fmt: skip
    search(asked, dataset, generator, replicate, opened(store), data_folder(data), studies=studies, as_json=as_json)


@app.command()
def report(
    suite: SuiteArg,
    to: Annotated[
        Path | None, typer.Option("--out", help="The file to write; report.html in the store if none.")
    ] = None,
    replicate: Annotated[int, typer.Option(min=0, help="The replicate whose samples are drawn.")] = 0,
    store: StoreOpt = HERE,
    data: DataOpt = None,
    tracking_uri: UriOpt = None,
    track: Annotated[bool, typer.Option("--track/--no-track", help="Mirror to MLflow.")] = True,
) -> None:
    """Write a suite's report: one page that needs no network, with findings, boards, figures and costs."""
    from bench import show
    from bench.report import write_report

    found, kept, folder = suite_named(suite), opened(store), data_folder(data)
    path = write_report(found, kept, folder, to=to, replicate=replicate, tell=show.out.print)
    show.out.print(f"report: {path}")
    if track:
        mirrored(found, kept, folder, tracking_uri)


@app.command()
def check(
    suite: SuiteArg,
    against: Annotated[
        Path | None, typer.Option(help="The reference: a file of scores; leaderboards/boards/SUITE.json if none.")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="Compare this table of scores (scores.json, CSV or parquet), not the store's.")
    ] = None,
    metrics: Annotated[str, typer.Option(help="At most eight (comma-separated); the reference's if none.")] = "",
    update: Annotated[str, typer.Option(help="Make these scores the reference, for the reason given here.")] = "",
    markdown: Annotated[Path | None, typer.Option(help="Also write the table here, for a pull request.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit XML here.")] = None,
    replicates: ReplicatesOpt = 0,
    store: StoreOpt = HERE,
    data: DataOpt = None,
) -> None:
    """Compare a suite's scores with a reference: exit code 0 where nothing is worse, 1 where something is, 2 where
    they cannot be compared."""
    from bench.check import check as compare

    code = compare(
        suite_named(suite, replicates), looked_at(store), data_folder(data), against=against, scores=scores,
        update=update, markdown=markdown, junit=junit, metric_names=listed(metrics),
    )  # fmt: skip
    raise typer.Exit(code)


@app.command()
def export(
    key: Annotated[str, typer.Argument(metavar="CELL", help="A cell's key, or how it begins: breast-cancer.ou.r0")],
    to: Annotated[Path, typer.Option("--out", help="The file to write, .csv or .parquet; a card comes beside it.")],
    n: Annotated[int, typer.Option("--n", min=0, help="Subjects to draw; 0: as many as the cell drew.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other rows.")] = 0,
    store: StoreOpt = HERE,
    data: DataOpt = None,
) -> None:
    """Draw rows from a fitted cell into a file, with a card: what made them, their scores, what they leak."""
    use_cores()
    from bench import show
    from bench.export import export as draw_rows

    for path in draw_rows(key, looked_at(store), data_folder(data), to, n=n, seed=seed):
        show.out.print(str(path))


@app.command()
def tuned(
    suite: SuiteArg,
    name: Annotated[str, typer.Argument(help='What `tune = "from:NAME"` will call it.')],
    to: Annotated[Path | None, typer.Option(help="The folder to write to; leaderboards/tuned/ if none.")] = None,
    store: StoreOpt = HERE,
    data: DataOpt = None,
) -> None:
    """Write the tuned parameters of a suite's studies to a file that suites can use in place of studies."""
    from bench import show
    from bench.reuse import export as write

    path, done, missing = write(suite_named(suite), looked_at(store), data_folder(data), name, to)
    show.out.print(f"{done} studies written to {path}" + (f"; {missing} are not done yet" if missing else ""))


@app.command()
def ui(
    store: StoreOpt = HERE,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 5000,
) -> None:
    """Open the MLflow pages on the store's runs."""
    from bench.track import serve

    serve(looked_at(store), host, port)


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="generators, metrics, datasets, suites or spaces.")],
    as_json: JsonOpt = False,
    page: Annotated[bool, typer.Option("--markdown", help="Metrics and datasets: the page on every one.")] = False,
) -> None:
    """The rows of a registry."""
    from bench import show
    from bench.registries import REGISTRIES

    if what not in REGISTRIES:
        raise unknown("registry", what, REGISTRIES)
    if page:
        from bench.pages import PAGES

        if what not in PAGES:
            raise BenchError(f"--markdown: there are pages on {' and '.join(PAGES)}, not on {what}")
        print(PAGES[what](), end="")
        return
    heads, rows = REGISTRIES[what]()
    show.table(heads, rows, as_json=as_json)


@app.command()
def doctor(
    generator: Annotated[
        str, typer.Argument(help="A registered name or package.module:Class; none: environment only.")
    ] = "",
    params: Annotated[list[str] | None, typer.Option("--param", "-p", help="A hyperparameter, key=value.")] = None,
    as_json: JsonOpt = False,
) -> None:
    """Report the environment, and run the generator contract on a generator."""
    from bench import show
    from bench.machine import environment

    if not generator:
        machine = environment()
        rows = [(k, v) for k, v in machine.items() if k != "packages"] + list(machine["packages"].items())
        show.table(["what", "value"], rows, as_json=as_json)
        return
    from bench.doctor import examine
    from generators import make

    given = key_values(params or [])
    try:
        make(generator, **given)
    except ValueError as error:
        raise BenchError(str(error)) from error
    rows = list(examine(generator, given))
    show.table(["shape", "check", "outcome", "why"], rows, as_json=as_json)
    raise typer.Exit(1 if any(row[2] == "fail" for row in rows) else 0)


def _own_names() -> None:
    """Make our generic package names ours, and let package.module:Class find a module in the folder one stands in.

    Our rooms come first on the path, so that a folder named `metrics` or `generators` where one stands (or on
    PYTHONPATH) is never taken for them; the current folder comes last.
    """
    sys.path.insert(0, str(Path(__file__).parent.parent))
    sys.path.append(os.getcwd())


def main() -> None:
    """The `bench` command: faults end in one line on stderr and exit code 2."""
    _own_names()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # what crashes may hold rows
    try:
        app()
    except BenchError as error:
        from bench import show

        show.error(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
