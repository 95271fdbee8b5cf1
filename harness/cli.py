"""Commands: parse, call, print. No logic."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.suites import SUITES
from harness import driver, screen
from harness.cli_bench import bench
from harness.cli_data import data
from harness.cli_methods import check, import_checkpoint, new_method, params
from harness.cli_options import (
    Accumulate,
    BackboneNames,
    Checkpointing,
    Compiled,
    DataRoot,
    Ingredients,
    MethodNames,
    Precision,
    Results,
    ScaleName,
    Seeds,
    Settings,
    Severity,
    Suite,
    TaskNames,
    request_of,
)
from harness.cli_plan import doctor, plan
from harness.cli_predict import predict
from harness.cli_report import report
from harness.cli_results import compare, leaderboard
from harness.cli_tables import tables
from harness.cli_weights import weights
from harness.listings import LISTINGS
from harness.lookup import find
from harness.means import Thrift
from harness.schedule import Resources

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: python run.py --suite smoke",
)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    suite: Suite = "",
    task: TaskNames = [],  # noqa: B006 (typer reads the default, nobody writes it)
    backbone: BackboneNames = [],  # noqa: B006
    method: MethodNames = [],  # noqa: B006
    seeds: Seeds = 0,
    settings: Settings = [],  # noqa: B006
    scale: ScaleName = "mini",
    data_root: DataRoot = None,
    severity: Severity = 1.0,
    ingredients: Ingredients = "",
    precision: Precision = "",
    results: Results = Path("results"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Run again what has a record.")] = False,
    max_trials: Annotated[int, typer.Option("--max-trials", help="Run at most so many now; 0 for all.")] = 0,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds a trial may take; 0 for no limit.")] = 0.0,
    executor: Annotated[
        str,
        typer.Option(
            "--executor",
            envvar="DGSS_BENCH_EXECUTOR",
            help="`ray`: trials side by side; `local`: one after the other, in this process (for debugging).",
        ),
    ] = "ray",
    workers: Annotated[int, typer.Option("--workers", help="Trials at the same time; 0 for as many as fit.")] = 0,
    cpus: Annotated[int, typer.Option("--cpus-per-trial", help="Cores per trial; 0 for what the scale needs.")] = 0,
    gpus: Annotated[
        float | None,
        typer.Option(
            "--gpus-per-trial",
            help="GPUs per trial; 0.5 lets two share one.",
            show_default="the scale's: mini 0, paper 1",
        ),
    ] = None,
    checkpointing: Checkpointing = False,
    accumulate: Accumulate = 1,
    compiled: Compiled = False,
    address: Annotated[
        str,
        typer.Option(
            "--address",
            metavar="HOST:PORT",
            help="A running Ray cluster, whose machines have this checkout at the same path; `auto` finds a local one.",
            show_default=False,
        ),
    ] = "",
    track: Annotated[
        bool,
        typer.Option("--mlflow/--no-mlflow", envvar="DGSS_BENCH_MLFLOW", help="Mirror records and tables to MLflow."),
    ] = True,
) -> None:
    """Compare parameter-efficient fine-tuning methods for domain-generalised segmentation under one protocol."""
    if context.invoked_subcommand:
        if suite:
            raise ValueError(f"--suite {suite} stands before the command {context.invoked_subcommand}: put it after")
        return
    if not suite:
        raise ValueError(f"nothing to do: give --suite NAME (known: {', '.join(SUITES)}) or a command (see --help)")
    request = request_of(
        *(suite, scale, task, backbone, method, seeds, settings, data_root, severity, ingredients, precision),
        gpu=gpus != 0,
    )
    thrift = Thrift(checkpointing=checkpointing, accumulate=accumulate, compiled=compiled)
    running = driver.Running(
        executor=executor,
        resources=Resources(workers=workers, cpus=cpus, gpus=gpus, address=address, timeout=timeout, thrift=thrift),
        results=results,
        fresh=fresh,
        max_trials=max_trials,
        track=track,
    )
    try:
        code = driver.run_suite(request, running)
    except KeyboardInterrupt:
        code = 130
    if code == 130:
        screen.fail("interrupted: finished trials are kept; the same command goes on from here")
    raise typer.Exit(code)


app.command()(plan)
app.command()(doctor)


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(help="tasks, backbones, methods, variants, plugins or suites", metavar="KIND")],
) -> None:
    """List what there is: tasks, backbones, methods and their variants, methods of installed packages, suites."""
    rows = find("kind of thing", kind, LISTINGS)()
    screen.show_listing(kind, rows)


app.command()(tables)


@app.command()
def track(
    results: Results = Path("results"),
    scale: ScaleName = "mini",
) -> None:
    """Bring MLflow in step with records, tables and report: after --no-mlflow, `tables`, a fault, a lost database."""
    driver.rebuild_tracking(results, scale)


@app.command()
def show(
    key: Annotated[str, typer.Argument(help="A trial key, or its beginning.", metavar="KEY")],
    results: Results = Path("results"),
    scale: ScaleName = "mini",
) -> None:
    """Show one record: inputs, scores, times, and the traceback of a failed trial."""
    screen.show_record(driver.find_record(results, scale, key))


@app.command()
def pretrain(
    what: Annotated[str, typer.Argument(help="A backbone, or `depth`.", metavar="ENCODER")],
    pretext: Annotated[
        str, typer.Option("--pretext", help="For a backbone: `canonical`, or masked `pixels` alone.")
    ] = "canonical",
    out: Annotated[Path, typer.Option("--out", help="Folder for the weights.")] = Path("harness/weights"),
    steps: Annotated[int, typer.Option("--steps", help="Optimiser steps.")] = 4000,
    scenes: Annotated[int, typer.Option("--scenes", help="Synthetic scenes to train on.")] = 1500,
    seed: Annotated[int, typer.Option("--seed", help="Random seed.")] = 0,
) -> None:
    """Make the shipped mini weights again, from synthetic scenes without labels, and print their probe score."""
    from harness.pretrain import pretrain as run_pretraining

    run_pretraining(what, pretext=pretext, out=out, steps=steps, scenes=scenes, seed=seed)


app.command()(check)
app.command("new-method")(new_method)
app.command()(params)
app.command("import-checkpoint")(import_checkpoint)
app.command()(predict)
app.command()(compare)
app.command()(leaderboard)
app.command()(report)
app.add_typer(bench, name="bench")
app.add_typer(data, name="data")
app.add_typer(weights, name="weights")


def run() -> None:
    """Entry point: a user's mistake ends in one message and exit code 2."""
    screen.set_up_logging()
    try:
        app()
    except ValueError as error:
        logging.getLogger(__name__).debug("user error", exc_info=True)
        screen.fail(str(error))
        sys.exit(2)
