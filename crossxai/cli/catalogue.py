"""The tables of all explainers and of all metrics, as docs/explainers.md and docs/metrics.md show them: made from the classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any, get_args

import numpy as np

from crossxai import evaluation, explainers
from crossxai.attribution import Axis, needs_explainer
from crossxai.errors import InvalidInput, Unsupported
from crossxai.explainers import Method, discover
from crossxai.model import Array, Cotangent, Inputs, Modality
from crossxai.question import Question
from crossxai.target import Target

SIDE, CHANNELS, GRID = 224, 512, 7
FRAMEWORKS = {
    "scores": "PyTorch, Keras, any function",
    "gradients": "PyTorch, Keras",
    "layers": "PyTorch, Keras",
    "module": "PyTorch, Keras, each on a rebuilt twin",
    "attention": "PyTorch, Keras",
    "nothing": "any",
}
EXPLAINER_INTRODUCTION = f"""# Every explainer

This page is written by `crossxai list --markdown`; a test fails when it is out of date. [support.md](support.md) shows
what the tests found for each of them on each kind of model. Explainers that you have already can [stand beside them](bring.md).

- **Outputs**: every explainer explains one number per sample, the target's: a class's logit or probability, a regression
  output, or the mean of a class over a region of a segmentation map; "any" says so.
- **Frameworks**: "twin" means that the method hooks or rewrites layers, which no bridge can carry. The network is rebuilt from
  ordinary layers in the library's framework, whatever framework it came from, and the map's `twin_gap` says how far the
  twin's scores are from the model's.
- **Modalities**: "jointly" explains all free modalities in one answer; otherwise each is explained with the others held at
  their own values. Modalities of other kinds get no map.
- **Profiles**: native is the library's own defaults, canonical the definition on which libraries meet
  ([conventions](conventions.md)).
- **Passes**: forward + backward passes per sample, with the defaults, for one {SIDE} × {SIDE} RGB image (for tables only: ten
  columns) and a layer of {CHANNELS} channels on a {GRID} × {GRID} grid; `Explainer.cost(question)` gives the number for any
  question whose number of groups is known beforehand, and the tests count that it is exact.
- **Memory**: at most four batches of perturbed copies exist at once, whatever the steps and the samples (`batch_size` is the
  question's). Where a library or a definition needs more of one sample together, it is this many: the steps of
  `xplique.integrated_gradients` and `reference.integrated_gradients`, the samples of `captum.gradient_shap`, the channels of
  `gradcam.scorecam`, the masks (not the images) of `xplique.occlusion`.
"""


class _Sheet:
    """A model of known sizes that answers nothing: enough to ask what an explainer or a metric would cost."""

    name = "sheet"

    def __init__(self, *modalities: Modality) -> None:
        self.modalities = modalities

    def predict(self, inputs: Inputs) -> Array:
        return np.zeros((len(inputs[0]), 2))

    def vjp(self, inputs: Inputs, cotangent: Cotangent) -> tuple[Array, Inputs]:
        raise Unsupported("nothing is computed here")

    def activations(self, inputs: Inputs, layers: Collection[str] | None = None) -> dict[str, Array]:
        return {"layer": np.zeros((len(inputs[0]), GRID, GRID, CHANNELS), np.float32)}

    def axes_of(self, layer: str) -> tuple[str, ...]:
        return ("y", "x", "channel")

    def layer_vjp(self, inputs: Inputs, cotangent: Cotangent, layer: str) -> tuple[Array, Array, Array]:
        raise Unsupported("nothing is computed here")

    def read(self, inputs: Inputs, layer: str) -> tuple[Array, Array]:
        return self.predict(inputs), self.activations(inputs)[layer]

    def replace(self, inputs: Inputs, layer: str, activation: Array) -> Array:
        return np.arange(2.0 * len(activation)).reshape(-1, 2)  # the score depends on the layer

    def weighted(self, inputs: Inputs) -> tuple[str, ...]:
        return tuple(f"layer{i}" for i in range(50))

    def randomised(self, inputs: Inputs, depth: int, seed: int) -> _Sheet:
        return self


def _question(*modalities: Modality) -> Question:
    """A question on images of `SIDE` pixels a side, or tables, or both."""
    inputs = (
        np.zeros((1, SIDE, SIDE, 3) if modality.spatial else (1, len(modality.features)), np.float32)
        for modality in modalities
    )
    return Question(_Sheet(*modalities), tuple(inputs), Target.classes([0], 2))


def explainer_row(name: str, kind: type[Method]) -> dict[str, str]:
    """Heading → cell."""
    together = "jointly" if kind.joint else "one at a time"
    return {
        "explainer": f"`{name}`",
        "what it is": kind.summary,
        "family": kind.family,
        "needs": kind.needs,
        "frameworks": FRAMEWORKS[kind.needs],
        "modalities": f"{', '.join(f'{k}s' for k in kind.kinds)}; {together}",
        "outputs": "any",
        "profiles": ", ".join(kind.profiles),
        "passes": _passes(kind),
        "defaults": ", ".join(f"{f.name}{_default(f)}" for f in dataclasses.fields(kind) if f.name != "profile"),
        "source": kind.reference,
    }


def _passes(kind: type[Method]) -> str:
    table = Modality.table(tuple(f"column{i}" for i in range(10)))
    question = _question(Modality.image() if "image" in kind.kinds else table)
    costs = []
    for profile in kind.profiles:
        try:
            forward, backward = kind(profile=profile).cost(question)
        except InvalidInput:
            costs.append("depends on the image")
        except Unsupported:
            costs.append("refused at this size")
        else:
            costs.append("0" if not forward + backward else f"{forward:,} + {backward:,}".replace(",", " "))
    if len(set(costs)) == 1:
        return costs[0]
    return "; ".join(f"{cost} ({profile})" for cost, profile in zip(costs, kind.profiles, strict=True))


def explainer_page() -> str:
    """The whole page of all explainers."""
    return _page(EXPLAINER_INTRODUCTION, [explainer_row(*entry) for entry in discover().items()])


METRIC_INTRODUCTION = f"""# Every metric

This page is written by `crossxai list --metrics --markdown`; a test fails when it is out of date. How to read scores in a
report: [report.md](report.md). How to add a metric: [plugins.md](plugins.md).

- **Axis**: *faithfulness*, does the map name what the model uses; *localisation*, does it lie where the evidence is known to
  be; *stability*, does it stay when little changes; *randomisation*, does it go when the model is destroyed or another class
  is asked about; *complexity*, how concentrated or smooth it is; *axiomatic*, does it hold what its definition promises;
  *cross-modal*, which modality gets how much, and is that what the model does. No axis replaces another: a map that never looks
  at the model is stable, and may be simple.
- **Range**: the smallest and largest value, "any" where there is none.
- **Needs**: what the metric asks of a model; "the explainer" makes maps again, and needs of the model what it always needs.
- **Cost**: forward passes per sample for one map alone, and how many times each sample is explained again, with the defaults,
  for a {SIDE} × {SIDE} RGB image (cross-modal: and a table) and a network of many layers; `metric.passes(question)` and
  `metric.explanations(question, explainer)` give the numbers for any question, and the tests count that they are exact.
- Metrics that explain again are called as `metric(question, attribution, explainer)`, with the question that was explained;
  the others as `metric(question, attribution)`, with the link that is measured.
- A map that is NaN or infinite has no value in any metric; what else has none, each class says.
"""


def metric_entries() -> list[evaluation.Entry]:
    """Every metric, axis by axis; last those that name none of ours."""
    places = {axis: place for place, axis in enumerate(get_args(Axis))}
    return sorted(evaluation.discover(), key=lambda e: (places.get(getattr(e.metric, "axis", ""), len(places)), e.name))


def metric_needs(entry: evaluation.Entry) -> str:
    """What a metric asks of the model, or that it asks the explainer again."""
    return "the explainer" if getattr(entry.metric, "asks", "") == "explainer" else entry.needs


def metric_row(entry: evaluation.Entry) -> dict[str, str]:
    """Heading → cell."""
    low, high = getattr(entry.metric, "range", (None, None))
    any_value = "any" if low is None and high is None else f"{_end(low, '−∞')} to {_end(high, '∞')}"
    return {
        "metric": f"`{entry.name}`",
        "what it is": entry.purpose,
        "axis": getattr(entry.metric, "axis", "–"),
        "better": "higher" if entry.higher_is_better else "lower",
        "range": any_value,
        "needs": metric_needs(entry),
        "cost": _cost(entry),
        "parameters": ", ".join(f"{f.name}{_default(f)}" for f in dataclasses.fields(entry.metric) if f.init),
        "source": getattr(entry.metric, "source", "–"),
    }


def _end(value: float | None, infinite: str) -> str:
    return infinite if value is None else f"{value:g}".replace("-", "−")


def _cost(entry: evaluation.Entry) -> str:
    table = (Modality.table(("age",)),) if getattr(entry.metric, "axis", "") == "cross-modal" else ()
    question = _question(Modality.image(), *table)
    needed = {f.name for f in dataclasses.fields(entry.metric) if f.init and f.default is dataclasses.MISSING}
    try:
        metric: Any = evaluation.get(entry.name, **{name: np.ones((SIDE, SIDE)) for name in needed & {"masks"}})
        passes = int(metric.passes(question))
        again = metric.explanations(question, explainers.get("controls.random")) if needs_explainer(metric) else 0
    except (InvalidInput, Unsupported, AttributeError):  # a plug-in may say nothing of its cost
        return "–"
    words = [f"{again} explanation{'s' if again > 1 else ''}"] if again else []
    return " + ".join(([str(passes)] if passes or not again else []) + words)


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return ""
    value = field.default
    return f' "{value}"' if isinstance(value, str) else f" {str(value).lower() if isinstance(value, bool) else value}"


def metric_page() -> str:
    """The whole page of all metrics."""
    return _page(METRIC_INTRODUCTION, [metric_row(entry) for entry in metric_entries()])


def _page(introduction: str, rows: list[dict[str, str]]) -> str:
    lines = [f"| {' | '.join(rows[0])} |", f"|{'---|' * len(rows[0])}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row.values())} |" for row in rows]
    return introduction + "\n" + "\n".join(lines) + "\n"
