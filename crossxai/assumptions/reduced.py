"""What a reduced precision does to a model: how far outputs and a gradient are from those of the same network in full."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from crossxai.assumptions.facts import Fact
from crossxai.assumptions.probes import outputs_in_batches
from crossxai.errors import CrossXAIError
from crossxai.measures import Measure
from crossxai.model import Array, Differentiable, Inputs, Model, Reducible
from crossxai.outputs import Kind, kind

SAMPLES, OF_GRADIENTS = 64, 8
"""Of a run that are compared, at most, evenly among all: outputs, and gradients."""
RANKED = 2**18


@dataclass(frozen=True)
class Effect:
    """How far a model in reduced precision is from the same network in full, on some samples.

    largest, mean: absolute difference of an output. spread: how far outputs vary, the largest distance from their mean over
    samples; None of one sample. changed: the share of samples, in a segmentation of pixels, whose predicted class is another;
    None where there are no classes. gradients: how many samples' were compared, 0 where the model gives none. distance: the
    relative L2 distance of a sample's gradient, ranks: its rank correlation, medians over samples.
    """

    precision: str
    samples: int
    largest: float
    mean: float
    spread: float | None
    changed: float | None
    gradients: int = 0
    distance: float | None = None
    ranks: float | None = None

    def content(self) -> dict[str, Any]:
        """As the manifest has it."""
        return asdict(self)


def effect(
    model: Model,
    inputs: Inputs,
    target: Measure | None = None,
    outputs: Array | None = None,
    known: Kind | None = None,
) -> Effect | None:
    """What the precision of a model does on some of these samples; None for one that runs in full.

    target: of whose score gradients are compared; the largest output's if not given. outputs: the model's on all samples, and
    known: what they are, where that is known.
    """
    if not isinstance(model, Reducible) or model.precision == "float32":
        return None
    n, full = len(inputs[0]), model.in_full()
    rows = np.unique(np.linspace(0, n - 1, min(n, SAMPLES)).round().astype(np.intp))
    some = tuple(values[rows] for values in inputs)
    own = outputs_in_batches(model, some) if outputs is None else outputs[rows]
    exact = outputs_in_batches(full, some)
    gap = np.abs(own.astype(np.float64) - exact)
    spread = float(np.abs(exact - exact.mean(axis=0, dtype=np.float64)).max()) if len(exact) > 1 else None
    one, other = (_classes(values, known or kind(model, some, own)) for values in (own, exact))
    changed = None if one is None or other is None else float((one != other).mean())
    about = Effect(model.precision, len(rows), float(gap.max()), float(gap.mean()), spread, changed)
    few = rows[:: max(len(rows) // OF_GRADIENTS, 1)][:OF_GRADIENTS]
    pairs = [[_gradient(each, inputs, target, row) for each in (model, full)] for row in few]
    compared = [_compare(a, b) for a, b in pairs if a is not None and b is not None and np.ptp(a) > 0 and np.ptp(b) > 0]
    if not compared:
        return about
    distance, ranks = np.median(compared, axis=0).tolist()
    return replace(about, gradients=len(compared), distance=distance, ranks=ranks)


def facts_of(model: Model, inputs: Inputs, target: Measure | None = None) -> list[Fact]:
    """The effect as a row of a check; none for a model that runs in full."""
    found = effect(model, inputs, target)
    if found is None:
        return []
    parts = [f"outputs in {found.precision} are off by {found.mean:.2g} on average, by {found.largest:.2g} at most"]
    if found.changed is not None:
        parts.append(
            f"{found.changed:.1%} of predicted classes change" if found.changed else "no predicted class changes"
        )
    if found.distance is not None and found.ranks is not None:
        parts.append(f"gradients by {found.distance:.1%} of their length (rank correlation {found.ranks:.3f})")
    how = f"{found.samples} samples through the same network in the precision of its weights"
    breaks, write = ("answers of float32, which are other ones", "precision='float32'") if found.changed else ("", "")
    return [Fact("precision", "note", "; ".join(parts), how, breaks, write)]


def _classes(outputs: Array, known: Kind) -> npt.NDArray[Any] | None:
    """The predicted class of each sample or pixel; of one output, whether it is more likely than not."""
    if outputs.shape[-1] > 1:
        return None if known.kind == "values" else outputs.argmax(axis=-1)
    half = {"logits": 0.0, "probabilities": 0.5, "log_probabilities": np.log(0.5)}.get(known.kind)
    return None if half is None else outputs > half


def _gradient(model: Any, inputs: Inputs, target: Measure | None, row: int) -> Array | None:
    """The gradient (numbers,) at all inputs of one sample; None where the model gives none."""
    if not isinstance(model, Differentiable):
        return None
    rows = np.array([row])
    weigh = _largest if target is None else lambda outputs: target.cotangent(outputs, rows)
    try:
        _, gradients = model.vjp(tuple(values[rows] for values in inputs), weigh)
    except CrossXAIError:  # explainers that ask for gradients say why
        return None
    return np.concatenate([g.ravel() for g in gradients])


def _compare(own: Array, exact: Array) -> tuple[float, float]:
    """The relative L2 distance of two gradients, and the rank correlation of at most `RANKED` of their numbers."""
    far = np.linalg.norm(own.astype(np.float64) - exact) / np.linalg.norm(exact.astype(np.float64))
    step = -(-len(own) // RANKED)
    return float(far), float(spearmanr(own[::step], exact[::step]).statistic)


def _largest(outputs: Array) -> Array:
    """The cotangent of each sample's largest output."""
    flat = outputs.reshape(len(outputs), -1)
    return np.asarray((flat == flat.max(axis=1, keepdims=True)).reshape(outputs.shape), outputs.dtype)
