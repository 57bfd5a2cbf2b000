"""`crossxai compare`, `demo` and `report`: a run, its page, and what the terminal or a program is told of them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossxai.cli import given, printing
from crossxai.cli.commands import clear_errors, quiet
from crossxai.errors import InvalidInput

if TYPE_CHECKING:
    from crossxai.experiment.sharding import Shard
    from crossxai.experiment.specification import Experiment
    from crossxai.experiment.workers import Engine

NOT_OF_SHARDS = ("shard", "out", "dry", "price", "as_json", "silent", "engine", "workers", "shards", "address", "gpus",
                 "slurm")  # fmt: skip
"""Options that are no words of the command that makes a shard."""
Out = Annotated[
    str,
    typer.Option("--out", "-o", **given.PLACE, help="Folder for the run's files and the report; also s3://bucket/run."),
]


def compare(
    context: typer.Context,
    experiment: Annotated[
        str | None,
        typer.Argument(
            help="The experiment file (TOML; see docs/experiments.md), or a model as --model names it.",
            show_default=False,
        ),
    ] = None,
    model: given.Models = None,
    data: given.DataFiles = "",
    explainers: given.Explainers = "",
    metrics: given.Metrics = "",
    samples: Annotated[
        int | None,
        typer.Option("--samples", "-n", min=1, help="At most so many samples; 12 of --data if not given."),
    ] = None,
    trust: given.Trust = False,
    size: given.Size = None,
    device: given.Device = "",
    precision: given.Precision = "",
    compiled: given.Compile = False,
    target: given.Target = "",
    settings: given.Settings = None,
    out: Out = "out",
    shard: Annotated[
        str,
        typer.Option(
            "--shard",
            metavar="N/OF",
            help="Explain and evaluate one part of the samples only, 3/64 the third of 64; `crossxai merge` joins all parts.",
        ),
    ] = "",
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            help="Run in shards by many workers: ray, or slurm (here, as processes, where there is no Slurm).",
        ),
    ] = "",
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Of --engine: how many; as many as fit if not given.")
    ] = 0,
    shards: Annotated[int, typer.Option("--shards", min=0, help="Of --engine: how many; 4 a worker if not given.")] = 0,
    address: Annotated[
        str, typer.Option("--address", help="Of --engine ray: a Ray cluster's; auto for one that runs here.")
    ] = "",
    gpus: Annotated[float, typer.Option("--gpus-per-worker", min=0, help="Of --engine: such as 1, or 0.5.")] = 0.0,
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            "--slurm", metavar="KEY=VALUE", help="Of --engine slurm: Slurm's own, partition=gpu say; may be repeated."
        ),
    ] = None,
    keep_maps: Annotated[
        str,
        typer.Option(
            "--keep-maps",
            help="Of maps that are measured, keep all, float16, none, or those of some samples: sample:200.",
        ),
    ] = "",
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would cost: passes, time, memory, disk. Nothing is written.")
    ] = False,
    price: Annotated[
        str, typer.Option("--price", metavar="NUMBER", help="Of --dry-run: what a worker costs for an hour, 2.50 say.")
    ] = "",
    as_json: printing.Json = False,
    silent: printing.Quiet = False,
) -> None:
    """Run explainers × models × metrics and write the report; a stopped run goes on where it was.

    Where no explainers or metrics are named, one explainer of each family that the model can answer is asked, and deletion and
    insertion are measured from few passes; which and why is said first, and on the page. Exit status 3: the report is written,
    and some rows failed.
    """
    with clear_errors():
        from crossxai.experiment.sharding import Shard
        from crossxai.files import remote

        settings = [*(settings or ()), *([f"keep_maps={keep_maps}"] if keep_maps else ())]
        chosen = given.chosen(
            experiment, model, data, samples=samples, trust=trust, size=size, target=target, settings=settings,
            running=given.Running(device, precision, compiled), explainers=explainers, metrics=metrics,
        )  # fmt: skip
        part = Shard.read(shard, _written(context)) if shard else None
        _check_engine(context.params)
        with remote.folder(out) as folder:
            where = None
            if engine:
                from crossxai.experiment.workers import Engine

                where = Engine(workers, shards, address, gpus, given.pairs(slurm or (), "--slurm"))
            if dry:
                from crossxai.cli.planned import say_plan

                say_plan(chosen, folder, as_json, silent, part, where, price)
            elif where is not None:
                _on_engine(engine, chosen, folder, where, _written(context), as_json, silent)
            else:
                run(chosen, folder, as_json, silent, part)


def _check_engine(said: dict[str, Any]) -> None:
    """Raise `InvalidInput` for options of an engine without it, or of another one."""
    engine = said["engine"]
    if engine not in ("", "ray", "slurm"):
        raise InvalidInput(f"--engine is ray or slurm, got {engine}")
    options = {"workers": "", "shards": "", "gpus": "", "address": "ray", "slurm": "slurm"}
    names = {"gpus": "gpus-per-worker"}
    for key, of in options.items():
        if said[key] and (not engine or (of and of != engine)):
            raise InvalidInput(f"--{names.get(key, key)} belongs beside --engine {of or 'ray or --engine slurm'}")
    if engine and said["shard"]:
        raise InvalidInput("--engine runs all shards: do not write it beside --shard, which is one part of that")
    if said["price"] and not said["dry"]:
        raise InvalidInput("--price belongs beside --dry-run, which says what a run would cost")


def _on_engine(
    engine: str, experiment: Experiment, out: Path, where: Engine, command: str, as_json: bool, silent: bool
) -> None:
    """Run in shards by many workers, merge them, and report. command: what makes a shard, but for its number."""
    if engine == "ray":
        from crossxai.experiment.on_ray import run_on_ray as run_on
    else:
        from crossxai.experiment.on_slurm import run_on_slurm as run_on
    quiet()
    try:
        run_on(experiment, out, where, command, printing.notes(silent))
    except KeyboardInterrupt:
        words = "Stopped. The same command goes on with the shards that are missing."
        printing.notes().print(words, highlight=False, soft_wrap=True)
        raise typer.Exit(130) from None
    end(out, as_json)


def _written(context: typer.Context) -> str:
    """The command as it was written, but for the shard, the folder and what is shown."""
    words = [*context.command_path.split()]
    for option in context.command.params:
        value, name = context.params.get(str(option.name)), str(option.opts[0])
        if option.name in NOT_OF_SHARDS or value == option.default or not value:
            continue
        for each in value if isinstance(value, list | tuple) else [value]:
            words += [str(each)] if not name.startswith("-") else [name] if each is True else [name, str(each)]
    return shlex.join(words)


def demo(
    out: Out = "out/demo",
    samples: Annotated[int, typer.Option("--samples", "-n", min=1, help="How many patches to explain.")] = 12,
    as_json: printing.Json = False,
    silent: printing.Quiet = False,
) -> None:
    """Compare four libraries on one ResNet-18 in PyTorch and in TensorFlow, on embedded histology: no download."""
    from crossxai.files import remote

    with clear_errors(), remote.folder(out) as folder:
        run(given.chosen(given.DEMO, None, "", samples=samples), folder, as_json, silent)


def report(
    folder: Annotated[str, typer.Argument(**given.PLACE, help="The folder of a run, or its URL.")],
    as_json: printing.Json = False,
) -> None:
    """Write the report of a run again from its files; needs neither framework nor explainer library."""
    from crossxai.files import remote

    with clear_errors(), remote.folder(folder) as here:
        remote.fetched(here, *remote.RUN)
        _report(here, as_json)


def run(
    experiment: Experiment, out: Path, as_json: bool = False, silent: bool = False, shard: Shard | None = None
) -> None:
    """Run, report if it is no shard, and end with 3 if something failed that should not have, 130 if Ctrl-C stopped it."""
    from crossxai.experiment import parts, sharding
    from crossxai.experiment import run as runs
    from crossxai.files import tasks
    from crossxai.files.remote import shown

    quiet()
    console = printing.notes()
    try:
        if shard is None:
            folder = parts.run_all(experiment, out, printing.notes(silent))
        else:
            folder = runs.run(experiment, out, printing.notes(silent), shard=shard)
    except KeyboardInterrupt:
        folder = shard.folder(out) if shard else out
        done = tasks.done(folder) or sharding.done(folder) or "nothing is done yet"
        console.print(
            f"Stopped: {done}. The same command goes on from there; `crossxai report {shown(folder)}` reports what is there.",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
        raise typer.Exit(130) from None
    if shard is None:
        end(out, as_json)
        return
    if as_json:
        printing.print_json({"folder": shown(folder.resolve()), "failures": runs.failures_of(folder)})
    console.print(sharding.next_step(shard, out), highlight=False, markup=False, soft_wrap=True)
    _end_of_failures(folder, "files of the shard")


def end(out: Path, as_json: bool) -> None:
    """Write the report of a finished run, and end with 3 if something failed."""
    _report(out, as_json)
    _end_of_failures(out, "report")


def _end_of_failures(out: Path, where: str) -> None:
    from crossxai.experiment import run as runs
    from crossxai.experiment.progress import FOLDER
    from crossxai.files.remote import shown

    if n := len(runs.failures_of(out)):
        rows = "1 row has" if n == 1 else f"{n} rows have"
        message = f"{rows} failed; the reasons are in the {where}, the tracebacks in {shown(out / FOLDER)}"
        printing.notes().print(message, style="bold red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(3)


def _report(folder: Path, as_json: bool) -> None:
    from crossxai.cli import tables
    from crossxai.files.remote import shown
    from crossxai.report import write_report
    from crossxai.report.score_files import CSV, PARQUET, written

    page = write_report(folder)
    if as_json:
        printing.print_json(_document(folder, page))
        return
    console = printing.results()
    table, lines = tables.summary(folder, console.width)
    console.print(table)
    for line in lines:
        console.print(line, highlight=False, markup=False)
    if CSV not in written(folder):
        console.print(
            f"Scores of all samples: {shown(folder / PARQUET)}; for {CSV} they are too many.",
            highlight=False,
            markup=False,
        )
    console.print(f"Report: [bold]{shown(page.resolve())}[/]", soft_wrap=True)


def _document(folder: Path, page: Path) -> dict[str, Any]:
    """What a program is told of a run: where it is, what it says, and a row per model and explainer as in summary.csv."""
    import pandas as pd

    from crossxai.files.remote import shown

    written = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    rows = pd.read_csv(folder / "summary.csv", keep_default_na=False, na_values=[""])
    manifest = written["manifest"]
    return {
        "report": shown(page.resolve()),
        "verdict": written["verdict"]["headline"],
        "findings": [finding["headline"] for finding in written["findings"]],
        "rows": rows.to_dict("records"),
        "failures": manifest.get("failures", []),
        "chosen": manifest.get("chosen", {}),
    }
