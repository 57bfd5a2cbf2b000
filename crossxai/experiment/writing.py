"""A commented experiment file that says what a command line would run, to be changed by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossxai.experiment.defaults import LEFT_OUT
from crossxai.experiment.specification import Experiment
from crossxai.experiment.toml import value

INTRODUCTION = """\
# Run it:             crossxai compare {name} --out out/{stem}
# What would it cost: crossxai compare {name} --dry-run
# Every key and its meaning: docs/experiments.md. Lines that begin with # are choices that are not taken.
"""
DATA = """\
# A CSV file with the columns file and label, or a folder per class, in place of files tells the true classes.
# groups = "patients.csv"  # columns id and group, where samples belong together
"""
TARGET = """\
[target]
of = "predicted"  # the class that each model predicts; or "label", the true one, or the number of a class
# measure = "identity"  # metrics measure the raw output; the probability where there are classes, if not said
"""
MODEL = """\
# standardise = "imagenet"  # or [mean, sd] per channel; what comes along with the network if not said
# outputs = "logits"  # or "probabilities"; measured if not said
"""


def written(experiment: Experiment, chosen: Mapping[str, Any], name: str) -> str:
    """The file of an experiment whose explainers and metrics are all named.

    chosen: the manifest's entry about those that nobody had named, for the comments. name: the file's, for the commands.
    """
    stem = name.rpartition("/")[2].removesuffix(".toml")
    why = {one["label"]: f"{one['family']}: {one['why']}" for one in chosen.get("explainers", ())}
    lines = [INTRODUCTION.format(name=name, stem=stem), f"title = {value(experiment.title)}"]
    lines += [f"seed = {experiment.seed}  # draws samples; seeds explainers and metrics that draw", ""]
    lines += [
        "[data]",
        f"files = {value(experiment.data.files)}",
        f"n = {experiment.data.n}  # at most so many samples",
    ]
    lines += [DATA, TARGET]
    for model in experiment.models:
        plain = model.model_dump(mode="json", exclude_defaults=True)
        lines += ["[[models]]", *(f"{key} = {value(item)}" for key, item in plain.items())]
        lines += ["trust = true  # its file may run code of its own"] if model.trust else []
        lines += [] if model.size else ["# size = 224  # pixels a side; what comes along with the network if not said"]
        lines.append(MODEL)
    for explainer in experiment.explainers:
        lines += [f"# {why[explainer.shown]}"] if explainer.shown in why else []
        lines += ["[[explainers]]", f"name = {value(explainer.name)}"]
        lines += [f'profile = "{explainer.profile}"'] if explainer.profile != "native" else []
        lines += [f"params = {value(explainer.params)}"] if explainer.params else []
        lines.append("")
    left_out = {one["family"]: one["reason"] for one in chosen.get("left_out", ())}
    lines += [f"# Left out, {family}: {reason}" for family, reason in left_out.items() if family not in LEFT_OUT]
    lines += [
        "# More, cheap or not: `crossxai list` shows all.",
        *("# [[explainers]]\n# name = " + value(name) for name in ("captum.smooth_grad", "captum.deep_lift")),
        "",
    ]
    if "metrics" in chosen:
        lines += [f"# {chosen['metrics']}"]
    for metric in experiment.metrics:
        lines += ["[[metrics]]", f"name = {value(metric.name)}"]
        lines += [f"params = {value(metric.params)}"] if metric.params else []
        lines += [f"label = {value(metric.label)}"] if metric.label else []
        lines.append("")
    lines += ["# Whole curves instead: params = { steps = 100 }. More metrics: `crossxai list --metrics`."]
    return "\n".join(lines) + "\n"
