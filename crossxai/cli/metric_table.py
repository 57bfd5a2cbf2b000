"""The table of all metrics, as docs/metrics.md shows it: made from the classes themselves, never by hand."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import numpy as np

from crossxai import evaluation, explainers
from crossxai.attribution import Axis, needs_explainer
from crossxai.errors import InvalidInput, Unsupported
from crossxai.model import Array, Inputs, Modality
from crossxai.question import Question
from crossxai.target import Target

SIDE = 224
HEADINGS = ("metric", "what it is", "axis", "better", "range", "needs", "cost", "parameters", "source")
INTRODUCTION = f"""# Every metric

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


class _Sheet:
    """A model of many layers that answers nothing: enough to ask a metric what it would cost."""

    name = "sheet"

    def __init__(self, *modalities: Modality) -> None:
        self.modalities = modalities

    def predict(self, inputs: Inputs) -> Array:
        return np.zeros((len(inputs[0]), 2))

    def weighted(self, inputs: Inputs) -> tuple[str, ...]:
        return tuple(f"layer{i}" for i in range(50))

    def randomised(self, inputs: Inputs, depth: int, seed: int) -> _Sheet:
        return self


def rows() -> list[dict[str, str]]:
    """One dictionary per metric, heading → cell, axis by axis."""
    return [_row(entry) for entry in entries()]


def entries() -> list[evaluation.Entry]:
    """Every metric, axis by axis."""
    return sorted(evaluation.discover(), key=lambda e: (_place(e), e.name))


def needs(entry: evaluation.Entry) -> str:
    """What a metric asks of the model, or that it asks the explainer again."""
    return "the explainer" if getattr(entry.metric, "asks", "") == "explainer" else entry.needs


def _place(entry: evaluation.Entry) -> int:
    axes = get_args(Axis)
    axis = getattr(entry.metric, "axis", "")
    return axes.index(axis) if axis in axes else len(axes)


def _row(entry: evaluation.Entry) -> dict[str, str]:
    low, high = getattr(entry.metric, "range", (None, None))
    any_value = "any" if low is None and high is None else f"{_end(low, '−∞')} to {_end(high, '∞')}"
    parameters = [f for f in dataclasses.fields(entry.metric) if f.init]
    cells = (
        f"`{entry.name}`",
        entry.purpose,
        getattr(entry.metric, "axis", "–"),
        "higher" if entry.higher_is_better else "lower",
        any_value,
        needs(entry),
        _cost(entry),
        ", ".join(f"{f.name}{_default(f)}" for f in parameters),
        getattr(entry.metric, "source", "–"),
    )
    return dict(zip(HEADINGS, cells, strict=True))


def _end(value: float | None, infinite: str) -> str:
    return infinite if value is None else f"{value:g}".replace("-", "−")


def _cost(entry: evaluation.Entry) -> str:
    image, table = np.zeros((1, SIDE, SIDE, 3), np.float32), np.zeros((1, 1), np.float32)
    question = Question(_Sheet(Modality.image()), (image,), Target.classes([0], 2))
    if getattr(entry.metric, "axis", "") == "cross-modal":
        question = Question(_Sheet(Modality.image(), Modality.table(("age",))), (image, table), Target.classes([0], 2))
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


def markdown() -> str:
    """The whole page."""
    lines = [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row.values())} |" for row in rows()]
    return INTRODUCTION + "\n" + "\n".join(lines) + "\n"
