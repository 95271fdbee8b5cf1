"""The commands `bench trial`, `step`, `modules` and `data`: parse, call. No logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness import driver
from harness.bench_setup import MADE, DataSetup, Setup, StepSetup
from harness.cli_options import Accumulate, Boundaries, Checkpointing, Compiled, Settings
from harness.means import Thrift

bench = typer.Typer(no_args_is_help=True, help="Measure what the harness itself costs, and the methods.")


@bench.command("trial")
def bench_trial(
    executor: Annotated[
        list[str], typer.Option("--executor", help="Only this executor (may be repeated).", show_default=False)
    ] = [],  # noqa: B006
    workers: Annotated[int, typer.Option("--workers", help="Workers of the ray runs.")] = 2,
    scale: Annotated[str, typer.Option("--scale", help="Scale of the trials.")] = "mini",
    trials: Annotated[int, typer.Option("--trials", help="Short trials per executor.")] = 8,
    stubs: Annotated[int, typer.Option("--stubs", help="Stub trials for the driver's CPU share; 0 for none.")] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Overhead of a trial outside its steps, per executor, and the CPU share of the driver."""
    driver.bench_trial(executor, workers=workers, scale=scale, trials=trials, stubs=stubs, as_json=as_json)


@bench.command("step")
def bench_step(
    backbone: Annotated[str, typer.Option("--backbone", help="Backbone (see `list backbones`).")],
    method: Annotated[str, typer.Option("--method", help="Method, by name or path/to/file.py:Class.")],
    scale: Annotated[str, typer.Option("--scale", help="`paper` or `mini`.")] = "paper",
    task: Annotated[str, typer.Option("--task", help="Whose bands and classes; its data need not be here.")] = MADE,
    image_size: Annotated[int, typer.Option("--image-size", help="Side of a crop; 0 for the protocol's.")] = 0,
    batch: Annotated[int, typer.Option("--batch", help="Crops of a step; 0 for the protocol's.")] = 0,
    precision: Annotated[
        str,
        typer.Option(
            "--precision", help="`fp32`, or `bf16` by autocast.", show_default="bf16 on a GPU, fp32 on the CPU"
        ),
    ] = "",
    steps: Annotated[int, typer.Option("--steps", help="Steps that are timed, after the warm-ups.")] = 3,
    threads: Annotated[int, typer.Option("--threads", help="Threads of torch on the CPU.")] = 1,
    device: Annotated[str, typer.Option("--device", help="`cpu`, `cuda`, or `auto`: CUDA if there is any.")] = "auto",
    checkpointing: Checkpointing = False,
    accumulate: Accumulate = 1,
    compiled: Compiled = False,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Draw the encoders' weights: no published file is needed.")
    ] = False,
    settings: Settings = [],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for `plan --measured`.")] = False,
) -> None:
    """Time of a training step by part, its memory and FLOPs; without data, and if need be without weights."""
    from harness import step_driver

    setup = StepSetup(
        scale=scale,
        backbone=backbone,
        method=method,
        task=task,
        image_size=image_size,
        batch=batch,
        precision=precision,
        device=device,
        steps=steps,
        threads=threads,
        thrift=Thrift(checkpointing=checkpointing, accumulate=accumulate, compiled=compiled),
        random_weights=random_weights,
        settings=tuple(settings),
    )
    step_driver.bench_step(setup, as_json=as_json)


@bench.command("modules")
def bench_modules(
    method: Annotated[
        list[str],
        typer.Option(
            "--method",
            help="Only this method, by name (`peft:TUNER` too) or path/to/file.py:Class (repeatable).",
            show_default=False,
        ),
    ] = [],  # noqa: B006
    width: Annotated[int, typer.Option("--width", help="Token width; heads are 64 wide.")] = 1024,
    tokens: Annotated[int, typer.Option("--tokens", help="Patch tokens of an image: a square number.")] = 1024,
    batch: Annotated[int, typer.Option("--batch", help="Images at a time.")] = 1,
    precision: Annotated[str, typer.Option("--precision", help="`fp32`, or `bf16` by autocast.")] = "fp32",
    device: Annotated[str, typer.Option("--device", help="`cpu`, `cuda`, or `auto`: CUDA if there is any.")] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Through torch.compile, block and methods.")] = False,
    repeats: Annotated[int, typer.Option("--repeats", help="Samples of each time, in turn with the block's.")] = 10,
    threads: Annotated[int, typer.Option("--threads", help="Threads of torch on the CPU.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Time and memory of a block with each method, beside a plain one; exit code 1 if a method does not run."""
    setup = Setup(
        width=width,
        tokens=tokens,
        batch=batch,
        precision=precision,
        device=device,
        compiled=compiled,
        repeats=repeats,
        threads=threads,
    )
    raise typer.Exit(driver.bench_modules(method, setup, as_json=as_json))


@bench.command("data")
def bench_data(
    task: Annotated[str, typer.Argument(help="Whose recipe (see `list tasks`).", metavar="[TASK]")] = MADE,
    raw: Annotated[
        Path | None,
        typer.Option("--raw", help="Folder of official files; without it, small ones are made.", show_default=False),
    ] = None,
    choose: Annotated[
        list[str], typer.Option("--choose", help="As for `data prepare` (repeatable).", show_default=False)
    ] = [],  # noqa: B006
    boundaries: Boundaries = None,
    scenes: Annotated[int, typer.Option("--scenes", help="Scenes of each domain at most.")] = 2,
    bands: Annotated[
        list[int],
        typer.Option("--bands", help="Feed made tiles of so many bands: 3, 4, 32 (repeatable).", show_default=False),
    ] = [],  # noqa: B006
    repeats: Annotated[int, typer.Option("--repeats", help="Samples of each time, in turn with plain reading.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Tiles per second and core of `data prepare` and of the training pipeline, beside plainly reading the files."""
    from harness import data_driver

    setup = DataSetup(
        task=task,
        raw=raw,
        choose=tuple(choose),
        boundaries=boundaries,
        scenes=scenes,
        bands=tuple(bands),
        repeats=repeats,
    )
    data_driver.bench(setup, as_json=as_json)
