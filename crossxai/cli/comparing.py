"""`crossxai compare`, `demo` and `report`: a run, its page, and what the terminal or a program is told of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossxai.cli import given, printing
from crossxai.cli.commands import clear_errors, quiet

if TYPE_CHECKING:
    from crossxai.experiment.specification import Experiment

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the run's files and the report.")]


def compare(
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
    target: given.Target = "",
    settings: given.Settings = None,
    out: Out = Path("out"),
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would cost: passes, time, memory, disk. Nothing is written.")
    ] = False,
    as_json: printing.Json = False,
    silent: printing.Quiet = False,
) -> None:
    """Run explainers × models × metrics and write the report; a stopped run goes on where it was.

    Where no explainers or metrics are named, one explainer of each family that the model can answer is asked, and deletion and
    insertion are measured from few passes; which and why is said first, and on the page. Exit status 3: the report is written,
    and some rows failed.
    """
    with clear_errors():
        chosen = given.chosen(
            experiment, model, data, samples=samples, trust=trust, size=size, target=target, settings=settings,
            explainers=explainers, metrics=metrics,
        )  # fmt: skip
        if dry:
            _plan(chosen, out, as_json, silent)
            return
        run(chosen, out, as_json, silent)


def demo(
    out: Out = Path("out/demo"),
    samples: Annotated[int, typer.Option("--samples", "-n", min=1, help="How many patches to explain.")] = 12,
    as_json: printing.Json = False,
    silent: printing.Quiet = False,
) -> None:
    """Compare four libraries on one ResNet-18 in PyTorch and in TensorFlow, on embedded histology: no download."""
    with clear_errors():
        run(given.chosen(given.DEMO, None, "", samples=samples), out, as_json, silent)


def report(
    folder: Annotated[Path, typer.Argument(help="The folder of a run.")], as_json: printing.Json = False
) -> None:
    """Write the report of a run again from its files; needs neither framework nor explainer library."""
    with clear_errors():
        _report(folder, as_json)


def run(experiment: Experiment, out: Path, as_json: bool = False, silent: bool = False) -> None:
    """Run, report, and end with 3 if something failed that should not have, 130 if Ctrl-C stopped it."""
    from crossxai.experiment import run as runs
    from crossxai.experiment.progress import FOLDER
    from crossxai.files import tasks

    quiet()
    console = printing.notes()
    try:
        runs.run(experiment, out, printing.notes(silent))
    except KeyboardInterrupt:
        done = tasks.done(out) or "nothing is done yet"
        console.print(
            f"Stopped: {done}. The same command goes on from there; `crossxai report {out}` reports what is there.",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
        raise typer.Exit(130) from None
    _report(out, as_json)
    if n := len(runs.failures_of(out)):
        rows = "1 row has" if n == 1 else f"{n} rows have"
        message = f"{rows} failed; the reasons are in the report, the tracebacks in {out / FOLDER}"
        console.print(message, style="bold red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(3)


def _plan(experiment: Experiment, out: Path, as_json: bool, silent: bool) -> None:
    """What the run would cost, a line per step."""
    from crossxai.cli import tables
    from crossxai.experiment import defaults
    from crossxai.experiment.planning import plan

    quiet()
    planned = plan(experiment, out)
    for line in defaults.lines(planned.chosen):
        printing.notes(silent).print(line, markup=False, highlight=False, soft_wrap=True)
    if as_json:
        forward, backward = planned.passes
        total = {"forward": forward, "backward": backward, "seconds": planned.seconds, "exact": not planned.bounded}
        printing.print_json({"total": total, **vars(planned)})
        return
    console = printing.results()
    table, lines = tables.planned(planned)
    console.print(table)
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _report(folder: Path, as_json: bool) -> None:
    from crossxai.cli import tables
    from crossxai.report import write_report

    page = write_report(folder)
    if as_json:
        printing.print_json(_document(folder, page))
        return
    console = printing.results()
    table, lines = tables.summary(folder, console.width)
    console.print(table)
    for line in lines:
        console.print(line, highlight=False, markup=False)
    console.print(f"Report: [bold]{page.resolve()}[/]", soft_wrap=True)


def _document(folder: Path, page: Path) -> dict[str, Any]:
    """What a program is told of a run: where it is, what it says, and a row per model and explainer as in summary.csv."""
    import pandas as pd

    written = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    rows = pd.read_csv(folder / "summary.csv", keep_default_na=False, na_values=[""])
    manifest = written["manifest"]
    return {
        "report": page.resolve(),
        "verdict": written["verdict"]["headline"],
        "findings": [finding["headline"] for finding in written["findings"]],
        "rows": rows.to_dict("records"),
        "failures": manifest.get("failures", []),
        "chosen": manifest.get("chosen", {}),
    }
