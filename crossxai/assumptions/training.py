"""Was a model trained: what its norms, its outputs and its labels say. Suspicions, each with the number it rests on."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, spearmanr

from crossxai.assumptions.facts import Fact
from crossxai.assumptions.probes import two_samples
from crossxai.errors import CrossXAIError
from crossxai.model import Array, Differentiable, Inputs, Model, Randomisable

NAME = "weights trained"
BREAKS = "maps of an untrained network show edges and no knowledge"
WRITE = "the trained weights: was a checkpoint loaded, and strictly (load_state_dict(strict=True), load_weights)?"
LEVEL = 0.3
"""Logits that differ less between samples than this share of what they differ by between classes: .14 on a network that was never
trained, .84 on a trained one."""
ALIKE = 0.7
"""Saliency that correlates so much with that of redrawn weights does not depend on what was learnt."""


def norms(model: Model) -> Fact | None:
    """Batch norms that are as they were made; None for a model without any, or that does not show them."""
    hints: dict[str, Any] = dict(model.hints()) if hasattr(model, "hints") else {}
    if not hints.get("norms"):
        return None
    fresh, every = hints["fresh norms"], hints["norms"]
    counted = f"{fresh} of {every} batch norms have mean 0, variance 1, scale 1 and saw no batch"
    how = "statistics and weights of the batch norms"
    return Fact(NAME, "note", counted, how, BREAKS, WRITE) if fresh == every else Fact(NAME, "holds", counted, how)


def outputs(values: Array) -> Fact | None:
    """How much outputs (n, classes) differ between samples, as a share of between classes; None for fewer than four samples."""
    if values.ndim != 2 or values.shape[1] < 3 or len(values) < 4 or not np.isfinite(values).all():
        return None
    between_classes = float(values.mean(axis=0).std())
    share = float(values.std(axis=0).mean()) / max(between_classes, np.finfo(np.float64).tiny)
    compared = f"outputs differ between samples by {share:.2f} of what they differ by between classes"
    how = f"standard deviations over {len(values)} samples and {values.shape[1]} classes"
    return Fact(NAME, "note" if share < LEVEL else "holds", compared, how, *((BREAKS, WRITE) if share < LEVEL else ()))


def accuracy(values: Array, labels: npt.NDArray[np.integer[Any]]) -> Fact | None:
    """Whether the largest output is the label more often than by chance; None where there are no classes or too few samples."""
    if values.ndim != 2 or values.shape[1] < 2 or len(labels) < 8:
        return None
    right, classes = int((values.argmax(axis=1) == labels).sum()), len(np.unique(labels))
    by_chance = max(np.bincount(labels).max() / len(labels), 1 / max(classes, 2))
    p = binomtest(right, len(labels), min(by_chance, 1.0), alternative="greater").pvalue
    counted = (
        f"{right} of {len(labels)} samples are right; the commonest class alone gives {by_chance:.0%} (p = {p:.2g})"
    )
    bad = p > 0.05 and right < len(labels)
    return Fact(
        NAME,
        "note" if bad else "holds",
        counted,
        "largest output against the labels",
        *((BREAKS, WRITE) if bad else ()),
    )


def redrawn(model: Model, inputs: Inputs) -> Fact | None:
    """Whether saliency survives that every weight is drawn anew (Adebayo et al. 2018); None where it cannot be measured."""
    if not (isinstance(model, Differentiable) and isinstance(model, Randomisable)):
        return None
    pair = two_samples(inputs)
    try:
        other = model.randomised(pair, len(model.weighted(pair)), 0)
    except CrossXAIError:
        return None
    if not isinstance(other, Differentiable):
        return None
    one, another = (np.concatenate([np.abs(g).ravel() for g in m.vjp(pair, np.ones_like)[1]]) for m in (model, other))
    if not (np.ptp(one) and np.ptp(another)):
        return None
    correlation = float(spearmanr(one, another).statistic)
    correlated = f"saliency correlates by {correlation:.2f} with that of a copy whose weights are all drawn anew"
    how = "Spearman correlation of absolute gradients of the sum of outputs, two samples"
    return (
        Fact(NAME, "note", correlated, how, BREAKS, WRITE)
        if correlation > ALIKE
        else Fact(NAME, "holds", correlated, how)
    )
