"""The table of all explainers, as docs/explainers.md shows it: made from the classes themselves, never by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import numpy as np

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
HEADINGS = (
    "explainer",
    "what it is",
    "family",
    "needs",
    "frameworks",
    "modalities",
    "outputs",
    "profiles",
    "passes",
    "defaults",
    "source",
)
INTRODUCTION = f"""# Every explainer

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
    """A model of known sizes that answers nothing: enough to ask an explainer what it would cost."""

    name = "sheet"

    def __init__(self, modality: Modality) -> None:
        self.modalities = (modality,)

    def predict(self, inputs: Inputs) -> Array:
        return np.zeros((len(inputs[0]), 1))

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
        return np.arange(float(len(activation)))[:, None]  # the score depends on the layer


def _example(kind: type[Method]) -> Question:
    image = "image" in kind.kinds
    modality = Modality.image() if image else Modality.table(tuple(f"column{i}" for i in range(10)))
    shape = (1, SIDE, SIDE, 3) if image else (1, 10)
    return Question(_Sheet(modality), (np.zeros(shape, np.float32),), Target.outputs(0, 1, 1))


def rows() -> list[dict[str, str]]:
    """One dictionary per explainer, heading → cell."""
    return [_row(name, kind) for name, kind in discover().items()]


def _row(name: str, kind: type[Method]) -> dict[str, str]:
    together = "jointly" if kind.joint else "one at a time"
    parameters = [f for f in dataclasses.fields(kind) if f.name != "profile"]
    cells = (
        f"`{name}`",
        kind.summary,
        kind.family,
        kind.needs,
        FRAMEWORKS[kind.needs],
        f"{', '.join(f'{k}s' for k in kind.kinds)}; {together}",
        "any",
        ", ".join(kind.profiles),
        _passes(kind),
        ", ".join(f"{f.name} {_value(f.default)}" for f in parameters),
        kind.reference,
    )
    return dict(zip(HEADINGS, cells, strict=True))


def _passes(kind: type[Method]) -> str:
    costs = []
    for profile in kind.profiles:
        try:
            forward, backward = kind(profile=profile).cost(_example(kind))
        except InvalidInput:
            costs.append("depends on the image")
        except Unsupported:
            costs.append("refused at this size")
        else:
            costs.append("0" if not forward + backward else f"{forward:,} + {backward:,}".replace(",", " "))
    if len(set(costs)) == 1:
        return costs[0]
    return "; ".join(f"{cost} ({profile})" for cost, profile in zip(costs, kind.profiles, strict=True))


def _value(default: Any) -> str:
    return (
        f'"{default}"'
        if isinstance(default, str)
        else str(default).lower()
        if isinstance(default, bool)
        else str(default)
    )


def markdown() -> str:
    """The whole page."""
    lines = [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row.values())} |" for row in rows()]
    return INTRODUCTION + "\n" + "\n".join(lines) + "\n"
