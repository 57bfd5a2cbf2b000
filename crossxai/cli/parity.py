"""`crossxai parity`: do the libraries agree, and if not, which convention is to blame?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from crossxai.cli import given, printing
from crossxai.cli.commands import clear_errors, escaped, quiet

GRID = {"segmentation": "grid", "patch": 16, "samples": 100}
PARAMS: dict[str, dict[str, object]] = {
    "occlusion": {"patch": 16, "stride": 8},
    "rise": {"samples": 200},
    "lime": GRID,
    "kernel_shap": GRID,
}
"""Parameters that a method needs to mean the same in every library."""


def parity(
    experiment: Annotated[
        str | None,
        typer.Argument(
            help="An experiment file, for its data, target, models and [parity], or a model; the demo's if not given."
        ),
    ] = None,
    model: given.Models = None,
    data: given.DataFiles = "",
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", help="Only this method; may be repeated.")
    ] = None,
    modality: Annotated[
        str | None, typer.Option("--modality", help="Of models with several inputs: the one whose maps are compared.")
    ] = None,
    sanity: Annotated[
        bool | None,
        typer.Option(
            "--sanity/--no-sanity",
            help="Draw the weights anew and train on shuffled labels, too, and see what is left of each map.",
        ),
    ] = None,
    axioms: Annotated[
        bool | None,
        typer.Option("--axioms/--no-axioms", help="Measure all axioms: which library keeps what a method promises?"),
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", "-n", min=1, help="At most so many samples; 4 if nothing says.")
    ] = None,
    expect: Annotated[
        str | None, typer.Option("--expect", help='The rung that all answers must reach, such as "same ranking".')
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="Whose answers must reach it: canonical, which is the default, or native."),
    ] = None,
    trust: given.Trust = False,
    size: given.Size = None,
    settings: given.Settings = None,
    as_json: printing.Json = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the page and its numbers.")] = Path("out/parity"),
) -> None:
    """Compare the libraries' maps of the same method, and name the conventions that part them.

    Options override [parity] of the experiment file. Exit status 1: what was expected is not met; where nothing was
    expected, the models differ or a difference is in no known convention.
    """
    from functools import cache

    from crossxai.conventions.convention import CANONICAL
    from crossxai.conventions.parity import parity as compare
    from crossxai.conventions.retraining import Retrained, retrain
    from crossxai.errors import ModelFailed, Unsupported
    from crossxai.experiment.loading import about_network
    from crossxai.experiment.questions import questions
    from crossxai.experiment.reading import models_and_samples
    from crossxai.experiment.specification import with_parity
    from crossxai.report.parity import write_parity
    from crossxai.report.words import listing

    with clear_errors():
        quiet()
        console = printing.results(as_json)
        path = experiment or (None if model else given.DEMO)
        most = max(samples or 0, given.SAMPLES)
        chosen = with_parity(
            given.chosen(path, model, data, most=most, trust=trust, size=size, settings=settings),
            methods=method, modality=modality, sanity=sanity, axioms=axioms, samples=samples, expect=expect, profile=profile,
        )  # fmt: skip
        wanted = chosen.parity
        models, failed, every, entry = models_and_samples(chosen)
        given.tell_left_out(every)
        if failed:
            raise ModelFailed("; ".join(f"model {name!r}: {reason}" for name, reason in failed.items()))
        known = {name: questions(chosen, every, loaded, name).explained for name, loaded in models.items()}
        asked = {name: question[: wanted.samples] for name, question in known.items()}

        @cache  # trained once for all methods
        def retrained(name: str) -> Retrained:
            return retrain(known[name].model, known[name].inputs, every.labels, wanted.samples)

        if wanted.modality:
            asked = {name: question.only(wanted.modality) for name, question in asked.items()}
        results, refused, reasons = [], dict[str, str](), list[str]()
        for name in wanted.methods or CANONICAL:
            params = {**PARAMS.get(name, {}), **wanted.params.get(name, {})}
            try:
                result = compare(asked, name, params, sanity=wanted.sanity, axioms=wanted.axioms, retrained=retrained)
            except Unsupported as error:  # the other methods go on
                refused[name] = str(error)
                reasons.append(f"{name}: {error}")
                console.print(escaped(reasons[-1]), highlight=False)
                continue
            results.append(result)
            console.print(f"{escaped(name)}: {result.rungs}", highlight=False)
            if wanted.expect:
                reasons += result.shortfalls(wanted.expect, wanted.profile)
        if not results:
            raise Unsupported("no method could be compared")
        title = f"Do the libraries agree on {listing(list(asked))}?"
        about = [{"name": name, **about_network(loaded.model)} for name, loaded in models.items()]
        samples_about = str(entry.get("description", ""))
        page = write_parity(out, results, title, wanted.expect, wanted.profile, about, samples_about, refused)
        if as_json:
            written = json.loads((page.parent / "parity.json").read_text(encoding="utf-8"))
            printing.print_json({"page": page.resolve(), "not_met": reasons if wanted.expect else [], **written})
        console.print(f"Page: [bold]{page.resolve()}[/]", soft_wrap=True)
        if wanted.expect and reasons:
            console.print(f"Expected: {wanted.expect}. Not met:", highlight=False)
            for reason in reasons:
                console.print(escaped(reason), highlight=False, soft_wrap=True)
        parted = any(not m.equal for r in results for m in r.models.values()) or any(r.unexplained for r in results)
        if reasons if wanted.expect else parted:
            raise typer.Exit(1)
